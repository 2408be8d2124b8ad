"""Calls of the kernel that Python has no function for."""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
LAST_CAPABILITY = 63
CAPABILITIES_V3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """The result of a call. Raises OSError with the call's name where it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def end_with_parent(signal: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends, however that happens."""
    checked(libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")


def give_up_privileges() -> None:
    """No program that is started from here on gains a right, and this process keeps none of root's."""
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    for capability in range(LAST_CAPABILITY + 1):
        # Fails for whoever has none to drop, and for numbers that this kernel does not know.
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")

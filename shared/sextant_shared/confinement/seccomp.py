"""A filter of system calls: none by which a process leaves its group, or gets at others or at the kernel.

All that the processes of a group start stays in the group, so that one signal ends them all. Source: the kernel's
Documentation/userspace-api/seccomp_filter.rst, and its system call tables.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sextant_shared.confinement.kernel import PR_SET_SECCOMP, checked, libc

FILTER = 2
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
CLONE_THREAD = 0x10000
CLONE3 = 435
OTHER_TABLE = 0x40000000
"""From here on x86-64 has the numbers of another interface."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The numbers of one kind of machine."""

    architecture: int
    refused: tuple[int, ...]
    """setsid, setpgid, ptrace, process_vm_readv, process_vm_writev, pidfd_getfd, add_key, request_key, keyctl, bpf,
    perf_event_open, unshare, setns."""
    clone: int
    forks: tuple[int, ...] = ()


MACHINES = {
    "x86_64": Machine(0xC000003E, (112, 109, 101, 310, 311, 438, 248, 249, 250, 321, 298, 272, 308), 56, (57, 58)),
    "aarch64": Machine(0xC00000B7, (157, 154, 117, 270, 271, 438, 217, 218, 219, 280, 241, 97, 268), 220),
}


def known() -> bool:
    """Whether there is a filter for this kind of machine."""
    return platform.machine() in MACHINES


def restrict(*, processes: bool) -> None:
    """Filter the calls of this thread and of all that it starts; without `processes` it starts threads alone.

    Needs `give_up_privileges`. Raises OSError where the kernel has no filters.
    """
    code = b"".join(_program(MACHINES[platform.machine()], processes=processes))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    checked(libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.create_string_buffer(program), 0, 0), "seccomp")


def _program(machine: Machine, *, processes: bool) -> Iterator[bytes]:
    """A call of another architecture ends the process; one of `refused` fails with EPERM."""
    refuse = _do(RETURN, REFUSE | errno.EPERM)
    yield _do(LOAD, ARCHITECTURE)
    yield _if(EQUAL, machine.architecture, skip=1)
    yield _do(RETURN, KILL)
    yield _do(LOAD, NUMBER)
    yield _unless(AT_LEAST, OTHER_TABLE, skip=1)
    yield refuse
    for number in machine.refused if processes else (*machine.refused, *machine.forks):
        yield _unless(EQUAL, number, skip=1)
        yield refuse
    if not processes:
        # The C library falls back to clone, whose flags a filter can see.
        yield _unless(EQUAL, CLONE3, skip=1)
        yield _do(RETURN, REFUSE | errno.ENOSYS)
        yield _unless(EQUAL, machine.clone, skip=3)
        yield _do(LOAD, FIRST_ARGUMENT)
        yield _if(ANY_BIT, CLONE_THREAD, skip=1)
        yield refuse
    yield _do(RETURN, ALLOW)


def _do(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _if(code: int, value: int, skip: int) -> bytes:
    return struct.pack("=HBBI", code, skip, 0, value)


def _unless(code: int, value: int, skip: int) -> bytes:
    return struct.pack("=HBBI", code, 0, skip, value)

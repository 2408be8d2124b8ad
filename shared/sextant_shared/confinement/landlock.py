"""Landlock: a process gives up, for itself and all it starts, every file but those below some paths.

A process in such a domain can neither trace one outside of it nor read its environment or memory below /proc, whoever
they belong to. Source: the kernel's Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from sextant_shared.confinement.kernel import checked, libc

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION = 1
PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
ALL = (1 << 13) - 1
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2

LEAST_VERSION = 3
"""Linux 6.2: earlier ones do not keep a process from emptying files that it may not write."""
READ = EXECUTE | READ_FILE | READ_DIR
USE = READ_FILE | WRITE_FILE | IOCTL_DEV
"""Of a device."""
SHARE = ALL & ~READ_DIR | TRUNCATE
"""Files of which one has to know the name."""


def version() -> int:
    """Of the kernel's interface; 0 where it has none, or it is turned off."""
    found: int = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(ASK_VERSION))
    return max(0, found)


def restrict(allowed: Iterable[tuple[Path, int]]) -> None:
    """Allow this thread, and all it starts, the given access below each path that exists, and no other.

    Needs `give_up_privileges`. Raises OSError where the kernel has no Landlock.
    """
    known = version()
    handled = ALL | (REFER if known >= 2 else 0) | (TRUNCATE if known >= 3 else 0) | (IOCTL_DEV if known >= 5 else 0)
    scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if known >= 6 else 0
    attributes = struct.pack("=QQQ", handled, 0, scoped)
    # Older kernels know shorter ones.
    size = 24 if known >= 6 else 8
    ruleset = checked(
        libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)), "landlock_create_ruleset"
    )
    try:
        for path, access in allowed:
            _allow(ruleset, path, access & handled)
        checked(libc.syscall(RESTRICT_SELF, ruleset, ctypes.c_uint32(0)), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def writable() -> int:
    """All access to a directory of one's own."""
    return ALL | REFER | TRUNCATE


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not path.is_dir():
            access &= OF_FILES
        rule = struct.pack("=Qi", access, descriptor)
        checked(libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, ctypes.c_uint32(0)), "landlock_add_rule")
    finally:
        os.close(descriptor)

"""Confining a process that is about to run a user's code: what it needs stays, everything else is gone."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

from sextant_shared.confinement import landlock, seccomp
from sextant_shared.confinement.kernel import give_up_privileges
from sextant_shared.contracts.limits import Limits, UserCode
from sextant_shared.errors import InvalidInput

SETTING = "SEXTANT_USER_CODE"
MIB = 1 << 20
SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt/rocm", "/opt/intel", "/proc", "/sys", "/run/systemd/resolve"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone", "/etc/ssl"),
    *("/etc/pki", "/etc/ca-certificates", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/etc/host.conf", "/etc/passwd", "/etc/group", "/etc/protocols", "/etc/services", "/etc/mime.types"),
    *("/etc/os-release", "/etc/alternatives", "/etc/fonts", "/etc/OpenCL", "/etc/vulkan"),
)
"""What programs read of a machine; nothing in there is a secret of the platform."""
DEVICES = ("null", "zero", "full", "random", "urandom", "kfd")
ACCELERATORS = ("nvidia*", "dri/*", "accel/*")


def refusal(level: UserCode) -> InvalidInput | None:
    """Why a user's code is not run here at this level, if it is not."""
    if level == "off":
        return InvalidInput(
            "user code is not enabled here: an administrator enables it by the setting SEXTANT_USER_CODE",
            field="code",
            accepted="confined, or trusted where the kernel cannot confine",
        )
    if level == "confined" and not confines():
        return InvalidInput(
            f"this node cannot confine user code: its kernel has Landlock {landlock.version()} and it needs "
            f"{landlock.LEAST_VERSION} (Linux 6.2) or newer, and seccomp; {SETTING}=trusted runs it all the same",
            field="code",
        )
    return None


def confines() -> bool:
    """Whether this machine can."""
    return landlock.version() >= landlock.LEAST_VERSION and seccomp.known()


def confine(readable: Iterable[Path], writable: Iterable[Path], *, processes: bool) -> None:
    """Give up what a user's code does not need, for good; without `processes` it starts threads alone.

    To be called by a process of one thread. Where the machine cannot confine, only privileges are given up.
    """
    give_up_privileges()
    if not confines():
        return
    writable = list(writable)
    read = [*map(Path, SYSTEM), *_interpreter(writable), *readable]
    devices = [Path("/dev") / name for name in DEVICES]
    devices += [path for pattern in ACCELERATORS for path in Path("/dev").glob(pattern)]
    landlock.restrict(
        [
            *((path, landlock.READ) for path in read),
            *((path, landlock.USE) for path in devices),
            # Of shared memory that others have, the names cannot be listed.
            (Path("/dev/shm"), landlock.SHARE),  # noqa: S108 - no temporary file: how processes share memory
            *((path, landlock.writable()) for path in writable),
        ]
    )
    seccomp.restrict(processes=processes)


def limit(limits: Limits) -> None:
    """What the kernel itself holds each process to: behind the limits that a supervisor watches, which tell why."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.cpu_s:
        _lower(resource.RLIMIT_CPU, limits.cpu_s + 5)
    if limits.memory_mb:
        # Twice: what is reserved and never touched counts as well.
        _lower(resource.RLIMIT_DATA, (2 * limits.memory_mb + 1024) * MIB)
    if limits.disk_mb:
        _lower(resource.RLIMIT_FSIZE, limits.disk_mb * MIB)


def _lower(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _interpreter(writable: Iterable[Path]) -> list[Path]:
    # `python -m` looks for modules where the service was started: that may be where the platform keeps its state.
    modules = {path for path in sys.path if os.path.isabs(path) and Path(path) != Path.cwd()}
    found = {sys.prefix, sys.base_prefix, os.path.realpath(sys.executable), *modules}
    return [path for path in map(Path, sorted(found)) if not any(each.is_relative_to(path) for each in writable)]

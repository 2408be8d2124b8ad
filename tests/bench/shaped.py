"""Several hosts on one machine: a network namespace for each rank, joined by a bridge, every link of one bandwidth.

The bridge has a namespace of its own, where no firewall of this machine looks at what it carries. Needs root, and `ip`
and `tc` of iproute2. Addresses are of the range for documentation and stay inside the namespaces.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DEVICE, BRIDGE = "link0", "bridge0"
BURST_BYTES = 16 << 10
"""A small bucket: with a large one the first bytes would pass at once."""


def unavailable() -> str | None:
    """Why hosts cannot be made here, if so."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    return f"{' and '.join(missing)} of iproute2 is not installed" if missing else None


@contextmanager
def hosts(count: int, mbit: float | None) -> Iterator[list[list[str]]]:
    """`count` hosts; for each the words before a command that is to run on it. None leaves the links unshaped."""
    tag = f"sx{os.getpid() % 10_000}"
    switch, names = f"{tag}sw", [f"{tag}h{index}" for index in range(count)]
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", BRIDGE, "type", "bridge")
        _ip("-n", switch, "link", "set", BRIDGE, "up")
        for index, name in enumerate(names):
            _host(name, index, switch, mbit)
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in (*names, switch):
            _end_all(name)
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _end_all(name: str) -> None:
    """Whatever still runs on a host ends with it."""
    found = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True)
    for pid in found.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def address(index: int) -> str:
    """Of a host."""
    return f"192.0.2.{index + 1}"


def _host(name: str, index: int, switch: str, mbit: float | None) -> None:
    port = f"port{index}"
    _ip("netns", "add", name)
    _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", DEVICE, "netns", name)
    _ip("-n", switch, "link", "set", port, "master", BRIDGE, "up")
    _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", name, "address", "add", f"{address(index)}/24", "dev", DEVICE)
    _ip("-n", name, "link", "set", DEVICE, "up")
    if mbit is not None:
        shape = ["root", "tbf", "rate", f"{mbit}mbit", "burst", str(BURST_BYTES), "latency", "200ms"]
        _run("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", DEVICE, *shape)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr.strip()}")

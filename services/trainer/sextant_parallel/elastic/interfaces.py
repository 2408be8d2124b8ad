"""Which network interface to use: the one on the route to the master, unless the user has said otherwise.

GLOO_SOCKET_IFNAME must be one concrete name, or gloo fails or falls back to loopback silently; NCCL takes the same.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import MutableMapping
from pathlib import Path

VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
LOOPBACK = "lo"


def route_interface(address: str, routes: str) -> str | None:
    """The interface of the most specific route to an IPv4 address; `routes` is the text of /proc/net/route."""
    wanted = struct.unpack("<I", socket.inet_aton(address))[0]
    best: tuple[int, str] | None = None
    for line in routes.splitlines()[1:]:
        name, destination, _, flags, _, _, _, mask = line.split()[:8]
        up = int(flags, 16) & 1
        bits = int(mask, 16)
        if up and wanted & bits == int(destination, 16) and (best is None or bits.bit_count() > best[0]):
            best = (bits.bit_count(), name)
    return best[1] if best else None


def choose(master: str, environ: MutableMapping[str, str] | None = None) -> str | None:
    """Set both variables where they are not set; the interface chosen, or None where no route is known.

    Raises OSError where the master's name has no address.
    """
    environ = os.environ if environ is None else environ
    address = socket.gethostbyname(master)
    if address.startswith("127."):
        name: str | None = LOOPBACK
    else:
        name = route_interface(address, Path("/proc/net/route").read_text()) or _interface_of(address)
    for variable in VARIABLES:
        if name and variable not in environ:
            environ[variable] = name
    return name


def _interface_of(address: str) -> str | None:
    """The interface that has the address itself, where the master is this machine."""
    import fcntl

    siocgifaddr = 0x8915
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), siocgifaddr, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None

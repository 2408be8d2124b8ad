"""Servers that were given by URL, and are used instead of our own: whether they can be reached."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from sextant.errors import BadInput

PORTS = {"SEXTANT_DATABASE_URL": 5432, "SEXTANT_REDIS_URL": 6379, "SEXTANT_NATS_URL": 4222}
"""The variables that give a server, and the port where it is expected."""
TIMEOUT_S = 5.0


def check(given: Mapping[str, str]) -> None:
    """Raise BadInput naming the variable and the address of a server that does not answer."""
    for variable, port in PORTS.items():
        url = given.get(variable)
        reason = _unreachable(url, port) if url else None
        if reason:
            raise BadInput(f"{variable}: {reason}", field=variable)


def _unreachable(url: str, expected_port: int) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or expected_port
    except ValueError:
        return None  # several hosts, say: the services' own clients know such URLs
    if not host:
        return None  # a socket
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except OSError as error:
        return f"no server answers at {host}:{port} ({error.strerror or error})"
    return None

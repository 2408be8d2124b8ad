"""The node agent's settings."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

from pydantic import Field

from sextant_shared.settings import Settings


class AgentSettings(Settings):
    """What this node offers."""

    slots: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2), ge=1, le=4096, description="ranks at a time"
    )
    alive_every_s: float = Field(5.0, gt=0.1, le=60)
    address: str | None = Field(
        None, description="where ranks of other nodes reach those of this one; by default, what leads to NATS"
    )

    @property
    def meeting_address(self) -> str:
        """The address for gangs over several nodes."""
        return self.address or _address_towards(self.nats_url)


def _address_towards(url: str) -> str:
    parts = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # No packet is sent: the kernel only chooses the route.
        probe.connect((parts.hostname or "127.0.0.1", parts.port or 4222))
        return str(probe.getsockname()[0])

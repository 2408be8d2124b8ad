"""The node agent's settings."""

from __future__ import annotations

import os

from pydantic import Field

from sextant_shared.settings import Settings


class AgentSettings(Settings):
    """What this node offers."""

    slots: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2), ge=1, le=4096, description="ranks at a time"
    )
    alive_every_s: float = Field(5.0, gt=0.1, le=60)

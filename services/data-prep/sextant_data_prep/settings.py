"""Settings of data preparation, beyond those that all services share."""

from __future__ import annotations

from pydantic import Field

from sextant_shared.settings import Settings


class PrepareSettings(Settings):
    """Read once where the process starts."""

    piece_bytes: int = Field(64 << 20, ge=1 << 20, description="what one worker takes at a time of a large source")

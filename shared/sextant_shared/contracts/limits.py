"""How much the processes of one attempt may use, and whether a user's own code runs at all."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sextant_shared.contracts.base import Accepted

UserCode = Literal["off", "confined", "trusted"]
"""`confined` where the kernel can confine it, and refused elsewhere; `trusted` runs it there too."""


class Limits(Accepted):
    """Of all processes of an attempt on one node together; 0 is no limit."""

    memory_mb: int = Field(0, ge=0, lt=2**31, description="memory of its own, MiB")
    cpu_s: int = Field(0, ge=0, lt=2**31, description="seconds of one core")
    disk_mb: int = Field(0, ge=0, lt=2**31, description="below the attempt's directory, its log included, MiB")
    processes: int = Field(0, ge=0, lt=2**22)

    def within(self, other: Limits) -> Limits:
        """The tighter of each."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in Limits.model_fields}
        return Limits(**{name: min(filter(None, pair), default=0) for name, pair in pairs.items()})

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return any(getattr(self, name) for name in Limits.model_fields)

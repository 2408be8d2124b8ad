"""What is known of a search: its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sextant_shared.lifecycle.states import State


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial's job as it is now; `value` is the metric where it succeeded and reported one."""

    number: int
    job_id: UUID
    state: State
    point: Mapping[str, Any]
    value: float | None

"""What a worker's attempts share: the servers, the store of artefacts, and the launchers of its kinds of work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from sextant_shared.artefacts import Artefacts
from sextant_shared.bus import ThreadedBus
from sextant_shared.contracts.limits import Limits, UserCode
from sextant_shared.execution.launching import Launcher
from sextant_shared.execution.measures import Measures
from sextant_shared.faults import NO_FAULTS, Faults
from sextant_shared.lifecycle.machine import Job


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a supervisor works with."""

    engine: Engine
    artefacts: Artefacts
    bus: ThreadedBus
    directory: Path
    worker: str
    lease_s: float
    launchers: dict[str, Launcher]
    measures: Measures
    service: Callable[[Job], dict[str, str]] = lambda job: {}
    limits: Limits = field(default_factory=Limits)
    """What no attempt here may exceed, whatever its spec says."""
    user_code: UserCode = "off"
    faults: Faults = NO_FAULTS

"""What the client answers beyond the views that it shares with the server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from sextant_shared.contracts.base import Received
from sextant_shared.contracts.views import SubmittedView, VersionView

T = TypeVar("T")


class Items(Received, Generic[T]):
    """A list that comes in one piece."""

    items: list[T]


class SubmittedList(Items[SubmittedView]):
    """The answer to a batch, in the order of the specs."""


class LogView(Received):
    """What one job has written; `step` is its name within the pipeline."""

    job_id: UUID
    step: str | None = None
    text: str


class VersionInfo(Received):
    """The server's version."""

    version: str


class Tensor(Received):
    """A tensor of the Open Inference Protocol; `data` is flat, in row-major order."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]

    def nested(self) -> Any:
        """The data as nested lists of `shape`."""
        values: list[Any] = list(self.data)
        for size in reversed(self.shape[1:]):
            values = [values[start : start + size] for start in range(0, len(values), size)] if size else []
        return values if self.shape else values[0]


class Prediction(Received):
    """An endpoint's answer."""

    model_name: str
    model_version: str | None = None
    outputs: list[Tensor]

    def __getitem__(self, name: str) -> Any:
        """The output `name` as nested lists. Raises KeyError for another name."""
        for output in self.outputs:
            if output.name == name:
                return output.nested()
        raise KeyError(f"{name!r}; the outputs are {[o.name for o in self.outputs]}")


class TensorInfo(Received):
    """What an endpoint says of one of its inputs or outputs; -1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]


class EndpointModel(Received):
    """What an endpoint says of the model that it serves."""

    name: str
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []


class StateEvent(Received):
    """A job of the followed family is in this state."""

    type: Literal["state"] = "state"
    id: UUID
    kind: str = ""
    name: str = ""
    step: str | None = None
    state: str
    root_id: UUID | None = None
    parent_id: UUID | None = None
    at: datetime
    error: dict[str, Any] | None = None
    attempt: int = 0


class ProgressEvent(Received):
    """How far a job's work is: `fraction` from 0 to 1."""

    type: Literal["progress"] = "progress"
    job_id: UUID
    step: str | None = None
    kind: str | None = None
    at: datetime | None = None
    fraction: float = 0.0
    message: str = ""
    metrics: dict[str, float | None] = {}


class LogEvent(Received):
    """Lines that a job has written."""

    type: Literal["log"] = "log"
    job_id: UUID
    step: str | None = None
    text: str


class EndEvent(Received):
    """The followed job has ended; the last event."""

    type: Literal["end"] = "end"
    id: UUID
    state: str


StreamEvent = StateEvent | ProgressEvent | LogEvent | EndEvent
EVENTS: dict[str, type[StateEvent] | type[ProgressEvent] | type[LogEvent] | type[EndEvent]] = {
    "state": StateEvent,
    "progress": ProgressEvent,
    "log": LogEvent,
    "end": EndEvent,
}


@dataclass(frozen=True)
class Pulled:
    """A version whose files are now on this machine, checked against their hashes."""

    version: VersionView
    directory: Path
    files: tuple[Path, ...]

"""The child's side of the work protocol: what a job's work is given, and how it tells what it did.

The supervisor makes a directory with `work.json` (a `WorkOrder`) and an empty `out/`. The child writes artefacts under
`out/` and one JSON event a line to the file descriptor named by SEXTANT_EVENTS_FD; its standard output and error are
kept as the job's log. SIGTERM means stop; SIGUSR1 means save a checkpoint, report `Paused` and stop.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sextant_shared.contracts.base import Received
from sextant_shared.contracts.limits import UserCode

log = structlog.get_logger(__name__)

EVENTS_FD = "SEXTANT_EVENTS_FD"


class Input(Received):
    """A resolved input: the record that another job made, and where its files lie on this machine."""

    id: str
    name: str
    version: int
    digest: str
    path: str | None = None
    meta: dict[str, Any] = {}


class Resume(Received):
    """The last committed checkpoint of the job, fetched to this machine."""

    path: str
    step: int
    samples: int


class Parts(Received):
    """The pieces of a work, done."""

    note: dict[str, Any]
    """As `Divided` had it."""
    directories: list[str]
    """Where the files of each piece lie on this machine."""
    reused: int
    """How many of the pieces had been done for another job."""


class WorkOrder(Received):
    """All that a child needs to do one attempt of one job."""

    job_id: str
    kind: str
    name: str
    fence: int
    attempt: int
    spec: dict[str, Any]
    inputs: dict[str, Any] = {}
    """Resolved inputs by the spec's field name; records of datasets and models validate as `Input`."""
    resume: Resume | None = None
    service: dict[str, str] = {}
    """What its worker adds: settings; addresses and narrow, short-lived keys for the kinds that call an endpoint."""
    parts: Parts | None = None
    """What became of the pieces into which this work was `Divided` before."""
    user_code: UserCode = "off"
    """Whether this worker runs a user's own code."""

    def input(self, field: str) -> Input:
        """The resolved dataset or model of the spec's `field`."""
        return Input.model_validate(self.inputs[field])


class Progress(BaseModel):
    """How far the work is: `fraction` of 1, and whatever figures are worth watching."""

    model_config = ConfigDict(frozen=True)
    type: Literal["progress"] = "progress"
    at: float
    fraction: float = Field(ge=0.0, le=1.0)
    message: str = ""
    metrics: dict[str, float] = {}


class Checkpoint(BaseModel):
    """A checkpoint was written whole under `path` (relative to `out/`); the supervisor hashes and commits it."""

    model_config = ConfigDict(frozen=True)
    type: Literal["checkpoint"] = "checkpoint"
    path: str
    step: int
    samples: int


class Result(BaseModel):
    """The work is done: its outputs, and the versions to register with the same commit."""

    model_config = ConfigDict(frozen=True)
    type: Literal["result"] = "result"
    outputs: dict[str, Any] = {}
    registers: list[Registration] = []


class Registration(BaseModel):
    """A dataset or model version that the commit makes visible; `files` are its paths under `out/`."""

    model_config = ConfigDict(frozen=True)
    type: Literal["dataset", "model"]
    name: str
    output: str
    """The output of the job that names it: the commit puts {id, name, version, digest} there."""
    files: list[str]
    meta: dict[str, Any] = {}


class Piece(BaseModel):
    """A part of a work that any worker of its kind may do. Its order is with the job's inputs, as `piece`."""

    model_config = ConfigDict(frozen=True)
    digest: str
    """The hash of all that its result depends on: a piece that was done before is not done again."""
    order: dict[str, Any]


class Divided(BaseModel):
    """The work is too large for one worker: it wants these pieces done, and is then started again with its `Parts`."""

    model_config = ConfigDict(frozen=True)
    type: Literal["divided"] = "divided"
    pieces: list[Piece] = Field(min_length=1)
    note: dict[str, Any]


class Paused(BaseModel):
    """The work stopped at its last checkpoint because it was asked to."""

    model_config = ConfigDict(frozen=True)
    type: Literal["paused"] = "paused"


class Failed(BaseModel):
    """The work failed; `retriable` says whether another attempt may succeed."""

    model_config = ConfigDict(frozen=True)
    type: Literal["failed"] = "failed"
    message: str
    retriable: bool = False
    field: str | None = None
    interrupted: bool = False
    """Not an error of the work: another process or node was lost, and the job goes on elsewhere."""


WorkEvent = Annotated[Progress | Checkpoint | Result | Divided | Paused | Failed, Field(discriminator="type")]
WORK_EVENT: TypeAdapter[WorkEvent] = TypeAdapter(WorkEvent)
Result.model_rebuild()


def parse_event(line: bytes) -> WorkEvent | None:
    """The event of a line that a child has reported; None, with a warning, for anything else."""
    try:
        return WORK_EVENT.validate_json(line)
    except ValidationError as error:
        log.warning("work.bad_event", error=str(error)[:500])
        return None


class Workbench:
    """One attempt's order, its output directory and its way to report. Thread-safe."""

    def __init__(self, directory: Path, order: WorkOrder, events_fd: int) -> None:
        self.directory = directory
        self.order = order
        self.out = directory / "out"
        self._fd = events_fd
        self._lock = threading.Lock()

    @classmethod
    def open(cls, directory: Path, events_fd: int | None = None) -> Workbench:
        """Read the order in `directory`; events go to `events_fd`, or where SEXTANT_EVENTS_FD says."""
        order = WorkOrder.model_validate_json((directory / "work.json").read_bytes())
        return cls(directory, order, int(os.environ[EVENTS_FD]) if events_fd is None else events_fd)

    def progress(self, fraction: float, message: str = "", metrics: Mapping[str, float] | None = None) -> None:
        """Tell how far the work is; cheap enough to call a few times a second, not thousands."""
        clamped = min(1.0, max(0.0, fraction))
        self._send(Progress(at=time.time(), fraction=clamped, message=message, metrics=dict(metrics or {})))

    def checkpoint(self, path: str, *, step: int, samples: int) -> None:
        """Hand over a checkpoint that lies complete under `out/`/`path`."""
        self._send(Checkpoint(path=path, step=step, samples=samples))

    def finish(self, event: Result | Divided | Paused | Failed) -> None:
        """Send the last event."""
        self._send(event)

    @property
    def descriptor(self) -> int:
        """Where events go."""
        return self._fd

    def _send(self, event: BaseModel) -> None:
        line = json.dumps(event.model_dump(mode="json"), allow_nan=False).encode() + b"\n"
        with self._lock:
            view = memoryview(line)
            while view:
                view = view[os.write(self._fd, view) :]

"""Watching a job live: what is known of it and of those that it made, as a table or as plain lines."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sextant.answers import ProgressEvent, StateEvent, StreamEvent
from sextant.command import tables
from sextant.command.session import Session, clean, quoted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sextant_shared.contracts.views import JobView

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED", "QUARANTINED"})
STARTED = frozenset({"RUNNING", "RESERVED"})
PER_SECOND = 5
BAR = 20


@dataclass(frozen=True)
class Row:
    """What is known of one job."""

    id: UUID
    label: str
    kind: str
    state: str
    parent: UUID | None = None
    started: datetime | None = None
    ended: datetime | None = None
    fraction: float = 0.0
    message: str = ""
    metrics: dict[str, float | None] = field(default_factory=dict)
    error: str | None = None


class Board:
    """All rows; takes events in any order and as often as they come."""

    def __init__(self, job: JobView) -> None:
        self.root = job.id
        self.rows: dict[UUID, Row] = {}
        for one in [job, *(job.steps or [])]:
            self.rows[one.id] = Row(
                one.id, one.step or one.name, one.kind, one.state, one.parent_id, one.started_at, one.finished_at
            )

    def take(self, event: StreamEvent) -> Row | None:
        """Note an event; the row whose state it changed, if it did."""
        if isinstance(event, StateEvent):
            return self._state(event)
        if isinstance(event, ProgressEvent) and event.job_id in self.rows:
            row = self.rows[event.job_id]
            metrics = {**row.metrics, **event.metrics}
            changed = replace(row, fraction=event.fraction, message=event.message or row.message, metrics=metrics)
            self.rows[event.job_id] = changed
        return None

    def _state(self, event: StateEvent) -> Row | None:
        before = self.rows.get(event.id)
        row = before or Row(event.id, event.step or event.name, event.kind, "", event.parent_id)
        started = row.started or (event.at if event.state in STARTED else None)
        ended = (row.ended or event.at) if event.state in ENDED else None
        error = str(event.error.get("message") or event.error) if event.error else row.error
        self.rows[event.id] = replace(row, state=event.state, started=started, ended=ended, error=error)
        return self.rows[event.id] if before is None or before.state != event.state else None

    def done(self, row: Row) -> float:
        """How much of a job is done, from 0 to 1: its own word, or the share of its steps that have ended."""
        if row.state == "SUCCEEDED":
            return 1.0
        steps = [other for other in list(self.rows.values()) if other.parent == row.id]
        if row.kind == "pipeline" and steps:
            return sum(step.state in ENDED for step in steps) / len(steps)
        return min(max(row.fraction, 0.0), 1.0)

    def depth(self, row: Row) -> int:
        """How many followed jobs are above this one."""
        depth = 0
        while row.id != self.root and row.parent in self.rows and depth < 8:
            row = self.rows[row.parent]
            depth += 1
        return depth

    def visible(self) -> list[tuple[int, Row]]:
        """Rows as a tree, by depth; of the trials below a step only those that are not done well."""
        below: dict[UUID | None, list[Row]] = {}
        for row in list(self.rows.values()):  # the display reads this from a thread of its own
            if row.id != self.root:
                below.setdefault(row.parent if row.parent in self.rows else self.root, []).append(row)
        shown: list[tuple[int, Row]] = []

        def add(row: Row, depth: int) -> None:
            if depth < 2 or row.state in STARTED or row.state in ("FAILED", "QUARANTINED"):
                shown.append((depth, row))
            if depth < 8:
                for child in below.get(row.id, []):
                    add(child, depth + 1)

        add(self.rows[self.root], 0)
        return shown


def follow(this: Session, job_id: str) -> JobView:
    """Show a job until it has ended; how it ended. Leaves the job alone when interrupted."""
    board = Board(this.client.job(job_id))
    try:
        if this.as_json:
            for event in this.client.stream(job_id):
                board.take(event)
        elif this.console.is_terminal:
            _live(this, board, job_id)
        else:
            _lines(this, board, job_id)
    except KeyboardInterrupt:
        this.note(f"the job goes on; watch it again with: sextant job {job_id} --follow")
        raise
    ended = this.client.job(job_id)
    _tell_errors(this, ended, board)
    return ended


def _live(this: Session, board: Board, job_id: str) -> None:
    from rich.live import Live

    with Live(console=this.console, refresh_per_second=PER_SECOND, get_renderable=lambda: _render(board)) as live:
        for event in this.client.stream(job_id):
            board.take(event)
        live.refresh()


def _lines(this: Session, board: Board, job_id: str) -> None:
    for depth, row in board.visible():
        this.say(_line(row, depth))
    for event in this.client.stream(job_id):
        if changed := board.take(event):
            this.say(_line(changed, board.depth(changed)))


def _line(row: Row, depth: int) -> str:
    took = f" after {tables.elapsed(row.started, row.ended)}" if row.state in ENDED and row.started else ""
    metrics = f"  {tables.pairs(dict(row.metrics))}" if row.metrics and row.state in ENDED else ""
    return f"{'  ' * depth}{row.label} ({row.kind}) {row.state}{took}{metrics}"


def _render(board: Board) -> RenderableType:
    from rich.progress_bar import ProgressBar

    shown = tables.table("step", "kind", "state", "progress", "metrics", "elapsed")
    for depth, row in board.visible():
        done = board.done(row)
        bar: ProgressBar | str = ""
        if row.state in STARTED or done:
            bar = ProgressBar(1.0, done, width=BAR, complete_style="cyan", finished_style="green")
        told = clean(tables.pairs(dict(row.metrics)) or row.message)
        took = tables.elapsed(row.started, row.ended)
        shown.add_row(clean("  " * depth + row.label), row.kind, tables.state(row.state), bar, told, took)
    return shown


def _tell_errors(this: Session, job: JobView, board: Board) -> None:
    if this.as_json:
        return
    steps = {row.id: row.error for row in board.rows.values() if row.error and row.state in ("FAILED", "QUARANTINED")}
    for one in [job, *(job.steps or [])]:
        if one.error and one.state in ("FAILED", "QUARANTINED"):
            steps[one.id] = str(one.error.get("message") or one.error)
    for which, error in steps.items():
        label = board.rows[which].label if which in board.rows else str(which)
        this.stderr.print(quoted(f"{label}: {error}"), soft_wrap=True, style="red")
    took = tables.elapsed(job.started_at or job.created_at, job.finished_at)
    this.say(f"{job.kind} {job.name} is {job.state} after {took}: {job.id}")

"""A job's story, for a person: what the audit log and the job itself say, in order of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sextant.command.session import Session, clean

if TYPE_CHECKING:
    from sextant.client import Client
    from sextant_shared.contracts.views import AuditView, JobView, LineageNode

WORDS = {
    "submitted": "was submitted",
    "unblocked": "had its inputs",
    "started": "began to make its steps",
    "reserved": "got slots for its ranks, {ranks}",
    "reservation-expired": "lost its slots: its ranks did not come together in time",
    "claimed": "was taken up",
    "succeeded": "ended well",
    "failed": "failed: {message}",
    "retry-scheduled": "failed, and is to be tried again: {message}",
    "retried": "was queued for its next attempt",
    "worker-lost": "lost its worker {worker} ({reason}), and was queued again",
    "drained": "was given back by a node that is drained",
    "pause-requested": "was to be paused",
    "paused": "was paused",
    "resumed": "was resumed",
    "requeued": "was queued again",
    "cancel-requested": "was to be cancelled",
    "cancelled": "was cancelled",
    "skipped": "was skipped: {message}",
    "quarantined": "was put into quarantine",
}
"""What an event means; in braces, what its row says."""


@dataclass(frozen=True, slots=True)
class Story:
    """A job, the jobs below it, all their audit rows by time, and what was made from what."""

    job: JobView
    rows: list[AuditView]
    made: list[LineageNode]


def read(client: Client, job_id: str) -> Story:
    """Ask the server for all of it."""
    job = client.job(job_id)
    family = [job, *(job.steps or [])]
    rows = [row for one in family for row in client.audit(one)]
    nodes = {node.id: node for one in family for node in client.lineage(one).nodes if node.type != "job"}
    return Story(job, sorted(rows, key=lambda row: (row.at, row.seq)), list(nodes.values()))


def tell(this: Session, story: Story) -> None:
    """Print it."""
    from sextant.command import tables

    job = story.job
    this.say(f"{job.kind} {job.name}  {job.state}  {job.id}")
    this.say(f"asked for by {job.created_by or 'its pipeline'} on {tables.when(job.created_at)}")
    if job.finished_at:
        this.say(f"ended on {tables.when(job.finished_at)}, {tables.elapsed(job.created_at, job.finished_at)} later")
    names = {one.id: one.step or one.name for one in [job, *(job.steps or [])]}
    shown = tables.table("at", "after", "job", "what happened", "by", "attempt", "details")
    for row in story.rows:
        cells = (names[row.subject_id], clean(_words(row)), clean(row.actor), str(row.attempt or ""))
        after = tables.elapsed(job.created_at, row.at)
        shown.add_row(tables.when(row.at), after, *cells, clean(_details(row)))
    this.show(shown)
    sources = {node.id: f"{node.type} {node.name}" for node in story.made}
    for node in story.made:
        origin = ", ".join(sources[source] for source in node.made_from if source in sources)
        digest = f", {node.digest[:16]}" if node.digest else ""
        this.say(f"{node.type} {node.name}{digest}" + (f", from {origin}" if origin else ""))
    for one in [*(job.steps or []), job]:
        if one.outputs and not one.steps:
            this.say(f"{names[one.id]} gave {_values(one.outputs, 6)}")


def _words(row: AuditView) -> str:
    said = WORDS.get(row.event)
    try:
        if said is not None:
            return said.format(**{name: _value(value) for name, value in row.body.items()})
    except KeyError:
        pass
    change = f": {row.from_state or 'new'} -> {row.to_state}" if row.to_state else ""
    return row.event + change


def _details(row: AuditView) -> str:
    said = WORDS.get(row.event, "")
    return _values({name: value for name, value in row.body.items() if f"{{{name}}}" not in said}, 4)


def _values(values: dict[str, Any], limit: int) -> str:
    return "; ".join(f"{name} {_value(value)}" for name, value in list(values.items())[:limit])


def _value(value: Any) -> str:
    """A value in a few words: a version by its name, a mapping by its numbers, a hash by its beginning."""
    from sextant.command import tables

    if isinstance(value, dict) and "name" in value and "version" in value:
        return f"{value['name']}@{value['version']}"
    if isinstance(value, dict):
        simple = {name: one for name, one in value.items() if not isinstance(one, dict | list)}
        return ", ".join(f"{name} {tables.short(one, 16)}" for name, one in list(simple.items())[:5])
    return tables.short(value, 24)

"""A job's story, for a person: what the audit log and the job itself say, in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sextant.command.session import Session, clean

if TYPE_CHECKING:
    from sextant.client import Client
    from sextant_shared.contracts.views import AuditView, JobView, LineageView

WORDS = {
    "submitted": "was submitted",
    "created": "was made by its pipeline",
    "ready": "had its inputs",
    "reserved": "got slots on {node}",
    "claimed": "was taken up by {worker}",
    "succeeded": "ended well",
    "failed": "failed",
    "retry": "failed, and is to be tried again",
    "retried": "came due again",
    "worker-lost": "lost its worker {worker} ({reason}) and was queued again",
    "cancel-requested": "was to be cancelled",
    "cancelled": "was cancelled",
    "paused": "was paused",
    "resumed": "was resumed",
    "quarantined": "was put into quarantine after {worker} was lost too",
}


@dataclass(frozen=True, slots=True)
class Story:
    """A job, the jobs below it, all their audit rows by time, and what was made from what."""

    job: JobView
    rows: list[AuditView]
    lineage: LineageView


def read(client: Client, job_id: str) -> Story:
    """Ask the server for all of it."""
    job = client.job(job_id)
    family = [job, *(job.steps or [])]
    rows = [row for one in family for row in client.audit(one)]
    return Story(job, sorted(rows, key=lambda row: (row.at, row.seq)), client.lineage(job))


def tell(this: Session, story: Story) -> None:
    """Print it."""
    from sextant.command import tables

    job = story.job
    this.say(f"{job.kind} {job.name}  {job.state}  {job.id}")
    this.say(f"asked for by {job.created_by or 'its pipeline'} on {tables.when(job.created_at)}")
    if job.finished_at:
        this.say(f"ended on {tables.when(job.finished_at)}, {tables.elapsed(job.created_at, job.finished_at)} later")
    for line in _made(story.lineage):
        this.say(line)
    this.say("")
    names = {one.id: one.step or one.name for one in [job, *(job.steps or [])]}
    shown = tables.table("at", "after", "job", "what happened", "by", "attempt", "details")
    for row in story.rows:
        details = _details(row)
        cells = (names[row.subject_id], clean(_words(row)), clean(row.actor), str(row.attempt or ""), clean(details))
        shown.add_row(tables.when(row.at), tables.elapsed(job.created_at, row.at), *cells)
    this.show(shown)
    for failed in [job, *(job.steps or [])]:
        if failed.error:
            this.say(f"{names[failed.id]} failed: {failed.error.get('message') or failed.error}")
        elif failed.outputs:
            this.say(f"{names[failed.id]} gave: {tables.pairs(failed.outputs, 8)}")


def _words(row: AuditView) -> str:
    template = WORDS.get(row.event)
    if template is None:
        return f"{row.event}: {row.from_state or 'new'} -> {row.to_state}" if row.to_state else row.event
    try:
        return template.format(**row.body)
    except KeyError:
        return f"{row.event}: {row.from_state or 'new'} -> {row.to_state}"


def _details(row: AuditView) -> str:
    from sextant.command import tables

    said = WORDS.get(row.event, "")
    rest: dict[str, Any] = {name: value for name, value in row.body.items() if f"{{{name}}}" not in said}
    return tables.pairs(rest, 6)


def _made(lineage: LineageView) -> Iterator[str]:
    names = {node.id: f"{node.type} {node.name}" for node in lineage.nodes}
    for node in lineage.nodes:
        digest = f" ({node.digest[:12]})" if node.digest else ""
        sources = ", ".join(names.get(source, source) for source in node.made_from)
        yield f"  {node.type} {node.name}{digest}" + (f" from {sources}" if sources else "")

"""Commands about jobs that are there already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sextant.command.session import JOB_FAILED, Json, Session, clean, quoted, session

if TYPE_CHECKING:
    from sextant_shared.contracts.views import JobView

Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
FIRST = 50


def list_jobs(
    ctx: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Only this kind, e.g. train.")] = None,
    state: Annotated[str | None, typer.Option(help="Only this state, e.g. RUNNING.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The jobs that pipelines and searches made too, and not only the newest 50.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List jobs, the newest first."""
    from itertools import islice

    from sextant.command import tables

    with session(ctx, as_json) as this:
        found = this.client.jobs(kind, state.upper() if state else None, name, top=not everything)
        items = list(found if everything else islice(found, FIRST))
        this.document(items)
        shown = tables.table("id", "kind", "name", "state", "created", "took")
        for job in items:
            took = tables.elapsed(job.started_at, job.finished_at)
            shown.add_row(str(job.id), job.kind, job.name, tables.state(job.state), tables.when(job.created_at), took)
        this.show(shown)
        if len(items) == FIRST and not everything:
            this.note(f"these are the newest {FIRST}; --all lists every one")


def show(
    ctx: typer.Context,
    job_id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show it live until it has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Show a job and its steps. With --follow, exit code 1 tells that it failed."""
    with session(ctx, as_json) as this:
        if follow:
            from sextant.command.follow import follow as follow_job

            ended = follow_job(this, job_id)
            this.document(ended)
            if ended.state != "SUCCEEDED":
                raise typer.Exit(JOB_FAILED)
            return
        job = this.client.job(job_id)
        this.document(job)
        _describe(this, job)


def _describe(this: Session, job: JobView) -> None:
    from sextant.command import tables

    if this.as_json:
        return
    this.say(f"{job.kind} {job.name}  {job.state}  {job.id}")
    author = f" by {job.created_by}" if job.created_by else ""
    this.say(f"created {tables.when(job.created_at)}{author}  attempt {job.attempt}")
    if job.started_at:
        this.say(f"took {tables.elapsed(job.started_at, job.finished_at)}")
    if job.outputs:
        this.say(f"outputs: {tables.pairs(job.outputs, 8)}")
    if job.steps:
        shown = tables.table("step", "kind", "state", "took", "outputs", "id")
        for step in job.steps:
            took = tables.elapsed(step.started_at, step.finished_at)
            outputs = clean(tables.pairs(step.outputs or {}))
            shown.add_row(step.step or step.name, step.kind, tables.state(step.state), took, outputs, str(step.id))
        this.show(shown)
    for failed in [job, *(job.steps or [])]:
        if failed.error:
            this.say(quoted(f"{failed.step or failed.name}: {failed.error.get('message') or failed.error}"))


def logs(
    ctx: typer.Context,
    job_id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    tail: Annotated[int | None, typer.Option(min=1, max=10_000, help="Only the last lines of each job.")] = None,
    as_json: Json = False,
) -> None:
    """Print what a job and its steps have written. With -f --json, one JSON document a line."""
    with session(ctx, as_json) as this:
        if follow:
            _follow_logs(this, job_id, tail)
            return
        items = this.client.logs(job_id, tail)
        this.document(items)
        for item in items:
            _print_log(this, item.step, item.text)


def _follow_logs(this: Session, job_id: str, tail: int | None) -> None:
    from sextant.answers import EndEvent, LogEvent

    told = False
    for event in this.client.stream(job_id):
        if not told:
            # Only now that the stream is open: nothing written in between is missed.
            for item in this.client.logs(job_id, tail):
                if this.as_json:
                    this.line(item)
                _print_log(this, item.step, item.text)
            told = True
        if isinstance(event, LogEvent):
            if this.as_json:
                this.line(event)
            _print_log(this, event.step, event.text)
        if isinstance(event, EndEvent):
            this.note(f"the job is {event.state}")


def _print_log(this: Session, step: str | None, text: str) -> None:
    prefix = f"{step} | " if step else ""
    this.say(*(prefix + line for line in text.rstrip("\n").split("\n")))


def events(ctx: typer.Context, job_id: Id, as_json: Json = False) -> None:
    """List a job's history: its rows of the audit log."""
    from sextant.command.audit import show_rows

    with session(ctx, as_json) as this:
        rows = list(this.client.events(job_id))
        this.document(rows)
        show_rows(this, rows)


def why(ctx: typer.Context, job_id: Id, as_json: Json = False) -> None:
    """Say why a job does not run at this moment, and what would change that."""
    with session(ctx, as_json) as this:
        view = this.client.why(job_id)
        this.document(view)
        this.say(f"{view.id} is {view.state}")
        for reason in view.reasons:
            this.say(quoted(f"- {reason.message}" + (f"; {reason.remedy}" if reason.remedy else "")))


def lineage(ctx: typer.Context, job_id: Id, as_json: Json = False) -> None:
    """List all that a job's outputs were made from."""
    from sextant.command import tables

    with session(ctx, as_json) as this:
        view = this.client.lineage(job_id)
        this.document(view)
        names = {node.id: f"{node.type} {node.name}" for node in view.nodes}
        shown = tables.table("type", "name", "digest", "made from", "id")
        for node in view.nodes:
            sources = ", ".join(names.get(source, source) for source in node.made_from)
            shown.add_row(node.type, node.name, (node.digest or "")[:12], sources, node.id)
        this.show(shown)


def reproduce(
    ctx: typer.Context,
    job_id: Id,
    timeout: Annotated[float | None, typer.Option(min=1, help="Seconds to wait for each job.")] = None,
    as_json: Json = False,
) -> None:
    """Run a job again from its recorded data, spec and seed, and compare what comes out. Exit code 1: it differs."""
    with session(ctx, as_json) as this:
        found = this.client.reproduce(job_id, timeout)
        this.document(found)
        for one in found:
            this.say(f"{one.step or one.kind}: {one.verdict} (second run: {one.again})")
            for difference in one.differences:
                this.say(quoted(f"  {difference}"))
    if any(one.verdict in ("different", "failed") for one in found):
        raise typer.Exit(JOB_FAILED)


def cancel(
    ctx: typer.Context,
    job_id: Id,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")] = "",
    as_json: Json = False,
) -> None:
    """End a job, in whatever state it is."""
    with session(ctx, as_json) as this:
        _told(this, this.client.cancel(job_id, reason))


def pause(ctx: typer.Context, job_id: Id, as_json: Json = False) -> None:
    """Stop a job, at a checkpoint where it has them, until it is resumed."""
    with session(ctx, as_json) as this:
        _told(this, this.client.pause(job_id))


def resume(ctx: typer.Context, job_id: Id, as_json: Json = False) -> None:
    """Let a paused job go on from its last checkpoint."""
    with session(ctx, as_json) as this:
        _told(this, this.client.resume(job_id))


def retry(ctx: typer.Context, job_id: Id, as_json: Json = False) -> None:
    """Queue a quarantined job again, or run the spec of a failed or cancelled one as a new job."""
    with session(ctx, as_json) as this:
        _told(this, this.client.retry(job_id))


def _told(this: Session, job: JobView) -> None:
    this.document(job)
    this.say(f"{job.kind} {job.name} is {job.state}: {job.id}")

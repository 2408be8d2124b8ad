"""`audit`: list, show, verify, export, checkpoints, expire."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sextant.command.session import Json, Session, clean, session
from sextant.profile import home

if TYPE_CHECKING:
    from sextant.auditing import Verdict
    from sextant_shared.contracts.views import AuditView

FIRST = 200
TAMPERED = 2
INCOMPLETE = 3

Pubkey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The notary's public key; the local stack's notary/key.pub otherwise."),
]
Checkpoints = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Checkpoints kept outside the database, a file or a directory; the local stack's otherwise.",
    ),
]
Id = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


def list_rows(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Only this job's rows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="List every row, not only the first 200.")] = False,
    as_json: Json = False,
) -> None:
    """List the audit log's rows, by subject."""
    from itertools import islice

    with session(ctx, as_json) as this:
        rows = this.client.audit(job)
        items = list(rows if everything else islice(rows, FIRST))
        this.document(items)
        show_rows(this, items)
        if len(items) == FIRST and not everything:
            this.note(f"these are the first {FIRST}; --all lists every one")


def show_rows(this: Session, rows: list[AuditView]) -> None:
    """Rows of the audit log, as a table."""
    from sextant.command import tables

    shown = tables.table("at", "subject", "event", "change", "actor", "attempt", "hash")
    for row in rows:
        change = f"{row.from_state or ''} -> {row.to_state}" if row.to_state else ""
        subject = f"{row.subject_type} {row.subject_id}"
        rest = (clean(row.actor), str(row.attempt), row.hash[:12])
        shown.add_row(tables.when(row.at), subject, row.event, change, *rest)
    this.show(shown)


def show(ctx: typer.Context, job: Id, as_json: Json = False) -> None:
    """Tell a job's whole story: who, what, when and why, from what inputs and to what outputs."""
    from sextant.command import story

    with session(ctx, as_json) as this:
        told = story.read(this.client, job)
        this.document(told)
        story.tell(this, told)


def verify(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Option("--job", metavar="JOB", help="Only this job's rows.")] = None,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="A log that was exported: no server is asked.")
    ] = None,
    pubkey: Pubkey = None,
    checkpoints: Checkpoints = None,
    as_json: Json = False,
) -> None:
    """Check the audit log, row by row, against signed checkpoints. Exit code 0: it holds; 2: it was tampered with, and
    the first row that does not hold is named; 3: what is at hand does not suffice to know.
    """
    from sextant import witnessing

    with session(ctx, as_json) as this:
        key, signed = _keys(this, pubkey, checkpoints)
        if log is None:
            verdict = witnessing.verify_server(this.client, key, signed, job)
        else:
            verdict = witnessing.verify_file(log, key, signed, job)
        this.document(verdict)
        _say(this, verdict)
    if verdict.verdict != "ok":
        raise typer.Exit(TAMPERED if verdict.verdict == "tampered" else INCOMPLETE)


def _keys(this: Session, pubkey: Path | None, checkpoints: Path | None) -> tuple[Path, Path]:
    from sextant.errors import BadInput
    from sextant.stack.home import Home

    local = Home(home())
    found = pubkey or local.notary_pubkey, checkpoints or local.notary_checkpoints
    for option, path in zip(("--pubkey", "--checkpoints"), found, strict=True):
        if not path.exists():
            raise BadInput(f"{path} does not exist: say with {option} what to check with", field=option)
    if (pubkey, checkpoints) != (None, None):
        this.note(f"checked with the key {found[0]} and the checkpoints {found[1]}")
    return found


def _say(this: Session, verdict: Verdict) -> None:
    this.say(
        f"{verdict.verdict}: {verdict.rows} rows of {verdict.subjects} subjects, {verdict.sealed} sealed under "
        f"{verdict.checkpoints} checkpoints, {verdict.unsealed} not sealed yet, {verdict.expired} expired"
    )
    if verdict.reason:
        this.say(verdict.reason)


def export(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; - is standard output.")],
    job: Annotated[str | None, typer.Option("--job", metavar="JOB", help="Only what this job's check needs.")] = None,
    as_json: Json = False,
) -> None:
    """Write the audit log as JSON lines, as of now: to keep, to search, and for `verify --log`."""
    import sys

    from sextant.errors import BadInput

    with session(ctx, as_json) as this:
        if str(out) == "-":
            this.client.export_audit(sys.stdout.buffer.write, job)
            return
        try:
            with out.open("wb") as file:
                this.client.export_audit(file.write, job)
        except OSError as error:
            raise BadInput(f"{out} cannot be written: {error.strerror or error}", field="FILE") from None
        this.document({"file": str(out), "bytes": out.stat().st_size})
        this.say(f"{out}: {out.stat().st_size} bytes")


def checkpoints(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where they are kept.")],
    pubkey: Pubkey = None,
    as_json: Json = False,
) -> None:
    """Fetch the checkpoints that are not in DIRECTORY yet. Kept on another machine, they witness what the log was."""
    from sextant import witnessing

    with session(ctx, as_json) as this:
        key, _ = _keys(this, pubkey, Path("/"))
        added, last = witnessing.witness(this.client, key, directory)
        this.document({"added": added, "size": last})
        this.say(f"{added} checkpoints came to {directory}; the last is over {last} rows")


def expire(
    ctx: typer.Context,
    before: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d"], help="Rows of jobs that ended before this day (UTC), 30 days ago or more."),
    ],
    archive: Annotated[Path, typer.Option(metavar="FILE", help="Where the log is written first, as `export` does.")],
    as_json: Json = False,
) -> None:
    """Take old jobs' rows out of the audit log, once they are in an archive. What proves the other rows stays."""
    from datetime import UTC

    from sextant.errors import BadInput

    with session(ctx, as_json) as this:
        try:
            with archive.open("xb") as file:
                this.client.export_audit(file.write)
        except OSError as error:
            raise BadInput(f"{archive} cannot be written: {error.strerror or error}", field="--archive") from None
        rows = this.client.expire_audit(before.replace(tzinfo=UTC))
        this.document({"rows": rows, "archive": str(archive)})
        this.say(f"{rows} rows were taken out; {archive} has the log as it was before")

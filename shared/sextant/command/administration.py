"""Commands for operators: nodes, the audit log, keys, versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sextant.command.session import JOB_FAILED, Json, Session, clean, session

if TYPE_CHECKING:
    from sextant_shared.contracts.views import AuditView

FIRST = 200


def nodes(ctx: typer.Context, as_json: Json = False) -> None:
    """List the trainer nodes and their slots."""
    from sextant.command import tables

    with session(ctx, as_json) as this:
        items = list(this.client.nodes())
        this.document(items)
        shown = tables.table("name", "state", "slots", "used", "last seen", "info")
        for node in items:
            row = (str(node.slots), str(node.used), tables.when(node.last_seen), clean(tables.pairs(node.info)))
            shown.add_row(node.name, tables.state(node.state), *row)
        this.show(shown)


def audit(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[verify] [JOB]", help="verify: check the chains. JOB: only this job's rows."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List every row, not only the first 200.")] = False,
    as_json: Json = False,
) -> None:
    """List the audit log, or verify it: exit code 1 where it was tampered with."""
    from sextant.errors import BadInput

    with session(ctx, as_json) as this:
        given = list(words or [])
        verify = given[:1] == ["verify"]
        rest = given[1:] if verify else given
        if len(rest) > 1:
            raise BadInput(f"audit was given {' '.join(given)!r}; accepted is [verify] [JOB]")
        job = rest[0] if rest else None
        if verify:
            _verify(this, job)
        else:
            _list(this, job, everything)


def _list(this: Session, job: str | None, everything: bool) -> None:
    from itertools import islice

    rows = this.client.audit(job)
    items = list(rows if everything else islice(rows, FIRST))
    show_rows(this, items)
    if len(items) == FIRST and not everything:
        this.note(f"these are the first {FIRST}; --all lists every one")


def _verify(this: Session, job: str | None) -> None:
    verdict = this.client.verify_audit(job)
    this.document(verdict)
    this.say(f"{verdict.verdict}: {verdict.rows} rows of {verdict.subjects} subjects")
    if verdict.verdict != "ok":
        this.say(f"the first row that does not hold: {verdict.first_bad or 'not named'}")
        raise typer.Exit(JOB_FAILED)


def show_rows(this: Session, rows: list[AuditView]) -> None:
    """Rows of the audit log."""
    from sextant.command import tables

    this.document(rows)
    shown = tables.table("at", "subject", "event", "change", "actor", "attempt", "hash")
    for row in rows:
        change = f"{row.from_state or ''} -> {row.to_state}" if row.to_state else ""
        subject = f"{row.subject_type} {row.subject_id}"
        rest = (clean(row.actor), str(row.attempt), row.hash[:12])
        shown.add_row(tables.when(row.at), subject, row.event, change, *rest)
    this.show(shown)


def keys_create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str], typer.Option("--scope", help="What it may do, e.g. jobs:read; give it once for each.")],
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Never otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Make an API key. Its secret is shown this once."""
    with session(ctx, as_json) as this:
        key = this.client.create_key(name, scope, expires_in_days)
        this.document(key)
        this.note(f"key {key.name} ({key.id}); keep the secret, it is not shown again:")
        this.say(key.secret or "")


def keys_list(ctx: typer.Context, as_json: Json = False) -> None:
    """List the API keys, without their secrets."""
    from sextant.command import tables

    with session(ctx, as_json) as this:
        items = list(this.client.keys())
        this.document(items)
        shown = tables.table("id", "name", "prefix", "scopes", "created", "expires", "revoked")
        for key in items:
            times = (tables.when(key.created_at), tables.when(key.expires_at), tables.when(key.revoked_at))
            shown.add_row(str(key.id), key.name, key.prefix, " ".join(key.scopes), *times)
        this.show(shown)


def keys_revoke(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")],
    as_json: Json = False,
) -> None:
    """Revoke an API key."""
    with session(ctx, as_json) as this:
        key = this.client.revoke_key(key_id)
        this.document(key)
        this.say(f"key {key.name} ({key.id}) is revoked")


def version(ctx: typer.Context, as_json: Json = False) -> None:
    """Print the version of this command, and of the server where one answers."""
    from importlib.metadata import version as installed

    with session(ctx, as_json) as this:
        client = installed("sextant-platform")
        server = _server_version(this)
        this.document({"client": client, "server": server})
        this.say(f"sextant {client}", f"server {server}" if server else "no server answers")


def _server_version(this: Session) -> str | None:
    from sextant.errors import ClientError

    try:
        return this.client.server_version()
    except ClientError:
        return None

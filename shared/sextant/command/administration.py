"""Commands for operators: nodes, keys, versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sextant.command.session import Json, Session, clean, session

if TYPE_CHECKING:
    from sextant_shared.contracts.views import KeyView


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


def keys_create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str], typer.Option("--scope", help="What it may do, e.g. jobs:read; give it once for each.")],
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Never otherwise.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose it is, where it is not for your own tenant.")] = None,
    as_json: Json = False,
) -> None:
    """Make an API key. Its secret is shown this once."""
    with session(ctx, as_json) as this:
        _show_secret(this, this.client.create_key(name, scope, expires_in_days, tenant))


def keys_rotate(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")],
    overlap_hours: Annotated[float, typer.Option(min=0, max=720, help="How long the old one works on.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Make a new API key in the place of one. Its secret is shown this once."""
    with session(ctx, as_json) as this:
        _show_secret(this, this.client.rotate_key(key_id, round(overlap_hours * 3600)))


def _show_secret(this: Session, key: KeyView) -> None:
    this.document(key)
    this.note(f"key {key.name} ({key.id}); keep the secret, it is not shown again:")
    this.say(key.secret or "")


def keys_list(ctx: typer.Context, as_json: Json = False) -> None:
    """List the API keys, without their secrets."""
    from sextant.command import tables

    with session(ctx, as_json) as this:
        items = list(this.client.keys())
        this.document(items)
        shown = tables.table("id", "name", "prefix", "scopes", "created", "expires", "revoked", "last used")
        for key in items:
            times = map(tables.when, (key.created_at, key.expires_at, key.revoked_at, key.last_used_at))
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

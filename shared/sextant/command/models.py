"""Commands about model versions."""

from __future__ import annotations

import typer

from sextant.command.data import Name, Reference, Target, pull_version, show_version, show_versions
from sextant.command.session import Json, session


def list_models(ctx: typer.Context, name: Name = None, as_json: Json = False) -> None:
    """List model versions, the newest first."""
    with session(ctx, as_json) as this:
        show_versions(this, list(this.client.models(name)))


def show(ctx: typer.Context, reference: Reference, as_json: Json = False) -> None:
    """Show a model version."""
    with session(ctx, as_json) as this:
        show_version(this, this.client.model(reference))


def pull(ctx: typer.Context, reference: Reference, output: Target = None, as_json: Json = False) -> None:
    """Download a model version. Cut off, the same command goes on where it stopped."""
    with session(ctx, as_json) as this:
        pull_version(this, "model", reference, output)

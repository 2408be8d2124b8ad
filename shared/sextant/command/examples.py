"""`example`: the pipelines that come with the package; it needs no server."""

from __future__ import annotations

from typing import Annotated

import typer

from sextant.command.session import Json, session

Which = Annotated[str | None, typer.Argument(metavar="NAME", help="Which one; without it, their names are listed.")]


def example(ctx: typer.Context, name: Which = None, as_json: Json = False) -> None:
    """Print a pipeline to start from: sextant example intents > intents.yaml."""
    with session(ctx, as_json) as this:
        from sextant import documents

        if name is None:
            this.say(*documents.EXAMPLES)
            this.document(documents.EXAMPLES)
            return
        this.say(*documents.example_text(name).splitlines())
        this.document(documents.example(name).content)

"""Commands about the architectures of the zoo; they need no server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sextant.command.session import Json, session

if TYPE_CHECKING:
    from sextant_zoo.architecture import Architecture

Only = Annotated[str | None, typer.Option("--modality", help="image, text, series or table.")]
Which = Annotated[str, typer.Argument(metavar="NAME", help="An architecture, as `sextant zoo list` names it.")]


def list_zoo(ctx: typer.Context, modality: Only = None, as_json: Json = False) -> None:
    """List the architectures that can be trained by name."""
    with session(ctx, as_json) as this:
        from sextant.command.tables import table
        from sextant.errors import BadInput
        from sextant_zoo import describe, names
        from sextant_zoo.architecture import MODALITIES

        if modality is not None and modality not in MODALITIES:
            raise BadInput(f"--modality {modality}: accepted are {', '.join(MODALITIES)}")
        entries = [entry for entry in map(describe, names()) if modality in (None, entry.modality)]
        rows = table("NAME", "MODALITY", "TASKS", "SPLITS", "EXPORT", "FROM", "SUMMARY")
        for entry in sorted(entries, key=lambda entry: (MODALITIES.index(entry.modality), entry.name)):
            rows.add_row(
                entry.name,
                entry.modality,
                ", ".join(entry.tasks),
                ", ".join(entry.splits),
                ", ".join(entry.exports) or "-",
                entry.origin,
                entry.summary,
            )
        this.show(rows)
        this.document([_plain(entry) for entry in entries])


def show(ctx: typer.Context, name: Which, as_json: Json = False) -> None:
    """Show an architecture with its settings and what they are by default."""
    with session(ctx, as_json) as this:
        from sextant.command.tables import table
        from sextant.errors import BadInput
        from sextant_zoo import describe
        from sextant_zoo.errors import UnknownModelError

        try:
            entry = describe(name)
        except UnknownModelError as error:
            raise BadInput(str(error)) from None
        this.say(f"{entry.name}: {entry.summary}", f"Tasks: {', '.join(entry.tasks)}", f"Inputs: {entry.preprocessing}")
        rows = table("SETTING", "DEFAULT", "MEANING")
        for setting, value in entry.settings().items():
            rows.add_row(setting, str(value), entry.config.model_fields[setting].description or "")
        this.show(rows)
        this.document(_plain(entry))


def _plain(entry: Architecture) -> dict[str, Any]:
    return {
        "name": entry.name,
        "summary": entry.summary,
        "modality": entry.modality,
        "tasks": list(entry.tasks),
        "splits": list(entry.splits),
        "exports": list(entry.exports),
        "origin": entry.origin,
        "preprocessing": entry.preprocessing,
        "settings": entry.settings(),
        "space": {name: dict(bounds) for name, bounds in entry.space.items()},
    }

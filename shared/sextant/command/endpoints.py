"""Commands about endpoints, and `predict`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sextant.command.session import Json, clean, session

Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's name.")]
SHOWN = 400


def list_endpoints(ctx: typer.Context, as_json: Json = False) -> None:
    """List the endpoints."""
    from sextant.command import tables

    with session(ctx, as_json) as this:
        items = list(this.client.endpoints())
        this.document(items)
        shown = tables.table("name", "state", "model", "url", "updated", "error")
        for item in items:
            model = item.model or {}
            name = f"{model.get('name', '')}@{model.get('version', '')}" if model.get("name") else ""
            row = (name, item.url, tables.when(item.updated_at), clean(item.error or ""))
            shown.add_row(item.name, tables.state(item.state), *row)
        this.show(shown)


def delete(ctx: typer.Context, endpoint: Endpoint, as_json: Json = False) -> None:
    """Take an endpoint down."""
    with session(ctx, as_json) as this:
        view = this.client.delete_endpoint(endpoint)
        this.document(view)
        this.say(f"endpoint {view.name} is {view.state}")


def predict(
    ctx: typer.Context,
    endpoint: Endpoint,
    data: Annotated[str, typer.Option("--data", "-d", metavar="FILE", help="Inputs as JSON; - is standard input.")],
    as_json: Json = False,
) -> None:
    """Ask an endpoint. The data: lists by input's name, the lists of the only input, or an inference request."""
    with session(ctx, as_json) as this:
        answer = this.client.predict(endpoint, _read(data))
        this.document(answer)
        for output in answer.outputs:
            text = json.dumps(output.nested())
            shown = text if len(text) <= SHOWN else text[:SHOWN] + " ... (--json shows all)"
            this.say(f"{output.name} {output.datatype}{output.shape}: {shown}")


def _read(name: str) -> Any:
    from sextant.errors import BadInput

    try:
        text = sys.stdin.read() if name == "-" else Path(name).expanduser().read_text("utf-8")
        return json.loads(text)
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror or error}", field="--data") from None
    except json.JSONDecodeError as error:
        raise BadInput(f"{name}, line {error.lineno}: {error.msg}", field="--data", line=error.lineno) from None
    except (ValueError, RecursionError):
        raise BadInput(f"{name} is no JSON text", field="--data") from None

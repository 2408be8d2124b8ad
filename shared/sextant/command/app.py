"""The command's tree: which function answers which words."""

from __future__ import annotations

from typing import Annotated

import typer

from sextant.command import (
    administration,
    audit,
    data,
    endpoints,
    examples,
    jobs,
    models,
    plan,
    quickstart,
    stack,
    submission,
    zoo,
)
from sextant.command.session import EXIT_CODES, Options

HELP = f"""From raw data to a served model, on your own machines.

{EXIT_CODES}
"""


def build() -> typer.Typer:
    """The whole command."""
    app = typer.Typer(
        name="sextant", help=HELP, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False
    )
    app.callback()(_connection)
    _add_jobs(app)
    _add_rest(app)
    _add_groups(app)
    return app


def _connection(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="The server; SEXTANT_URL or the local stack otherwise.")
    ] = None,
) -> None:
    ctx.obj = Options(url=url)


def _add_jobs(app: typer.Typer) -> None:
    panel = "Jobs"
    app.command("submit", rich_help_panel=panel)(submission.submit)
    app.command("validate", rich_help_panel=panel)(submission.validate)
    app.command("example", rich_help_panel=panel)(examples.example)
    app.command("jobs", rich_help_panel=panel)(jobs.list_jobs)
    app.command("job", rich_help_panel=panel)(jobs.show)
    app.command("logs", rich_help_panel=panel)(jobs.logs)
    app.command("events", rich_help_panel=panel)(jobs.events)
    app.command("why", rich_help_panel=panel)(jobs.why)
    app.command("lineage", rich_help_panel=panel)(jobs.lineage)
    app.command("reproduce", rich_help_panel=panel)(jobs.reproduce)
    app.command("cancel", rich_help_panel=panel)(jobs.cancel)
    app.command("pause", rich_help_panel=panel)(jobs.pause)
    app.command("resume", rich_help_panel=panel)(jobs.resume)
    app.command("retry", rich_help_panel=panel)(jobs.retry)


def _add_rest(app: typer.Typer) -> None:
    app.command("plan", rich_help_panel="Planning")(plan.plan)
    app.command("predict", rich_help_panel="Serving")(endpoints.predict)
    app.command("nodes", rich_help_panel="Operations")(administration.nodes)
    app.command("version", rich_help_panel="Operations")(administration.version)
    app.command("quickstart", rich_help_panel="Local stack")(quickstart.quickstart)
    app.command("up", rich_help_panel="Local stack")(stack.up)
    app.command("down", rich_help_panel="Local stack")(stack.down)
    app.command("backup", rich_help_panel="Local stack")(stack.backup)
    app.command("restore", rich_help_panel="Local stack")(stack.restore)
    app.command("status", rich_help_panel="Local stack")(stack.status)


def _add_groups(app: typer.Typer) -> None:
    panel = "Data and models"
    group = _group(app, "data", "Data sets: push, list, show, pull.", panel)
    group.command("push")(data.push)
    group.command("list")(data.list_datasets)
    group.command("show")(data.show)
    group.command("pull")(data.pull)
    group = _group(app, "models", "Model versions: list, show, pull.", panel)
    group.command("list")(models.list_models)
    group.command("show")(models.show)
    group.command("pull")(models.pull)
    group = _group(app, "zoo", "Architectures by name: list, show.", panel)
    group.command("list")(zoo.list_zoo)
    group.command("show")(zoo.show)
    group = _group(app, "endpoints", "Live endpoints: list, delete.", "Serving")
    group.command("list")(endpoints.list_endpoints)
    group.command("delete")(endpoints.delete)
    group = _group(app, "audit", "The audit log: list, show, verify, export, checkpoints, expire.", "Operations")
    group.command("list")(audit.list_rows)
    group.command("show")(audit.show)
    group.command("verify")(audit.verify)
    group.command("export")(audit.export)
    group.command("checkpoints")(audit.checkpoints)
    group.command("expire")(audit.expire)
    group = _group(app, "keys", "API keys: create, list, rotate, revoke.", "Operations")
    group.command("create")(administration.keys_create)
    group.command("list")(administration.keys_list)
    group.command("rotate")(administration.keys_rotate)
    group.command("revoke")(administration.keys_revoke)
    group = _group(app, "stack", "The local stack's services: logs.", "Local stack")
    group.command("logs")(stack.logs)
    group.callback()(_nothing)


def _group(app: typer.Typer, name: str, text: str, panel: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
    app.add_typer(group, name=name, help=text, rich_help_panel=panel)
    return group


def _nothing() -> None:
    # With a callback, a group of one command stays a group.
    pass

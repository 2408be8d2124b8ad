"""`submit` and `validate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sextant.command.session import BAD_INPUT, JOB_FAILED, Json, Session, findings_table, session

File = Annotated[str, typer.Argument(metavar="FILE", help="A spec in YAML or JSON; - is standard input.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field, e.g. steps.train.seed=3.")
]


def submit(
    ctx: typer.Context,
    file: File,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show every step live until the job has ended.")
    ] = False,
    set_: Set = None,
    code: Annotated[
        str | None, typer.Option("--code", metavar="DIR", help="Upload a directory of your own code for what runs it.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="TEXT", help="Idempotency key: the same again gives the same job.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Submit a job or pipeline. With --follow, exit code 1 tells that it failed."""
    with session(ctx, as_json) as this:
        view = this.client.submit(_read(this, file, set_), key, code=code)
        if not follow:
            this.document(view)
            this.say(f"{view.kind} {view.name} is {view.state}: {view.id}", f"follow it: sextant logs -f {view.id}")
            return
        from sextant.command.follow import follow as follow_job

        ended = follow_job(this, str(view.id))
        this.document(ended)
        if ended.state != "SUCCEEDED":
            raise typer.Exit(JOB_FAILED)


def validate(ctx: typer.Context, file: File, set_: Set = None, as_json: Json = False) -> None:
    """Check a spec on the server, and change nothing. Exit code 2 where it would be refused."""
    with session(ctx, as_json) as this:
        verdict = this.client.validate(_read(this, file, set_))
        this.document(verdict)
        for warning in verdict.warnings:
            this.note(f"warning: {warning}")
        if verdict.valid:
            this.say(f"{file} would be accepted")
            return
        if not as_json:
            this.stderr.print(f"{file} would be refused:", style="red")
            this.stderr.print(findings_table(verdict.errors, this.source))
        raise typer.Exit(BAD_INPUT)


def _read(this: Session, file: str, assignments: list[str] | None) -> dict[str, Any]:
    from sextant import _specs as specs
    from sextant import documents

    this.source = documents.load(file)
    spec = this.source.content
    for assignment in assignments or []:
        spec = specs.put(spec, assignment)
    return specs.with_kind(spec)

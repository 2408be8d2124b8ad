"""Commands of the local stack: every service on this machine, under one supervisor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sextant.command.session import CONFLICT, JOB_FAILED, NOT_REACHABLE, Json, Session, clean, plain, session
from sextant.profile import home

if TYPE_CHECKING:
    from sextant.stack.control import StackStatus

COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")


def up(
    ctx: typer.Context,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready; it goes on.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65_500, help="The API's port; the others follow from it.")] = 8700,
    slots: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Training processes; one a core otherwise.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start every service on this machine; Ctrl-C stops them in order. Exit code 5 where they are up already."""
    with session(ctx, as_json) as this:
        from sextant.stack import control
        from sextant.stack.processes import Options

        options = Options(port=port, slots=slots)
        try:
            if detach:
                _describe(this, control.up_detached(home(), options))
                return
            control.up(home(), options, _printer(this))
        except control.AlreadyUp as error:
            this.tell(error)
            raise typer.Exit(CONFLICT) from None
        this.document(control.status(home()))


def down(ctx: typer.Context, as_json: Json = False) -> None:
    """Stop the local stack, and wait until it is gone. Its state stays."""
    with session(ctx, as_json) as this:
        from sextant.stack import control

        stopped = control.down(home())
        this.document({"stopped": stopped})
        this.say("the stack is down" if stopped else f"no stack is up in {home()}")


def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
    as_json: Json = False,
) -> None:
    """Write everything that the local stack holds to one file, while it works: jobs, data, models, the audit log."""
    with session(ctx, as_json) as this:
        from sextant.stack import keeping

        keeping.backup(home(), file, this.say)
        this.document({"file": str(file), "bytes": file.stat().st_size})


def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
    as_json: Json = False,
) -> None:
    """Bring a backup into a new SEXTANT_HOME; `sextant up` goes on from it."""
    with session(ctx, as_json) as this:
        from sextant.stack import keeping

        keeping.restore(home(), file, this.say)
        this.document({"home": str(home())})
        this.say(f"restored into {home()}; start it with sextant up")


def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Tell how the local stack is. Exit code 0 ready, 1 up and not ready, 3 down."""
    with session(ctx, as_json) as this:
        from sextant.stack import control

        now = control.status(home())
        _describe(this, now)
        if not now.ready:
            raise typer.Exit(JOB_FAILED if now.up else NOT_REACHABLE)


def logs(
    ctx: typer.Context,
    service: Annotated[
        str | None, typer.Argument(metavar="[SERVICE]", help="Only this one, as `status` names it.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    tail: Annotated[int, typer.Option(min=1, max=100_000, help="How many lines of each to begin with.")] = 200,
    as_json: Json = False,
) -> None:
    """Print what the services have written. With -f --json, one JSON document a line."""
    with session(ctx, as_json) as this:
        from sextant.stack import control

        lines = control.logs(home(), service, follow=follow, tail=tail)
        if as_json and not follow:
            this.document([{"service": name, "line": line} for name, line in lines])
            return
        printer = _printer(this)
        for name, line in lines:
            if as_json:
                this.line({"service": name, "line": line})
            printer(name, line)


def _printer(this: Session) -> Callable[[str, str], None]:
    """Lines behind the name of who wrote them, each name in a colour of its own."""
    colours: dict[str, str] = {}

    def say(name: str, line: str) -> None:
        if this.as_json:
            return
        from rich.text import Text

        colour = colours.setdefault(name, COLOURS[len(colours) % len(COLOURS)])
        this.console.print(Text.assemble((f"{name:<12} | ", colour), clean(line)), soft_wrap=True)

    return say


def _describe(this: Session, now: StackStatus) -> None:
    from sextant.command import tables

    this.document({**plain(now), "ready": now.ready})
    if not now.up:
        this.say(f"no stack is up in {now.home}; start one with: sextant up")
        return
    this.say(
        f"{'ready' if now.ready else 'not ready yet'} at {now.url or '?'} (process {now.pid}, state in {now.home})"
    )
    shown = tables.table("process", "pid", "ready", "restarts", "up for")
    for one in now.processes:
        row = (str(one.pid or ""), "yes" if one.ready else "no", str(one.restarts), tables.seconds(one.uptime_s))
        shown.add_row(one.name, *row)
    this.show(shown)

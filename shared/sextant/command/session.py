"""One run of the command: the client, what is printed, and which exit code an error becomes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sextant import errors

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sextant.client import Client
    from sextant.documents import Document
    from sextant_shared.contracts.views import Finding

OK, JOB_FAILED, BAD_INPUT, NOT_REACHABLE, REFUSED, CONFLICT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 a job failed, or the server did; 2 usage or bad input; 3 no server answers; "
    "4 refused (key or scope); 5 not found, or its state does not allow this; 130 interrupted."
)
RETRIES = 3

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@dataclass(frozen=True)
class Options:
    """What was given before the subcommand."""

    url: str | None = None


class Session:
    """What a command works with."""

    def __init__(self, options: Options, as_json: bool) -> None:
        self.as_json = as_json
        self.source: Document | None = None
        """The spec file that this run is about: faults are told with its line numbers."""
        self._options = options

    @cached_property
    def client(self) -> Client:
        """The client, made on first use: `--help` needs none."""
        from sextant.client import Client

        return Client(self._options.url, retries=RETRIES)

    @cached_property
    def console(self) -> Console:
        """Where people read. No markup: what a server says is shown as it is."""
        return _console(stderr=False)

    @cached_property
    def stderr(self) -> Console:
        """Where people read what went wrong."""
        return _console(stderr=True)

    def say(self, *lines: str) -> None:
        """Print lines for people; with --json, nothing."""
        if not self.as_json:
            for line in lines:
                self.console.print(clean(line), soft_wrap=True)

    def note(self, line: str) -> None:
        """Print a remark that is no result, on standard error; with --json, nothing."""
        if not self.as_json:
            self.stderr.print(clean(line), soft_wrap=True, style="dim")

    def show(self, table: Table) -> None:
        """Print a table for people."""
        if not self.as_json:
            self.console.print(table)

    def document(self, value: object) -> None:
        """Print the JSON document, where that was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(plain(value), indent=2) + "\n")
            sys.stdout.flush()

    def line(self, value: object) -> None:
        """Print one JSON document on one line: for what is followed without end."""
        sys.stdout.write(json.dumps(plain(value)) + "\n")
        sys.stdout.flush()

    def tell(self, error: errors.ClientError) -> None:
        """Say what went wrong: for people on standard error, or as the JSON document."""
        findings = error.findings if isinstance(error, errors.ApiError) else []
        if self.as_json:
            self.document({"error": _error_document(error, findings)})
            return
        self.stderr.print(f"error: {quoted(str(error))}", soft_wrap=True, style="red")
        if findings:
            self.stderr.print(findings_table(findings, self.source))
        if hint := _hint(error):
            self.stderr.print(hint, soft_wrap=True)


@contextmanager
def session(ctx: typer.Context, as_json: bool) -> Iterator[Session]:
    """A session; errors become a message and an exit code, never a stack trace."""
    options = ctx.find_root().obj
    this = Session(options if isinstance(options, Options) else Options(), as_json)
    try:
        yield this
    except errors.ClientError as error:
        this.tell(error)
        raise typer.Exit(exit_code(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if "client" in vars(this):
            this.client.close()


def exit_code(error: errors.ClientError) -> int:
    """What a script sees."""
    codes: tuple[tuple[type[errors.ClientError], int], ...] = (
        (errors.BadInput, BAD_INPUT),
        (errors.InvalidRequest, BAD_INPUT),
        (errors.NotReachable, NOT_REACHABLE),
        (errors.AccessRefused, REFUSED),
        (errors.NotFound, CONFLICT),
        (errors.Conflict, CONFLICT),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), JOB_FAILED)


def clean(text: str) -> str:
    """Text without control characters: what a job writes must not steer the terminal."""
    return "".join(c for c in text if c in "\n\t" or (c.isprintable() and c != "\x7f"))


def quoted(text: str) -> str:
    """What a job said, so that its further lines cannot be taken for lines of ours."""
    return clean(text).strip("\n").replace("\n", "\n    ")


def plain(value: Any) -> Any:
    """Data that JSON can say."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump is not None else value


def findings_table(findings: list[Finding], source: Document | None) -> Table:
    """Faults of a request: where, what was given, what is accepted."""
    from sextant.command.tables import table

    lines = [source.line_of(finding.field) if source else None for finding in findings]
    columns = ("field", "fault", "given", "accepted")
    shown = table("line", *columns) if any(lines) else table(*columns)
    for finding, line in zip(findings, lines, strict=True):
        row = [finding.field, finding.message, finding.given or "", finding.accepted or ""]
        if any(lines):
            row.insert(0, str(line or ""))
        shown.add_row(*(clean(cell) for cell in row))
    return shown


def _error_document(error: errors.ClientError, findings: list[Finding]) -> dict[str, Any]:
    told: dict[str, Any] = {"type": type(error).__name__, "message": str(error), "findings": plain(findings)}
    if isinstance(error, errors.ApiError):
        told["status"] = error.status
    if isinstance(error, errors.BadInput) and error.line:
        told["line"] = error.line
    return told


def _hint(error: errors.ClientError) -> str | None:
    if isinstance(error, errors.NotReachable):
        return "start a local server with `sextant up`, or name one with --url or SEXTANT_URL"
    if isinstance(error, errors.AccessRefused) and error.status == 401:
        return "give an API key in SEXTANT_API_KEY; `sextant up` makes one for the local server"
    return None


def _console(stderr: bool) -> Console:
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        # In a file or pipe a line is a line, however long.
        made = Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=1000)
    return made

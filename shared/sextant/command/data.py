"""Commands about datasets, and the transfers that they share with models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sextant.command.session import Json, Session, clean, session

if TYPE_CHECKING:
    from sextant_shared.contracts.views import VersionView

Reference = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="Without a version, the newest.")]
Name = Annotated[str | None, typer.Option(help="Only versions of this name.")]
Target = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to put the files; NAME-VERSION otherwise.")
]


def push(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, or a directory, which is sent as a tar.")],
    as_json: Json = False,
) -> None:
    """Upload raw data. Cut off, the same command goes on where it stopped."""
    with session(ctx, as_json) as this:
        with transfer(this) as progress:
            view = this.client.push(path, progress)
        this.document(view)
        this.say(f"{view.path} is there; name it in a prepare job as", f"  source: {view.uri}")


def list_datasets(ctx: typer.Context, name: Name = None, as_json: Json = False) -> None:
    """List dataset versions, the newest first."""
    with session(ctx, as_json) as this:
        show_versions(this, list(this.client.datasets(name)))


def show(ctx: typer.Context, reference: Reference, as_json: Json = False) -> None:
    """Show a dataset version."""
    with session(ctx, as_json) as this:
        show_version(this, this.client.dataset(reference))


def pull(ctx: typer.Context, reference: Reference, output: Target = None, as_json: Json = False) -> None:
    """Download a dataset version. Cut off, the same command goes on where it stopped."""
    with session(ctx, as_json) as this:
        pull_version(this, "dataset", reference, output)


def pull_version(this: Session, kind: Literal["dataset", "model"], reference: str, output: Path | None) -> None:
    """Download a version and say where it is."""
    with transfer(this) as progress:
        pulled = this.client.pull(reference, output, kind=kind, progress=progress)
    files = [str(path) for path in pulled.files]
    this.document({"version": pulled.version, "directory": str(pulled.directory), "files": files})
    name = f"{pulled.version.name}@{pulled.version.version}"
    this.say(f"{name}: {len(files)} files, checked against their hashes, in {pulled.directory}")


def show_versions(this: Session, versions: list[VersionView]) -> None:
    """A list of versions."""
    from sextant.command import tables

    this.document(versions)
    shown = tables.table("name", "version", "task", "size", "digest", "created", "id")
    for version in versions:
        total = tables.size(sum(int(file.get("size", 0)) for file in version.files))
        task = clean(str(version.meta.get("task") or ""))
        created = tables.when(version.created_at)
        shown.add_row(version.name, str(version.version), task, total, version.digest[:12], created, str(version.id))
    this.show(shown)


def show_version(this: Session, version: VersionView) -> None:
    """One version: its files and what is known of it."""
    from sextant.command import tables

    this.document(version)
    this.say(f"{version.name}@{version.version}  {version.digest}", f"made by job {version.job_id}")
    if this.as_json:
        return
    shown = tables.table("file", "size", "sha256")
    for file in version.files:
        shown.add_row(clean(str(file.get("path"))), tables.size(int(file.get("size", 0))), str(file.get("sha256"))[:12])
    this.show(shown)
    for name, value in version.meta.items():
        this.say(f"{name}: {tables.short(value, 100)}")


@contextmanager
def transfer(this: Session) -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress bar where a person watches; None otherwise."""
    if this.as_json or not this.stderr.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=this.stderr, transient=True) as bars:
        tasks = {}

        def progress(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(clean(file), total=total)
            bars.update(tasks[file], completed=done)

        yield progress

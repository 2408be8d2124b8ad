"""The files of an upload that count."""

from __future__ import annotations

from pathlib import Path

RESOURCES = "__MACOSX"
"""Where the archives of macOS keep what is no content of files."""


def files(folder: Path) -> list[Path]:
    """All files below a folder, sorted by path; not hidden ones, and no links, which lead elsewhere."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in found if not any(_is_hidden(part) for part in path.relative_to(folder).parts)]


def held(root: Path, name: str) -> Path | None:
    """The file of this name below `root`; None where there is none, or a link is on the way, which leads elsewhere."""
    try:
        place = root.resolve() / name
        return root / name if place.is_file() and place.resolve() == place else None
    except OSError:
        return None


def _is_hidden(part: str) -> bool:
    return part.startswith(".") or part == RESOURCES

"""What a script leaves: regular files alone become artefacts, so that no link leads to what is not its own."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from sextant_shared.artefacts import safe_path
from sextant_shared.errors import InvalidInput, WorkFailed

MOST_FILES = 20_000
CHECKPOINTS = ".checkpoints"
OURS = frozenset({"log.txt", "metrics.jsonl", CHECKPOINTS})


def take(source: Path, target: Path) -> list[str]:
    """Move `source`, a directory that nobody writes to any more, to `target`, and remove what is no artefact.

    What was removed, each with its reason. Raises WorkFailed where there are too many files.
    """
    if source.is_symlink() or not source.is_dir():
        raise WorkFailed(f"{source.name} is no directory any more")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    removed: list[str] = []
    count = 0
    for folder, folders, names in os.walk(target):
        for name in [*folders, *names]:
            path = Path(folder) / name
            if reason := _fault(path, path.relative_to(target).as_posix()):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                removed.append(f"{path.relative_to(target).as_posix()} {reason}")
        count += len(names)
        if count > MOST_FILES:
            raise WorkFailed(f"the script left more than {MOST_FILES} files; pack them, or leave fewer")
    return removed


def _fault(path: Path, name: str) -> str | None:
    found = path.lstat()
    if name in OURS:
        return "has a name that is kept for the platform's own"
    if stat.S_ISDIR(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        return "is a link" if stat.S_ISLNK(found.st_mode) else "is no regular file"
    try:
        safe_path(name)
    except InvalidInput as error:
        return error.message
    return "has a second name" if found.st_nlink > 1 else None

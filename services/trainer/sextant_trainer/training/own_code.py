"""A user's own code in a rank: where it comes from, and what becomes of it with the model that it builds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from sextant_parallel.world import Meeting
from sextant_shared import archives
from sextant_shared.execution import user_code
from sextant_shared.execution.workbench import Workbench
from sextant_trainer.training.recipe import Code, Recipe


def open_code(bench: Workbench, rank: int, where: Path | Meeting, profiles: Path) -> Code | None:
    """Unpack the order's code, if it has some, and confine this rank for good: it is to call a function of it."""
    if user_code.FIELD not in bench.order.inputs:
        return None
    archive = user_code.archive_of(bench)
    root = user_code.unpack(archive, bench.directory / f"code-{rank}", bench.order.user_code)
    order = bench.order
    given = [order.input("data").path, order.resume.path if order.resume else None, str(archive.parent)]
    listener = where.listener if isinstance(where, Meeting) else None
    kept = [bench.descriptor, *([listener] if listener is not None else [])]
    # torch makes this directory whether it compiles something or not.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(bench.directory / "compiled")
    user_code.settle(bench.directory, [Path(path) for path in given if path], [profiles], kept)
    return Code(root, archive, order.input(user_code.FIELD).digest)


def code_of(recipe: Recipe) -> dict[str, Any]:
    """What the model's description says of the code."""
    if recipe.code is None:
        return {}
    return {"code": {"file": _name(recipe.code), "sha256": recipe.code.sha256}}


def keep_code(recipe: Recipe, out: Path) -> list[str]:
    """Put the archive beside the weights: they are of no use without it. The files' names."""
    if recipe.code is None:
        return []
    shutil.copyfile(recipe.code.archive, out / _name(recipe.code))
    return [_name(recipe.code)]


def _name(code: Code) -> str:
    return f"code{next(suffix for suffix in archives.SUFFIXES if code.archive.name.lower().endswith(suffix))}"

"""Where the weights that a model begins with come from: a package, an upload, or a version that was trained before."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path, PurePath

from sextant_shared import archives
from sextant_shared.artefacts import safe_path
from sextant_shared.contracts.models import ZooModel
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Input, WorkOrder
from sextant_zoo.pretrained import FIELD, MODEL, READ, SCHEME, TENSORS, UPLOAD, Weights, from_directory, from_package

INPUT = "weights"
"""What the scheduler found for a source that is no package."""


def open_weights(order: WorkOrder, model: ZooModel, room: Path | None = None) -> Weights | None:
    """The weights that the model names, on this machine; None where it names none. An upload is unpacked below `room`.

    Raises UnknownModelError where they are not there or not for the architecture, and InvalidInput for an upload that
    is no directory of weights.
    """
    if model.weights is None:
        return None
    if model.weights.startswith(SCHEME):
        return from_package(model.weights, model.zoo)
    found = order.input(INPUT)
    if model.weights.startswith(UPLOAD):
        inside = model.weights.removeprefix(UPLOAD).partition("/")[2]
        return from_directory(_unpacked(found, inside, room), model.weights, model.zoo)
    return from_directory(Path(found.path or ""), f"{MODEL}{found.name}@{found.version}", model.zoo)


class _Files:
    """What is read of a directory of weights, wherever it lies in an archive: all else stays packed."""

    def __contains__(self, name: object) -> bool:
        return PurePath(str(name)).name in READ


def _unpacked(found: Input, inside: str, room: Path | None) -> Path:
    """The directory `inside` of an upload; else the upload's own, or the one that it holds."""
    archive = Path(found.path or "") / found.name
    if not archives.is_archive(archive):
        message = f"{found.name[:80]!r} is no directory with {TENSORS}"
        raise InvalidInput(message, field=FIELD, accepted="what `sextant data push DIRECTORY` uploads")
    directory = _once(archive, room or Path(tempfile.mkdtemp(prefix="weights-")))
    if inside:
        try:
            return directory / str(safe_path(inside))
        except InvalidInput as error:
            raise InvalidInput(error.message, field=FIELD, accepted=error.accepted) from None
    held = list(directory.iterdir())
    return held[0] if len(held) == 1 and held[0].is_dir() else directory


def _once(archive: Path, room: Path) -> Path:
    """Where it is unpacked below `room`: by the rank that comes first of those that share it; the others wait."""
    whole, partial = room / "weights", room / "weights.new"
    with (room / "weights.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(partial, ignore_errors=True)
            archives.unpack(archive, partial, _Files(), field=FIELD)
            partial.rename(whole)
    return whole

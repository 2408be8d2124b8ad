"""The images of a folder, and the size that all of them are brought to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sextant_data_prep import listing
from sextant_data_prep.domain import image_steps, splitting
from sextant_data_prep.images.decoding import SUFFIXES, upright_size
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput

MAX_SIDE = 256


def listed(root: Path) -> list[Path]:
    """The images of a folder. Raises InvalidInput where there is none."""
    files = [path for path in listing.files(root) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise InvalidInput(
            "the folder holds no image", field="source", accepted=f"CLASS/FILE with {', '.join(SUFFIXES)}"
        )
    return files


def check_splits(root: Path, files: Sequence[Path]) -> None:
    """Raise InvalidInput where the folders of some images say their split and those of others do not."""
    splitting.of_folders([path.relative_to(root) for path in files])


def size_of(files: Sequence[Path], spec: PrepareSpec) -> tuple[int, int]:
    """Width and height of all: what a step asks for, or the most frequent ones, up to 256 a side."""
    if asked := image_steps.size(list(spec.clean)):
        return asked
    found = Counter(size for path in files if (size := upright_size(path)))
    size = found.most_common(1)[0][0] if found else (1, 1)
    scale = min(1.0, MAX_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

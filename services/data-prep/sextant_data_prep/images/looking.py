"""Looking at the images of one piece: decoded, brought to one size, and what the steps need to know of each noted.

What depends on other pieces is left open: which of two equal images stays, and whether grey ones are stored in colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from sextant_data_prep.domain.image_steps import Signs, signs_of
from sextant_data_prep.domain.texts import fault
from sextant_data_prep.images import stored
from sextant_data_prep.images.decoding import array, decode
from sextant_data_prep.images.stored import Pixels
from sextant_shared.contracts.cleaning import Step
from sextant_shared.damage import Damaged, decoding

UNREADABLE = "cannot be decoded"
Say = Callable[[float, str], None]


class Look(stored.Look):
    """One image: why it is of no use, or what is known of it."""

    label: str = ""
    signs: Signs = Signs()


def look(root: Path, names: Sequence[str], size: tuple[int, int], steps: Sequence[Step], out: Path, say: Say) -> None:
    """Look at the images of these paths below `root`, and write what was seen to `out`."""
    stored.record(out, _looks(root, names, size, steps, say))


def _looks(
    root: Path, names: Sequence[str], size: tuple[int, int], steps: Sequence[Step], say: Say
) -> Iterator[tuple[Look, Pixels | None]]:
    for number, name in enumerate(names):
        yield _look(root / name, root, size, steps)
        if number % 500 == 0:
            say(0.05 + 0.4 * number / len(names), "looking at images")


def _look(path: Path, root: Path, size: tuple[int, int], steps: Sequence[Step]) -> tuple[Look, Pixels | None]:
    if why := _no_class(path, root):
        return Look(why=why), None
    try:
        with decoding(Image.DecompressionBombError):
            image = decode(path)
    except Damaged:
        return Look(why=UNREADABLE), None
    mode: Literal["L", "RGB"] = "RGB" if image.mode == "RGB" else "L"
    return Look(label=path.parent.name, mode=mode, signs=signs_of(image, steps)), array(image, mode, size)


def _no_class(path: Path, root: Path) -> str | None:
    """Why an image's folder names no class; None where it does."""
    if path.parent == root:
        return "is in no class folder"
    why = fault(path.parent.name)
    return f"its class name {why}" if why else None

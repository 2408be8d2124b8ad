"""Looking at the images of one piece: decoded, brought to one size, and what the steps need to know of each noted.

What depends on other pieces is left open: which of two equal images stays, and whether grey ones are stored in colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel

from sextant_data_prep.domain.image_steps import Signs, signs_of
from sextant_data_prep.domain.texts import fault
from sextant_data_prep.images.decoding import array, decode
from sextant_shared.contracts.cleaning import Step
from sextant_shared.damage import Damaged, decoding

LOOKS, PIXELS = "looks.jsonl", "pixels.bin"
UNREADABLE = "cannot be decoded"


class Look(BaseModel):
    """One image: why it is of no use, or what is known of it."""

    why: str | None = None
    label: str = ""
    mode: Literal["L", "RGB"] = "L"
    at: int = 0
    """Where its pixels begin in the piece's file: channels, height, width, a byte each."""
    signs: Signs = Signs()


def look(
    root: Path,
    names: Sequence[str],
    size: tuple[int, int],
    steps: Sequence[Step],
    out: Path,
    say: Callable[[float, str], None],
) -> None:
    """Look at the images of these paths below `root`, and write what was seen to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    at = 0
    with (out / LOOKS).open("w", encoding="utf-8") as looks, (out / PIXELS).open("wb") as pixels:
        for number, name in enumerate(names):
            found, stored = _look(root / name, root, size, steps)
            looks.write(found.model_copy(update={"at": at}).model_dump_json(exclude_defaults=True) + "\n")
            if stored is not None:
                at += pixels.write(stored.tobytes())
            if number % 500 == 0:
                say(0.05 + 0.4 * number / len(names), "looking at images")


def looks(directory: Path) -> Iterator[Look]:
    """What was written, in order."""
    with (directory / LOOKS).open(encoding="utf-8") as lines:
        yield from map(Look.model_validate_json, lines)


def _look(
    path: Path, root: Path, size: tuple[int, int], steps: Sequence[Step]
) -> tuple[Look, NDArray[np.uint8] | None]:
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

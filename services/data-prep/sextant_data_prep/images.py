"""A folder of images, one sub-folder a class: decoded, brought to one size, bad ones into quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sextant_data_prep import listing
from sextant_data_prep.domain import image_steps, splitting
from sextant_data_prep.domain.image_steps import Judge
from sextant_data_prep.domain.quarantine import Quarantine
from sextant_data_prep.domain.samples import Feature, Samples
from sextant_data_prep.domain.texts import fault
from sextant_shared.contracts.cleaning import Step
from sextant_shared.damage import Damaged, decoding
from sextant_shared.errors import InvalidInput

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_SIDE = 256
MAX_PIXELS = 64_000_000
DEEP = ("I;16", "I;16L", "I;16B", "I")
"""Modes of grey images with 16 bits a pixel."""


def read(root: Path, steps: Sequence[Step] = ()) -> Samples:
    """The samples of `root`/CLASS/IMAGE, or `root`/SPLIT/CLASS/IMAGE.

    The size is that of a step, or the most frequent one, up to 256 a side.
    """
    files = [path for path in listing.files(root) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise InvalidInput(
            "the folder holds no image", field="source", accepted=f"CLASS/FILE with {', '.join(SUFFIXES)}"
        )
    quarantine = Quarantine()
    images = list(_decoded(files, root, quarantine))
    if not images:
        quarantine.check(len(files), 0.0)
    judge = Judge(list(steps))
    removed: list[tuple[int, str, str]] = []
    images = list(_kept(images, judge, removed))
    if not images:
        raise InvalidInput("the steps leave no image", field="clean", accepted="wider limits")
    mode = "RGB" if any(image.mode == "RGB" for _, image, _ in images) else "L"
    size = image_steps.size(list(steps)) or _common_size([image for _, image, _ in images])
    pixels = np.stack([array(image, mode, size) for _, image, _ in images])
    ids = np.array([number for number, _, _ in images], np.int64)
    labels = [label for _, _, label in images]
    feature = Feature("image", "uint8", pixels.shape[1:])
    columns = {"image": pixels}
    given = splitting.of_folders([path.relative_to(root) for path in files])
    splits = [given[number] for number in ids.tolist()] if given else None
    return Samples(
        [feature], columns, labels, "class", ids, quarantine, splits=splits, removed=removed, flagged=judge.flagged
    )


def _kept(
    images: list[tuple[int, Image.Image, str]], judge: Judge, removed: list[tuple[int, str, str]]
) -> Iterator[tuple[int, Image.Image, str]]:
    for number, image, label in images:
        out = judge.leaves_out(image, label)
        if out is None:
            yield number, image, label
        else:
            removed.append((number, *out))


def _decoded(files: list[Path], root: Path, quarantine: Quarantine) -> Iterator[tuple[int, Image.Image, str]]:
    for number, path in enumerate(files):
        if why := _no_class(path, root):
            quarantine.add(number, why)
            continue
        try:
            with decoding(Image.DecompressionBombError):
                image = decode(path)
        except Damaged:
            quarantine.add(number, "cannot be decoded")
        else:
            yield number, image, path.parent.name


def _no_class(path: Path, root: Path) -> str | None:
    """Why an image's folder names no class; None where it does."""
    if path.parent == root:
        return "is in no class folder"
    why = fault(path.parent.name)
    return f"its class name {why}" if why else None


def decode(path: Path) -> Image.Image:
    """An image upright, grey (L) or in colours (RGB). Raises whatever Pillow does, ValueError for too many pixels."""
    with Image.open(path) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise ValueError("too many pixels")
        upright = ImageOps.exif_transpose(opened)
        if upright.mode in DEEP:
            # Pillow's own conversion cuts off what is over 255.
            return Image.fromarray((np.asarray(upright, np.int64).clip(0, 65535) >> 8).astype(np.uint8))
        return upright.convert("L" if upright.mode in ("1", "L") else "RGB")


def _common_size(images: list[Image.Image]) -> tuple[int, int]:
    size = Counter(image.size for image in images).most_common(1)[0][0]
    scale = min(1.0, MAX_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def array(image: Image.Image, mode: str, size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Pixels (channels, height, width) of an image brought to a mode and a size (width, height)."""
    image = image.convert(mode)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    array = np.asarray(image, np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))

"""One image from a file: upright, grey or in colours, as pixels of a size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from sextant_shared.damage import Damaged, decoding

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_PIXELS = 64_000_000
DEEP = ("I;16", "I;16L", "I;16B", "I")
"""Modes of grey images with 16 bits a pixel."""


TURNED = (5, 6, 7, 8)
"""Orientations that a camera notes of images that lie on their side."""


def upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height by the file's header; None where there is none. Reads no pixels."""
    try:
        with decoding(Image.DecompressionBombError), Image.open(path) as opened:
            # Some formats may say it behind the pixels, and would be decoded to look for it.
            noted = opened.getexif().get(ExifTags.Base.Orientation) if "exif" in opened.info else None
            return (opened.height, opened.width) if noted in TURNED else opened.size
    except Damaged:
        return None


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


def array(image: Image.Image, mode: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pixels (channels, height, width) of an image brought to a mode and a size (width, height)."""
    image = image.convert(mode)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    array = np.asarray(image, np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))

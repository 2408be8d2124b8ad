"""The steps for images: which are blurred, too dark or too bright, and which stood there before."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel

from sextant_shared.contracts.cleaning import Deduplicate, Exposure, Resize, Step

BITS = 64
Grey = NDArray[np.float64]


def size(steps: list[Step]) -> tuple[int, int] | None:
    """Width and height that a step asks for; the last one counts."""
    found = [(step.width, step.height) for step in steps if isinstance(step, Resize)]
    return found[-1] if found else None


def sharpness(grey: Grey) -> float:
    """The variance of the Laplacian (Pech-Pacheco et al. 2000): small where an image has no edges."""
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * inner).var())


def gradient_bits(image: Image.Image) -> int:
    """64 bits: whether each of 8 x 8 places is darker than the one to its right (difference hash)."""
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR), np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


class Signs(BaseModel):
    """What the steps need to know of an image, without its pixels."""

    exposure: list[str | None] = []
    """For each step that looks at it what is wrong, if anything."""
    key: str = ""
    """The hash of the pixels."""
    bits: int = 0
    """`gradient_bits`."""


def signs_of(image: Image.Image, steps: Sequence[Step]) -> Signs:
    """Those that the steps will ask for."""
    doubles = [step for step in steps if isinstance(step, Deduplicate)]
    return Signs(
        exposure=[_exposure(image, step) for step in steps if isinstance(step, Exposure)],
        key=_key(image) if doubles else "",
        bits=gradient_bits(image) if any(step.near is not None for step in doubles) else 0,
    )


@dataclass(slots=True)
class Judge:
    """Goes through the steps image by image, and remembers those that it has seen."""

    steps: list[Step]
    flagged: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, str] = field(default_factory=dict)
    _bands: dict[tuple[int, int], list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))

    def leaves_out(self, signs: Signs, label: str) -> tuple[str, str] | None:
        """The step that leaves an image out and its reason; None where it stays."""
        exposures = iter(signs.exposure)
        for step in self.steps:
            match step:
                case Exposure():
                    why = next(exposures)
                    if why and step.action == "flag":
                        self.flagged[why] = self.flagged.get(why, 0) + 1
                        continue
                case Deduplicate():
                    why = self._double(signs, label, step)
                case _:
                    continue
            if why:
                return step.do, why
        return None

    def _double(self, signs: Signs, label: str, step: Deduplicate) -> str | None:
        if signs.key in self._seen:
            return "stood there before" + ("" if self._seen[signs.key] == label else ", with another label")
        self._seen[signs.key] = label
        return self._alike(signs.bits, label, step.near) if step.near is not None else None

    def _alike(self, bits: int, label: str, near: float) -> str | None:
        """Two of 64 bits that differ in d places are equal in one of d + 1 bands at least (pigeonhole)."""
        most = int((1 - near) * BITS + 1e-9)
        bounds = [BITS * number // (most + 1) for number in range(most + 2)]
        bands = [(low, bits >> low & (1 << high - low) - 1) for low, high in pairwise(bounds)]
        for band in bands:
            if any((bits ^ other).bit_count() <= most and name == label for other, name in self._bands[band]):
                return "is nearly the same as an image before"
        for band in bands:
            self._bands[band].append((bits, label))
        return None


def _key(image: Image.Image) -> str:
    content = f"{image.mode}{image.size}".encode() + image.tobytes()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _exposure(image: Image.Image, step: Exposure) -> str | None:
    grey = np.asarray(image.convert("L"), np.float64)
    brightness = grey.mean() / 255
    if brightness < step.min_brightness:
        return "is too dark"
    if brightness > step.max_brightness:
        return "is too bright"
    return "is blurred" if sharpness(grey) < step.min_sharpness else None

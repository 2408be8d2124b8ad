"""How training images are varied."""

from __future__ import annotations

from pydantic import Field

from sextant_shared.contracts.base import Accepted, Text


class Augmentation(Accepted):
    """Random variation of training images; each is the largest change, drawn evenly up to it in both directions."""

    rotate: float = Field(0.0, ge=0.0, le=180.0, description="degrees")
    scale: float = Field(0.0, ge=0.0, le=0.9, description="share of the size")
    shift: float = Field(0.0, ge=0.0, le=1.0, description="share of the width and of the height")
    flip: bool = Field(False, description="half of the images mirrored, left for right")
    turn: bool = Field(
        False, description="mirrored both ways, and turned by right angles where they are square (boxes)"
    )
    noise: float = Field(0.0, ge=0.0, le=128.0, description="deviation of normal noise, in grey levels (boxes)")
    jitter: int = Field(0, ge=0, le=64, description="pixels that an image is moved against its reference (boxes)")
    blank: float = Field(0.0, ge=0.0, le=1.0, description="share of images that are their reference again (boxes)")
    paste: int = Field(
        0, ge=0, le=64, description="objects of another image that are put into an image, at most (boxes)"
    )
    halve: dict[Text, Text] | None = Field(None, max_length=1000, description="classes that halves are of (boxes)")
    negative: dict[Text, Text] | None = Field(
        None, max_length=1000, description="classes that change places in a negative, which half are (boxes)"
    )

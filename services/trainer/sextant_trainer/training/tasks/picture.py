"""An image as a picture for a page."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 96
"""Smaller images are made as large, by whole pixels."""


def png(pixels: NDArray[Any]) -> str:
    """A data URI of an image (channels, height, width) of one or three channels, whose values are from 0 to 255.

    Of any other number of channels the first one is shown.
    """
    from PIL import Image

    whole = pixels if pixels.shape[0] == 3 else pixels[:1]
    image = Image.fromarray(np.ascontiguousarray(whole.transpose(1, 2, 0)).astype(np.uint8).squeeze())
    times = max(1, SIDE // max(image.size))
    kept = io.BytesIO()
    image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST).save(kept, "PNG")
    return "data:image/png;base64," + base64.b64encode(kept.getvalue()).decode()

"""Random variations of pictures with boxes, by seed, step and place in the batch: turned, scaled, moved, noised.

Where a picture comes with a reference, which are its first channels, it is moved against that too, and some are the
reference once more, without a box: so that a detector learns what is no defect. Where classes change places in the
negative of a picture, half of the pictures are shown so: what is a gap in the one is a bridge in the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sextant_shared.contracts.augmentation import Augmentation
from sextant_trainer.training.tasks.halving import halve

DRAWS = 11


@dataclass(frozen=True, slots=True)
class Variation:
    """What may be done to pictures of one dataset."""

    how: Augmentation
    reference: int
    """So many of the first channels are the reference; 0 where there is none."""
    negative: Tensor | None = None
    """By class, which it is in the negative of a picture; None where there are no negatives."""
    halved: tuple[int, ...] = ()
    """By class, which it is with half of it taken away; empty where nothing is."""


def vary_scenes(
    images: Tensor, targets: Tensor, kind: Variation, seed: int, places: NDArray[np.int64], batch: int
) -> tuple[Tensor, Tensor]:
    """`images` (n, channels, height, width) from 0 to 255 and `targets` (n, m, 5), at `places` of a global batch.

    The draws are made for the whole global batch, so that any number of ranks sees the same. A box whose middle is
    moved out of the picture is lost.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(batch, DRAWS, generator=generator)[torch.from_numpy(places)].tolist()
    seeds = torch.randint(2**62, (batch,), generator=generator)[torch.from_numpy(places)].tolist()
    made = [
        _vary(image, boxes.clone(), kind, draw, noise)
        for image, boxes, draw, noise in zip(images, targets, draws, seeds, strict=True)
    ]
    return torch.stack([image for image, _ in made]), torch.stack([boxes for _, boxes in made])


def _vary(image: Tensor, boxes: Tensor, kind: Variation, draw: list[float], seed: int) -> tuple[Tensor, Tensor]:
    how, reference = kind.how, kind.reference
    if reference:
        first, rest = image[:reference], image[reference:]
        if kind.halved:
            image, boxes = halve(image, boxes, reference, kind.halved, seed)
            rest = image[reference:]
        if draw[0] < how.blank:
            rest, boxes = first.repeat(rest.shape[0] // reference, 1, 1), _without(boxes)
        along, down = (round((2 * d - 1) * how.jitter) for d in draw[1:3])
        image, boxes = torch.cat([first, moved(rest, along, down)]), _carried(boxes, along, down, image)
    height, width = image.shape[1:]
    along, down = round((2 * draw[3] - 1) * how.shift * width), round((2 * draw[4] - 1) * how.shift * height)
    zoom = 1.0 + (2 * draw[9] - 1) * how.scale
    image, boxes = moved(image, along, down, zoom), _carried(boxes, along, down, image, zoom)
    if (how.flip or how.turn) and draw[5] < 0.5:
        image, boxes = image.flip(2), _mirrored(boxes, width)
    if how.turn:
        if draw[6] < 0.5:
            image = image.flip(1)
            boxes = _mirrored(boxes[:, [1, 0, 3, 2, 4]], height)[:, [1, 0, 3, 2, 4]]
        if draw[7] < 0.5 and height == width:
            image, boxes = image.transpose(1, 2), boxes[:, [1, 0, 3, 2, 4]]
    if kind.negative is not None and draw[10] < 0.5:
        image, boxes = 255 - image, _renamed(boxes, kind.negative)
    # Bytes until here: they are moved four times as fast.
    image = image.float()
    if how.noise:
        noise = torch.empty_like(image).normal_(0, draw[8] * how.noise, generator=torch.Generator().manual_seed(seed))
        image = image.add_(noise).clamp_(0, 255)
    return image, boxes


def moved(image: Tensor, along: int, down: int, zoom: float = 1.0) -> Tensor:
    """The image (channels, height, width), `zoom` times as large around its middle, by so many pixels to the right and
    down; its edges are repeated. Each pixel is the nearest one."""
    height, width = image.shape[1:]
    rows, columns = _sources(height, down, zoom), _sources(width, along, zoom)
    return image[:, rows][:, :, columns] if along or down or zoom != 1.0 else image


def _sources(side: int, by: int, zoom: float) -> Tensor:
    """Where pixels along a side come from."""
    middle = (side - 1) / 2
    return ((torch.arange(side) - by - middle) / zoom + middle).round().long().clamp(0, side - 1)


def _carried(boxes: Tensor, along: int, down: int, image: Tensor, zoom: float = 1.0) -> Tensor:
    """Boxes after `moved`, cut at the edges."""
    height, width = image.shape[1:]
    boxes = boxes.clone()
    real = boxes[:, 4] >= 0
    limit = boxes.new_tensor([width, height])
    centre = torch.cat([limit, limit]) / 2
    boxes[real, :4] = (boxes[real, :4] - centre) * zoom + centre + boxes.new_tensor([along, down, along, down])
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2
    gone = real & ((middle < 0) | (middle >= limit)).any(1)
    boxes[real, :4] = torch.minimum(boxes[real, :4].clamp(min=0), torch.cat([limit, limit]))
    boxes[gone] = -1.0
    return boxes


def _renamed(boxes: Tensor, names: Tensor) -> Tensor:
    """Boxes with the classes that `names` says."""
    boxes = boxes.clone()
    real = boxes[:, 4] >= 0
    boxes[real, 4] = names[boxes[real, 4].long()].to(boxes)
    return boxes


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    """Left for right."""
    boxes = boxes.clone()
    real = boxes[:, 4] >= 0
    boxes[real] = torch.stack(
        [width - boxes[real, 2], boxes[real, 1], width - boxes[real, 0], boxes[real, 3], boxes[real, 4]], 1
    )
    return boxes


def _without(boxes: Tensor) -> Tensor:
    return torch.full_like(boxes, -1.0)

"""What a detector is to give for real boxes, and how far it is from that.

Targets are (batch, n, 5): left, top, right, bottom in pixels and the class, filled up with rows of the class -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sextant_zoo.detecting import all_boxes, overlaps

SPREAD = 1 / 6
"""Deviation of the hill over the middle of a box, in sides of it."""
NARROWEST = 0.6
"""Of these deviations, in cells."""
NEAR = 0.4
"""Cells as high on the hill say the box too."""
BOX_WEIGHT = 2.0
EASY, AROUND = 2, 4
"""Powers of the focal loss: of what is said already, and of cells around a middle (Law and Deng, 2018)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """By cell: how near the middle of an object of each class is, 1 in it, (batch, classes, h, w); the box of the
    nearest object (batch, 4, h, w), and what an error of it counts (batch, h, w)."""

    heat: Tensor
    boxes: Tensor
    weight: Tensor


def encode(targets: Tensor, classes: int, cells: tuple[int, int], size: tuple[int, int]) -> Wanted:
    """The maps of `cells` (h, w) for images of `size` (height, width)."""
    (h, w), (height, width) = cells, size
    boxes, labels = targets[..., :4], targets[..., 4]
    scale = boxes.new_tensor([w / width, h / height])
    low, high = boxes[..., :2] * scale, boxes[..., 2:] * scale
    most = boxes.new_tensor([w - 1, h - 1])
    # The cell that holds the middle is the top of the hill.
    top = torch.minimum(((low + high) / 2).floor().clamp(min=0), most)
    spread = ((high - low) * SPREAD).clamp(min=NARROWEST)
    hills = [
        torch.exp(
            -0.5 * ((torch.arange(count, device=boxes.device) - top[..., axis, None]) / spread[..., axis, None]) ** 2
        )
        for axis, count in ((0, w), (1, h))
    ]
    hill = hills[1].unsqueeze(3) * hills[0].unsqueeze(2) * (labels >= 0)[..., None, None]
    heat = torch.stack([(hill * (labels == c)[..., None, None]).amax(1) for c in range(classes)], 1)
    highest, owner = hill.max(1)
    nearest = boxes.gather(1, owner.flatten(1).unsqueeze(2).expand(-1, -1, 4))
    weight = torch.where(highest >= NEAR, highest, torch.zeros_like(highest))
    return Wanted(heat, nearest.transpose(1, 2).reshape(-1, 4, h, w), weight)


def focal(logits: Tensor, heat: Tensor) -> Tensor:
    """By sample, the focal loss of middles, with less weight for cells around them (Law and Deng, 2018)."""
    said = logits.sigmoid()
    middle = heat >= 1.0
    there = (1 - said) ** EASY * -functional.logsigmoid(logits)
    elsewhere = (1 - heat) ** AROUND * said**EASY * -functional.logsigmoid(-logits)
    return torch.where(middle, there, elsewhere).sum((1, 2, 3))


def apart(outputs: Tensor, wanted: Wanted, size: tuple[int, int]) -> Tensor:
    """By sample, how far the boxes are from real ones, each by 1 less their generalised intersection over union
    (Rezatofighi et al., 2019), weighted by cell."""
    said = all_boxes(outputs, size).permute(0, 2, 3, 1)
    real = wanted.boxes.permute(0, 2, 3, 1)
    over = overlaps(said, real)
    around = (torch.maximum(said[..., 2:], real[..., 2:]) - torch.minimum(said[..., :2], real[..., :2])).clamp(min=0)
    hull = around.prod(-1).clamp(min=1e-6)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) for boxes in (said, real)]
    union = (areas[0] + areas[1]) / (1 + over)
    return ((1 - over + (hull - union) / hull) * wanted.weight).sum((1, 2))


def detection_loss(outputs: Tensor, targets: Tensor, size: tuple[int, int]) -> Tensor:
    """By sample, (batch,): middles and boxes together."""
    wanted = encode(targets, outputs.shape[1] - 4, (outputs.shape[2], outputs.shape[3]), size)
    return focal(outputs[:, :-4], wanted.heat) + BOX_WEIGHT * apart(outputs, wanted, size)


def imitation_loss(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """By sample, (batch,): how far maps are from a teacher's, softened by a temperature.

    Cross-entropy of each cell with what the teacher says, weighted by how far apart they are (Li et al., 2020, quality
    focal loss), and the sides of boxes where the teacher is sure.
    """
    logits, wanted = outputs[:, :-4] / temperature, (teacher[:, :-4] / temperature).sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    cells = ((logits.sigmoid() - wanted) ** 2 * entropy).sum((1, 2, 3)) * temperature**2
    sure = teacher[:, :-4].sigmoid().amax(1, keepdim=True)
    sides = functional.smooth_l1_loss(outputs[:, -4:], teacher[:, -4:], reduction="none")
    return cells + (sides * sure).sum((1, 2, 3))

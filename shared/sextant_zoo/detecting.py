"""From the maps of a detector to boxes: the highest cell around, the best of them, and none twice."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NOTHING = -20.0
"""The logit of places that hold no detection."""
MOST = 100
"""Detections an image."""
OVERLAP = 0.5
"""Of two boxes with a higher intersection over union the one that is less sure is left out."""


def decode(outputs: Tensor, size: tuple[int, int], most: int = MOST) -> tuple[Tensor, Tensor, Tensor]:
    """Maps (batch, classes + 4, h, w) of images of `size` (height, width) -> boxes (batch, n, 4), logits and classes
    (batch, n), the surest first; a box is left, top, right and bottom in pixels.

    There are `most` of them, or as many as cells; those that are none have the logit NOTHING. Boxes that overlap a
    surer one are left out, even where that one is left out itself (Fast NMS: Bolya et al., 2019): it needs no loop.
    """
    best, classes = outputs[:, :-4].max(1)
    peak = best == functional.max_pool2d(best, 3, 1, 1)
    flat = torch.where(peak, best, torch.full_like(best, NOTHING)).flatten(1)
    logits, places = flat.topk(min(most, flat.shape[1]), dim=1)
    boxes = all_boxes(outputs, size).flatten(2).transpose(1, 2)
    boxes = boxes.gather(1, places.unsqueeze(2).expand(-1, -1, 4))
    limit = boxes.new_tensor([size[1], size[0], size[1], size[0]])
    boxes = torch.minimum(boxes.clamp(min=0.0), limit)
    over = overlaps(boxes.unsqueeze(2), boxes.unsqueeze(1))
    earlier = torch.ones(flat.shape[1] if flat.shape[1] < most else most, logits.shape[1], device=flat.device).triu(1)
    hidden = (over * earlier).amax(1) > OVERLAP
    logits = torch.where(hidden, torch.full_like(logits, NOTHING), logits)
    return boxes, logits, classes.flatten(1).gather(1, places)


def all_boxes(outputs: Tensor, size: tuple[int, int]) -> Tensor:
    """The box that each cell says, (batch, 4, h, w), in pixels."""
    height, width = outputs.shape[-2:]
    along, down = size[1] / width, size[0] / height
    x = (torch.arange(width, device=outputs.device) + 0.5) * along
    y = (torch.arange(height, device=outputs.device) + 0.5) * down
    left, top, right, bottom = outputs[:, -4:].unbind(1)
    xs, ys = x.view(1, 1, -1), y.view(1, -1, 1)
    return torch.stack([xs - left * along, ys - top * down, xs + right * along, ys + bottom * down], 1)


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4), broadcast against one another."""
    low = torch.maximum(one[..., :2], other[..., :2])
    high = torch.minimum(one[..., 2:], other[..., 2:])
    common = (high - low).clamp(min=0.0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0.0).prod(-1) for boxes in (one, other)]
    return common / (areas[0] + areas[1] - common).clamp(min=1e-6)

"""What a detector does on pictures: boxes by what they are and were called, and pictures with the boxes drawn in."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sextant_shared.detections import Boxes, match
from sextant_trainer.training.study import WORST, Seen, Study, Worst
from sextant_trainer.training.tasks.scoring import LOWEST, counts, figures
from sextant_zoo.detecting import decode

NOTHING = "(nothing)"
SIDE = 512
"""Pictures are shown no larger."""
REAL, FOUND = (40, 160, 60), (210, 40, 40)
Shown = Callable[[int], tuple[int, NDArray[Any]]]
"""A row of the split -> its number in the source, and its pixels (channels, height, width)."""


def inspect(seen: Seen, rows: int, classes: list[str], size: tuple[int, int], iou: float, shown: Shown) -> Study:
    """At the threshold that is the best for F1 on what was seen."""
    threshold = figures(counts(seen.outputs, seen.targets, size, iou).numpy(), len(classes))["threshold"]
    least = max(LOWEST, float(np.log(threshold / (1 - threshold))))
    confusion = np.zeros((len(classes) + 1, len(classes) + 1), np.int64)
    decoded = [part.numpy() for part in decode(seen.outputs, size)]
    errors: list[tuple[int, int, int, Boxes, Boxes]] = []
    for place, (boxes, logits, called, wanted) in enumerate(zip(*decoded, seen.targets.numpy(), strict=True)):
        real, kept = wanted[wanted[:, 4] >= 0], logits >= least
        found, names, labels = boxes[kept], called[kept], real[:, 4].astype(np.int64)
        # Which box is which, whatever it was called.
        same = match(found, np.zeros_like(names), real[:, :4], np.zeros_like(labels), iou)
        is_one = same >= 0
        np.add.at(confusion, (np.where(is_one, labels[same] if len(labels) else 0, len(classes)), names), 1)
        missed = np.delete(labels, same[is_one])
        np.add.at(confusion, (missed, np.full_like(missed, len(classes))), 1)
        wrong = int((~is_one).sum() + len(missed) + (labels[same[is_one]] != names[is_one]).sum())
        errors.append((wrong, len(missed), place, found, real[:, :4]))
    worst = [
        _worst(one, int(seen.rows[one[2]]), shown) for one in sorted(errors, key=lambda one: (-one[0], one[2]))[:WORST]
    ]
    return Study(len(seen.rows), rows, [*classes, NOTHING], confusion.tolist(), worst)


def _worst(one: tuple[int, int, int, Boxes, Boxes], row: int, shown: Shown) -> Worst:
    wrong, missed, _, found, real = one
    number, pixels = shown(row)
    picture = drawn(pixels, ((real, REAL), (found, FOUND)))
    text = "green: boxes that are there; red: boxes that were found"
    return Worst(number, float(wrong), f"{len(found)} boxes", f"{len(real)}, {missed} missed", text, picture)


def drawn(pixels: NDArray[Any], groups: Sequence[tuple[Boxes, tuple[int, int, int]]]) -> str:
    """A data URI of a picture (channels, height, width) with boxes in colours."""
    from PIL import Image, ImageDraw

    whole = pixels if pixels.shape[0] == 3 else np.repeat(pixels[:1], 3, 0)
    image = Image.fromarray(np.ascontiguousarray(whole.transpose(1, 2, 0)).astype(np.uint8))
    scale = min(1.0, SIDE / max(image.size))
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    pen = ImageDraw.Draw(image)
    for width, (boxes, colour) in zip((3, 1), groups, strict=True):
        for left, top, right, bottom in (boxes * scale).tolist():
            pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width)
    kept = io.BytesIO()
    image.save(kept, "PNG")
    return "data:image/png;base64," + base64.b64encode(kept.getvalue()).decode()

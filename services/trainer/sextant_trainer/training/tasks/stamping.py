"""New objects in pictures of two tones, of the forms of real ones: their class is how they lie where they are put.

A form comes from an object that differs from its reference, at any turn. What it covers of one tone is taken away: on a
board that is an opening or a short where it parts the tone, a bite or a spur at its edge, a hole or a spot inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sextant_trainer.training.tasks.halving import margin_of
from sextant_trainer.training.tasks.pasting import Boxes, meets, part
from sextant_trainer.training.tasks.tones import AROUND, Lies, Mask, bright, depth, largest, lies, sides

LEAST, THICK, DEEP = 35, 2.0, 5.0
"""Pixels of an object, from its middle to its side, and from an edge that it is at: less is an uneven edge."""
COVERED = 0.3
"""Of a form, as much must lie on the tone that it takes away."""
TRIES = 12
"""Places that are tried for an object."""
INSIDE = 0.1
"""The chance of a place with one tone all around, of which there are most."""
Names = Mapping[tuple[bool, Lies], int]
"""Classes, by whether it is the bright tone that is taken away, and how."""


def stamp(
    images: Tensor,
    targets: Tensor,
    givers: tuple[Tensor, Tensor],
    reference: int,
    names: Names,
    most: int,
    seeds: Sequence[int],
) -> Tensor:
    """Into each of `images` (n, channels, height, width), in place, up to `most` objects of the giver's forms.

    `givers` are images and targets like these, whose first `reference` channels are the reference; targets are
    (n, m, 5) as `boxes` has them, and given back with room for what has come: (n, m + most, 5).
    """
    room = targets.new_full((len(targets), most, targets.shape[2]), -1.0)
    found = torch.cat([targets, room], 1)
    for image, boxes, giver, theirs, seed in zip(images, found, *givers, seeds, strict=True):
        rng = np.random.default_rng(seed)
        forms = _forms(giver.numpy(), theirs.numpy(), reference, int(rng.integers(most + 1)), rng)
        for form, margin in forms:
            _put(image.numpy()[reference:], boxes.numpy(), form, margin, names, rng)
    return found


def _forms(
    giver: NDArray[np.uint8], theirs: Boxes, reference: int, number: int, rng: np.random.Generator
) -> list[tuple[Mask, float]]:
    """Of so many objects, with how much larger their boxes are."""
    forms = []
    size = np.array(giver.shape[:0:-1])
    for row in rng.permutation(np.flatnonzero(theirs[:, 4] >= 0))[:number]:
        low = np.floor(theirs[row, :2]).astype(int).clip(min=0)
        crop = giver[part(low, np.ceil(theirs[row, 2:4]).astype(int).clip(max=size))]
        form = largest(bright(crop[reference:]) != bright(crop[:reference]))
        if form.sum() < LEAST:
            continue
        left, top, right, bottom = inner = sides(form)
        form = np.rot90(form[top:bottom, left:right], int(rng.integers(4)))
        forms.append(
            (form[:, ::-1] if rng.random() < 0.5 else form, margin_of(theirs[row, :4], np.tile(low, 2) + inner))
        )
    return forms


def _put(
    shown: NDArray[np.uint8], boxes: Boxes, form: Mask, margin: float, names: Names, rng: np.random.Generator
) -> None:
    """In place, where there is a place for it among a few."""
    size = np.array(shown.shape[:0:-1])
    form = np.pad(form, AROUND)
    span = np.array(form.shape[::-1])
    if (span > size).any():
        return
    for _ in range(TRIES):
        low = rng.integers(size - span + 1)
        high = low + span
        if meets(boxes[boxes[:, 4] >= 0], low, high):
            continue
        window = shown[part(low, high)]
        light = bright(window)
        tone = bool(light[form].mean() > 0.5)
        ground = light == tone
        taken = largest(form & ground)
        if taken.sum() < max(LEAST, COVERED * form.sum()):
            continue
        how = lies(ground, taken)
        if how is None or (how == "inside" and rng.random() >= INSIDE):
            continue
        if depth(taken, taken) < THICK or (how == "edge" and depth(ground, taken) < DEEP):
            continue
        window[:, taken] = 0 if tone else 255
        corner = np.tile(low, 2)
        box = corner + sides(taken) + margin * np.array([-1, -1, 1, 1])
        boxes[np.flatnonzero(boxes[:, 4] < 0)[0]] = [*box.clip(0, np.tile(size, 2)), names[tone, how]]
        return

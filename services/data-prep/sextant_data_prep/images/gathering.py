"""The pieces of a folder of images put together, as if they had been looked at in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from sextant_data_prep.domain import splitting
from sextant_data_prep.domain.image_steps import Judge
from sextant_data_prep.domain.quarantine import Quarantine
from sextant_data_prep.images.looking import Look
from sextant_data_prep.images.stored import Stored, looks
from sextant_shared.contracts.cleaning import Step
from sextant_shared.errors import InvalidInput


@dataclass(slots=True)
class Gathered:
    """The images that stay, in the order of their paths, and what became of the others."""

    stored: Stored
    numbers: list[int] = field(default_factory=list)
    """In the folder."""
    labels: list[str] = field(default_factory=list)
    """The names of their classes."""
    quarantine: Quarantine = field(default_factory=Quarantine)
    removed: list[tuple[int, str, str]] = field(default_factory=list)
    """Those that a step left out: number, step, reason."""
    flagged: dict[str, int] = field(default_factory=dict)
    total: int = 0
    splits: list[str] | None = None
    """Of those that stay, where the folders say them."""


def gather(directories: Sequence[Path], paths: Sequence[str], size: tuple[int, int], steps: Sequence[Step]) -> Gathered:
    """What the pieces in these directories hold; `paths` are those of all their images, in order.

    Raises InvalidInput where none is left.
    """
    judge = Judge(list(steps))
    found = Gathered(Stored(directories, size))
    for number, (piece, look) in enumerate(looks(directories, Look)):
        found.total += 1
        if look.why is not None:
            found.quarantine.add(number, look.why)
        elif (out := judge.leaves_out(look.signs, look.label)) is not None:
            found.removed.append((number, *out))
        else:
            found.stored.add(piece, look)
            found.numbers.append(number)
            found.labels.append(look.label)
    found.flagged = judge.flagged
    if not found.numbers and not found.removed:
        found.quarantine.check(found.total, 0.0)
    if not found.numbers:
        raise InvalidInput("the steps leave no image", field="clean", accepted="wider limits")
    given = splitting.of_folders([PurePath(path) for path in paths])
    found.splits = [given[number] for number in found.numbers] if given else None
    return found

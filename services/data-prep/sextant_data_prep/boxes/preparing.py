"""A dataset version of images with boxes: read, checked, split by what belongs together, written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_data_prep.boxes import finding, parsing, writing
from sextant_data_prep.boxes.finding import Row
from sextant_data_prep.boxes.pixels import Stack
from sextant_data_prep.domain import image_steps, splitting
from sextant_data_prep.domain.marks import checked, renamed
from sextant_data_prep.domain.quality import Column, Quality, histogram
from sextant_data_prep.ledger import Ledger
from sextant_shared.contracts.cleaning import Deduplicate
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.damage import Damaged
from sextant_shared.errors import InvalidInput

Say = Callable[[float, str], None]
Boxes = NDArray[np.float32]


@dataclass(slots=True)
class Read:
    """The rows that passed, in the order of their paths."""

    numbers: list[int] = field(default_factory=list)
    boxes: list[Boxes] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    """Hashes of the pixels."""
    duplicates: int = 0


def prepare(
    spec: PrepareSpec, root: Path, out: Path, scratch: Path, about: dict[str, Any], say: Say
) -> tuple[dict[str, Any], Quality]:
    """Write all files under `out`; the description and what the report shows besides.

    Raises InvalidInput where too much is bad, or rows that belong together would stand in two splits.
    """
    assert spec.boxes is not None  # noqa: S101 - the spec was checked
    rows = finding.rows(root, spec.boxes)
    ledger = Ledger(out)
    ledger.read = len(rows)
    stack = Stack(root, rows, image_steps.size(list(spec.clean)), scratch)
    read = _read(spec, root, rows, stack, ledger, say)
    ledger.check(spec.max_bad_share)
    classes = _classes(spec, read)
    say(0.6, "splitting")
    splits = _splits(spec, rows, read)
    say(0.7, "writing")
    about = {
        **about,
        "quarantined": {"rows": sum(ledger.reasons.values()), "reasons": dict(sorted(ledger.reasons.items()))},
        "duplicates": read.duplicates,
        **({"removed": dict(sorted(ledger.removed.items()))} if ledger.removed else {}),
    }
    labels = [np.array([classes.index(name) for name in names], np.int32) for names in read.names]
    content = writing.Content(stack, np.array(read.numbers), read.boxes, labels)
    described = writing.write(out, content, classes, splits, about)
    return described, _quality(len(rows), read, splits)


def _read(spec: PrepareSpec, root: Path, rows: Sequence[Row], stack: Stack, ledger: Ledger, say: Say) -> Read:
    assert spec.boxes is not None  # noqa: S101 - the spec was checked
    marks_of, once = parsing.reader(root, spec.boxes), any(isinstance(step, Deduplicate) for step in spec.clean)
    read, seen = Read(), set[bytes]()
    bad: list[tuple[int, str]] = []
    double: list[int] = []
    for number, row in enumerate(rows):
        try:
            images = stack.read(row)
            width, height = images[-1].size
            marks = marks_of(row, width, height)
            boxes, names = checked(marks, width, height), renamed(marks, spec.boxes.classes)
        except Damaged as error:
            bad.append((number, str(error)))
            continue
        key = splitting.content_key(stack.keep(number, images).tobytes(), spec.seed)
        read.duplicates += key in seen
        if once and key in seen:
            double.append(number)
            continue
        seen.add(key)
        scale = np.array([stack.size[0] / width, stack.size[1] / height] * 2, np.float32)
        read.numbers.append(number)
        read.boxes.append(boxes * scale)
        read.names.append(names)
        read.keys.append(key)
        if number % 100 == 0:
            say(0.05 + 0.5 * number / len(rows), "reading")
    ledger.bad(bad)
    if double:
        ledger.note(pl.DataFrame({"row": double, "reason": ["stood there before"] * len(double)}), "deduplicate")
    return read


def _classes(spec: PrepareSpec, read: Read) -> list[str]:
    """All that the spec declares, or that there are. Raises InvalidInput where no row has a box."""
    assert spec.boxes is not None  # noqa: S101 - the spec was checked
    found = {name for names in read.names for name in names}
    if not found:
        raise InvalidInput(f"none of {len(read.names)} rows has a box", field="boxes.file", accepted="rows with boxes")
    return sorted(found | set((spec.boxes.classes or {}).values()))


def _splits(spec: PrepareSpec, rows: Sequence[Row], read: Read) -> list[str]:
    """The split of each row that was read: by its column, or by shares of what goes together."""
    group = spec.split.group
    fields = [rows[number].fields for number in read.numbers]
    together = read.keys
    if group is not None:
        together = [splitting.content_key(of[group].encode(), spec.seed) for of in fields]
    if spec.split.column is not None:
        splits = _declared(spec, [of[spec.split.column] for of in fields], together)
    else:
        splits = splitting.assign(together, [0] * len(together), spec.split.val, spec.split.test)
    if set(splits) != set(splitting.SPLITS):
        what = f"{len(set(together))} groups" if group is not None else f"{len(splits)} rows"
        raise InvalidInput(f"{what} are too few for three splits", field="split", accepted="more rows, or other shares")
    _refuse_leaks([rows[number].images[-1] for number in read.numbers], splits, read.keys, "the same images")
    if group is not None:
        _refuse_leaks([of[group] for of in fields], splits, together, f"the same {group}")
    return splits


def _declared(spec: PrepareSpec, said: Sequence[str], together: Sequence[bytes]) -> list[str]:
    """As a field of the path says; where it says no validation, a share of the training rows."""
    unknown = sorted({name for name in said if name.lower() not in splitting.NAMES})
    if unknown:
        accepted = ", ".join(splitting.NAMES)
        raise InvalidInput(f"{unknown[0][:80]!r} is no split", field="split.column", accepted=accepted)
    splits = [splitting.SPLITS[splitting.NAMES[name.lower()]] for name in said]
    if "val" not in splits:
        train = [place for place, split in enumerate(splits) if split == "train"]
        parts = splitting.assign([together[place] for place in train], [0] * len(train), spec.split.val, 0.0)
        for place, part in zip(train, parts, strict=True):
            splits[place] = part
    return splits


def _refuse_leaks(names: Sequence[str], splits: Sequence[str], keys: Sequence[bytes], what: str) -> None:
    home: dict[bytes, tuple[str, str]] = {}
    leaks = []
    for name, split, key in zip(names, splits, keys, strict=True):
        first, where = home.setdefault(key, (name, split))
        if where != split:
            leaks.append(f"{first[:120]!r} in {where} and {name[:120]!r} in {split}")
    if leaks:
        accepted = "rows that go together in one split: {do: deduplicate}, or another split.group"
        given = f"{len(leaks)} rows of two splits have {what}, such as {leaks[0]}"
        raise InvalidInput(given, field="split", accepted=accepted)


def _quality(total: int, read: Read, splits: Sequence[str]) -> Quality:
    """Sizes and numbers of the boxes of the training split."""
    train = [boxes for boxes, split in zip(read.boxes, splits, strict=True) if split == "train"]
    every = np.concatenate(train)
    figures = {
        "boxes an image": np.array([len(boxes) for boxes in train]),
        "width of a box": every[:, 2] - every[:, 0],
        "height of a box": every[:, 3] - every[:, 1],
    }
    return Quality(total, [Column(name, 0.0, histogram(values)) for name, values in figures.items()])

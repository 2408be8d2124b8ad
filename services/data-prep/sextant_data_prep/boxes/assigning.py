"""Which split a row of images goes to: rows that belong together go to one."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sextant_data_prep.boxes.finding import Row
from sextant_data_prep.domain import splitting
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput


def assign(spec: PrepareSpec, rows: Sequence[Row], keys: Sequence[bytes]) -> list[str]:
    """The split of each row: by its column, or by shares of what goes together. `keys` are hashes of the pixels.

    Raises InvalidInput where there are too few for three splits, or rows of two have the same images or the same group.
    """
    group = spec.split.group
    fields = [row.fields for row in rows]
    together = keys
    if group is not None:
        together = [splitting.content_key(os.fsencode(of[group]), spec.seed) for of in fields]
    if spec.split.column is not None:
        splits = _declared(spec, [of[spec.split.column] for of in fields], together)
    else:
        splits = splitting.assign(together, [0] * len(together), spec.split.val, spec.split.test)
    if set(splits) != set(splitting.SPLITS):
        what = f"{len(set(together))} groups" if group is not None else f"{len(splits)} rows"
        raise InvalidInput(f"{what} are too few for three splits", field="split", accepted="more rows, or other shares")
    _refuse_leaks([row.images[-1] for row in rows], splits, keys, "the same images")
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

"""Which row goes to which split: stratified, exact in its shares, and never the same content in two splits."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePath

from sextant_shared.errors import InvalidInput

SPLITS = ("train", "val", "test")
NAMES = {"train": 0, "val": 1, "validation": 1, "valid": 1, "dev": 1, "test": 2}
"""What data call the splits, with their places in SPLITS."""


def of_path(path: PurePath) -> str | None:
    """The split that a file's name says, or else a folder's, the nearest first. None where it says none, or several."""
    return _said((path.stem, *reversed(path.parent.parts)))


def of_folders(paths: Sequence[PurePath]) -> list[str] | None:
    """The splits that the folders above those of the classes say, as in train/CLASS/FILE; None where they say none.

    Raises InvalidInput where some say one and others do not. A path without a class counts for neither.
    """
    said = {path: _of_folder(path) for path in paths if len(path.parts) > 1}
    if len(set(said.values()) - {None}) < 2:
        return None
    for path, split in said.items():
        if split is None:
            raise InvalidInput(
                f"the folders of some files say their split, and {str(path)[:80]!r} does not",
                field="source",
                accepted="SPLIT/CLASS/FILE for all files, or CLASS/FILE for all",
            )
    return [of_folder(path) for path in paths]


def of_folder(path: PurePath) -> str:
    """The split that the folders above a file's class say, where those of all files say one."""
    return _of_folder(path) or "train"


def _of_folder(path: PurePath) -> str | None:
    return _said(tuple(reversed(path.parts[:-2])))


def _said(names: Sequence[str]) -> str | None:
    for name in names:
        found = {NAMES[word] for word in re.split(r"[^a-z]+", name.lower()) if word in NAMES}
        if found:
            return SPLITS[found.pop()] if len(found) == 1 else None
    return None


def as_given(
    keys: Sequence[bytes], labels: Sequence[int], ids: Sequence[int], given: Sequence[str], val: float
) -> list[str]:
    """The given splits; where no row is for validation, the share `val` of the training rows is taken for it.

    Raises InvalidInput where the same content stands in two of them, which is a leak; `ids` are what rows are called.
    """
    home: dict[bytes, int] = {}
    leaks = [row for row, key in enumerate(keys) if given[home.setdefault(key, row)] != given[row]]
    if leaks:
        one, other = ids[home[keys[leaks[0]]]], ids[leaks[0]]
        raise InvalidInput(
            f"leak: {len({keys[row] for row in leaks})} rows stand in two splits, for example {one} and {other}",
            field="split",
            accepted="each row in one split alone; add the step {do: deduplicate} to keep the first of them",
        )
    splits = list(given)
    if "val" not in splits:
        train = [row for row, split in enumerate(splits) if split == "train"]
        held = assign([keys[row] for row in train], [labels[row] for row in train], val, 0.0)
        for row, split in zip(train, held, strict=True):
            splits[row] = split
    return splits


def insist_on_all(splits: Sequence[str], *, given: bool) -> None:
    """Raise InvalidInput where one of the three splits has no row; `given` says that the source said them."""
    if empty := [split for split in SPLITS if split not in splits]:
        message = (
            f"no row is in the split {empty[0]!r}" if given else f"{len(splits)} rows are too few for three splits"
        )
        raise InvalidInput(message, field="split", accepted="more rows")


def content_key(content: bytes, seed: int) -> bytes:
    """A hash of a row's content that orders rows at random, the same way each time."""
    return hashlib.blake2b(content, digest_size=16, key=str(seed).encode()).digest()


def assign(keys: Sequence[bytes], labels: Sequence[int], val: float, test: float) -> list[str]:
    """The split of each row. Rows with the same key, i.e. the same content, go together.

    Within each class, rows are taken in the order of their keys: the first share is the test split, then validation.
    """
    by_class: dict[int, dict[bytes, list[int]]] = defaultdict(lambda: defaultdict(list))
    home: dict[bytes, int] = {}
    for row, (key, label) in enumerate(zip(keys, labels, strict=True)):
        # The same content under two labels still must not stand in two splits: the first label takes it.
        by_class[home.setdefault(key, label)][key].append(row)
    splits = ["train"] * len(keys)
    for groups in by_class.values():
        total = sum(len(rows) for rows in groups.values())
        want_test, want_val = round(total * test), round(total * val)
        taken = 0
        for key in sorted(groups):
            name = "test" if taken < want_test else "val" if taken < want_test + want_val else "train"
            for row in groups[key]:
                splits[row] = name
            taken += len(groups[key])
    return splits

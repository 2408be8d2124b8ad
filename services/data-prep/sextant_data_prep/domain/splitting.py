"""Which row goes to which split: stratified, exact in its shares, and never the same content in two splits."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePath

SPLITS = ("train", "val", "test")
NAMES = {"train": 0, "val": 1, "validation": 1, "valid": 1, "dev": 1, "test": 2}
"""What data call the splits, with their places in SPLITS."""


def of_path(path: PurePath) -> str | None:
    """The split that a file's name says, or else a folder's, the nearest first. None where it says none, or several."""
    for name in (path.stem, *reversed(path.parent.parts)):
        found = {NAMES[word] for word in re.split(r"[^a-z]+", name.lower()) if word in NAMES}
        if found:
            return SPLITS[found.pop()] if len(found) == 1 else None
    return None


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

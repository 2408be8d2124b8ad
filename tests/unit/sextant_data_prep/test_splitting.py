"""Which row goes to which split."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sextant_data_prep.domain.splitting import SPLITS, assign, content_key


def keys(rows: int, seed: int = 0) -> list[bytes]:
    """The keys of rows that all differ."""
    return [content_key(str(row).encode(), seed) for row in range(rows)]


def counts(splits: list[str]) -> tuple[int, int, int]:
    """Rows in train, val and test."""
    found = Counter(splits)
    train, val, test = (found[name] for name in SPLITS)
    return train, val, test


def test_the_shares_are_exact_where_no_content_comes_twice() -> None:
    assert counts(assign(keys(200), [0] * 200, 0.1, 0.2)) == (140, 20, 40)


def test_every_class_is_split_with_the_same_shares() -> None:
    labels = [0] * 100 + [1] * 20
    splits = assign(keys(120), labels, 0.1, 0.2)
    assert counts(splits[:100]) == (70, 10, 20)
    assert counts(splits[100:]) == (14, 2, 4)


def test_the_same_seed_gives_the_same_splits_and_another_seed_gives_others() -> None:
    labels = [0] * 50
    assert assign(keys(50), labels, 0.2, 0.2) == assign(keys(50), labels, 0.2, 0.2)
    assert assign(keys(50, seed=1), labels, 0.2, 0.2) != assign(keys(50), labels, 0.2, 0.2)


def test_where_a_row_stands_in_the_source_does_not_matter() -> None:
    labels = [row % 3 for row in range(60)]
    forward = assign(keys(60), labels, 0.2, 0.2)
    backward = assign(keys(60)[::-1], labels[::-1], 0.2, 0.2)
    assert backward[::-1] == forward


def test_the_same_content_under_two_labels_stands_in_one_split() -> None:
    same = [content_key(b"same", 0)] * 2
    for extra in range(20):
        splits = assign([*keys(extra), *same], [0] * extra + [0, 1], 0.3, 0.3)
        assert splits[-1] == splits[-2]


ROWS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=80)
SHARE = st.floats(0.01, 0.49)


@given(rows=ROWS, val=SHARE, test=SHARE, seed=st.integers(0, 5))
def test_no_content_ever_stands_in_two_splits(rows: list[tuple[int, int]], val: float, test: float, seed: int) -> None:
    where: dict[int, str] = {}
    made = [content_key(bytes([content]), seed) for content, _ in rows]
    for (content, _), split in zip(rows, assign(made, [label for _, label in rows], val, test), strict=True):
        assert where.setdefault(content, split) == split


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4), val=SHARE, test=SHARE)
def test_each_class_has_the_rounded_share_of_its_rows(sizes: list[int], val: float, test: float) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    splits = assign(keys(len(labels)), labels, val, test)
    for label, size in enumerate(sizes):
        own = [split for split, other in zip(splits, labels, strict=True) if other == label]
        assert own.count("test") == round(size * test)
        assert own.count("val") == min(round(size * val), size - round(size * test))

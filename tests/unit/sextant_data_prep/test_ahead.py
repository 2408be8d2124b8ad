"""Reading ahead: the same items, in order, and errors where they belong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sextant_data_prep.readers.ahead import ahead


def failing() -> Iterator[int]:
    """Two items, then an error."""
    yield 1
    yield 2
    raise ValueError("third")


def test_all_items_come_in_order() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))


def test_an_error_comes_after_the_items_before_it() -> None:
    items = ahead(failing())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(items)


def test_no_more_than_one_item_is_made_ahead() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1, 10):
            made.append(number)
            yield number

    items = ahead(source())
    assert next(items) == 1
    assert next(items) == 2
    items.close()  # type: ignore[attr-defined]
    assert made[:2] == [1, 2]
    assert len(made) <= 3

"""Which gang goes where."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from sextant_scheduler.domain.placement import Free, Waiting, nearest_that_fits, place


def gangs(*ranks: int) -> list[Waiting]:
    """Waiting gangs of these widths."""
    return [Waiting(UUID(int=index), width) for index, width in enumerate(ranks)]


def test_a_gang_goes_to_the_narrowest_node_that_holds_it() -> None:
    assert [p.node for p in place(gangs(2), [Free("wide", 8), Free("narrow", 2)])] == ["narrow"]


def test_the_first_that_does_not_fit_stops_those_behind_it() -> None:
    assert place(gangs(4, 1), [Free("a", 3)]) == []


def test_two_gangs_share_a_node_that_holds_both() -> None:
    assert [(p.node, p.ranks) for p in place(gangs(2, 2, 1), [Free("a", 4)])] == [("a", 2), ("a", 2)]


@given(
    st.lists(st.integers(1, 9), max_size=20),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 8), max_size=6),
)
def test_no_node_ever_holds_more_than_it_has_and_the_order_is_kept(widths: list[int], nodes: dict[str, int]) -> None:
    waiting = gangs(*widths)
    placed = place(waiting, [Free(name, slots) for name, slots in nodes.items()])
    for name, slots in nodes.items():
        assert sum(p.ranks for p in placed if p.node == name) <= slots
    assert [p.job_id for p in placed] == [w.job_id for w in waiting[: len(placed)]]


def test_what_can_never_fit_is_told_the_nearest_that_does() -> None:
    assert nearest_that_fits(8, [2, 4]) == 4
    assert nearest_that_fits(4, [2, 4]) is None
    assert nearest_that_fits(8, []) is None

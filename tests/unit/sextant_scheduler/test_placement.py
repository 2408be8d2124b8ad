"""Which gang goes where."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from sextant_scheduler.domain.placement import Node, Waiting, nearest_that_fits, place


def gangs(*ranks: int) -> list[Waiting]:
    """Waiting gangs of these widths."""
    return [Waiting(UUID(int=index), width, width) for index, width in enumerate(ranks)]


def node(name: str, slots: int) -> Node:
    """A node on which nothing runs."""
    return Node(name, slots, slots)


def test_a_gang_goes_to_the_narrowest_node_that_holds_it() -> None:
    assert [p.shares for p in place(gangs(2), [node("wide", 8), node("narrow", 2)])] == [{"narrow": 2}]


def test_the_first_that_does_not_fit_stops_those_behind_it() -> None:
    assert place(gangs(4, 1), [node("a", 3)]) == []


def test_two_gangs_share_a_node_that_holds_both() -> None:
    assert [p.shares for p in place(gangs(2, 2, 1), [node("a", 4)])] == [{"a": 2}, {"a": 2}]


def test_a_gang_that_no_node_could_hold_takes_the_fewest_nodes_the_widest_first() -> None:
    nodes = [node("a", 2), node("b", 1), node("c", 4)]
    assert [p.shares for p in place(gangs(6), nodes)] == [{"c": 4, "a": 2}]


def test_a_gang_that_a_node_could_hold_waits_for_it() -> None:
    assert place(gangs(4), [Node("a", 4, 3), Node("b", 2, 2)]) == []


def test_a_gang_takes_fewer_ranks_where_it_may() -> None:
    elastic = Waiting(UUID(int=1), 4, 2)
    assert place([elastic], [Node("a", 4, 3), node("b", 2)])[0].shares == {"a": 3}
    assert place([elastic], [node("b", 2)])[0].shares == {"b": 2}
    assert place([elastic], [node("b", 1), node("c", 1)])[0].shares == {"b": 1, "c": 1}
    assert place([elastic], [node("b", 1)]) == []


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=20),
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(1, 8), st.integers(0, 8)), max_size=6),
)
def test_no_node_ever_holds_more_than_it_has_and_the_order_is_kept(
    widths: list[tuple[int, int]], slots: dict[str, tuple[int, int]]
) -> None:
    waiting = [Waiting(UUID(int=index), max(pair), min(pair)) for index, pair in enumerate(widths)]
    nodes = {name: Node(name, most, min(most, free)) for name, (most, free) in slots.items()}
    placed = place(waiting, nodes.values())
    for name, one in nodes.items():
        assert sum(p.shares.get(name, 0) for p in placed) <= one.free
    assert [p.job_id for p in placed] == [w.job_id for w in waiting[: len(placed)]]
    for gang, given_ in zip(waiting, placed, strict=False):
        assert gang.least <= sum(given_.shares.values()) <= gang.ranks
        assert all(given_.shares.values())


def test_what_can_never_fit_is_told_the_nearest_that_does() -> None:
    assert nearest_that_fits(8, [2, 4]) == 6
    assert nearest_that_fits(6, [2, 4]) is None
    assert nearest_that_fits(8, []) is None

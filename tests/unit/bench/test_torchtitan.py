"""Published runs are put to the planner as they were run."""

from __future__ import annotations

from tests.bench.torchtitan import recomputed


def test_embedding_and_output_are_never_computed_again() -> None:
    assert recomputed("all", 6) == (False, True, True, True, True, False)
    assert recomputed("layers", 6) == (False, False, True, False, True, False)
    assert recomputed("none", 6) == ()

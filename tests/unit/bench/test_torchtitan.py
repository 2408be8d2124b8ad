"""Published runs are put to the planner as they were run."""

from __future__ import annotations

from tests.bench.torchtitan import half_attention, recomputed

from sextant_planner.transformer import transformer


def test_embedding_and_output_are_never_computed_again() -> None:
    assert recomputed("all", 6) == (False, True, True, True, True, False)
    assert recomputed("layers", 6) == (False, False, True, False, True, False)
    assert recomputed("none", 6) == ()


def test_half_of_attention_leaves_the_other_products() -> None:
    whole = transformer("gpt", hidden=64, layers=1, heads=4, sequence=32, vocabulary=100)
    attention = 4 * 32 * 32 * 64
    assert whole.forward_flops - half_attention(whole).forward_flops == attention / 2

"""Plans give what one process gives: a part of the benchmark `parallel-equal`; the rest of it is slow."""

from __future__ import annotations

import shutil

import pytest
from tests.bench.parallel_cases import FAMILIES, PLANS
from tests.bench.parallel_equal import case, verdict

FAST = [
    ("module", "dp2-uneven"),
    ("unet", "dp2-micro"),
    ("decoder", "zero3"),
    ("sequential", "zero2"),
    ("sequential", "pp2-dp2"),
    ("resnet", "dp2"),
    ("resnet", "tp2"),
    ("unet", "tp2"),
    ("vit", "tp2"),
    ("decoder", "sp2"),
    ("unet", "pp2-1f1b"),
    ("mlp", "pp2-zero-bubble"),
    ("time-series", "pp2-interleaved"),
    ("encoder", "cp2"),
    ("time-series", "cp2-sp2"),
    ("decoder-gpt", "recompute"),
    ("resnet", "sp2"),
    ("mlp", "tp2"),
    ("mlp", "compile-dp2"),
]
REST = [(family, plan) for family in FAMILIES for plan in PLANS if (family, plan) not in FAST]


@pytest.fixture(autouse=True)
def compiler(request: pytest.FixtureRequest) -> None:
    """What torch compiles blocks with on processors, where a plan asks for that."""
    if "compile" in request.node.name and not shutil.which("g++"):
        pytest.skip("there is no g++, which compiled blocks need on processors")


@pytest.mark.parametrize(("family", "plan"), FAST)
def test_a_plan_gives_what_one_process_gives(family: str, plan: str) -> None:
    assert not verdict(family, plan, case(family, plan))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "plan"), REST)
def test_every_plan_gives_what_one_process_gives(family: str, plan: str) -> None:
    assert not verdict(family, plan, case(family, plan))


def test_a_missing_all_reduce_is_noticed() -> None:
    assert "differs" in verdict("mlp", "dp2", case("mlp", "dp2", "no-all-reduce"))

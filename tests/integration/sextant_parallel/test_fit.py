"""A run that goes on over other ranks sees the same samples and has the same loss; slow ranks get less to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.bench import emulated, rebalance_rank
from tests.bench.plan_measured_rank import FREE
from tests.bench.ranks import run
from torch import Tensor, nn

from sextant_parallel import DynamicParallel, Training
from sextant_parallel.profiling.timing import with_times
from sextant_parallel.profiling.trace import trace
from sextant_planner.cluster import Cluster, Link

STEPS = 12


def train(directory: str, steps: int) -> tuple[int, dict[int, float]]:
    size = dist.get_world_size()
    config = {"data_parallelism": size, "model_parallelism": 1, "pipeline_stages": 1, "global_batch": 24}
    sample = rebalance_rank.batches(0, slice(0, 1))[0]
    dynamic = DynamicParallel(config, model=rebalance_rank.make(), sample=sample, cluster=rebalance_rank.cluster(size))
    training = Training(
        rebalance_rank.make, rebalance_rank.batches, rebalance_rank.loss, rebalance_rank.optimizer, steps
    )
    history = dynamic.fit(training, Path(directory), every=4)
    return history.began_at, history.losses


def test_a_run_goes_on_over_fewer_ranks_with_the_same_losses(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    _, expected = run(2, train, str(tmp_path / "whole"), STEPS)[0]
    first = run(4, train, str(tmp_path / "parts"), 8)[0]
    second = run(3, train, str(tmp_path / "parts"), STEPS)[0]
    assert (first[0], second[0]) == (0, 8)
    losses = first[1] | second[1]
    assert set(losses) == set(range(1, STEPS + 1))
    # The order of additions over ranks differs; the losses are about 5.
    assert max(abs(losses[step] - expected[step]) for step in expected) < 1e-5


def slowed(directory: str) -> list[Any]:
    made: list[nn.Module] = []

    def make() -> nn.Module:
        made.append(emulated.build("even", slowdown=3.0 if dist.get_rank() == 1 else 1.0))
        return made[-1]

    def batches(step: int, rows: slice) -> tuple[Tensor, Tensor]:
        inputs, targets = emulated.batch("even", 8)
        return inputs[rows], targets[rows]

    torch.set_num_threads(1)
    model, sample = emulated.build("even"), emulated.batch("even", 1)[0]
    profile = with_times(trace(model, sample, optimizer_bytes=0), model, sample, FREE.name, sizes=(1, 4), repeats=1)
    link = Link(name="lo", size=2, bandwidth=5e8)
    cluster = Cluster(name="two", devices=(FREE,), layout=(0, 0), links=(link,), prefetch=False)
    config = {"data_parallelism": 2, "model_parallelism": 1, "pipeline_stages": 1, "global_batch": 8}
    dynamic = DynamicParallel({**config, "sharding": ("none",), "microbatches": 1}, model=profile, cluster=cluster)
    history = dynamic.fit(
        Training(make, batches, emulated.loss, emulated.optimizer, 14), Path(directory), every=1000, window=2
    )
    return [(switch.grade, switch.reason) for switch in history.switches]


def test_a_slow_rank_gets_a_smaller_share_without_a_restart(tmp_path: Path) -> None:
    first, second = run(2, slowed, str(tmp_path))
    assert first == second
    assert first[0] == ("reshare", "imbalance")

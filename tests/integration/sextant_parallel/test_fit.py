"""A run that goes on over other ranks sees the same samples and has the same loss; slow ranks get less to do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.bench import emulated, rebalance_rank
from tests.bench.plan_measured_rank import FREE
from tests.bench.ranks import run
from torch import Tensor, nn

from sextant_parallel import DynamicParallel, OptimizedPlan, Training, Watcher
from sextant_parallel.fit import Checkpoints, Fit, Latest, probe
from sextant_parallel.profiling.timing import with_times
from sextant_parallel.profiling.trace import trace
from sextant_parallel.world import leads
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


class Stopper(Watcher):
    """Counts steps, and has the last rank stop the run at one of them."""

    stoppable = True

    def __init__(self, at: int) -> None:
        self.at, self.seen, self.done = at, 0, 0
        self.weights: dict[str, Tensor] = {}

    def began(self, run: Fit) -> None:
        self.weights = run.runtime.state()

    def stepped(self, run: Fit, loss: float) -> None:
        self.seen, self.done = self.seen + 1, run.step
        if run.step == 2:
            self.weights = run.runtime.state()

    def wants_to_stop(self) -> bool:
        return dist.get_rank() == dist.get_world_size() - 1 and self.done == self.at

    def extra(self) -> dict[str, Any]:
        return {"seen": self.seen, "weights": self.weights}

    def restore(self, extra: dict[str, Any]) -> None:
        self.seen, self.weights = extra["seen"], extra["weights"]


def watched(directory: str, at: int) -> tuple[bool, int, dict[int, float], float]:
    size = dist.get_world_size()
    stages = 2 if size == 4 else 1
    config = {"data_parallelism": size // stages, "model_parallelism": 1, "pipeline_stages": stages, "global_batch": 24}
    sample = rebalance_rank.batches(0, slice(0, 1))[0]
    dynamic = DynamicParallel(config, model=rebalance_rank.make(), sample=sample, cluster=rebalance_rank.cluster(size))
    training = Training(
        rebalance_rank.make,
        rebalance_rank.batches,
        rebalance_rank.loss,
        rebalance_rank.optimizer,
        STEPS,
        rate=lambda step: 1.0 if step < 6 else 0.1,
    )
    watcher = Stopper(at)
    latest = Latest(Path(directory))
    announce = latest.announce if leads() else None
    checkpoints = Checkpoints(Path(directory), announce, start=latest.path, every=5)
    run = Fit(training, dynamic.optimize().plan, checkpoints, watcher=watcher)
    history = run.run()
    kept = run.runtime.gather(watcher.weights)
    return history.stopped, watcher.seen, history.losses, sum(float(value.sum()) for value in kept.values())


def test_a_watcher_stops_a_run_and_goes_on_in_another_layout(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    stopped, seen, expected, weights = run(2, watched, str(tmp_path / "whole"), 0)[0]
    assert (stopped, seen) == (False, STEPS)
    first = run(4, watched, str(tmp_path / "parts"), 7)[0]
    assert first[:2] == (True, 7)
    second = run(2, watched, str(tmp_path / "parts"), 0)[0]
    assert second[:2] == (False, STEPS)
    losses = first[2] | second[2]
    assert losses.keys() == expected.keys()
    # The order of additions differs; the losses are about 5.
    assert max(abs(losses[step] - expected[step]) for step in expected) < 1e-5
    # What was kept by the stages of a pipeline at step 2 came back whole; its sum is of about 50 numbers a tensor.
    assert abs(second[3] - weights) < 1e-3


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


def probed() -> tuple[list[str], list[float], int]:
    def batches(step: int, rows: slice) -> tuple[Tensor, Tensor]:
        # The rows of the data cost by far the most, which the planner does not know.
        time.sleep(0.01 * (rows.stop - rows.start))
        return rebalance_rank.batches(step, rows)

    config = {"auto_tune": True, "global_batch": 24, "sharding": ["none"], "recompute": False}
    sample = rebalance_rank.batches(0, slice(0, 1))[0]
    dynamic = DynamicParallel(config, model=rebalance_rank.make(), sample=sample, cluster=rebalance_rank.cluster(2))
    optimized = dynamic.optimize(top=20)
    best = {candidate.plan.dp: candidate for candidate in reversed(optimized.decision.choice.candidates)}
    choice = optimized.decision.choice.model_copy(update={"candidates": (best[1], best[2])})
    training = Training(rebalance_rank.make, batches, rebalance_rank.loss, rebalance_rank.optimizer, STEPS)
    torch.manual_seed(5)
    found = probe(OptimizedPlan(optimized.decision.model_copy(update={"choice": choice})), training, 2)
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(5)), "the run draws as it would have"
    candidates = found.decision.choice.candidates
    return [c.plan.describe() for c in candidates], [c.measured_s or 0.0 for c in candidates], found.plan.dp


def test_what_plans_take_where_they_are_tried_decides_between_them() -> None:
    told = run(2, probed)
    assert told[0] == told[1], "every rank has the same order"
    _, seconds, chosen = told[0]
    assert chosen == 2, "data parallelism shares out the rows"
    assert 0.12 < seconds[0] < seconds[1]

"""`DynamicParallel`: from degrees, or none, to a plan that fits the model and the devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sextant_parallel.elastic.shortage import Allowance, OutOfMemory, ran_out, within
from sextant_parallel.fit import Checkpoints, Fit, History, Latest, Rebalancer, Training, Watcher, probe
from sextant_parallel.optimized import Decision, OptimizedPlan
from sextant_parallel.profiling import cache as profiles
from sextant_parallel.profiling.device import measure_device
from sextant_parallel.profiling.links import measure_cluster, overlap_slowdown
from sextant_parallel.profiling.timing import with_times
from sextant_parallel.profiling.trace import trace
from sextant_parallel.world import agree, all_of, leads
from sextant_planner import catalogue
from sextant_planner.cluster import Cluster, Link
from sextant_planner.configuration import ParallelConfig
from sextant_planner.model import BlockProfile, ModelProfile
from sextant_planner.rebalancing import Grade, Policy
from sextant_planner.record import PlanningError, Record
from sextant_planner.search.engine import Candidate, search
from sextant_planner.transformer import transformer

R = TypeVar("R", bound=Record)
STAND_IN_DEVICE = "h100-80gb"
HERE = "this-device"


class DynamicParallel:
    """Finds the best way to train a model over the devices there are.

    ```
    dp = DynamicParallel({"model_parallelism": 4, "data_parallelism": 8, "pipeline_stages": 2, "auto_tune": True})
    plan = dp.optimize()
    print(plan.explain())
    ```
    """

    def __init__(
        self,
        config: Mapping[str, Any] | ParallelConfig,
        *,
        model: nn.Module | ModelProfile | None = None,
        sample: Tensor | tuple[Tensor, ...] | None = None,
        cluster: Cluster | None = None,
        cache: Path | None = None,
    ) -> None:
        """Raises PlanningError for a bad config, and for degrees that do not fit the world, with the nearest that do.

        `model`: a module, with a `sample` batch to trace it with, or a profile; without one, a decoder that fits the
        devices stands in. `cluster`: a profile of the devices; without one, the running world is measured, and where
        there is none, devices of the catalogue stand in. `cache`: a directory that keeps what was measured.
        """
        if isinstance(model, nn.Module) and sample is None:
            raise PlanningError("a module needs a sample batch to be traced with", field="sample")
        self.config = ParallelConfig.read(config)
        self._model, self._sample, self._cluster, self._cache = model, sample, cluster, cache
        self.world = _world(self.config, cluster)
        if not self.config.auto_tune:
            self.config.require_fit(self.world)

    def optimize(self, *, top: int = 5, progress: Callable[[int, int], None] | None = None) -> OptimizedPlan:
        """The best plan, with reasons. In a running world every rank must call it; all get the same.

        Raises PlanningError that says what would fit where nothing does.
        """
        cluster, cluster_notes = self._profiled_cluster()
        model, model_notes = self._profiled_model(cluster)
        cluster, memory_notes = self._allowed(cluster, model)
        notes = [*cluster_notes, *model_notes, *memory_notes]
        free = self.config.auto_tune
        choice = search(model, cluster, self.config.wishes(cluster, free=free), top=top, progress=progress)
        asked = self._asked(model, cluster, notes) if free and any(self.config.degrees) else None
        decision = Decision(choice=choice, model=model, asked=asked, notes=tuple(notes))
        return self._agreed(OptimizedPlan(decision))

    @property
    def cluster(self) -> Cluster:
        """The profile of the devices, the same on every rank. Where it has to be measured, every rank must ask."""
        return self._profiled_cluster()[0]

    def fit(
        self,
        training: Training,
        directory: Path,
        *,
        every: int | None = None,
        watcher: Watcher | None = None,
        policy: Policy | None = None,
        window: int = 10,
    ) -> History:
        """Train to the end by the best plan, and by another where the devices change: see `sextant_parallel.fit`.

        Every rank of the running world calls it, with one `directory` for all, which holds the checkpoints: one every
        `every` steps, or as many as keep saving under 5 % of the time. A run that was cut off goes on from the last
        one, in a world of any size. Every `window` steps the ranks compare what they take, and judge it by `policy`.

        Raises OutOfMemory where a rank's memory runs out; with a `cache`, the next call plans for less.
        """
        rebalancer = self.rebalancer(self.optimize(), policy=policy, window=window)
        with self.minding_memory(rebalancer):
            if self.config.probe:
                rebalancer.optimized = probe(rebalancer.optimized, training, self.config.probe)
            latest = Latest(directory)
            announce = latest.announce if leads() else None
            checkpoints = Checkpoints(directory, announce, start=agree(latest.path), every=every)
            plan = rebalancer.optimized.plan
            return Fit(training, plan, checkpoints, watcher=watcher, rebalancer=rebalancer).run()

    @contextmanager
    def minding_memory(self, rebalancer: Rebalancer) -> Iterator[None]:
        """Around what `rebalancer` watches. Raises OutOfMemory where this rank's memory runs out, and has the next
        planning of this model on such devices, with the same `cache`, count on less.
        """
        try:
            yield
        except (RuntimeError, MemoryError, OutOfMemory) as error:
            if isinstance(error, OutOfMemory):
                found = error
            elif ran_out(error):
                found = OutOfMemory(rebalancer.optimized.decision.choice.best)
            else:
                raise
            name = self._shortage_of(rebalancer.optimized.decision.model, self.cluster)
            profiles.write(self._cache, name, found.allowance)
            raise found from error

    def rebalancer(
        self,
        optimized: OptimizedPlan,
        *,
        policy: Policy | None = None,
        window: int = 10,
        grades: frozenset[Grade] = frozenset(Grade),
    ) -> Rebalancer:
        """For a run by what `optimize` has given: plans anew, with the same wishes, for the devices as they are.

        `grades`: the switches that can be made.
        """
        cluster = self.cluster

        def replan(observed: Cluster) -> OptimizedPlan:
            # Where a probe has found that blocks are faster as they are, they stay so.
            config = self.config.model_copy(update={"compile": rebalancer.optimized.plan.compile})
            again = DynamicParallel(config, model=optimized.decision.model, cluster=observed, cache=self._cache)
            return again.optimize()

        rebalancer = Rebalancer(optimized, cluster, replan, policy=policy, window=window, grades=grades)
        return rebalancer

    def _asked(self, model: ModelProfile, cluster: Cluster, notes: list[str]) -> Candidate | None:
        """The best plan with the degrees of the config, to compare with."""
        if not self.config.fits(self.world):
            notes.append(f"the degrees asked for make {self.config.devices} devices, and there are {self.world}")
            return None
        try:
            return search(model, cluster, self.config.wishes(cluster), top=1).best
        except PlanningError as error:
            notes.append(f"with the degrees asked for: {error}")
            return None

    def _profiled_cluster(self) -> tuple[Cluster, list[str]]:
        if self._cluster is None:
            self._cluster, notes = self._make_cluster()
            return self._cluster, notes
        return self._cluster, []

    def _make_cluster(self) -> tuple[Cluster, list[str]]:
        running = dist.is_initialized() and dist.get_world_size() == self.world
        if self.world > 1 and not running:
            note = f"no cluster was given and none runs: {self.world} {STAND_IN_DEVICE} of the catalogue stand in"
            return catalogue.cluster(STAND_IN_DEVICE, self.world), [note]
        key = profiles.key(self.world, torch.__version__, torch.get_num_threads(), torch.cuda.is_available())
        return self._measured(key, Cluster, self._measure_cluster), []

    def _measure_cluster(self) -> Cluster:
        # Every rank measures at once, so that what ranks of one machine share is in the figures.
        device = measure_device(HERE)
        if self.world == 1:
            alone = Link(name="none", size=1, bandwidth=1.0)
            return Cluster(name="this device", devices=(device,), layout=(0,), links=(alone,))
        cluster = measure_cluster("the running world", device, [("network", self.world)])
        return cluster.model_copy(update={"overlap_slowdown": overlap_slowdown()})

    def _allowed(self, cluster: Cluster, model: ModelProfile) -> tuple[Cluster, list[str]]:
        """The cluster with the memory that runs of this model have found; the least that any rank knows of."""
        mine = profiles.read(self._cache, self._shortage_of(model, cluster), Allowance)
        known = [allowance for allowance in all_of(mine) if allowance is not None]
        if not known:
            return cluster, []
        least = min(known, key=lambda allowance: allowance.memory_bytes)
        note = f"memory ran out in an earlier run: planned for {least.memory_bytes / 1e9:.2f} GB a device"
        return within(cluster, least), [note]

    @staticmethod
    def _shortage_of(model: ModelProfile, cluster: Cluster) -> str:
        return profiles.key(model.to_json(), [device.name for device in cluster.devices])

    def _measured(self, name: str, kind: type[R], make: Callable[[], R]) -> R:
        """From the cache of rank 0, or made by all ranks together; rank 0's counts, as times differ between ranks.

        What they decide by it later, each for itself, must be the same.
        """
        kept = agree(profiles.read(self._cache, name, kind) if leads() else None)
        if kept is not None:
            return kept
        made = agree(make())
        if leads():
            profiles.write(self._cache, name, made)
        return made

    def _profiled_model(self, cluster: Cluster) -> tuple[ModelProfile, list[str]]:
        if isinstance(self._model, ModelProfile):
            return self._model, []
        if self._model is None or self._sample is None:
            return _stand_in(cluster), ["no model was given: a decoder that fits the devices stands in"]
        model, sample = self._model, self._sample
        shapes = [(name, tuple(p.shape), str(p.dtype)) for name, p in model.named_parameters()]
        first = sample[0] if isinstance(sample, tuple) else sample
        here = any(device.name == HERE for device in cluster.devices)
        parts = [type(module).__qualname__ for module in model.modules()]
        told = sorted(BlockProfile.model_fields)
        key = profiles.key(parts, shapes, tuple(first.shape), torch.__version__, here, told)

        def make() -> ModelProfile:
            profile = trace(model, sample, name=type(model).__name__)
            return with_times(profile, model, sample, HERE) if here else profile

        return self._measured(key, ModelProfile, make), []

    def _agreed(self, mine: OptimizedPlan) -> OptimizedPlan:
        """Rank 0's answer, on every rank: measured times differ a little from rank to rank."""
        return OptimizedPlan.from_json(agree(mine.to_json()))


def _world(config: ParallelConfig, cluster: Cluster | None) -> int:
    """Devices: the cluster's, those of the running or launched world, or what the degrees make."""
    if cluster is not None:
        return cluster.size
    if dist.is_initialized():
        return dist.get_world_size()
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return config.devices


def _stand_in(cluster: Cluster) -> ModelProfile:
    """A decoder whose states fill about a tenth of all the devices' memory."""
    memory = sum(cluster.device(rank).memory_bytes for rank in range(cluster.size))
    hidden, layers = 512, 8
    for hidden, layers in ((512, 8), (1024, 24), (2048, 24), (4096, 32), (5120, 40), (8192, 64), (12288, 96)):
        if 16 * 12 * layers * hidden**2 > memory / 10:
            break
    return transformer(
        f"decoder of {12 * layers * hidden**2 / 1e9:.1f}B parameters",
        hidden=hidden,
        layers=layers,
        heads=max(8, hidden // 128),
        sequence=2048,
        vocabulary=32_768,
        recompute_core=True,
    )

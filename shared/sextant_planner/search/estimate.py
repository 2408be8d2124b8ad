"""Quick bounds of a plan's step time and memory, with stages taken as even: what the search is ordered by."""

from __future__ import annotations

from dataclasses import dataclass

from sextant_planner.cluster import Collective
from sextant_planner.cost.collectives import collective_s
from sextant_planner.cost.memory import states_of
from sextant_planner.cost.schedules import in_flight
from sextant_planner.cost.step import StepCosts
from sextant_planner.plan import ParallelPlan, Precision, Schedule, Sharding


@dataclass(frozen=True, slots=True)
class _Sums:
    """Over all blocks, of one micro-batch on one tensor- and context-parallel rank."""

    forward: float
    backward: float
    weight: float
    """Of the backward passes: what can be put off."""
    forward_comm: float
    backward_comm: float

    @property
    def first(self) -> float:
        """The forward pass with its communication."""
        return self.forward + self.forward_comm

    @property
    def second(self) -> float:
        """The backward pass with its communication."""
        return self.backward + self.backward_comm


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Over all blocks: parameters held by one tensor-parallel rank, activations of a sample kept and recomputed."""

    parameters: float
    largest: float
    activations: float
    arriving: float
    fullest: float


class Estimates:
    """Bounds for one model on one cluster."""

    def __init__(self, costs: StepCosts, reserve: float) -> None:
        self._costs = costs
        self._limit = min(device.memory_bytes for device in costs.cluster.devices) * (1 - reserve)
        cluster = costs.cluster
        self._device = max(cluster.layout, key=lambda i: cluster.devices[i].flops.get(Precision.FLOAT32, 0.0))
        self._speed = sum(cluster.speeds) / len(cluster.speeds) if cluster.speeds else 1.0
        self._sums: dict[tuple[float, int, int, bool, Precision], _Sums] = {}
        self._bytes: dict[tuple[int, bool], _Bytes] = {}
        self._flight: dict[tuple[Schedule, int, int, int], float] = {}

    def bound(self, plan: ParallelPlan, *, may_recompute: bool) -> float | None:
        """Seconds that a step takes at least, or None where the plan cannot fit."""
        over = self._over(plan)
        sums = self._sum(plan)
        again = 0.0
        if over > 0:
            saved = self._saved(plan)
            if not may_recompute or over > saved:
                return None
            again = sums.forward * over / saved
        stage = (sums.first + sums.second + again) / plan.pp
        idle = self._waits(plan, sums) / plan.pp / plan.virtual_stages * (plan.pp - 1)
        return plan.microbatches * stage + idle + self._data_s(plan, sums)

    @staticmethod
    def _waits(plan: ParallelPlan, sums: _Sums) -> float:
        """Seconds that a rank waits while a micro-batch goes through the other ranks, over all blocks."""
        if plan.schedule is not Schedule.ZERO_BUBBLE:
            return sums.first + sums.second
        # The last rank waits for its first input, with no weight gradient to fill that with; the first one for its
        # first gradient, beside those forward passes that come before it: more of them where it has several stages.
        ahead = sums.first if plan.virtual_stages > 1 else 0.0
        return max(sums.first, sums.second - sums.weight - ahead)

    def _sum(self, plan: ParallelPlan) -> _Sums:
        samples = plan.global_batch / plan.dp / plan.microbatches
        key = (samples, plan.tp, plan.cp, plan.sequence_parallel, plan.precision)
        if key not in self._sums:
            forward = backward = weight = forward_comm = backward_comm = 0.0
            factor = 1 / self._speed
            for index in range(len(self._costs.model.blocks)):
                passes = self._costs.block_passes(plan, index, samples=samples, device=self._device)
                forward += passes.forward * factor
                backward += passes.backward * factor
                weight += passes.weight * factor
                forward_comm += passes.forward_comm
                backward_comm += passes.backward_comm
            self._sums[key] = _Sums(forward, backward, weight, forward_comm, backward_comm)
        return self._sums[key]

    def _data_s(self, plan: ParallelPlan, sums: _Sums) -> float:
        if plan.dp == 1:
            return 0.0
        cluster, inner = self._costs.cluster, plan.tp * plan.cp
        count = self._held(plan).parameters / plan.pp * max(plan.precision.bytes, self._costs.traits.gradient_bytes)
        if plan.sharding is not Sharding.NONE:
            return self._sharded_s(plan, sums, count)
        total = collective_s(cluster, Collective.ALL_REDUCE, count, plan.dp_replicate, inner)
        if not self._costs.traits.hides_reduction(plan):
            return total
        return total - min(total * self._costs.traits.data_overlap, sums.backward * cluster.overlap)

    def _sharded_s(self, plan: ParallelPlan, sums: _Sums, count: float) -> float:
        cluster, inner = self._costs.cluster, plan.tp * plan.cp
        each = collective_s(cluster, Collective.REDUCE_SCATTER, count, plan.dp_shard, inner)
        if plan.pp > 1:
            return each
        if plan.sharding is Sharding.ZERO1:
            return each * (1 - self._costs.traits.data_overlap * cluster.prefetch)
        moved = each * (3 if plan.sharding is Sharding.ZERO3 else 1)
        hidden = cluster.overlap * cluster.prefetch * (sums.forward + sums.backward) / plan.pp
        return plan.microbatches * max(0.0, moved - hidden)

    def _held(self, plan: ParallelPlan) -> _Bytes:
        key = (plan.tp, plan.sequence_parallel)
        if key not in self._bytes:
            parameters = largest = activations = arriving = fullest = 0.0
            for block in self._costs.model.blocks:
                split = block.tensor
                held = block.held(plan.tp)
                share = split.activations if split else 0.0
                rest = (1 - share) / (plan.tp if plan.sequence_parallel and split else 1)
                kept = block.activation_bytes * (rest + share / plan.tp)
                parameters += held
                largest = max(largest, held)
                activations += kept
                arriving += min(kept, block.output_bytes / (plan.tp if plan.sequence_parallel else 1))
                fullest = max(fullest, kept)
            self._bytes[key] = _Bytes(parameters, largest, activations, arriving, fullest)
        return self._bytes[key]

    def _scale(self, plan: ParallelPlan) -> float:
        samples = plan.global_batch / plan.dp / plan.microbatches
        held = 1.0
        if plan.pp > 1:
            key = (plan.schedule, plan.pp, plan.virtual_stages, plan.microbatches)
            if key not in self._flight:
                self._flight[key] = in_flight(plan.schedule, plan.pp, 0, plan.virtual_stages, plan.microbatches)
            held = self._flight[key]
        size = plan.precision.bytes / self._costs.model.precision_bytes
        return samples * size * held / plan.cp / plan.pp

    def _over(self, plan: ParallelPlan) -> float:
        """Bytes by which the first stage is over the limit with nothing recomputed; a little optimistic."""
        held = self._held(plan)
        states = sum(states_of(plan, held.parameters / plan.pp, held.largest, self._costs.model.optimizer_bytes))
        return 0.97 * states + held.activations * self._scale(plan) - self._limit

    def _saved(self, plan: ParallelPlan) -> float:
        """Bytes that recomputing everything saves on the first stage."""
        held = self._held(plan)
        return (held.activations - held.arriving) * self._scale(plan)

"""What one training step costs under a plan: seconds, broken down, and the memory of the fullest rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from pydantic import Field

from sextant_planner.cluster import Cluster, Collective
from sextant_planner.cost.blocks import BlockCosts, Passes
from sextant_planner.cost.collectives import collective_s, send_s
from sextant_planner.cost.memory import Memory, MemoryCosts
from sextant_planner.cost.schedules import Player, StageCost, at_least
from sextant_planner.model import BlockProfile, ModelProfile
from sextant_planner.plan import ParallelPlan, Precision, Sharding
from sextant_planner.record import Record
from sextant_planner.traits import RuntimeTraits


class Breakdown(Record):
    """Seconds of a step on the busiest rank; they add up to the step."""

    compute: float = Field(0.0, ge=0)
    recompute: float = Field(0.0, ge=0)
    tensor: float = Field(0.0, ge=0, description="communication inside blocks: parts, sequences, statistics of batches")
    pipeline: float = Field(0.0, ge=0, description="waiting for other stages, sending to them, and parting passes")
    data: float = Field(0.0, ge=0, description="data-parallel communication that nothing hides")
    optimizer: float = Field(0.0, ge=0)

    @property
    def total(self) -> float:
        """The step."""
        return self.compute + self.recompute + self.tensor + self.pipeline + self.data + self.optimizer


class Prediction(Record):
    """What the planner expects of a plan."""

    step_s: float = Field(gt=0)
    breakdown: Breakdown
    memory: Memory = Field(description="of the fullest rank")
    memory_limit: float = Field(gt=0, description="bytes of the smallest device")
    samples_per_s: float
    model_flops_utilisation: float = Field(description="share of all devices' peak spent on the model's own arithmetic")

    @property
    def fits(self) -> bool:
        """Whether the fullest rank's memory holds it."""
        return self.memory.total <= self.memory_limit


@dataclass(frozen=True, slots=True)
class _Rank:
    """One pipeline rank's sums over its blocks, of one micro-batch."""

    stages: tuple[StageCost, ...]
    compute: float
    recompute: float
    tensor: float


class StepCosts:
    """Prices plans for one model on one cluster."""

    def __init__(self, model: ModelProfile, cluster: Cluster, traits: RuntimeTraits | None = None) -> None:
        self.model, self.cluster = model, cluster
        self._count = len(model.blocks)
        self.traits = traits or RuntimeTraits()
        self._passes = lru_cache(maxsize=1 << 16)(self._price)
        self._costs: dict[tuple[int, Precision], BlockCosts] = {}

    def predict(self, plan: ParallelPlan) -> Prediction:
        """Seconds and bytes of a step. The plan must name its stages where pp is over 1."""
        slowest = max(self._replicas(plan), key=lambda index: self._at_least(plan, index))
        ranks = self._ranks(plan, slowest)
        stages = [rank.stages[chunk] for chunk in range(plan.virtual_stages) for rank in ranks]
        player = Player(stages, plan.pp, plan.schedule, blocking_sends=self.traits.blocking_sends)
        played = player.play(plan.microbatches) if plan.pp > 1 else 0.0
        exposed = max(self._data_s(plan, index, rank) for index, rank in enumerate(ranks))
        optimizer = max(self._optimizer_s(plan, rank) for rank in range(plan.pp))
        busiest = max(ranks, key=lambda rank: rank.compute + rank.recompute + rank.tensor)
        count = plan.microbatches
        work = count * (busiest.compute + busiest.recompute + busiest.tensor)
        breakdown = Breakdown(
            compute=count * busiest.compute,
            recompute=count * busiest.recompute,
            tensor=count * busiest.tensor,
            pipeline=max(0.0, played - work),
            data=exposed,
            optimizer=optimizer,
        )
        return self._told(plan, breakdown)

    def bound(self, plan: ParallelPlan) -> float:
        """A lower bound of the step's seconds, cheap."""
        return max(self._at_least(plan, index) for index in self._replicas(plan))

    def memory(self, plan: ParallelPlan) -> Memory:
        """Of the fullest rank."""
        costs = MemoryCosts(self.model, plan)
        samples = max(plan.shares) / plan.microbatches
        return max(
            (costs.of_rank(rank, plan.chunks(rank, self._count), samples) for rank in range(plan.pp)), key=_total
        )

    def block_passes(self, plan: ParallelPlan, index: int, *, samples: float, device: int) -> Passes:
        """One block's passes of one micro-batch, with recomputation where the plan says so."""
        recompute = bool(plan.recompute) and plan.recompute[index]
        key = (index, samples, plan.tp, plan.cp, plan.sequence_parallel, plan.precision, device)
        passes = self._passes(*key)
        return passes.recomputed() if recompute else passes

    def statistics(self, plan: ParallelPlan, index: int) -> tuple[float, float]:
        """Seconds that batch normalisation over all replicas adds to a block's passes: nothing else goes on meanwhile.

        Forward each rank gathers the counts, means and variances of all, backward two means are reduced, in float32.
        """
        block = self.model.blocks[index]
        if plan.dp == 1 or not block.batch_norms:
            return 0.0, 0.0
        each, inner = 4 * block.normalised / block.batch_norms, plan.tp * plan.cp
        forward = backward = 0.0
        for size, stride in ((plan.dp_replicate, inner * plan.dp_shard), (plan.dp_shard, inner)):
            forward += block.batch_norms * self._collective(Collective.ALL_GATHER, (2 * each + 4) * size, size, stride)
            backward += block.batch_norms * self._collective(Collective.ALL_REDUCE, 2 * each, size, stride)
        again = bool(plan.recompute) and plan.recompute[index]
        return forward, backward + (forward if again else 0.0)

    def work(self, plan: ParallelPlan, *, stage: int, replica: int) -> float:
        """Seconds of the forward passes of one step on a rank of a stage and a data-parallel replica, at full speed."""
        device = self._slowest(plan, stage, replica)[0]
        samples = plan.shares[replica] / plan.microbatches
        blocks = (index for chunk in plan.chunks(stage, self._count) for index in chunk)
        one = sum(self.block_passes(plan, index, samples=samples, device=device).forward for index in blocks)
        return one * plan.microbatches

    def _price(
        self, index: int, samples: float, tp: int, cp: int, sp: bool, precision: Precision, device: int
    ) -> Passes:
        costs = self._block_costs(device, precision)
        block = self.model.blocks[index]
        passes = costs.passes(block, samples, tp, cp, sequence_parallel=sp)
        more = costs.accumulation_s(block, tp)
        return replace(passes, backward=passes.backward + more, weight=passes.weight + more)

    def _block_costs(self, device: int, precision: Precision) -> BlockCosts:
        key = (device, precision)
        if key not in self._costs:
            scale = precision.bytes / self.model.precision_bytes
            self._costs[key] = BlockCosts(self.cluster, self.cluster.devices[device], precision, self.traits, scale)
        return self._costs[key]

    def _replicas(self, plan: ParallelPlan) -> range:
        """The data-parallel ranks to look at: where all devices are alike, the first has the largest share."""
        return range(1 if self.cluster.uniform and not plan.batch_shares else plan.dp)

    def _at_least(self, plan: ParallelPlan, replica: int) -> float:
        ranks = self._ranks(plan, replica)
        stages = [rank.stages[chunk] for chunk in range(plan.virtual_stages) for rank in ranks]
        return at_least(stages, plan.pp, plan.microbatches)

    def _ranks(self, plan: ParallelPlan, replica: int) -> list[_Rank]:
        return [self._rank(plan, rank, replica) for rank in range(plan.pp)]

    def _rank(self, plan: ParallelPlan, rank: int, replica: int) -> _Rank:
        samples = plan.shares[replica] / plan.microbatches
        device, slowdown = self._slowest(plan, rank, replica)
        compute = recompute = tensor = 0.0
        stages = []
        for chunk in plan.chunks(rank, self._count):
            forward = backward = weight = parting = 0.0
            for index in chunk:
                passes = self.block_passes(plan, index, samples=samples, device=device).slowed(slowdown)
                again = passes.forward if plan.recompute and plan.recompute[index] else 0.0
                gather_forward, gather_backward = self._gathers(plan, self.model.blocks[index], passes)
                shared_forward, shared_backward = self.statistics(plan, index)
                forward_comm = passes.forward_comm + gather_forward + shared_forward
                backward_comm = passes.backward_comm + gather_backward + shared_backward
                forward += passes.forward + forward_comm
                backward += passes.backward + backward_comm
                weight += passes.weight
                parting += passes.parting
                compute += passes.forward + passes.backward - again
                recompute += again
                tensor += forward_comm + backward_comm
            if chunk and chunk[0] == 0:
                # Nothing waits for the gradients of the model's inputs: all of it can be put off, and is not parted.
                weight, parting = backward, 0.0
            stages.append(StageCost(forward, backward, weight, parting, self._send_s(plan, chunk, samples)))
        return _Rank(tuple(stages), compute, recompute, tensor)

    def _slowest(self, plan: ParallelPlan, rank: int, replica: int) -> tuple[int, float]:
        """The device of the slowest member of a tensor- and context-parallel group, and its slowdown."""
        inner = plan.tp * plan.cp
        first = (rank * plan.dp + replica) * inner
        slowest = min(range(first, first + inner), key=lambda rank: self.cluster.rate(rank, plan.precision))
        return self.cluster.layout[slowest], 1 / self.cluster.speed(slowest)

    def _gathers(self, plan: ParallelPlan, block: BlockProfile, passes: Passes) -> tuple[float, float]:
        """What ZeRO-3's gathering, and ZeRO-2's and -3's scattering of each micro-batch, add to a block's passes."""
        if plan.sharding not in (Sharding.ZERO2, Sharding.ZERO3):
            return 0.0, 0.0
        numbers = block.held(plan.tp)
        stride = plan.tp * plan.cp
        forward = backward = 0.0
        if plan.sharding is Sharding.ZERO3:
            forward = backward = self._collective(
                Collective.ALL_GATHER, numbers * plan.precision.bytes, plan.dp_shard, stride
            )
        if plan.pp == 1:
            # A pipeline's stages reduce once a step, after the last micro-batch: see `_data_s`.
            count = numbers * self._gradient_bytes(plan)
            backward += self._collective(Collective.REDUCE_SCATTER, count, plan.dp_shard, stride)
        if not self.cluster.prefetch:
            return forward, backward
        return self.cluster.exposed_s(forward, passes.forward), self.cluster.exposed_s(backward, passes.backward)

    def _send_s(self, plan: ParallelPlan, chunk: Sequence[int], samples: float) -> float:
        if plan.pp == 1 or not chunk:
            return 0.0
        scale = plan.precision.bytes / self.model.precision_bytes
        count = self.model.blocks[chunk[-1]].output_bytes * samples / plan.cp * scale
        stride = plan.world // plan.pp
        if plan.tp == 1 or not (self.traits.sharded_sends or plan.sequence_parallel):
            return send_s(self.cluster, count, stride)
        gathered = 0.0 if plan.sequence_parallel else self._collective(Collective.ALL_GATHER, count, plan.tp, 1)
        return send_s(self.cluster, count / plan.tp, stride) + gathered

    def _data_s(self, plan: ParallelPlan, index: int, rank: _Rank) -> float:
        """The once-a-step reduction of gradients that the last backward pass does not hide."""
        if plan.dp * plan.cp == 1:
            return 0.0
        numbers = sum(self.model.blocks[i].held(plan.tp) for chunk in plan.chunks(index, self._count) for i in chunk)
        count, inner = numbers * self._gradient_bytes(plan), plan.tp * plan.cp
        total = self._collective(Collective.ALL_REDUCE, count, plan.cp, plan.tp)
        if plan.sharding is Sharding.NONE:
            total += self._collective(Collective.ALL_REDUCE, count, plan.dp_replicate, inner)
        else:
            part = count / plan.dp_shard
            total += self._collective(Collective.ALL_REDUCE, part, plan.dp_replicate, inner * plan.dp_shard)
            if plan.sharding is Sharding.ZERO1 or plan.pp > 1:
                total += self._collective(Collective.REDUCE_SCATTER, count, plan.dp_shard, inner)
            if plan.sharding is not Sharding.ZERO3:
                gathered = numbers * plan.precision.bytes
                total += self._collective(Collective.ALL_GATHER, gathered, plan.dp_shard, inner)
        backward = sum(stage.backward for stage in rank.stages)
        if not self.traits.hides_reduction(plan) or (plan.dp_shard > 1 and not self.cluster.prefetch):
            return total
        beside = total * self.traits.data_overlap
        return total - beside + self.cluster.exposed_s(beside, backward)

    def _optimizer_s(self, plan: ParallelPlan, rank: int) -> float:
        device = self.cluster.devices[self.cluster.layout[rank * plan.dp * plan.tp * plan.cp]]
        chunks = plan.chunks(rank, self._count)
        numbers = sum(self.model.blocks[i].held(plan.tp) for chunk in chunks for i in chunk) / plan.dp_shard
        bandwidth = device.memory_bandwidth * device.memory_efficiency
        if plan.offload_optimizer:
            # Gradients go down and parameters come up; the step itself runs in the host's memory.
            return numbers * (8 / device.host_bandwidth + self.traits.optimizer_traffic_bytes / device.host_bandwidth)
        return numbers * self.traits.optimizer_traffic_bytes / bandwidth

    def _told(self, plan: ParallelPlan, breakdown: Breakdown) -> Prediction:
        seconds = breakdown.total
        peak = sum(self.cluster.device(rank).flops[plan.precision] for rank in range(plan.world))
        return Prediction(
            step_s=seconds,
            breakdown=breakdown,
            memory=self.memory(plan),
            memory_limit=min(self.cluster.device(rank).memory_bytes for rank in range(plan.world)),
            samples_per_s=plan.global_batch / seconds,
            model_flops_utilisation=3 * self.model.forward_flops * plan.global_batch / seconds / peak,
        )

    def _gradient_bytes(self, plan: ParallelPlan) -> int:
        return max(plan.precision.bytes, self.traits.gradient_bytes)

    def _collective(self, kind: Collective, count: float, size: int, stride: int) -> float:
        return collective_s(self.cluster, kind, count, size, stride)


def _total(memory: Memory) -> float:
    return memory.total

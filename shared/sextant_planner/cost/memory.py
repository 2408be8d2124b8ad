"""The memory of a rank: states, gathered parameters, gradients, activations in flight, and what recomputation needs.

States follow ZeRO's accounting (Rajbhandari et al., 2020) as FSDP2 holds them: float32 master parameters, float32
gradients, and the optimizer's moments; computing in bfloat16 adds a copy of what is gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field

from sextant_planner.cost.schedules import in_flight
from sextant_planner.model import BlockProfile, ModelProfile
from sextant_planner.plan import ParallelPlan, Precision, Sharding
from sextant_planner.record import Record


class Memory(Record):
    """Bytes of one rank at its fullest moment."""

    parameters: float = Field(0.0, ge=0)
    gathered: float = Field(0.0, ge=0, description="parameters of other ranks, and copies to compute in")
    gradients: float = Field(0.0, ge=0)
    optimizer: float = Field(0.0, ge=0)
    activations: float = Field(0.0, ge=0)
    recomputation: float = Field(0.0, ge=0, description="what the activations of blocks that are computed again add")
    buffers: float = Field(0.0, ge=0)

    @property
    def total(self) -> float:
        """Of all parts."""
        parts = (self.parameters, self.gathered, self.gradients, self.optimizer)
        return sum(parts) + self.activations + self.recomputation + self.buffers


class States(NamedTuple):
    """Bytes of a rank that do not depend on the batch."""

    parameters: float
    gathered: float
    gradients: float
    optimizer: float


@dataclass(frozen=True)
class MemoryCosts:
    """Prices the memory of pipeline ranks under one plan."""

    model: ModelProfile
    plan: ParallelPlan

    def of_rank(self, rank: int, chunks: Sequence[Sequence[int]], samples: float) -> Memory:
        """Pipeline rank `rank` that holds the blocks of `chunks` (by index), with `samples` a micro-batch."""
        plan = self.plan
        blocks = [self.model.blocks[index] for chunk in chunks for index in chunk]
        held = in_flight(plan.schedule, plan.pp, rank, plan.virtual_stages, plan.microbatches) if plan.pp > 1 else 1.0
        kept, again = self._activations(chunks, samples)
        states = self._states(blocks)
        return states.model_copy(update={"activations": kept * held, "recomputation": again})

    def _states(self, blocks: Sequence[BlockProfile]) -> Memory:
        numbers = [block.held(self.plan.tp) for block in blocks]
        states = states_of(self.plan, sum(numbers), max(numbers, default=0.0), self.model.optimizer_bytes)
        return Memory(**states._asdict(), buffers=sum(block.buffer_bytes for block in blocks))

    def _activations(self, chunks: Sequence[Sequence[int]], samples: float) -> tuple[float, float]:
        """Bytes of one micro-batch that are kept, and what the fullest moment of computing blocks again adds to them.

        A block is computed again when the blocks behind it have given back what they kept.
        """
        plan, blocks = self.plan, self.model.blocks
        scale = plan.precision.bytes / self.model.precision_bytes * samples / plan.cp
        kept = fullest = 0.0
        for index in (index for chunk in chunks for index in chunk):
            block = blocks[index]
            share = block.tensor.activations if block.tensor else 0.0
            rest = (1 - share) / (plan.tp if plan.sequence_parallel and block.tensor else 1)
            full = block.activation_bytes * (rest + share / plan.tp) * scale
            if plan.recompute and plan.recompute[index]:
                arriving = blocks[index - 1].output_bytes if index else block.output_bytes
                kept += min(full, arriving * scale / (plan.tp if plan.sequence_parallel else 1))
                fullest = max(fullest, kept + full)
            else:
                kept += full
        return kept, max(0.0, fullest - kept)


def states_of(plan: ParallelPlan, numbers: float, largest: float, optimizer_bytes: int) -> States:
    """The states of a rank that is to hold `numbers` parameters, `largest` of them in one block."""
    shard = plan.dp_shard
    copy = plan.precision.bytes if plan.precision is not Precision.FLOAT32 or shard > 1 else 0
    # With zero-3 the block that computes, and the one that is fetched ahead of it.
    gathered = min(numbers, 2 * largest) if plan.sharding is Sharding.ZERO3 else numbers
    gradients = 4 * numbers / shard
    if plan.sharding is Sharding.ZERO1 or (shard > 1 and plan.pp > 1):
        # Whole until the last micro-batch; a pipeline's stages reduce no earlier, whatever the sharding.
        gradients = 4 * numbers
    elif shard > 1:
        gradients += 4 * largest
    optimizer = 0.0 if plan.offload_optimizer else optimizer_bytes * numbers / shard
    return States(4 * numbers / shard, copy * gathered, gradients, optimizer)

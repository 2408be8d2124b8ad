"""The plan contract: how a model is split over the devices, and how its step is run."""

from __future__ import annotations

from enum import StrEnum
from math import prod
from typing import Self

from pydantic import Field, model_validator

from sextant_planner.record import PlanningError, Record

AXES = ("pp", "dp_replicate", "dp_shard", "cp", "tp")
"""The axes of the device mesh, the outermost first: neighbours in `tp` are neighbours in rank."""


class Schedule(StrEnum):
    """The order in which a stage runs the forward and backward passes of its micro-batches."""

    GPIPE = "gpipe"
    ONE_F_ONE_B = "1f1b"
    INTERLEAVED = "interleaved-1f1b"
    ZERO_BUBBLE = "interleaved-zero-bubble"


class Sharding(StrEnum):
    """What the `dp_shard` axis shards: the stages of ZeRO (Rajbhandari et al., 2020), as FSDP2 runs them."""

    NONE = "none"
    ZERO1 = "zero-1"
    """Optimizer states; gradients are reduced once a step, after the last micro-batch."""
    ZERO2 = "zero-2"
    """Gradients too, reduced after each micro-batch."""
    ZERO3 = "zero-3"
    """Parameters too, gathered for each pass."""


class Precision(StrEnum):
    """The type that is computed in; master weights and optimizer states are float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"

    @property
    def bytes(self) -> int:
        """Of one number."""
        return 4 if self is Precision.FLOAT32 else 2


class ParallelPlan(Record):
    """One way to run a training step. The world is the product of the five degrees."""

    dp_replicate: int = Field(1, ge=1, description="data-parallel copies whose parameters are replicated")
    dp_shard: int = Field(1, ge=1, description="data-parallel ranks that share states out among them")
    tp: int = Field(1, ge=1, description="tensor-parallel ranks")
    pp: int = Field(1, ge=1, description="pipeline stages, in ranks")
    cp: int = Field(1, ge=1, description="context-parallel ranks, which split the sequence")
    sharding: Sharding = Sharding.NONE
    sequence_parallel: bool = Field(False, description="split activations between tensor-parallel regions too")
    schedule: Schedule = Schedule.ONE_F_ONE_B
    virtual_stages: int = Field(1, ge=1, description="model chunks that each pipeline rank holds")
    global_batch: int = Field(ge=1, description="samples a step, over all ranks")
    microbatches: int = Field(1, ge=1, description="parts in which a data-parallel rank takes its samples")
    stages: tuple[tuple[int, int], ...] = Field((), description="block ranges [first, end) of each virtual stage")
    recompute: tuple[bool, ...] = Field((), description="by block: whether its activations are recomputed")
    batch_shares: tuple[int, ...] = Field((), description="samples of each data-parallel rank, where not even")
    precision: Precision = Precision.FLOAT32
    offload_optimizer: bool = Field(False, description="optimizer states live in host memory")
    compile: bool = Field(False, description="the code of each block goes through torch.compile")

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if (self.sharding is Sharding.NONE) != (self.dp_shard == 1):
            raise ValueError("dp_shard is over 1 exactly where sharding is not 'none'")
        if self.virtual_stages > 1 and self.schedule not in (Schedule.INTERLEAVED, Schedule.ZERO_BUBBLE):
            raise ValueError(f"schedule {self.schedule} has one chunk a rank; virtual_stages must be 1")
        if self.pp > 1 and self.microbatches < self.pp:
            raise ValueError(f"{self.pp} stages need {self.pp} micro-batches or more, not {self.microbatches}")
        if self.virtual_stages > 1 and self.microbatches % self.pp:
            raise ValueError("interleaved schedules need a multiple of pp as microbatches")
        if self.stages and len(self.stages) != self.pp * self.virtual_stages:
            raise ValueError(f"stages must be {self.pp * self.virtual_stages} ranges, not {len(self.stages)}")
        if self.batch_shares and (len(self.batch_shares) != self.dp or sum(self.batch_shares) != self.global_batch):
            raise ValueError(f"batch_shares must be {self.dp} numbers whose sum is {self.global_batch}")
        return self

    @property
    def dp(self) -> int:
        """Data-parallel ranks, replicated and sharded together."""
        return self.dp_replicate * self.dp_shard

    @property
    def world(self) -> int:
        """Devices."""
        return prod(getattr(self, axis) for axis in AXES)

    @property
    def shares(self) -> tuple[int, ...]:
        """Samples that each data-parallel rank takes of a global batch; as even as can be by default."""
        if self.batch_shares:
            return self.batch_shares
        least, more = divmod(self.global_batch, self.dp)
        return tuple(least + (index < more) for index in range(self.dp))

    def chunks(self, rank: int, blocks: int) -> list[range]:
        """The blocks of a pipeline rank, by index, a range for each of its virtual stages."""
        if not self.stages:
            return [range(blocks)]
        return [range(*self.stages[chunk * self.pp + rank]) for chunk in range(self.virtual_stages)]

    def require_world(self, world: int) -> None:
        """Raises PlanningError where the plan is for another number of devices."""
        if self.world != world:
            raise PlanningError(f"the plan is for {self.world} devices, and there are {world}", field="world")

    def describe(self) -> str:
        """One line, such as `pp2 dp4 tp2, 1f1b, 8 micro-batches`."""
        degrees = [f"{name}{value}" for name, value in self._degrees() if value > 1] or ["one device"]
        parts = [" ".join(degrees)]
        if self.sharding is not Sharding.NONE:
            parts.append(self.sharding)
        if self.pp > 1:
            chunks = f" x{self.virtual_stages}" if self.virtual_stages > 1 else ""
            parts.append(f"{self.schedule}{chunks}")
        if self.microbatches > 1:
            parts.append(f"{self.microbatches} micro-batches")
        if any(self.recompute):
            parts.append(f"{sum(self.recompute)} of {len(self.recompute)} blocks recomputed")
        if self.sequence_parallel:
            parts.append("sequence-parallel")
        if self.offload_optimizer:
            parts.append("optimizer on the host")
        if self.compile:
            parts.append("compiled")
        return ", ".join(parts)

    def _degrees(self) -> list[tuple[str, int]]:
        return [
            ("pp", self.pp),
            ("replicas", self.dp_replicate if self.dp_shard > 1 else 1),
            ("shards", self.dp_shard),
            ("dp", self.dp_replicate if self.dp_shard == 1 else 1),
            ("cp", self.cp),
            ("tp", self.tp),
        ]

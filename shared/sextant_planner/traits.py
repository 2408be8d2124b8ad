"""What a training runtime does and does not do: the part of a step's cost that is software."""

from __future__ import annotations

from pydantic import Field

from sextant_planner.plan import ParallelPlan, Sharding
from sextant_planner.record import Record


class RuntimeTraits(Record):
    """How a runtime runs a plan. The defaults are those of this project's engine on torch."""

    fused_accumulation: bool = Field(False, description="weight gradients are added up inside the matrix product")
    accumulation_bytes: float = Field(
        8.0, description="moved a parameter and micro-batch to add up gradients otherwise"
    )
    gradient_bytes: int = Field(4, description="of one number in the reduction over data-parallel ranks")
    optimizer_traffic_bytes: float = Field(32.0, description="moved a parameter in the optimizer's step")
    tensor_overlap: float = Field(
        0.0, ge=0, le=1, description="share of weight-gradient time that hides tp's reductions"
    )
    sequence_extra: float = Field(
        0.5, description="more tp communication in the backward pass, under sequence parallel"
    )
    data_overlap: float = Field(
        0.9, ge=0, le=1, description="share of the reduction over dp that the backward pass hides"
    )
    split_data_overlap: bool = Field(False, description="it hides it for blocks that tp or cp split, too")
    sharded_sends: bool = Field(False, description="each tp rank sends its part to the next stage, gathered there")
    blocking_sends: bool = Field(False, description="a stage computes nothing while it sends or receives")

    def hides_reduction(self, plan: ParallelPlan) -> bool:
        """Whether the once-a-step reduction of gradients runs beside the last backward pass."""
        split = plan.tp > 1 or plan.cp > 1
        return plan.pp == 1 and (not split or plan.sharding is not Sharding.NONE or self.split_data_overlap)


MEGATRON_2021 = RuntimeTraits(
    accumulation_bytes=8.0,
    gradient_bytes=2,
    optimizer_traffic_bytes=30.0,
    sharded_sends=True,
    split_data_overlap=True,
    blocking_sends=True,
)
"""Megatron-LM as in Narayanan et al., SC21: no fused accumulation; scatter/gather sends (section 4.1)."""

MEGATRON_2022 = RuntimeTraits(
    fused_accumulation=True,
    gradient_bytes=2,
    optimizer_traffic_bytes=30.0,
    tensor_overlap=1.0,
    sharded_sends=True,
    split_data_overlap=True,
    blocking_sends=True,
)
"""Megatron-LM as in Korthikanti et al., 2022: accumulation inside the product, reductions behind weight gradients."""

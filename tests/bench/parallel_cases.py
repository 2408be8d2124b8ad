"""The families and plans of `parallel-equal`: tiny models of every family, and every kind of plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sextant_planner.plan import ParallelPlan, Schedule, Sharding
from sextant_zoo import build

BATCH = 8
KINKS = (
    "the 20 steps are taken in float64: at the kinks of ReLU behind batch normalisation a difference in the last bit "
    "changes a gradient by percents, so that in float32 one process with two threads is not equal to one with one"
)
STEPS = 20
Sample = Callable[[torch.Generator], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Family:
    """A tiny model: how to build it, its data and loss, and with what rate its parameters move enough in 20 steps."""

    name: str
    model: Callable[[], nn.Module]
    sample: Sample
    loss: Loss
    rate: float
    blocks: int
    coupled: bool = False
    """Batch normalisation: one process must take the same micro-batches."""
    refuses: tuple[str, ...] = ()
    """Fields of plans that this family cannot be run by, which must be refused."""
    double: bool = False
    """Take the steps after the first in float64: see KINKS."""


class Tangle(nn.Module):
    """A module that is no chain: all that can be done with it is data parallelism."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 24), nn.Linear(24, 12)
        self.out = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 12) -> (batch, 5)."""
        logits: Tensor = self.out(x + self.second(torch.tanh(self.first(x))))
        return logits


def images(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, 3, 16, 16, generator=generator), torch.randint(0, 5, (BATCH,), generator=generator)


def masks(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(BATCH, 3, 16, 16, generator=generator)
    return inputs, torch.randint(0, 5, (BATCH, 16, 16), generator=generator)


def tokens(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    both = torch.randint(0, 48, (BATCH, 17), generator=generator)
    return both[:, :-1].contiguous(), both[:, 1:].contiguous()


def texts(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    inputs = torch.randint(0, 48, (BATCH, 16), generator=generator)
    return inputs, torch.randint(0, 5, (BATCH,), generator=generator)


def series(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    both = torch.randn(BATCH, 36, 2, generator=generator)
    return both[:, :32].contiguous(), both[:, 32:].contiguous()


def rows(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, 12, generator=generator), torch.randint(0, 5, (BATCH,), generator=generator)


def per_sample(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy, summed over samples."""
    return functional.cross_entropy(outputs, targets, reduction="sum")


def per_token(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy, summed over samples, of each the mean over its 16 tokens."""
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum") / 16


def per_pixel(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy, summed over samples, of each the mean over its pixels."""
    return functional.cross_entropy(outputs, targets, reduction="sum") / targets[0].numel()


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared errors, summed over samples, of each the mean over its steps."""
    return (outputs - targets).square().sum() / targets[0].numel()


LAYERS: dict[str, Any] = {"hidden": 32, "layers": 6, "heads": 4}
TEXT: dict[str, Any] = {**LAYERS, "vocabulary": 48, "sequence": 16}
NO_SEQUENCE = ("cp", "sequence_parallel")


def zoo(name: str, config: dict[str, Any], shape: tuple[int, ...], classes: int) -> Callable[[], nn.Module]:
    """A builder with a fixed seed."""

    def model() -> nn.Module:
        torch.manual_seed(7)
        return build(name, config, shape, classes)

    return model


def tangle() -> nn.Module:
    torch.manual_seed(7)
    return Tangle()


def sequential() -> nn.Module:
    """A user's own: its normalisations are blocks of the chain, not parts of one."""
    torch.manual_seed(7)
    first, second = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.Conv2d(8, 16, 3, 2, 1, bias=False)
    convolutions = (first, nn.BatchNorm2d(8), nn.ReLU(), second, nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16 * 4 * 4, 5))


IMAGES = (3, 16, 16)
RESNET: dict[str, Any] = {"width": 8, "depths": [4, 2]}
UNET: dict[str, Any] = {"channels": 8, "depth": 3, "groups": 4}
SERIES: dict[str, Any] = {**LAYERS, "patch": 4, "horizon": 4}
FAMILIES = {
    family.name: family
    for family in (
        Family("decoder", zoo("decoder", {**TEXT, "key_heads": 4}, (16,), 48), tokens, per_token, 0.3, 8),
        Family("decoder-gpt", zoo("decoder", {**TEXT, "style": "gpt"}, (16,), 48), tokens, per_token, 0.3, 8),
        Family("encoder", zoo("encoder", TEXT, (16,), 5), texts, per_sample, 0.1, 8),
        Family("vit", zoo("vit", LAYERS, IMAGES, 5), images, per_sample, 0.1, 8),
        Family("resnet", zoo("resnet50", RESNET, IMAGES, 5), images, per_sample, 0.05, 8, True, NO_SEQUENCE, True),
        Family("unet", zoo("unet", UNET, IMAGES, 5), masks, per_pixel, 0.1, 8, False, NO_SEQUENCE),
        Family("time-series", zoo("time-series", SERIES, (32, 2), 0), series, squares, 0.02, 8),
        Family(
            "mlp",
            zoo("mlp", {"hidden": 16, "depth": 2, "dropout": 0.0}, (12,), 5),
            rows,
            per_sample,
            0.1,
            8,
            False,
            ("tp", *NO_SEQUENCE),
        ),
        Family("sequential", sequential, images, per_sample, 0.05, 8, True, ("tp", *NO_SEQUENCE), True),
        Family("module", tangle, rows, per_sample, 0.1, 1, False, ("pp", "tp", *NO_SEQUENCE)),
    )
}


def _plan(**fields: Any) -> ParallelPlan:
    return ParallelPlan(global_batch=BATCH, **fields)


ALL = (True,) * 8
ONE, TWO, THREE = Sharding.ZERO1, Sharding.ZERO2, Sharding.ZERO3
ZERO_BUBBLE, INTERLEAVED = Schedule.ZERO_BUBBLE, Schedule.INTERLEAVED
PLANS: dict[str, ParallelPlan] = {
    "one": _plan(microbatches=2),
    "dp2": _plan(dp_replicate=2),
    "dp2-micro": _plan(dp_replicate=2, microbatches=2),
    "dp2-uneven": _plan(dp_replicate=2, batch_shares=(5, 3), microbatches=2),
    "dp4": _plan(dp_replicate=4),
    "zero1": _plan(dp_shard=2, sharding=ONE, microbatches=2),
    "zero2": _plan(dp_shard=2, sharding=TWO, microbatches=2),
    "zero3": _plan(dp_shard=2, sharding=THREE, microbatches=2),
    "zero3-uneven": _plan(dp_shard=2, sharding=THREE, batch_shares=(6, 2)),
    "hsdp": _plan(dp_replicate=2, dp_shard=2, sharding=THREE, microbatches=2),
    "hsdp-zero1": _plan(dp_replicate=2, dp_shard=2, sharding=ONE, microbatches=2),
    "tp2": _plan(tp=2),
    "tp4": _plan(tp=4),
    "sp2": _plan(tp=2, sequence_parallel=True),
    "tp2-dp2": _plan(tp=2, dp_replicate=2, microbatches=2),
    "tp2-zero3": _plan(tp=2, dp_shard=2, sharding=THREE, microbatches=2),
    "sp2-zero2": _plan(tp=2, dp_shard=2, sharding=TWO, microbatches=2, sequence_parallel=True),
    "pp2-gpipe": _plan(pp=2, microbatches=2, schedule=Schedule.GPIPE),
    "pp2-1f1b": _plan(pp=2, microbatches=4),
    "pp2-uneven-stages": _plan(pp=2, microbatches=2, stages=((0, 3), (3, 8))),
    "pp2-interleaved": _plan(pp=2, microbatches=4, virtual_stages=2, schedule=INTERLEAVED),
    "pp2-zero-bubble": _plan(pp=2, microbatches=4, virtual_stages=2, schedule=ZERO_BUBBLE),
    "pp4-1f1b": _plan(pp=4, microbatches=4),
    "pp2-dp2": _plan(pp=2, dp_replicate=2, microbatches=2),
    "pp2-zero1": _plan(pp=2, dp_shard=2, sharding=ONE, microbatches=2),
    "pp2-zero3": _plan(pp=2, dp_shard=2, sharding=THREE, microbatches=2),
    "pp2-zero3-interleaved": _plan(
        pp=2, dp_shard=2, sharding=THREE, microbatches=2, virtual_stages=2, schedule=INTERLEAVED
    ),
    "pp2-dp2-zero-bubble": _plan(pp=2, dp_replicate=2, microbatches=2, virtual_stages=2, schedule=ZERO_BUBBLE),
    "pp2-zero3-zero-bubble": _plan(
        pp=2, dp_shard=2, sharding=THREE, microbatches=2, virtual_stages=2, schedule=ZERO_BUBBLE
    ),
    "pp2-tp2": _plan(pp=2, tp=2, microbatches=2),
    "pp2-tp2-zero-bubble": _plan(pp=2, tp=2, microbatches=2, virtual_stages=2, schedule=ZERO_BUBBLE),
    "pp2-sp2": _plan(pp=2, tp=2, microbatches=2, sequence_parallel=True),
    "pp2-dp2-tp2": _plan(pp=2, dp_replicate=2, tp=2, microbatches=2),
    "pp2-zero3-tp2": _plan(pp=2, dp_shard=2, sharding=THREE, tp=2, microbatches=2),
    "hsdp-tp2": _plan(dp_replicate=2, dp_shard=2, sharding=TWO, tp=2, microbatches=2),
    "cp2": _plan(cp=2),
    "cp4": _plan(cp=4),
    "cp2-dp2": _plan(cp=2, dp_replicate=2, microbatches=2),
    "cp2-zero3": _plan(cp=2, dp_shard=2, sharding=THREE),
    "cp2-sp2": _plan(cp=2, tp=2, sequence_parallel=True),
    "cp2-pp2": _plan(cp=2, pp=2, microbatches=2),
    "recompute": _plan(dp_replicate=2, recompute=ALL, microbatches=2),
    "recompute-zero3": _plan(dp_shard=2, sharding=THREE, recompute=ALL),
    "recompute-pp2-sp2": _plan(pp=2, tp=2, sequence_parallel=True, recompute=ALL, microbatches=2),
    "offload": _plan(dp_shard=2, sharding=TWO, offload_optimizer=True),
    "compile-dp2": _plan(dp_replicate=2, compile=True),
    "compile-zero3-recompute": _plan(dp_shard=2, sharding=THREE, recompute=ALL, compile=True),
    "compile-tp2": _plan(tp=2, compile=True),
    "compile-sp2-dp2": _plan(tp=2, dp_replicate=2, sequence_parallel=True, microbatches=2, compile=True),
    "compile-pp2": _plan(pp=2, microbatches=2, compile=True),
}
QUICK = ("dp2-uneven", "zero3", "tp2", "pp2-1f1b", "cp2", "recompute")


def plan_for(name: str, family: Family) -> ParallelPlan:
    """The plan with as many entries of `recompute` as the family has blocks."""
    plan = PLANS[name]
    if plan.recompute:
        return plan.model_copy(update={"recompute": (True,) * family.blocks})
    return plan


def refused(plan: ParallelPlan, family: Family) -> bool:
    """Whether the family says that it cannot be run by this plan, or nothing can."""
    if plan.schedule is ZERO_BUBBLE and plan.dp_shard > 1:
        return True
    return any(int(getattr(plan, field)) > (0 if field == "sequence_parallel" else 1) for field in family.refuses)

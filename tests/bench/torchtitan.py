"""torchtitan's published throughputs of Llama models under FSDP2, predicted from the planner's constants.

Sources: torchtitan, docs/performance.md (64 A100 80GB, Llama 2 at 4,096 tokens and Llama 3 at 8,192) and
benchmarks/llama3_h100_202412_torchtitan.md (H100 96GB at 2.4 TB/s and 500 W, 400 Gb/s a GPU; tables 1 and 3). Rows that
are compiled, in float8, or split in other ways beside them are left out: the catalogue has no constants for those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import fmean

from sextant_planner import catalogue
from sextant_planner.cluster import Cluster
from sextant_planner.cost.step import Prediction, StepCosts
from sextant_planner.model import ModelProfile
from sextant_planner.plan import ParallelPlan, Precision, Sharding
from sextant_trainer.profile import profile
from tests.bench.report import Report

GIB = 2**30
LLAMA2, LLAMA3 = {"vocabulary": 32_000, "sequence": 4096}, {"vocabulary": 128_256, "sequence": 8192}
MODELS: dict[str, dict[str, int]] = {
    "Llama 2 13B": {"hidden": 5120, "layers": 40, "heads": 40, "inner": 13_824, **LLAMA2},
    "Llama 2 70B": {"hidden": 8192, "layers": 80, "heads": 64, "key_heads": 8, "inner": 28_672, **LLAMA2},
    "Llama 3 8B": {"hidden": 4096, "layers": 32, "heads": 32, "key_heads": 8, "inner": 14_336, **LLAMA3},
    "Llama 3 70B": {"hidden": 8192, "layers": 80, "heads": 64, "key_heads": 8, "inner": 28_672, **LLAMA3},
}
"""Touvron et al., 2023, and Grattafiori et al., 2024, with the widths of the published configurations."""
QUICK_MODEL = "Llama 3 8B"
"""The one whose rows are told where the answer is to come within a minute."""
H100_96GB = {"memory_bandwidth": 2.4e12, "memory_bytes": 96e9}


@dataclass(frozen=True, slots=True)
class Row:
    """One published run. `again`: what is computed again, every layer, every second one, or single operations."""

    model: str
    device: str
    gpus: int
    batch: int
    again: str
    tokens: float
    """A second and GPU."""
    memory_gib: float | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model}, {self.gpus} {self.device}, batch {self.batch}, recomputed: {self.again}"


ROWS = (
    Row("Llama 3 8B", "A100", 64, 1, "layers", 2904),
    Row("Llama 3 8B", "A100", 64, 1, "operations", 2973),
    Row("Llama 3 70B", "A100", 64, 1, "all", 331),
    Row("Llama 2 13B", "A100", 64, 2, "none", 2162),
    Row("Llama 2 13B", "A100", 64, 2, "layers", 1914),
    Row("Llama 2 13B", "A100", 64, 2, "operations", 1904),
    Row("Llama 2 70B", "A100", 64, 1, "operations", 355),
    Row("Llama 2 70B", "A100", 64, 2, "all", 353),
    Row("Llama 3 8B", "H100", 8, 2, "operations", 5762, 82.4),
    Row("Llama 3 8B", "H100", 128, 2, "operations", 5605, 67.0),
)


def tell(report: Report, a100: Callable[[int], Cluster]) -> None:
    """Each row's error; `a100` gives clusters with the constants that SC21 table 1 was fitted with."""
    errors = []
    for row in ROWS:
        if report.quick and row.model != QUICK_MODEL:
            continue
        cluster = a100(row.gpus) if row.device == "A100" else h100(row.gpus)
        prediction = predict(row, cluster)
        errors.append(_error(row, prediction))
        told = f"{row.tokens:,.0f} tokens/s a GPU: {errors[-1]:+.1f} %{_memory(row, prediction)}"
        report.note(f"torchtitan, {row.name}: {told}")
    report.figure("torchtitan_mean_error_pct", fmean(map(abs, errors)))
    report.figure("torchtitan_max_error_pct", max(map(abs, errors)))
    report.sample("torchtitan_error_pct", errors)
    report.note(
        "torchtitan: nothing was fitted to these rows. Recomputed operations are taken as every second layer, as the"
        " planner knows whole blocks alone; published, the two differ by 2.4 % at most. The network of the A100s is"
        " not published: the catalogue's stands in; so does its ceiling for H100s at 700 W, where these had 500 W"
    )
    report.note(
        "torchtitan: attention is fused, and priced without what a causal mask hides; Megatron ran it whole in the"
        " tables above. Memory is that of the model, without what the loss keeps of the logits"
    )


def predict(row: Row, cluster: Cluster) -> Prediction:
    """FSDP2 that frees parameters after each pass, with gradients reduced in float32."""
    model = _profile(row.model)
    plan = ParallelPlan(
        dp_shard=row.gpus,
        sharding=Sharding.ZERO3,
        global_batch=row.gpus * row.batch,
        recompute=recomputed(row.again, len(model.blocks)),
        precision=Precision.BFLOAT16,
    )
    return StepCosts(model, cluster).predict(plan)


def recomputed(what: str, blocks: int) -> tuple[bool, ...]:
    """By block: the layers between embedding and output, all, every second one, or none."""
    if what == "none":
        return ()
    every = 1 if what == "all" else 2
    return tuple(0 < index < blocks - 1 and index % every == 0 for index in range(blocks))


def h100(gpus: int) -> Cluster:
    """The catalogue's, with the memory of the published machines."""
    base = catalogue.cluster("h100-80gb", gpus)
    return base.model_copy(update={"devices": (base.devices[0].model_copy(update=H100_96GB),)})


@cache
def _profile(name: str) -> ModelProfile:
    settings = MODELS[name]
    return profile("decoder", dict(settings), (settings["sequence"],), settings["vocabulary"], name)


def _error(row: Row, prediction: Prediction) -> float:
    """Percent by which the predicted throughput is off."""
    return 100 * (row.batch * MODELS[row.model]["sequence"] / prediction.step_s / row.tokens - 1)


def _memory(row: Row, prediction: Prediction) -> str:
    if row.memory_gib is None:
        return ""
    found = prediction.memory.total / GIB
    return f"; memory {row.memory_gib:.1f} GiB: {100 * (found / row.memory_gib - 1):+.1f} %"

"""Published iteration times and throughputs, as the planner's inputs: what was run, and what it took.

Sources: Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM", SC21,
table 1, with micro-batches and virtual stages from the scripts that the authors published for it (Megatron-LM,
examples/sc21/run_table_1.sh); Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models",
2022, tables 3 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

SEQUENCE, VOCABULARY = 2048, 51_200


@dataclass(frozen=True)
class Run:
    """One published run of a GPT."""

    name: str
    heads: int
    hidden: int
    layers: int
    tp: int
    pp: int
    gpus: int
    batch: int
    micro: int
    virtual: int = 1

    @property
    def dp(self) -> int:
        """Data-parallel ranks."""
        return self.gpus // self.tp // self.pp

    @property
    def flops(self) -> float:
        """Of one iteration with full recomputation: SC21, equation 3."""
        tokens = self.batch * SEQUENCE
        share = 1 + SEQUENCE / (6 * self.hidden) + VOCABULARY / (16 * self.layers * self.hidden)
        return 96 * tokens * self.layers * self.hidden**2 * share


SC21: tuple[tuple[Run, float], ...] = (
    (Run("1.7B", 24, 2304, 24, 1, 1, 32, 512, 16), 137),
    (Run("3.6B", 32, 3072, 30, 2, 1, 64, 512, 16), 138),
    (Run("7.5B", 32, 4096, 36, 4, 1, 128, 512, 16), 142),
    (Run("18.4B", 48, 6144, 40, 8, 1, 256, 1024, 8), 135),
    (Run("39.1B", 64, 8192, 48, 8, 2, 512, 1536, 4), 138),
    (Run("76.1B", 80, 10240, 60, 8, 4, 1024, 1792, 2, 3), 140),
    (Run("145.6B", 96, 12288, 80, 8, 8, 1536, 2304, 2, 2), 148),
    (Run("310.1B", 128, 16384, 96, 8, 16, 1920, 2160, 1, 2), 155),
    (Run("529.6B", 128, 20480, 105, 8, 35, 2520, 2520, 1, 3), 163),
    (Run("1008.0B", 160, 25600, 128, 8, 64, 3072, 3072, 1), 163),
)
"""With TFLOP/s a GPU, recomputation counted as work."""

KORTHIKANTI: tuple[tuple[Run, float, float], ...] = (
    (Run("22B", 64, 6144, 48, 8, 1, 8, 4, 4), 1.42, 1.10),
    (Run("175B", 96, 12288, 96, 8, 8, 64, 64, 1, 3), 18.13, 13.75),
    (Run("530B", 128, 20480, 105, 8, 35, 280, 280, 1, 3), 49.05, 37.83),
    (Run("1T", 160, 25600, 128, 8, 64, 512, 512, 1), 94.42, 71.49),
)
"""With seconds an iteration: all layers recomputed; sequence parallel with attention's core recomputed."""

CALCULON = ((1.72, -3.33), (0.56, 0.81), (-1.72, 8.87), (4.60, 7.62))
"""Errors in percent of Calculon (Isaev et al., SC23; revision caa4b11) on the same eight, in the same order."""

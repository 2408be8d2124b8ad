"""One rank of `rebalance`, under torchrun: `python -m tests.bench.rebalance_rank DIRECTORY STEPS EVERY`.

Trains a small decoder by `DynamicParallel.fit`. Whoever is rank 0 notes each step in DIRECTORY/steps.jsonl.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from sextant_parallel import DynamicParallel, Training, Watcher
from sextant_parallel.elastic.interfaces import choose
from sextant_parallel.fit import Fit
from sextant_planner.cluster import Cluster, Device, Link
from sextant_zoo import build

SETTINGS = {"hidden": 64, "layers": 4, "heads": 4, "vocabulary": 128, "sequence": 64, "style": "gpt"}
TOKENS, BATCH = 64, 24
DEVICE = Device(name="core", flops={"float32": 2e10}, memory_bytes=2e9, memory_bandwidth=1e10)


def make() -> nn.Module:
    """The same everywhere."""
    torch.manual_seed(0)
    return build("decoder", SETTINGS, (TOKENS,), 128)


def batches(step: int, rows: slice) -> tuple[Tensor, Tensor]:
    """Sequences that count up from a random number: something to learn."""
    generator = torch.Generator().manual_seed(step)
    first = torch.randint(0, 128, (BATCH, 1), generator=generator)
    tokens = (first + torch.arange(TOKENS + 1)) % 128
    return tokens[rows, :-1].contiguous(), tokens[rows, 1:].contiguous()


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The sum over sequences of the mean over tokens."""
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum") / TOKENS


def optimizer(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Plain gradient descent with momentum: Adam would amplify the order of additions."""
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def cluster(size: int) -> Cluster:
    """As many cores as there are ranks."""
    return Cluster(
        name=f"{size} cores", devices=(DEVICE,), layout=(0,) * size, links=(Link(name="lo", size=size, bandwidth=1e9),)
    )


class Diary(Watcher):
    """Rank 0 notes each step in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def stepped(self, run: Fit, loss: float) -> None:
        """A line a step."""
        if dist.get_rank() == 0:
            line = {"step": run.step, "loss": loss, "world": dist.get_world_size(), "at": time.time()}
            with self._file.open("a") as file:
                file.write(json.dumps(line) + "\n")


def main(directory: Path, steps: int, every: int) -> None:
    """Join, plan for the ranks that there are, and train to the end."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)
    choose("127.0.0.1")
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    size, rank = dist.get_world_size(), dist.get_rank()

    config = {"data_parallelism": size, "model_parallelism": 1, "pipeline_stages": 1, "global_batch": BATCH}
    dynamic = DynamicParallel(config, model=make(), sample=batches(0, slice(0, 1))[0], cluster=cluster(size))
    history = dynamic.fit(
        Training(make, batches, loss, optimizer, steps),
        directory / "checkpoints",
        every=every,
        watcher=Diary(directory / "steps.jsonl"),
    )
    if rank == 0:
        told = {"began_at": history.began_at, "save_s": sum(history.save_s), "steps_s": sum(history.step_s)}
        (directory / f"history-{size}.json").write_text(json.dumps(told))
    dist.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

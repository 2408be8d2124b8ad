"""One rank of a gang: joins the others, trains, and, as rank 0, writes the model version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from sextant_parallel import join
from sextant_shared.contracts.specs import TrainSpec
from sextant_shared.execution.workbench import Paused, Registration, Result, Workbench
from sextant_trainer.training.data import Dataset, load
from sextant_trainer.training.loop import Stopped, Trainer, save_weights
from sextant_trainer.training.plan import Plan, make_plan


def train(bench: Workbench, rank: int, size: int, threads: int) -> Result | Paused:
    """Train as rank `rank` of `size` with this many threads; all ranks end alike, and rank 0's result counts."""
    torch.set_num_threads(threads)
    data = load(Path(bench.order.input("data").path or ""))
    plan = make_plan(bench.order, data.task)
    world = join(rank, size, bench.directory / "rendezvous")
    trainer = Trainer(bench, plan, data, world)
    try:
        metrics = trainer.run()
    except Stopped:
        return Paused()
    return _finish(bench, plan, data, trainer, metrics) if world.leads else Result()


def _finish(bench: Workbench, plan: Plan, data: Dataset, trainer: Trainer, metrics: dict[str, float]) -> Result:
    about = _model_json(bench, plan, data, metrics)
    save_weights(bench.out / "model.safetensors", trainer.model)
    (bench.out / "model.json").write_text(json.dumps(about, indent=1, sort_keys=True))
    lines = (json.dumps(row, sort_keys=True) + "\n" for row in trainer.curve)
    (bench.out / "metrics.jsonl").write_text("".join(lines))
    spec = TrainSpec.model_validate(bench.order.spec, strict=False)
    name = spec.register_as or bench.order.name
    files = ["model.json", "model.safetensors"]
    return Result(
        outputs={"metrics": metrics},
        registers=[Registration(type="model", name=name, output="model", files=files, meta=about)],
    )


def _model_json(bench: Workbench, plan: Plan, data: Dataset, metrics: dict[str, float]) -> dict[str, Any]:
    source = bench.order.input("data")
    return {
        "format": "safetensors",
        "architecture": {"zoo": plan.zoo, "config": plan.model_config},
        "task": data.task,
        "input": {"name": "input", "shape": list(data.shape), "dtype": data.dtype},
        "preprocessing": {"mean": data.mean.ravel().tolist(), "std": data.std.ravel().tolist()},
        "classes": data.classes,
        "metrics": metrics,
        "hyperparameters": plan.config.model_dump(mode="json"),
        "dataset": {"id": source.id, "name": source.name, "version": source.version, "digest": source.digest},
    }

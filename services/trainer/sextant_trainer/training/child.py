"""One rank of a gang: joins the others, trains, and, as rank 0, writes the model version."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sextant_parallel.elastic.shortage import OutOfMemory
from sextant_parallel.world import COMPILING, TIMEOUT, Meeting, join, leads, lost_touch
from sextant_planner.record import PlanningError
from sextant_shared.contracts.specs import Distillation, TrainSpec
from sextant_shared.errors import InvalidInput, TransientError, WorkInterrupted
from sextant_shared.execution.workbench import Paused, Registration, Result, Workbench
from sextant_shared.lifecycle.place import Place
from sextant_trainer.training import report
from sextant_trainer.training.loop import PLAN_JSON, PLAN_SVG, Part, Trainer
from sextant_trainer.training.own_code import code_of, keep_code, open_code
from sextant_trainer.training.planning import refused
from sextant_trainer.training.recipe import Recipe, build_model, fitted, make_recipe
from sextant_trainer.training.study import look
from sextant_trainer.training.tasks import Task, name_of, open_task
from sextant_trainer.training.tasks.lessons import described, lessons_of
from sextant_zoo.adapting import merged
from sextant_zoo.quantising import round_layers

CALIBRATION, CALIBRATION_ROWS = "calibration.safetensors", 32
"""Training inputs, normalised, by which an export in eight bits finds the ranges of what layers give."""

COMPILER = ("torch._dynamo", "torch._inductor")
"""Whose errors say that blocks cannot be compiled."""

CHOSEN = ("temperature", "threshold", "level")
"""What validation chose, which serving needs."""


def train(
    bench: Workbench, place: Place, rank: int, where: Path | Meeting, *, threads: int, profiles: Path
) -> Result | Paused:
    """Train as rank `rank` of the gang, on `threads`; all ranks end alike, and rank 0's result counts.

    The ranks meet at `where`; `profiles` keeps what was measured of this node and of models. Raises WorkInterrupted
    where other ranks are gone, and InvalidInput where they cannot train together as asked.
    """
    torch.set_num_threads(threads)
    directory = Path(bench.order.input("data").path or "")
    code = open_code(bench, rank, where, profiles)
    recipe = make_recipe(bench.order, name_of(directory), place.world, code, room=bench.directory)
    task = open_task(directory, recipe.config, recipe.model_config, recipe.weights, fixed=recipe.parallel is not None)
    recipe = fitted(recipe, task)
    compiles = recipe.parallel is not None and recipe.parallel.compile
    try:
        join(rank, place.world, where, COMPILING if compiles else TIMEOUT)
        lessons = lessons_of(_teacher(bench), task, recipe.config.distil or Distillation())
        trainer = Trainer(
            bench, recipe, task, profiles, lessons, Part(one_node=place.nodes == 1, first=rank == place.first)
        )
        weights = trainer.run()
    except PlanningError as error:
        raise refused(error) from None
    except OutOfMemory as error:
        traceback.print_exc(file=sys.stderr)
        raise TransientError(f"rank {rank}: {error}") from error
    except RuntimeError as error:
        if lost_touch(error):
            traceback.print_exc(file=sys.stderr)
            raise WorkInterrupted(f"lost touch with other ranks: {error}") from error
        if compiles and type(error).__module__.startswith(COMPILER):
            traceback.print_exc(file=sys.stderr)
            first = str(error).strip().partition("\n")[0]
            message = f"torch.compile failed, and the log says how: {first}"
            raise InvalidInput(message, field="parallel.compile", accepted="false") from error
        raise
    if weights is None:
        return Paused()
    return _finish(bench, recipe, task, trainer, weights) if leads() else Result()


def _teacher(bench: Workbench) -> Path | None:
    return Path(bench.order.input("teacher").path or "") if "teacher" in bench.order.inputs else None


def _finish(bench: Workbench, recipe: Recipe, task: Task, trainer: Trainer, weights: dict[str, Tensor]) -> Result:
    about = _model_json(bench, recipe, task, trainer.metrics)
    weights = merged(weights)
    for name, text in task.files().items():
        (bench.out / name).write_text(text)
    save_file({name: value.contiguous() for name, value in weights.items()}, str(bench.out / "model.safetensors"))
    (bench.out / "model.json").write_text(json.dumps(about, indent=1, sort_keys=True))
    if recipe.config.quantise:
        rows = np.random.default_rng(recipe.config.seed).permutation(task.rows("train"))[:CALIBRATION_ROWS]
        inputs = task.batch("train", np.sort(rows))[0]
        save_file({"input": inputs.contiguous()}, str(bench.out / CALIBRATION))
    lines = (json.dumps(row, sort_keys=True) + "\n" for row in trainer.curve)
    (bench.out / "metrics.jsonl").write_text("".join(lines))
    spec = TrainSpec.model_validate(bench.order.spec, strict=False)
    name = spec.register_as or bench.order.name
    plan = trainer.planned.report(trainer.step_s)
    _report(bench, recipe, task, trainer, weights, about, str(plan["describe"]))
    files = [
        "model.json",
        "model.safetensors",
        *(report.PAGE, report.DATA, report.CARD),
        *task.files(),
        *keep_code(recipe, bench.out),
        *([CALIBRATION] if recipe.config.quantise else []),
        *([PLAN_JSON, PLAN_SVG] if trainer.planned.optimized else []),
    ]
    return Result(
        outputs={"metrics": trainer.metrics, "plan": plan},
        registers=[Registration(type="model", name=name, output="model", files=files, meta=about)],
    )


def _report(
    bench: Workbench,
    recipe: Recipe,
    task: Task,
    trainer: Trainer,
    weights: dict[str, Tensor],
    about: dict[str, Any],
    plan: str,
) -> None:
    """Look at the model on the validation split, and write what there is to say of it."""
    model = recipe.make(task)
    model.load_state_dict(weights)
    if recipe.config.quantise:
        round_layers(model)
    found = task.study(look(task, model, recipe.config.seed))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = parameters if recipe.adapt == "all" else _trained(build_model(recipe, task))
    told = report.card(about, parameters, trained, plan)
    (bench.out / report.CARD).write_text(json.dumps(told, indent=1, sort_keys=True))
    (bench.out / report.DATA).write_text(report.as_json(told, trainer.curve, found))
    (bench.out / report.PAGE).write_text(report.as_page(told, trainer.curve, found), encoding="utf-8")


def _trained(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _model_json(bench: Workbench, recipe: Recipe, task: Task, metrics: dict[str, float]) -> dict[str, Any]:
    source = bench.order.input("data")
    return {
        "format": "safetensors",
        "architecture": {"zoo": recipe.zoo, "config": recipe.model_config, **code_of(recipe)},
        **_pretrained(recipe),
        **({"teacher": described(bench.order.input("teacher"))} if "teacher" in bench.order.inputs else {}),
        "task": task.name,
        **task.describe(),
        **_threshold(task, metrics),
        **{name: metrics[f"val_{name}"] for name in CHOSEN if f"val_{name}" in metrics},
        "metrics": metrics,
        "hyperparameters": recipe.config.model_dump(mode="json"),
        "dataset": {"id": source.id, "name": source.name, "version": source.version, "digest": source.digest},
    }


def _threshold(task: Task, metrics: dict[str, float]) -> dict[str, Any]:
    """What the description says of rows out of scope, with the threshold that was chosen."""
    outside = task.describe().get("out_of_scope")
    return {"out_of_scope": {**outside, "threshold": metrics["val_oos_threshold"]}} if outside else {}


def _pretrained(recipe: Recipe) -> dict[str, Any]:
    if recipe.weights is None:
        return {}
    return {"pretrained": {"source": recipe.weights.source, "sha256": recipe.weights.sha256, "adapt": recipe.adapt}}

"""What a training run is made of: the spec, what a tune step gave, and the data, put together and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from sextant_planner.configuration import ParallelConfig
from sextant_shared.contracts.models import CodeModel, OwnModel, ZooModel
from sextant_shared.contracts.specs import SERIES_TASKS, TrainConfig, TrainSpec
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import WorkOrder
from sextant_trainer.training.tasks import Task
from sextant_trainer.training.tasks.detection import Detection
from sextant_trainer.training.weights import open_weights
from sextant_zoo.adapting import add_low_rank, freeze
from sextant_zoo.mapping import check_mapping
from sextant_zoo.own_code import build_from
from sextant_zoo.pretrained import Weights
from sextant_zoo.quantising import round_layers
from sextant_zoo.registry import UnknownModelError, build, check, check_task

QUANTISED = ("image-classification", "tabular", "defect-detection")
"""Tasks whose inputs are numbers that are normalised: an export can be calibrated on some of them."""
CLASSES = ("text-classification", "image-classification", "tabular")
"""Tasks that tell classes apart."""
WARM_UP = 0.1
"""Share of the steps over which the one-cycle schedule rises."""


TEXTS: dict[str, Any] = {"vocabulary": 8192, "sequence": 128, "padding": 0}
"""What texts need of a model's settings, where a user's own code says nothing else."""


@dataclass(frozen=True, slots=True)
class Code:
    """Unpacked code of a user, and the archive that it came from."""

    root: Path
    archive: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """One run: the architecture with all its settings, and the hyper-parameters."""

    zoo: str
    model_config: dict[str, Any]
    config: TrainConfig
    ranks: int = 1
    parallel: ParallelConfig | None = None
    """What the planner may choose; without it the ranks are data-parallel."""
    weights: Weights | None = None
    """Pretrained ones to begin with."""
    adapt: str = "all"
    """Which parameters are trained: all, the head's, or low-rank changes too."""
    rank: int = 8
    """Of these."""
    code: Code | None = None
    """A user's own, whose function `zoo` builds the model."""

    def make(self, task: Task) -> nn.Module:
        """The model for the task, with fresh values. Raises UnknownModelError."""
        if self.code is not None:
            return build_from(self.code.root, self.zoo, self.model_config, task.shape, task.outputs)
        return build(self.zoo, self.model_config, task.shape, task.outputs)


def make_recipe(
    order: WorkOrder, task: str, ranks: int, code: Code | None = None, *, room: Path | None = None
) -> Recipe:
    """Put the spec and the resolved inputs together; what a tune step found overrides what the spec says.

    Weights that come packed are unpacked below `room`.

    Raises InvalidInput where no model is named, the zoo does not know it, or the data's task does not fit.
    """
    spec = TrainSpec.model_validate(order.spec, strict=False)
    found = order.inputs.get("config") or {}
    config = spec.config if isinstance(spec.config, TrainConfig) else TrainConfig()
    if found.get("config"):
        config = TrainConfig.model_validate({**config.model_dump(), **found["config"]})
    _check_fits(config, task)
    if config.quantise and (spec.parallel is not None or getattr(spec.model, "adapt", "all") != "all"):
        accepted = "null, or neither parallel nor model.adapt"
        raise InvalidInput("only whole models are trained for eight bits", field="config.quantise", accepted=accepted)
    model = spec.model or _found_model(found)
    if model is None:
        raise InvalidInput("neither the spec nor the tune step names a model", field="model")
    if config.prototypes and (task not in CLASSES or getattr(model, "weights", None) is None):
        accepted = "null, or model.weights and data of " + ", ".join(CLASSES)
        raise InvalidInput("there is no pretrained model of classes", field="config.prototypes", accepted=accepted)
    try:
        if isinstance(model, CodeModel):
            settings = {**(TEXTS if task == "text-classification" else {}), **model.config, **config.model}
            return Recipe(model.code, settings, config, ranks, spec.parallel, code=code)
        if isinstance(model, OwnModel):
            name, own = check_mapping(model.architecture, model.settings, task)
            return Recipe(name, check(name, {**own, **config.model}).model_dump(), config, ranks, spec.parallel)
        settings = {**found.get("model", {}), **model.config, **config.model}
        check(model.zoo, settings)
        check_task(model.zoo, task)
        weights = open_weights(order, model, room)
        full = check(model.zoo, {**(weights.settings if weights else {}), **settings}).model_dump()
        if weights is not None:
            weights.check_settings(full)
    except UnknownModelError as error:
        raise InvalidInput(str(error), field=error.field, accepted=error.accepted) from None
    return Recipe(model.zoo, full, config, ranks, spec.parallel, weights, model.adapt, model.rank)


def _check_fits(config: TrainConfig, task: str) -> None:
    """Raise InvalidInput for a setting that says nothing to this task."""
    if config.augment is not None and task not in ("image-classification", "defect-detection"):
        raise InvalidInput(f"only images can be augmented, not {task}", field="config.augment", accepted="null")
    if config.quantise and task not in QUANTISED:
        accepted = "null, or data of " + ", ".join(QUANTISED)
        raise InvalidInput(f"{task} is not trained for eight bits", field="config.quantise", accepted=accepted)
    if config.level is not None and task != "anomaly-detection":
        raise InvalidInput(f"{task} has no level that could count", field="config.level", accepted="null")
    if task in SERIES_TASKS:
        _check_has_no_classes(config)


def _check_has_no_classes(config: TrainConfig) -> None:
    if config.label_smoothing:
        raise InvalidInput("a forecast has no labels to smooth", field="config.label_smoothing", accepted="0")
    if config.class_weights is not None:
        raise InvalidInput("a forecast has no classes", field="config.class_weights", accepted="null")
    if config.out_of_scope is not None:
        raise InvalidInput("a forecast has no classes", field="config.out_of_scope", accepted="null")
    if config.calibrate:
        raise InvalidInput("a forecast has no logits to calibrate", field="config.calibrate", accepted="false")


def fitted(recipe: Recipe, task: Task) -> Recipe:
    """The recipe with what the data say of the architecture's settings, where these are null.

    Raises InvalidInput where a reference is to be aligned, and the data have none.
    """
    aligns = recipe.code is None and recipe.model_config.get("align")
    if aligns and isinstance(task, Detection) and len(task.parts) != 2:
        fault = f"rows are of {len(task.parts)} images, not of a reference and another"
        raise InvalidInput(fault, field="model.config.align", accepted="0")
    said = {name: value for name, value in task.settings().items() if recipe.model_config.get(name, value) is None}
    return replace(recipe, model_config={**recipe.model_config, **said})


def _found_model(found: dict[str, Any]) -> ZooModel | None:
    """The model that a search was about."""
    return ZooModel(zoo=found["zoo"], **found.get("pretrained", {})) if found.get("zoo") else None


def build_model(recipe: Recipe, task: Task) -> nn.Module:
    """The model, initialised by the recipe's seed or with its weights, the same on every rank."""
    torch.manual_seed(recipe.config.seed)
    try:
        model = recipe.make(task)
        if recipe.weights is not None:
            recipe.weights.load_into(model)
    except UnknownModelError as error:
        raise InvalidInput(str(error), field=error.field, accepted=error.accepted) from None
    if recipe.adapt == "head" and not freeze(model):
        raise InvalidInput(f"{recipe.zoo} has no head", field="model.adapt", accepted="all")
    if recipe.adapt == "low-rank" and not add_low_rank(model, recipe.rank):
        message = f"{recipe.zoo} has no linear layer besides its head"
        raise InvalidInput(message, field="model.adapt", accepted="all, head")
    if recipe.config.quantise:
        round_layers(model)
    return model


def build_optimizer(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum 0.9."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    # On a CPU one pass over all that a step needs is 15 times as fast as one for each operation.
    fused = all(parameter.device.type == "cpu" and not isinstance(parameter, DTensor) for parameter in parameters)
    more: dict[str, Any] = {"weight_decay": config.weight_decay, "fused": fused or None}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, config.learning_rate, **more)
    return torch.optim.SGD(groups, config.learning_rate, momentum=0.9, nesterov=True, **more)


def rate_at(step: int, config: TrainConfig, steps: int) -> float:
    """What the learning rate is multiplied by at a step, from 0, of so many."""
    at = min(1.0, step / max(1, steps))
    match config.schedule:
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * at))
        case "one-cycle":
            rise = min(1.0, at / WARM_UP)
            fall = max(0.0, (at - WARM_UP) / (1.0 - WARM_UP))
            return rise * 0.5 * (1.0 + math.cos(math.pi * fall))
    return 1.0

"""What a training run is made of: the spec, what a tune step gave, and the data, put together and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sextant_shared.contracts.specs import TrainConfig, TrainSpec
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import WorkOrder
from sextant_trainer.training.data import Dataset
from sextant_zoo.registry import UnknownModelError, build, check

WARM_UP = 0.1
"""Share of the steps over which the one-cycle schedule rises."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: the architecture with all its settings, and the hyper-parameters."""

    zoo: str
    model_config: dict[str, Any]
    config: TrainConfig


def make_plan(order: WorkOrder, task: str) -> Plan:
    """Put the spec and the resolved inputs together; what a tune step found overrides what the spec says.

    Raises InvalidInput where no model is named, the zoo does not know it, or the data's task does not fit.
    """
    spec = TrainSpec.model_validate(order.spec, strict=False)
    found = order.inputs.get("config") or {}
    config = spec.config if isinstance(spec.config, TrainConfig) else TrainConfig()
    if found.get("config"):
        config = TrainConfig.model_validate({**config.model_dump(), **found["config"]})
    if config.augment is not None and task != "image-classification":
        raise InvalidInput(f"only images can be augmented, not {task}", field="config.augment", accepted="null")
    zoo = spec.model.zoo if spec.model else found.get("zoo")
    if zoo is None:
        raise InvalidInput("neither the spec nor the tune step names a model", field="model")
    settings = {**found.get("model", {}), **(spec.model.config if spec.model else {}), **config.model}
    try:
        return Plan(zoo, check(zoo, settings).model_dump(), config)
    except UnknownModelError as error:
        raise InvalidInput(str(error), field=error.field) from None


def build_model(plan: Plan, data: Dataset) -> nn.Module:
    """The model, initialised by the plan's seed, the same on every rank."""
    torch.manual_seed(plan.config.seed)
    try:
        return build(plan.zoo, plan.model_config, data.shape, len(data.classes))
    except UnknownModelError as error:
        raise InvalidInput(str(error), field=error.field) from None


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum 0.9."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        model.parameters(), config.learning_rate, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
    )


def build_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int, done: int) -> LambdaLR:
    """The learning rate as a function of the step, from step `done` on."""

    def factor(step: int) -> float:
        at = min(1.0, (step + done) / max(1, steps))
        match config.schedule:
            case "cosine":
                return 0.5 * (1.0 + math.cos(math.pi * at))
            case "one-cycle":
                rise = min(1.0, at / WARM_UP)
                fall = max(0.0, (at - WARM_UP) / (1.0 - WARM_UP))
                return rise * 0.5 * (1.0 + math.cos(math.pi * fall))
        return 1.0

    for group in optimizer.param_groups:
        group["initial_lr"] = config.learning_rate
    return LambdaLR(optimizer, factor)

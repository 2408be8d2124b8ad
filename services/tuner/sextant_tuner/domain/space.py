"""The search space: from ranges, a spec's or the zoo's own, to Optuna's distributions; from a point to a config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optuna import distributions as d
from pydantic import TypeAdapter, ValidationError

from sextant_shared.contracts.specs import Choice, FloatRange, IntRange, SearchRange, TrainConfig, TuneSpec
from sextant_shared.errors import InvalidInput
from sextant_zoo.registry import UnknownModelError, check, describe

RANGE: TypeAdapter[SearchRange] = TypeAdapter(SearchRange)
MODEL = "model."
SEARCHABLE = tuple(name for name in TrainConfig.model_fields if name not in ("model", "augment", "class_weights"))
Space = dict[str, d.BaseDistribution]


def space_of(spec: TuneSpec) -> Space:
    """The distributions to search. Raises InvalidInput for a name that is neither a TrainConfig field nor model.*."""
    try:
        ranges: Mapping[str, SearchRange] = spec.space or {
            name: RANGE.validate_python(dict(value)) for name, value in describe(spec.model.zoo).space.items()
        }
    except UnknownModelError as error:
        raise InvalidInput(str(error), field=error.field) from None
    for name, value in ranges.items():
        if not name.startswith(MODEL) and name not in SEARCHABLE:
            accepted = ", ".join([*SEARCHABLE, "model.SETTING"])
            raise InvalidInput(f"{name!r} cannot be searched", field=f"space.{name}", accepted=accepted)
        if not isinstance(value, Choice) and not _is_finite(value.low, value.high):
            raise InvalidInput(f"{name}: the range is too wide", field=f"space.{name}", accepted="a width under 1e308")
    return {name: _distribution(value) for name, value in ranges.items()}


def _is_finite(low: float, high: float) -> bool:
    """Whether the sampler can reckon with a range: it does so in float64, whole numbers included."""
    try:
        return math.isfinite(float(high) - float(low))
    except OverflowError:
        return False


def _distribution(value: SearchRange) -> d.BaseDistribution:
    match value:
        case FloatRange():
            return d.FloatDistribution(value.low, value.high, log=value.log)
        case IntRange():
            return d.IntDistribution(value.low, value.high, log=value.log)
        case Choice():
            return d.CategoricalDistribution(tuple(value.choices))


def config_of(spec: TuneSpec, point: Mapping[str, Any]) -> TrainConfig:
    """The full config of a trial at `point`. Raises InvalidInput where the model or the training does not take it."""
    settings = {k.removeprefix(MODEL): v for k, v in point.items() if k.startswith(MODEL)}
    fields = {k: v for k, v in point.items() if not k.startswith(MODEL)}
    model = {**spec.model.config, **spec.config.model, **settings}
    try:
        check(spec.model.zoo, model)
    except UnknownModelError as error:
        raise InvalidInput(str(error), field=error.field) from None
    try:
        return TrainConfig.model_validate({**spec.config.model_dump(), **fields, "model": model})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise InvalidInput(f"{name}: {first['msg']} (given {first['input']!r})", field=f"space.{name}") from None

"""The search space: from ranges to distributions, from a point to a config."""

from __future__ import annotations

from typing import Any

import pytest
from optuna import distributions as d

from sextant_shared.contracts.specs import TuneSpec
from sextant_shared.errors import InvalidInput
from sextant_tuner.domain.space import config_of, space_of
from sextant_zoo.registry import check, describe, names


def spec(**changes: Any) -> TuneSpec:
    """A search for an MLP's hyper-parameters."""
    body = {"kind": "tune", "data": {"dataset": "d"}, "model": {"zoo": "mlp"}, "maximize": "val_accuracy"}
    return TuneSpec.model_validate({**body, **changes})


def test_each_kind_of_range_becomes_its_distribution() -> None:
    space = {
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "weight_decay": {"low": 0.0, "high": 0.5},
        "batch_size": {"type": "int", "low": 8, "high": 64, "log": True},
        "model.depth": {"type": "int", "low": 1, "high": 4},
        "optimizer": {"choices": ["adamw", "sgd"]},
    }
    assert space_of(spec(space=space)) == {
        "learning_rate": d.FloatDistribution(1e-4, 1e-1, log=True),
        "weight_decay": d.FloatDistribution(0.0, 0.5),
        "batch_size": d.IntDistribution(8, 64, log=True),
        "model.depth": d.IntDistribution(1, 4),
        "optimizer": d.CategoricalDistribution(("adamw", "sgd")),
    }


def test_without_a_space_the_zoo_gives_its_own() -> None:
    space = space_of(spec())
    assert set(space) == {"learning_rate", "model.hidden", "model.dropout"}
    assert space["model.hidden"] == d.IntDistribution(32, 512, log=True)


@pytest.mark.parametrize("name", ["learning-rate", "hidden", "model", "augment"])
def test_a_name_that_cannot_be_searched_is_refused_with_those_that_can(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        space_of(spec(space={name: {"low": 0.0, "high": 1.0}}))
    assert caught.value.field == f"space.{name}"
    assert "learning_rate" in (caught.value.accepted or "")
    assert "model.SETTING" in (caught.value.accepted or "")


def test_a_model_that_the_zoo_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidInput, match="small-cnn") as caught:
        space_of(spec(model={"zoo": "resnet-9000"}))
    assert caught.value.field == "model.zoo"


def test_a_point_goes_over_the_spec_and_the_rest_of_the_spec_stays() -> None:
    search = spec(
        model={"zoo": "mlp", "config": {"hidden": 8, "depth": 3, "dropout": 0.5}},
        config={"epochs": 2, "learning_rate": 0.5, "model": {"hidden": 16, "depth": 4}},
    )
    config = config_of(search, {"learning_rate": 0.25, "model.hidden": 32})
    assert config.learning_rate == 0.25
    assert config.epochs == 2
    assert config.model == {"hidden": 32, "depth": 4, "dropout": 0.5}


def test_a_config_keeps_the_augmentation_of_the_spec() -> None:
    config = config_of(spec(config={"augment": {"rotate": 10.0}}), {"learning_rate": 0.25})
    assert config.augment is not None
    assert config.augment.rotate == 10.0


@pytest.mark.parametrize(
    ("point", "field"),
    [({"model.width": 3}, "model.config.width"), ({"model.hidden": 1}, "model.config.hidden")],
    ids=["unknown", "out of bounds"],
)
def test_a_setting_that_the_model_does_not_take_is_named(point: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        config_of(spec(), point)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "point", [{"epochs": 1.5}, {"batch_size": 0}, {"optimizer": "adam"}], ids=["a fraction", "too small", "no choice"]
)
def test_a_value_that_the_training_does_not_take_is_named(point: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        config_of(spec(), point)
    assert caught.value.field == f"space.{next(iter(point))}"


@pytest.mark.parametrize(
    "range_", [{"low": -1.7e308, "high": 1.7e308}, {"type": "int", "low": 0, "high": 10**400}], ids=["real", "whole"]
)
def test_a_range_that_no_float_spans_is_named(range_: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="too wide") as caught:
        space_of(spec(space={"seed": range_}))
    assert caught.value.field == "space.seed"


@pytest.mark.parametrize("zoo", names())
@pytest.mark.parametrize("end", ["low", "high"])
def test_the_zoos_own_spaces_hold_nothing_that_it_refuses(zoo: str, end: str) -> None:
    point = {name: bounds[end] for name, bounds in describe(zoo).space.items()}
    config = config_of(spec(model={"zoo": zoo}), point)
    assert check(zoo, config.model)
    assert set(space_of(spec(model={"zoo": zoo}))) == set(point)

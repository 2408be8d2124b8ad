"""A trained model as it is served: what it takes and gives, with what is done to values before and after it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sextant_exporter import detections
from sextant_shared.contracts.specs import SERIES_TASKS

OUT_OF_SCOPE = "out_of_scope"
"""What the served class of rejections is called."""
Description = dict[str, Any]
"""What model.json of a trained version says."""


class Served(nn.Module):
    """The model with its preprocessing: takes values as the dataset stores them."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float], dimensions: int) -> None:
        super().__init__()
        form = (-1, *(1,) * (dimensions - 1))
        self.model = model
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(form))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(form))

    def forward(self, values: Tensor) -> Tensor:
        """(batch, *shape) as stored -> (batch, classes) logits."""
        logits: Tensor = self.model((values.to(torch.float32) - self.mean) / self.std)
        return logits


class ServedForecast(nn.Module):
    """A forecaster that takes and gives values as the dataset stores them."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, values: Tensor) -> Tensor:
        """(batch, time, columns) -> (batch, horizon, columns)."""
        forecast: Tensor = self.model((values - self.mean) / self.std)
        return forecast * self.std + self.mean


class ServedScores(nn.Module):
    """A forecaster that says how far the end of a window is from what was to be expected: over 1 it is an anomaly."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, about: Description) -> None:
        super().__init__()
        self.model = model
        self.input, self.threshold, self.level = about["window"]["input"], about["threshold"], about.get("level", 0.0)
        self.register_buffer("mean", torch.tensor(about["preprocessing"]["mean"], dtype=torch.float32))
        self.register_buffer("std", torch.tensor(about["preprocessing"]["std"], dtype=torch.float32))

    def forward(self, values: Tensor) -> Tensor:
        """(batch, input + horizon, columns) -> (batch, 1)."""
        scaled = (values - self.mean) / self.std
        forecast, came = self.model(scaled[:, : self.input]), scaled[:, self.input :]
        far = (forecast - came).square() + self.level * came.square()
        score: Tensor = far.mean((1, 2)).unsqueeze(1) / self.threshold
        return score


class ServedTokens(nn.Module):
    """A model of texts: there is nothing to normalise."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, values: Tensor) -> Tensor:
        """(batch, sequence) token numbers -> (batch, classes) logits."""
        logits: Tensor = self.model(values)
        return logits


class Calibrated(nn.Module):
    """Logits divided by a temperature, whose softmax says how sure the model may be."""

    def __init__(self, served: nn.Module, temperature: float) -> None:
        super().__init__()
        self.served, self.temperature = served, temperature

    def forward(self, values: Tensor) -> Tensor:
        """As `served`."""
        logits: Tensor = self.served(values)
        return logits / self.temperature


class Rejecting(nn.Module):
    """Logits with one more, at its place among the dataset's classes: the largest where no probability is enough.

    It stands for a probability of the threshold: the log of it and of the sum of the others' exponentials.
    """

    def __init__(self, served: nn.Module, threshold: float, place: int) -> None:
        super().__init__()
        self.served, self.place = served, place
        self.log_threshold = math.log(max(threshold, 1e-12))

    def forward(self, values: Tensor) -> Tensor:
        """(batch, *shape) -> (batch, classes + 1)."""
        logits = self.served(values)
        outside = logits.logsumexp(1, keepdim=True) + self.log_threshold
        return torch.cat([logits[:, : self.place], outside, logits[:, self.place :]], 1)


def wrap(model: nn.Module, about: Description) -> nn.Module:
    """The model as its task is served, calibrated and with a class for rejections where it has one: texts come as the
    numbers of their tokens.
    """
    served = _wrap(model, about)
    if "temperature" in about:
        served = Calibrated(served, about["temperature"])
    if "out_of_scope" in about:
        return Rejecting(served, about["out_of_scope"]["threshold"], about["out_of_scope"]["place"])
    return served


def served_classes(about: Description) -> list[str]:
    """The classes in the order of the served logits."""
    classes = list(about["classes"])
    if "out_of_scope" in about:
        classes.insert(about["out_of_scope"]["place"], OUT_OF_SCOPE)
    return classes


def _wrap(model: nn.Module, about: Description) -> nn.Module:
    if about["task"] == detections.TASK:
        return detections.ServedDetections(model, about)
    if about["task"] == "text-classification":
        return ServedTokens(model)
    mean, std = about["preprocessing"]["mean"], about["preprocessing"]["std"]
    if about["task"] == "anomaly-detection":
        return ServedScores(model, about)
    if about["task"] == "forecasting":
        return ServedForecast(model, mean, std)
    return Served(model, mean, std, len(about["input"]["shape"]))


def built_for(about: Description) -> tuple[tuple[int, ...], int]:
    """The shape of the inputs that the architecture was built for, and its classes or steps."""
    if about["task"] == "anomaly-detection":
        window = about["window"]
        return (window["input"], about["input"]["shape"][1]), window["horizon"]
    outputs = about["output"]["shape"][0] if "output" in about else len(about["classes"])
    return tuple(about["input"]["shape"]), outputs


def outputs(about: Description) -> list[dict[str, Any]]:
    """Names, types and shapes as the protocol describes them: `logits`, or what the task gives else."""
    if about.get("task") == detections.TASK:
        return detections.outputs(about)
    given = about.get("output", {"name": "logits", "shape": [len(served_classes(about))]})
    return [{"name": str(given["name"]), "datatype": "FP32", "shape": [-1, *given["shape"]]}]


def output_scale(about: Description) -> NDArray[np.float32]:
    """What a difference of outputs is measured in: deviations of a column, of scores squared ones; logits have none."""
    if about["task"] == "anomaly-detection":
        return np.asarray([(1.0 + about.get("level", 0.0)) / about["threshold"]], np.float32)
    return np.asarray(about["preprocessing"]["std"] if about["task"] == "forecasting" else [1.0], np.float32)


def sample(about: Description, rows: int, rng: np.random.Generator) -> Any:
    """Random values (rows, *shape) of the stored type, in the range that the statistics or the vocabulary suggest."""
    shape = (rows, *about["input"]["shape"])
    if about["task"] == "text-classification":
        return _tokens(about["preprocessing"], shape, rng)
    mean, std = about["preprocessing"]["mean"], about["preprocessing"]["std"]
    form = (-1,) if about["task"] in SERIES_TASKS else (-1, *(1,) * (len(shape) - 2))
    drawn = rng.normal(np.reshape(mean, form), 2 * np.reshape(std, form), shape)
    if about["input"]["dtype"] == "uint8":
        return np.clip(drawn, 0, 255).astype(np.uint8)
    return drawn.astype(np.float32)


def _tokens(preprocessing: Description, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int64]:
    """Texts of random lengths, filled up."""
    tokens = rng.integers(0, preprocessing["vocabulary"], shape)
    lengths = rng.integers(1, shape[1] + 1, (shape[0], 1))
    return np.where(np.arange(shape[1]) < lengths, tokens, preprocessing["padding"])

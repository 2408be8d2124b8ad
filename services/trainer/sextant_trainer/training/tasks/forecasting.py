"""The next steps of series, from windows that are cut out of one stored array when they are needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sextant_trainer.training.study import Seen, Study, Worst
from sextant_trainer.training.tasks.task import Task


class Forecasting(Task):
    """Inputs (input, columns) and targets (horizon, columns) of the scaled series; the mean squared error decides."""

    name = "forecasting"
    void = float("nan")

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        about = json.loads((directory / "dataset.json").read_text())
        self.columns = [feature["name"] for feature in about["features"]]
        self.input, self.horizon = about["window"]["input"], about["window"]["horizon"]
        self.shape, self.outputs = (self.input, len(self.columns)), self.horizon
        self._spans = {name: (split["begin"], split["windows"]) for name, split in about["splits"].items()}
        figures = [about["statistics"][name] for name in self.columns]
        self.mean = np.array([figure["mean"] for figure in figures])
        # A column that never changes in training is left at its height.
        self.std = np.array([figure["std"] or 1.0 for figure in figures])
        self.files_of_series: list[str] = about["splits"]["train"]["files"]
        values = read_series(directory, self.files_of_series, "values").reshape(-1, len(self.columns))
        self._series = ((values - self.mean) / self.std).astype(np.float32)

    def first_row(self, split: str) -> int:
        """Where the first window of a split begins."""
        return int(max(0, self._spans[split][0] - self.input))

    def rows(self, split: str) -> int:
        """Windows of a split."""
        return int(self._spans[split][1])

    def batch(self, split: str, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(len(rows), input, columns) and (len(rows), horizon, columns), float32."""
        first = rows + self.first_row(split)
        at = first[:, None] + np.arange(self.input + self.horizon)
        windows = torch.from_numpy(self._series[at])
        return windows[:, : self.input], windows[:, self.input :].clone()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The squared error, a mean over steps and columns."""
        return (outputs - targets).square().mean((1, 2)).sum()

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared and absolute error of each window, means over steps and columns."""
        kept = ~targets.isnan().any((1, 2))
        error = outputs[kept] - targets[kept]
        return torch.stack([error.square().mean((1, 2)).sum(), error.abs().mean((1, 2)).sum()])

    def metrics(self, means: list[float]) -> dict[str, float]:
        """`loss` is `mse`; both it and `mae` are of the scaled series."""
        return {"loss": means[0], "mse": means[0], "mae": means[1]}

    def study(self, seen: Seen) -> Study:
        """The error of each step, and the windows with the largest error."""
        targets = seen.targets[:, :, : len(self.columns)]
        errors = (seen.outputs - targets).square()
        worst = [self._shown(seen, place, row, loss) for place, row, loss in seen.worst(errors.mean((1, 2)))]
        return Study(len(seen.rows), self.rows("val"), worst=worst, by_step=errors.mean((0, 2)).tolist())

    def _shown(self, seen: Seen, place: int, row: int, loss: float) -> Worst:
        """The column of a window with the largest error, in its own unit."""
        targets, outputs = seen.targets[place, :, : len(self.columns)], seen.outputs[place]
        column = int((outputs - targets).square().mean(0).argmax())
        before = self.batch("val", np.array([row]))[0][0, -2 * self.horizon :, column]
        parts = {"before": (before, -len(before)), "came": (targets[:, column], 0), "forecast": (outputs[:, column], 0)}
        scale, mean = float(self.std[column]), float(self.mean[column])
        curves = {
            name: [(float(first + at), value * scale + mean) for at, value in enumerate(of.tolist())]
            for name, (of, first) in parts.items()
        }
        at = self.first_row("val") + row + self.input
        return Worst(at, loss, text=self.columns[column], curves=curves)

    def describe(self) -> dict[str, Any]:
        """Windows and how they are scaled, by column."""
        return {
            "input": {"name": "input", "shape": list(self.shape), "dtype": "float32"},
            "output": {"name": "forecast", "shape": [self.horizon, len(self.columns)]},
            "preprocessing": {"mean": self.mean.tolist(), "std": self.std.tolist()},
            "columns": self.columns,
            "classes": [],
        }


def read_series(directory: Path, files: list[str], name: str) -> NDArray[Any]:
    """A column of the stored series, flat: lists of numbers one after the other."""
    parts = []
    for file in files:
        with pa.memory_map(str(directory / file)) as source:
            column = pa.ipc.open_file(source).read_all()[name].combine_chunks()
            whole = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
            flat = whole.flatten() if pa.types.is_fixed_size_list(whole.type) else whole
            parts.append(flat.to_numpy(zero_copy_only=False).astype(np.float64))
    return np.concatenate(parts)

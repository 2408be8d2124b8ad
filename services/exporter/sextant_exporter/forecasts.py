"""Evaluating forecasts: every window of a split through the endpoint, errors on the scaled series."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sextant_exporter.domain.forecasts import Errors, ErrorSums
from sextant_exporter.report import page

Ask = Callable[[NDArray[Any]], NDArray[np.float32]]
"""What the endpoint answers for some windows."""
BATCH = 32


class Windows:
    """The windows of a split, as the endpoint takes them; cut out of the stored series when they are asked for."""

    def __init__(self, directory: Path, about: dict[str, Any], split: str) -> None:
        self.columns = [feature["name"] for feature in about["features"]]
        self.input, self.horizon = about["window"]["input"], about["window"]["horizon"]
        figures = [about["statistics"][name] for name in self.columns]
        self.std = np.array([figure["std"] or 1.0 for figure in figures])
        chosen = about["splits"][split]
        begin = max(0, chosen["begin"] - self.input)
        series = read_series(directory, chosen["files"], "values").reshape(-1, len(self.columns))
        cut = np.lib.stride_tricks.sliding_window_view(series[begin:], self.input + self.horizon, axis=0)
        self._cut = cut[: chosen["windows"]].transpose(0, 2, 1)

    def __len__(self) -> int:
        return len(self._cut)

    def inputs(self, rows: slice) -> NDArray[np.float32]:
        """(rows, input, columns)."""
        return np.ascontiguousarray(self._cut[rows, : self.input])

    def whole(self, rows: slice) -> NDArray[np.float32]:
        """(rows, input + horizon, columns)."""
        return np.ascontiguousarray(self._cut[rows])

    def targets(self, rows: slice) -> NDArray[np.float32]:
        """(rows, horizon, columns)."""
        return np.ascontiguousarray(self._cut[rows, self.input :])


def measure(windows: Windows, ask: Ask, say: Callable[[float], None]) -> Errors:
    """Ask for every window; `say` takes how much of them is done. Beside stand the errors of repeating the last value.

    The result has NaN where the endpoint answered no number.
    """
    sums = ErrorSums(windows.std)
    for start in range(0, len(windows), BATCH):
        rows = slice(start, start + BATCH)
        inputs = windows.inputs(rows)
        sums.add(ask(inputs), windows.targets(rows), inputs[:, -1:])
        say(min(1.0, (start + BATCH) / len(windows)))
    return sums.errors()


def write(out: Path, errors: Errors, windows: Windows, title: dict[str, str], latency: dict[str, float]) -> None:
    """report.json and report.html."""
    by_column = dict(zip(windows.columns, errors.by_column, strict=True))
    body = {**errors.figures(), "mse_by_column": by_column, "latency_ms": latency, **title}
    (out / "report.json").write_text(json.dumps(body, indent=1, sort_keys=True))
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{value:.4g}</td></tr>" for name, value in by_column.items())
    figures = {**errors.figures(), **{f"latency {name} (ms)": value for name, value in latency.items()}}
    below = f"<h2>Squared error by column</h2><p>Of the scaled series.</p><table>{rows}</table>"
    (out / "report.html").write_text(page(f"{title['endpoint']}, {title['split']} split", figures, below))


def read_series(directory: Path, files: list[str], name: str) -> NDArray[Any]:
    """A column of the stored series, flat: lists of numbers one after the other."""
    parts = []
    for file in files:
        column = pa.ipc.open_file(pa.memory_map(str(directory / file))).read_all()[name].combine_chunks()
        whole = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        flat = whole.flatten() if pa.types.is_fixed_size_list(whole.type) else whole
        parts.append(flat.to_numpy(zero_copy_only=False))
    return np.concatenate(parts)

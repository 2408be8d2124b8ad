"""A recurrent network (Hochreiter and Schmidhuber, 1997) that reads all columns and forecasts their next steps."""

from __future__ import annotations

from torch import Tensor, nn

from sextant_zoo.series import check_series, window_scale
from sextant_zoo.settings import LstmConfig


class Recurrent(nn.Module):
    """(batch, time, columns) -> (batch, horizon, columns)."""

    def __init__(self, config: LstmConfig, columns: int, horizon: int) -> None:
        super().__init__()
        dropout = config.dropout if config.layers > 1 else 0.0
        self.cells = nn.LSTM(columns, config.hidden, config.layers, dropout=dropout, batch_first=True)
        self.output = nn.Linear(config.hidden, horizon * columns)
        self.horizon, self.columns = horizon, columns

    def forward(self, series: Tensor) -> Tensor:
        """(batch, time, columns) -> (batch, horizon, columns)."""
        mean, deviation = window_scale(series)
        states, _ = self.cells((series - mean) / deviation)
        steps: Tensor = self.output(states[:, -1])
        return steps.view(-1, self.horizon, self.columns) * deviation + mean


def build(config: LstmConfig, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """For series (time, columns); `classes` is the horizon. Raises UnknownModelError for other inputs."""
    _, columns = check_series(input_shape, classes)
    return Recurrent(config, columns, classes)

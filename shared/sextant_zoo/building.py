"""What every architecture's module offers to the registry."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn


class Builder(Protocol):
    """Makes the module for inputs of `input_shape` (without the batch) and this number of classes."""

    def __call__(self, config: Any, input_shape: tuple[int, ...], classes: int) -> nn.Module: ...

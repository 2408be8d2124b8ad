"""A model that a function of a user's own code builds."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sextant_zoo.errors import UnknownModelError

if TYPE_CHECKING:
    from torch import nn

FIELD = "model.code"


def build_from(
    root: Path, target: str, config: Mapping[str, Any], input_shape: tuple[int, ...], outputs: int
) -> nn.Module:
    """Call `target`, a package.module:function below `root`, as function(input_shape, outputs, **config).

    `input_shape` is that of one sample. Raises UnknownModelError where there is no such function, it fails, or what it
    gives is no module. The process must be one in which this code may run: this function does not confine it.
    """
    from torch import nn

    module, _, name = target.partition(":")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        function = getattr(import_module(module), name)
        model = function(input_shape, outputs, **config)
    except Exception as error:  # noqa: BLE001 - it is not our code, and may raise anything
        traceback.print_exc(file=sys.stderr)
        raise UnknownModelError(f"{target} failed: {type(error).__name__}: {error}"[:1000], FIELD) from None
    if not isinstance(model, nn.Module):
        raise UnknownModelError(f"{target} gave a {type(model).__name__}, not a torch.nn.Module", FIELD)
    return model

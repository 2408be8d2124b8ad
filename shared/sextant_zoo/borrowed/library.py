"""The library that architectures are borrowed from, and what it stores of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn


def model(
    kind: str, config: str, *, attention: str = "eager", options: dict[str, Any] | None = None, **settings: Any
) -> Any:
    """A freshly initialised model of `transformers`, by the names of its class and of its configuration's.

    The library is imported on first use: it takes a second and 100 MB. Eager attention is exported to ONNX as it is.
    """
    library: Any = import_module("transformers")
    made = getattr(library, config)(**settings, attn_implementation=attention)
    return getattr(library, kind)(made, **options or {})


def inside(model: nn.Module) -> tuple[str, Any]:
    """The part of a model of the zoo that is the library's, and its name; nothing of it where there is none."""
    library: Any = import_module("transformers")
    for name, module in model.named_modules():
        if isinstance(module, library.PreTrainedModel):
            return name, module
    return "", None


def understood(module: Any, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """Tensors of a file by the names that `module`, of the library, has for them; and by name those of other shapes.

    What the file calls otherwise, stores around or splits otherwise is for the library to know. Nothing is drawn from
    the random numbers of this process.
    """
    with torch.random.fork_rng(devices=[]), _quiet():
        made, told = type(module).from_pretrained(
            None,
            config=module.config,
            state_dict=dict(tensors),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    others = {str(name): tuple(given) for name, given, _ in told["mismatched_keys"]}
    left = {*told["missing_keys"], *others}
    return {name: tensor for name, tensor in made.state_dict().items() if name not in left}, others


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's report, and without its bar: what is wrong is told by us."""
    logging: Any = import_module("transformers.utils.logging")
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()

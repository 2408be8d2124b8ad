"""The library that architectures are borrowed from."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def model(
    kind: str, config: str, *, attention: str = "eager", options: dict[str, Any] | None = None, **settings: Any
) -> Any:
    """A freshly initialised model of `transformers`, by the names of its class and of its configuration's.

    The library is imported on first use: it takes a second and 100 MB. Eager attention is exported to ONNX as it is.
    """
    library: Any = import_module("transformers")
    made = getattr(library, config)(**settings, attn_implementation=attention)
    return getattr(library, kind)(made, **options or {})

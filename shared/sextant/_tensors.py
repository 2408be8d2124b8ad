"""Nested lists -> the flat tensors of the Open Inference Protocol. Arrays are taken through their `tolist`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sextant.answers import TensorInfo
from sextant.errors import BadInput


def is_complete(inputs: Any) -> bool:
    """Whether these are tensors of the protocol already."""
    fields = {"name", "shape", "datatype", "data"}
    return (
        isinstance(inputs, list) and bool(inputs) and all(isinstance(i, Mapping) and fields <= set(i) for i in inputs)
    )


def as_tensors(inputs: Any, infos: list[TensorInfo]) -> list[dict[str, Any]]:
    """Tensors from {name: values}, or from the values of the only input. Raises BadInput."""
    names = [info.name for info in infos]
    if not isinstance(inputs, Mapping):
        if len(infos) != 1:
            raise BadInput(f"the endpoint takes the inputs {names}; give a value for each by name", field="inputs")
        inputs = {names[0]: inputs}
    if set(inputs) != set(names):
        raise BadInput(f"the inputs given are {sorted(map(str, inputs))}; the endpoint takes {names}", field="inputs")
    return [_tensor(info, inputs[info.name]) for info in infos]


def _tensor(info: TensorInfo, value: Any) -> dict[str, Any]:
    if callable(to_list := getattr(value, "tolist", None)):
        value = to_list()
    shape = _shape(value)
    data = _flat(value, shape, info.name)
    if len(shape) == len(info.shape) - 1 and all(w in (-1, g) for g, w in zip(shape, info.shape[1:], strict=True)):
        shape = [1, *shape]  # one sample, without the batch's axis
    return {"name": info.name, "shape": shape, "datatype": info.datatype, "data": data}


def _shape(value: Any) -> list[int]:
    shape: list[int] = []
    while isinstance(value, list | tuple):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _flat(value: Any, shape: list[int], name: str) -> list[Any]:
    level: list[Any] = [value]
    for depth, size in enumerate(shape):
        below: list[Any] = []
        for item in level:
            if not isinstance(item, list | tuple) or len(item) != size:
                raise BadInput(f"input {name!r} is ragged: a list at depth {depth} has not {size} items", field=name)
            below.extend(item)
        level = below
    if any(isinstance(item, list | tuple | Mapping) for item in level):
        raise BadInput(f"input {name!r} is ragged: its lists are not equally deep", field=name)
    return level

"""Tensors of the Open Inference Protocol v2: what a model takes, and whether a request's tensor is that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sextant_shared.errors import InvalidInput

NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip
MAX_ELEMENTS = 64 * 2**20
MAX_TEXT = 2**20
"""Bytes of one text."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model: name, OIP datatype, and shape with -1 for the batch dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> TensorSpec:
        """From a model's description."""
        return cls(about["name"], about["datatype"], tuple(about["shape"]))

    def plain(self) -> dict[str, Any]:
        """As the protocol's metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def check_shape(spec: TensorSpec, given: Sequence[Any]) -> tuple[int, ...]:
    """The shape of a request's tensor. Raises InvalidInput naming the tensor, what came and what is accepted."""
    accepted = str(list(spec.shape))
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in given)
    fits = (
        whole
        and len(given) == len(spec.shape)
        and all(want in (-1, n) for n, want in zip(given, spec.shape, strict=False))
    )
    if not fits or math.prod(given) > MAX_ELEMENTS:
        shown = str(list(given))[:80]
        raise InvalidInput(f"the shape {shown} does not fit", field=f"inputs.{spec.name}.shape", accepted=accepted)
    return tuple(given)


def check_datatype(spec: TensorSpec, given: Any) -> None:
    """Raise InvalidInput unless the datatype is the model's."""
    if given != spec.datatype:
        shown = str(given)[:40]
        raise InvalidInput(
            f"the datatype {shown!r} does not fit", field=f"inputs.{spec.name}.datatype", accepted=spec.datatype
        )


def from_json(spec: TensorSpec, shape: tuple[int, ...], data: Any) -> NDArray[Any]:
    """The tensor from JSON numbers, nested or flat. Raises InvalidInput for what is no finite number of the type."""
    field = f"inputs.{spec.name}.data"
    if spec.datatype == "BYTES":
        return _texts(data, shape, field)
    try:
        given = np.asarray(data)
        if given.dtype.kind == "U":
            raise TypeError  # "1" is no number, though numpy would take it for one
        wide = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput("the data are not all numbers, or their lists are ragged", field=field) from None
    if wide.size != math.prod(shape):
        raise InvalidInput(f"{wide.size} values given", field=field, accepted=f"{math.prod(shape)} for the shape")
    if not np.isfinite(wide).all():
        raise InvalidInput("a value is not finite", field=field)
    target = np.dtype(NUMPY[spec.datatype])
    if target.kind in "iub":
        low, high = (0, 1) if target.kind == "b" else _range(target)
        if wide.size and (wide.min() < low or wide.max() > high or (wide != np.floor(wide)).any()):
            raise InvalidInput(
                "a value does not fit the datatype", field=field, accepted=f"whole numbers, {low} to {high}"
            )
    return wide.astype(target).reshape(shape)


def _texts(data: Any, shape: tuple[int, ...], field: str) -> NDArray[Any]:
    if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
        raise InvalidInput("the data are not all texts", field=field, accepted="a flat list of texts")
    if len(data) != math.prod(shape):
        raise InvalidInput(f"{len(data)} texts given", field=field, accepted=f"{math.prod(shape)} for the shape")
    if data and max(map(len, data)) > MAX_TEXT:
        raise InvalidInput("a text is too long", field=field, accepted=f"{MAX_TEXT} letters")
    return np.array(data, np.object_).reshape(shape)


def _texts_from_binary(raw: bytes, shape: tuple[int, ...], field: str) -> NDArray[Any]:
    """Each text has its length in bytes before it, in four bytes, little-endian."""
    texts: list[str] = []
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if at + 4 > len(raw) or end > len(raw) or end - at > 4 + MAX_TEXT:
            accepted = f"four bytes of length before each, at most {MAX_TEXT}"
            raise InvalidInput("a text reaches beyond the end, or is too long", field=field, accepted=accepted)
        try:
            texts.append(raw[at + 4 : end].decode())
        except UnicodeDecodeError:
            raise InvalidInput("a text is not UTF-8", field=field, accepted="UTF-8") from None
        at = end
    return _texts(texts, shape, field)


def _range(integer: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(integer.name)
    return int(limits.min), int(limits.max)


def from_binary(spec: TensorSpec, shape: tuple[int, ...], raw: bytes) -> NDArray[Any]:
    """The tensor from little-endian bytes. Raises InvalidInput for a wrong length or a value that is not finite."""
    target = np.dtype(NUMPY[spec.datatype])
    field = f"inputs.{spec.name}"
    if spec.datatype == "BYTES":
        return _texts_from_binary(raw, shape, field)
    if len(raw) != math.prod(shape) * target.itemsize:
        accepted = f"{math.prod(shape) * target.itemsize} bytes for the shape"
        raise InvalidInput(f"{len(raw)} bytes given", field=field, accepted=accepted)
    tensor = np.frombuffer(raw, target).reshape(shape)
    if target.kind == "f" and not np.isfinite(tensor).all():
        raise InvalidInput("a value is not finite", field=field)
    return tensor

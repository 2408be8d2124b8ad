"""Files that call themselves tensors: refused as what they are, and nothing of them is run."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sextant_exporter import exporting
from sextant_shared.errors import WorkFailed


class Opens:
    """A pickle that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def tensors(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(begin: int, end: int, shape: tuple[int, ...] = (1,), kind: str = "F32") -> dict[str, Any]:
    """A tensor in a header."""
    return {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}


FILES = {
    "empty": b"",
    "a header that is longer than the file": tensors({}, length=2**63),
    "a header of the greatest length": tensors({}, length=2**64 - 1),
    "a header that is no JSON": tensors(b"{{{{"),
    "a header of a hundred megabytes": tensors({}, length=100 * 2**20 + 1),
    "offsets beyond the end": tensors({"a": entry(0, 400)}, b"\0" * 4),
    "offsets that overlap": tensors({"a": entry(0, 4), "b": entry(2, 6)}, b"\0" * 6),
    "offsets the wrong way round": tensors({"a": entry(4, 0)}, b"\0" * 4),
    "a hole": tensors({"a": entry(0, 4), "b": entry(8, 12)}, b"\0" * 12),
    "a tail": tensors({"a": entry(0, 4)}, b"\0" * 100),
    "a shape that is too large": tensors({"a": entry(0, 4, (2**62, 2**62))}, b"\0" * 4),
    "a negative shape": tensors(b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', b"\0" * 4),
    "an unknown type": tensors({"a": entry(0, 4, (1,), "O8")}, b"\0" * 4),
    "cut off": tensors({"a": entry(0, 400, (100,))}, b"\0" * 10),
}


def loaded(directory: Path, tmp_path: Path, content: bytes) -> None:
    """What becomes of a trained model whose tensors are these bytes."""
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    (copy / "model.safetensors").write_bytes(content)
    exporting.load_served(copy, json.loads((copy / "model.json").read_text()))


@pytest.mark.parametrize("what", FILES)
def test_tensors_that_are_not_what_they_say_are_refused(exported: Any, tmp_path: Path, what: str) -> None:
    with pytest.raises(WorkFailed, match="cannot be read"):
        loaded(exported("mlp").trained.directory, tmp_path, FILES[what])


def test_a_pickle_is_not_opened_and_neither_is_one_in_an_archive(exported: Any, tmp_path: Path) -> None:
    made = tmp_path / "made"
    archive = tmp_path / "model.pt"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("archive/data.pkl", pickle.dumps(Opens(made)))
    for number, content in enumerate((pickle.dumps(Opens(made)), archive.read_bytes())):
        with pytest.raises(WorkFailed, match="cannot be read"):
            loaded(exported("mlp").trained.directory, tmp_path / str(number), content)
    assert not made.exists()

"""Weights that were pushed: which files of an archive are looked at, and where they are looked for."""

from __future__ import annotations

import json
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from sextant_shared import archives
from sextant_shared.contracts.models import ZooModel
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import WorkOrder
from sextant_trainer.training.weights import open_weights
from sextant_zoo import build
from sextant_zoo.errors import UnknownModelError

READ = {"model.safetensors", "model.json"}
ID = "upload://00000000-0000-7000-8000-000000000000"


def order(tmp_path: Path, *folders: str) -> WorkOrder:
    """With an archive that has weights in these folders."""
    root = tmp_path / "root"
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        save_file(dict(build("mlp", {"hidden": 8}, (4,), 3).state_dict()), str(root / folder / "model.safetensors"))
        about = {"architecture": {"zoo": "mlp", "config": {"hidden": 8, "dropout": 0.1}}}
        (root / folder / "model.json").write_text(json.dumps(about))
    (root / "README.md").write_text("what it is")
    (root / "pytorch_model.bin").write_bytes(b"a pickle")
    (tmp_path / "upload").mkdir()
    with tarfile.open(tmp_path / "upload" / "weights.tar", "w") as packed:
        packed.add(root, ".")
    found = {"id": "u", "name": "weights.tar", "version": 1, "digest": "", "path": str(tmp_path / "upload")}
    attempt: dict[str, Any] = {"job_id": "j", "kind": "train", "name": "job", "fence": 1, "attempt": 1, "spec": {}}
    return WorkOrder(**attempt, inputs={"weights": found})


@pytest.mark.parametrize(
    ("folders", "source"),
    [
        ((".",), ID),
        (("bert",), ID),
        (("bert",), f"{ID}/bert"),
        (("top/a", "top/b"), f"{ID}/top/a"),
    ],
)
def test_they_are_found_where_they_are_named_and_nothing_else_is_unpacked(
    tmp_path: Path, folders: tuple[str, ...], source: str
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    found = open_weights(order(tmp_path, *folders), ZooModel(zoo="mlp", weights=source), room)
    assert found is not None
    assert found.settings == {"hidden": 8, "dropout": 0.1}
    assert found.file.relative_to(room).parts[1:-1] == (() if folders == (".",) else Path(folders[0]).parts)
    assert {path.name for path in (room / "weights").rglob("*") if path.is_file()} == READ


def test_ranks_of_a_node_unpack_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[Path] = []

    def slowly(archive: Path, target: Path, *given: Any, **more: Any) -> Path:
        unpacked.append(target)
        time.sleep(0.2)
        return unpack(archive, target, *given, **more)

    unpack = archives.unpack
    monkeypatch.setattr(archives, "unpack", slowly)
    given, room = order(tmp_path, "bert"), tmp_path / "room"
    (room / "weights.new").mkdir(parents=True)
    (room / "weights.new" / "half").write_bytes(b"of a rank that was killed")
    with ThreadPoolExecutor(4) as ranks:
        found = list(ranks.map(lambda _: open_weights(given, ZooModel(zoo="mlp", weights=ID), room), range(4)))
    assert len(unpacked) == 1
    assert {one.file for one in found if one} == {room / "weights" / "bert" / "model.safetensors"}


@pytest.mark.parametrize("inside", ["../../etc", "/etc"])
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, inside: str) -> None:
    with pytest.raises(InvalidInput, match="a path must be relative") as caught:
        open_weights(order(tmp_path, "a", "b"), ZooModel(zoo="mlp", weights=f"{ID}/{inside}"), tmp_path)
    assert caught.value.field == "model.weights"


def test_a_path_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"c has no model\.safetensors"):
        open_weights(order(tmp_path, "a", "b"), ZooModel(zoo="mlp", weights=f"{ID}/c"), tmp_path)

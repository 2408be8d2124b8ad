"""A large folder of images with boxes in pieces: however it is cut, the version is the same."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.boards import BOXES, as_coco, as_voc, write_boards
from tests.unit.sextant_data_prep.pieces import Workers, hashes

from sextant_shared.errors import InvalidInput

SPEC: dict[str, Any] = {
    "task": "defect-detection",
    "boxes": BOXES,
    "split": {"group": "board", "val": 0.25, "test": 0.25},
    "max_bad_share": 0.2,
    "clean": [{"do": "deduplicate"}],
}
COCO = {**BOXES, "format": "coco", "file": "boxes.json", "columns": None, "classes": None}
VOC = {**BOXES, "format": "voc", "file": "{board}/{number}.xml", "columns": None, "classes": None}
PIECE = 8_000


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    """Five boards: doubles over the borders of pieces, one picture in colours, damaged and missing ones."""
    root = tmp_path / "boards"
    write_boards(root, 5, 8)
    for name in ("ok.png", "seen.png"):
        shutil.copy(root / "board01" / f"001_{name}", root / "board01" / f"007_{name}")
        shutil.copy(root / "board00" / f"002_{name}", root / "board00" / f"900_{name}")
    shutil.copy(root / "board01" / "001.txt", root / "board01" / "007.txt")
    shutil.copy(root / "board00" / "002.txt", root / "board00" / "900.txt")
    with Image.open(root / "board02" / "003_seen.png") as grey:
        colours = grey.convert("RGB")
    colours.save(root / "board02" / "003_seen.png")
    (root / "board03" / "004_ok.png").unlink()
    (root / "board04" / "001.txt").write_text("10 10 x 20 1\n")
    (root / "board04" / "002_seen.png").write_bytes(b"no image")
    return root


def test_however_a_folder_is_cut_the_version_is_the_same(workers: Workers, boards: Path) -> None:
    whole, told, none = workers.run(boards, 1 << 30, **SPEC)
    assert none == 0
    about = json.loads((whole.out / "dataset.json").read_text())
    assert about["features"][0]["shape"] == [6, 64, 64]
    assert about["features"][0]["images"] == [3, 3]
    assert about["removed"] == {"deduplicate": 2}
    assert about["quarantined"]["reasons"] == {
        "a side of a box is no number": 1,
        "an image of it is not there": 1,
        "cannot be decoded": 1,
    }
    for piece_bytes in (1_000, PIECE, 5 * PIECE):
        cut, result, _ = workers.run(boards, piece_bytes, **SPEC)
        assert result.outputs["pieces"]["all"] > 1
        assert hashes(cut) == hashes(whole)
        assert result.outputs["rows"] == told.outputs["rows"]


@pytest.mark.parametrize("boxes", [COCO, VOC], ids=["coco", "voc"])
def test_other_forms_are_cut_as_well(workers: Workers, boards: Path, boxes: dict[str, Any]) -> None:
    (boards / "board04" / "001.txt").write_text("10 10 18 20 1\n")
    as_coco(boards)
    as_voc(boards)
    whole, _, _ = workers.run(boards, 1 << 30, **SPEC | {"boxes": boxes})
    cut, _, pieces = workers.run(boards, PIECE, **SPEC | {"boxes": boxes})
    assert pieces > 1
    assert hashes(cut) == hashes(whole)


def test_a_board_that_is_added_costs_its_own_pieces(workers: Workers, boards: Path, tmp_path: Path) -> None:
    (boards / "board04" / "001.txt").write_text("10 10 18 20 1\n")
    as_coco(boards)
    spec = SPEC | {"boxes": COCO}
    _, first, pieces = workers.run(boards, PIECE, **spec)
    write_boards(tmp_path / "more", 1, 8, seed=9)
    shutil.move(tmp_path / "more" / "board00", boards / "board05")
    as_coco(boards)
    _, second, more = workers.run(boards, PIECE, **spec)
    assert 0 < more == second.outputs["pieces"]["all"] - first.outputs["pieces"]["all"] < pieces


def test_boxes_that_change_make_another_piece(workers: Workers, boards: Path) -> None:
    _, _, pieces = workers.run(boards, PIECE, **SPEC)
    (boards / "board03" / "002.txt").write_text("10 10 18 20 1\n")
    cut, _, more = workers.run(boards, PIECE, **SPEC)
    assert more == 1 < pieces
    assert hashes(cut) == hashes(workers.run(boards, 1 << 30, **SPEC)[0])


def test_a_worker_unpacks_what_belongs_to_its_rows_alone(workers: Workers, boards: Path, tmp_path: Path) -> None:
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(boards.rglob("*.*")):
            packed.write(path, path.relative_to(boards))
    whole, _, _ = workers.run(boards, 1 << 30, **SPEC)
    cut, _, pieces = workers.run(archive, PIECE, **SPEC)
    assert pieces > 2
    assert hashes(cut) == hashes(whole)
    every = {path.relative_to(boards) for path in boards.rglob("*.*")}
    seen: list[Path] = []
    for out in workers.done.values():
        root = Path(out).parent / "unpacked"
        seen += [path.relative_to(root) for path in root.rglob("*.*")]
    assert len(seen) == len(every)
    assert set(seen) == every


def test_one_file_of_boxes_is_unpacked_for_each_piece(workers: Workers, boards: Path, tmp_path: Path) -> None:
    as_voc(boards)
    (boards / "board04" / "001.txt").write_text("10 10 18 20 1\n")
    as_coco(boards)
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(boards.rglob("*.*")):
            packed.write(path, path.relative_to(boards))
    spec = SPEC | {"boxes": COCO}
    whole, _, _ = workers.run(boards, 1 << 30, **spec)
    assert hashes(workers.run(archive, PIECE, **spec)[0]) == hashes(whole)


def test_where_nothing_can_be_read_all_is_said_to_be_bad(workers: Workers, boards: Path) -> None:
    for path in boards.glob("*/*_seen.png"):
        path.write_bytes(b"no image")
    for piece_bytes in (1 << 30, 1_000):
        with pytest.raises(InvalidInput, match="no usable row: 41 read, 41 bad"):
            workers.run(boards, piece_bytes, **SPEC | {"max_bad_share": 1.0})


def test_a_reference_that_is_a_link_is_not_there(workers: Workers, boards: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    shutil.copy(boards / "board00" / "000_ok.png", secret)
    (boards / "board00" / "000_ok.png").unlink()
    (boards / "board00" / "000_ok.png").symlink_to(secret)
    for piece_bytes in (1 << 30, PIECE):
        made, _, _ = workers.run(boards, piece_bytes, **SPEC)
        about = json.loads((made.out / "dataset.json").read_text())
        assert about["quarantined"]["reasons"]["an image of it is not there"] == 2


def test_one_file_is_no_folder(workers: Workers, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"")
    with pytest.raises(InvalidInput, match="come as a folder"):
        workers.run(tmp_path / "one.png", PIECE, **SPEC)

"""Images with boxes: which files are a row, three forms of boxes, bad rows, and splits that do not leak."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from tests.boards import BOXES, SIDE, as_coco, as_voc, write_boards
from tests.unit.sextant_data_prep.pieces import MakeBench, prepare

from sextant_shared.contracts.annotations import Template
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput

SPLIT = {"val": 0.25, "test": 0.25, "group": "board"}
FORMS: dict[str, dict[str, Any]] = {
    "lines": BOXES,
    "coco": {"format": "coco", "images": BOXES["images"], "file": "boxes.json"},
    "voc": {"format": "voc", "images": BOXES["images"], "file": "{board}/{number}.xml"},
}


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    """Four boards with six pictures each."""
    root = tmp_path / "boards"
    write_boards(root, 4, 6)
    return root


def made(make_bench: MakeBench, root: Path, boxes: dict[str, Any] | None = None, **spec: Any) -> tuple[Path, Any]:
    """Where the version is, and its description."""
    given = {"split": SPLIT, **spec}
    bench = make_bench(root, kind="prepare", task="defect-detection", boxes=boxes or BOXES, **given)
    prepare(bench)
    return bench.out, json.loads((bench.out / "dataset.json").read_text())


def rows(out: Path, split: str) -> list[dict[str, Any]]:
    with pa.memory_map(str(out / f"{split}-00000.arrow")) as source:
        found: list[dict[str, Any]] = pa.ipc.open_file(source).read_all().to_pylist()
        return found


def test_images_are_stacked_and_boxes_stand_beside_them(make_bench: MakeBench, boards: Path) -> None:
    out, about = made(make_bench, boards)
    assert about["features"] == [{"name": "image", "dtype": "uint8", "shape": [2, SIDE, SIDE], "images": [1, 1]}]
    assert about["target"] == {"name": "boxes", "classes": ["gap", "spot"]}
    assert {split: info["rows"] for split, info in about["splits"].items()} == {"train": 12, "val": 6, "test": 6}
    for row in rows(out, "train"):
        assert len(row["boxes"]) == len(row["classes"])
        ok, seen = np.array(row["image"], np.uint8).reshape(2, SIDE, SIDE)
        changed = ok != seen
        for (left, top, right, bottom), kind in zip(row["boxes"], row["classes"], strict=True):
            inside = slice(int(top), int(bottom)), slice(int(left), int(right))
            # A gap (0) is dark where the reference is light, a spot (1) the other way round; beyond boxes nothing is.
            assert set(np.unique(seen[inside][changed[inside]])) == {0 if kind == 0 else 255}
            changed[inside] = False
        assert not changed.any()


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_all_forms_say_the_same(make_bench: MakeBench, boards: Path, form: str) -> None:
    as_coco(boards)
    as_voc(boards)
    out, about = made(make_bench, boards)
    other_out, other = made(make_bench, boards, FORMS[form])
    assert other["digest"] == about["digest"]
    assert rows(other_out, "val") == rows(out, "val")


def test_boxes_follow_a_resize(make_bench: MakeBench, boards: Path) -> None:
    small, about = made(make_bench, boards, clean=[{"do": "resize", "width": SIDE // 2, "height": SIDE}])
    out, _ = made(make_bench, boards)
    assert about["features"][0]["shape"] == [2, SIDE, SIDE // 2]
    for row, whole in zip(rows(small, "train"), rows(out, "train"), strict=True):
        half = np.array(whole["boxes"]).reshape(-1, 4) * [0.5, 1, 0.5, 1]
        np.testing.assert_allclose(np.array(row["boxes"]).reshape(-1, 4), half)


def test_shares_of_the_image_and_middles_are_boxes_too(make_bench: MakeBench, boards: Path) -> None:
    out, _ = made(make_bench, boards)
    for path in boards.glob("*/*.txt"):
        lines = [list(map(int, line.split())) for line in path.read_text().splitlines()]
        path.write_text(
            "".join(
                f"{kind},{(left + right) / 2 / SIDE},{(top + bottom) / 2 / SIDE},{(right - left) / SIDE},"
                f"{(bottom - top) / SIDE},x\n"
                for left, top, right, bottom, kind in lines
            )
        )
    columns = ["class", "center_x", "center_y", "width", "height", "ignore"]
    again, _ = made(make_bench, boards, {**BOXES, "columns": columns, "separator": ",", "relative": True})
    for row, other in zip(rows(again, "train"), rows(out, "train"), strict=True):
        np.testing.assert_allclose(row["boxes"], other["boxes"], atol=1e-4)


def test_boards_stay_together(make_bench: MakeBench, boards: Path) -> None:
    out, _ = made(make_bench, boards)
    for split in ("train", "val", "test"):
        # Six pictures a board, in the order of their paths.
        of = {row["id"] // 6 for row in rows(out, split)}
        assert len(of) == (2 if split == "train" else 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("10 10 70 20 1\n", "a box reaches beyond the image"),
        ("10 10 10 20 1\n", "a box has no area"),
        ("20 10 10 20 1\n", "a box has no area"),
        ("10 10 20 20 3\n", "a box has an unknown class"),
        ("10 10 20 1\n", "a line of its boxes has another number of columns"),
        ("10 10 x 20 1\n", "a side of a box is no number"),
        ("10 10 nan 20 1\n", "a side of a box is no number"),
        ("10 10 inf 20 1\n", "a side of a box is no number"),
        (None, "has no file of boxes"),
    ],
)
def test_a_bad_box_costs_its_image_alone(make_bench: MakeBench, boards: Path, content: str | None, reason: str) -> None:
    path = boards / "board01" / "002.txt"
    path.unlink() if content is None else path.write_text(content)
    out, about = made(make_bench, boards, max_bad_share=0.05)
    assert about["quarantined"] == {"rows": 1, "reasons": {reason: 1}}
    assert json.loads((out / "quarantine.jsonl").read_text()) == {"row": 8, "reason": reason}


def test_a_box_a_pixel_over_the_edge_is_cut(make_bench: MakeBench, boards: Path) -> None:
    (boards / "board01" / "002.txt").write_text("60 60 65 65 1\n")
    out, about = made(make_bench, boards)
    assert about["quarantined"]["rows"] == 0
    (row,) = [row for split in ("train", "val", "test") for row in rows(out, split) if row["id"] == 8]
    assert row["boxes"] == [[60, 60, 64, 64]]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot be decoded"),
        (lambda path: path.with_name("002_ok.png").unlink(), "an image of it is not there"),
        (lambda path: shutil.copy(path, path.with_name("002_ok.png")), None),
    ],
)
def test_a_damaged_image_is_left_out(make_bench: MakeBench, boards: Path, damage: Any, reason: str | None) -> None:
    damage(boards / "board01" / "002_seen.png")
    _, about = made(make_bench, boards, max_bad_share=0.05)
    assert about["quarantined"]["reasons"] == ({reason: 1} if reason else {})


@pytest.mark.parametrize(
    "content",
    [
        '<!DOCTYPE a [<!ENTITY b "bbb">]><annotation>&b;</annotation>',
        "<annotation><object>",
        "<annotation><object><name>gap</name></object></annotation>",
        "\x00",
    ],
)
def test_bad_xml_costs_its_image_alone(make_bench: MakeBench, boards: Path, content: str) -> None:
    as_voc(boards)
    (boards / "board01" / "002.xml").write_text(content)
    _, about = made(make_bench, boards, FORMS["voc"], max_bad_share=0.05)
    assert about["quarantined"]["rows"] == 1


@pytest.mark.parametrize(
    "content", ["", "[]", '{"images": []}', '{"images": [1], "annotations": [], "categories": []}']
)
def test_what_is_no_coco_is_refused(make_bench: MakeBench, boards: Path, content: str) -> None:
    (boards / "boxes.json").write_text(content)
    with pytest.raises(InvalidInput, match="is no COCO") as caught:
        made(make_bench, boards, FORMS["coco"])
    assert caught.value.field == "boxes.file"


def test_the_same_picture_in_two_splits_is_refused_and_deduplicate_keeps_one(
    make_bench: MakeBench, boards: Path
) -> None:
    for name in ("000_ok.png", "000_seen.png", "000.txt"):
        for folder in ("board01", "board02", "board03"):
            shutil.copy(boards / "board00" / name, boards / folder / name)
    with pytest.raises(InvalidInput, match=r"of two splits have the same images, such as 'board00/000_seen\.png'"):
        made(make_bench, boards)
    _, about = made(make_bench, boards, clean=[{"do": "deduplicate"}])
    assert about["removed"] == {"deduplicate": 3}


def test_a_folder_may_say_the_split(make_bench: MakeBench, tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val", "test")):
        write_boards(tmp_path / "boards" / split, 1, 4, seed)
    boxes = {**BOXES, "images": [f"{{part}}/{path}" for path in BOXES["images"]], "file": f"{{part}}/{BOXES['file']}"}
    out, about = made(make_bench, tmp_path / "boards", boxes, split={"column": "part"})
    assert {split: info["rows"] for split, info in about["splits"].items()} == {"train": 4, "val": 4, "test": 4}
    assert {row["id"] for row in rows(out, "train")} == {4, 5, 6, 7}


def test_a_folder_without_such_images_is_refused_with_what_there_is(make_bench: MakeBench, boards: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there are: 'board00/000\.txt'") as caught:
        made(make_bench, boards, {**BOXES, "images": ["{board}/{number}.bmp"]})
    assert caught.value.field == "boxes.images"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": None}, "boxes, which says where"),
        ({"boxes": {**BOXES, "images": ["a.png"]}}, "needs a field"),
        ({"boxes": {**BOXES, "images": ["{a}{b}.png"]}}, "no path with fields"),
        ({"boxes": {**BOXES, "file": "../{number}.txt"}}, "no path below the source"),
        ({"boxes": {**BOXES, "file": "/etc/{number}.txt"}}, "no path below the source"),
        ({"boxes": {**BOXES, "images": ["a//{number}.png"]}}, "no path below the source"),
        ({"boxes": {**BOXES, "images": ["{a}-{b}-{c}-{d}.png"]}}, "over 3 fields between two slashes"),
        ({"boxes": {**BOXES, "images": ["{other}.png", "{number}.png"]}}, "which the last image has not"),
        ({"boxes": {**BOXES, "columns": ["left", "top", "right", "width", "class"]}}, "columns must be class and"),
        ({"boxes": {**BOXES, "format": "voc"}}, "columns are for the format lines"),
        ({"boxes": {**BOXES, "format": "coco", "columns": None}}, "COCO has one file"),
        ({"split": {"group": "lot"}}, "no field of the path of images"),
        ({"clean": [{"do": "deduplicate", "near": 0.9}]}, "`near` is for"),
        ({"target": "x"}, "are not for defect-detection"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    spec = {"kind": "prepare", "source": "upload://x", "task": "defect-detection", "boxes": BOXES, **changes}
    with pytest.raises(ValidationError, match=message):
        PrepareSpec.model_validate(spec)


def test_a_field_stands_for_the_same_wherever_it_stands() -> None:
    path = Template("group{board}/{board}/{number}_test.png")
    assert path.match("group7/7/12_test.png") == {"board": "7", "number": "12"}
    assert path.match("group7/8/12_test.png") is None
    assert path.match("group7/7/a/12_test.png") is None
    assert path.fill({"board": "7", "number": "12"}) == "group7/7/12_test.png"


def test_a_path_that_fields_lead_out_of_the_source_is_refused(make_bench: MakeBench, tmp_path: Path) -> None:
    root = tmp_path / "deep" / "boards"
    write_boards(root, 1, 2)
    shutil.copy(root / "board00" / "000_ok.png", tmp_path / "secret.png")
    shutil.copy(root / "board00" / "000_ok.png", root / "board00" / "x...png")
    images = {"images": ["{a}/{a}/secret.png", "board00/x{a}.png"], "file": "{a}.txt"}
    with pytest.raises(InvalidInput, match=r"would lead to '\.\./\.\./secret\.png'") as caught:
        made(make_bench, root, {**BOXES, **images}, split={})
    assert caught.value.field == "boxes.images"


def test_a_link_is_not_followed_to_a_file_or_folder(make_bench: MakeBench, boards: Path, tmp_path: Path) -> None:
    as_coco(boards)
    (boards / "boxes.json").rename(tmp_path / "boxes.json")
    (boards / "boxes.json").symlink_to(tmp_path / "boxes.json")
    with pytest.raises(InvalidInput, match=r"there is no file 'boxes\.json'"):
        made(make_bench, boards, FORMS["coco"])
    (tmp_path / "references").mkdir()
    (boards / "board02" / "000_ok.png").rename(tmp_path / "references" / "000_ok.png")
    (boards / "ref").symlink_to(tmp_path / "references")
    images = {"images": ["ref/{number}_ok.png", "board02/{number}_seen.png"], "file": "board02/{number}.txt"}
    with pytest.raises(InvalidInput, match=r"an image of it is not there: 6"):
        made(make_bench, boards, {**BOXES, **images}, split={}, max_bad_share=1.0)


@pytest.mark.parametrize("file", ["board00", "board00/000.txt/boxes.json", "x" * 300])
def test_what_is_no_file_of_boxes_is_refused(make_bench: MakeBench, boards: Path, file: str) -> None:
    with pytest.raises(InvalidInput, match="there is no file"):
        made(make_bench, boards, {**FORMS["coco"], "file": file})

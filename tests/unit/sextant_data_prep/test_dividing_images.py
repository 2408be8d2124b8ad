"""A large folder of images in pieces: however it is cut, the version is the same; what is added costs what it is."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.unit.sextant_data_prep.pieces import Workers, hashes

from sextant_shared.errors import InvalidInput

SPEC: dict[str, Any] = {
    "task": "image-classification",
    "max_bad_share": 0.2,
    "clean": [
        {"do": "exposure", "min_brightness": 0.1, "max_brightness": 0.9},
        {"do": "deduplicate", "near": 0.95},
    ],
}
PIECE = 4_000


def scene(seed: int, side: int = 24) -> Image.Image:
    """A random picture with areas."""
    coarse = np.random.default_rng(seed).integers(40, 216, (6, 6), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.NEAREST)


def put(root: Path, name: str, image: Image.Image) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(root / name)


def folder(root: Path) -> Path:
    """Three classes: doubles over the borders of pieces, one image in colours, a dark, a large and a broken one."""
    for number in range(90):
        # Of a double the second stands far behind the first, with another label for some.
        put(root, f"{'abc'[number // 30]}/{number:03d}.png", scene(number % 77))
    put(root, "a/dark.png", Image.new("L", (24, 24), 3))
    put(root, "b/large.png", scene(500, 96))
    put(root, "c/colours.png", Image.merge("RGB", [scene(600 + channel) for channel in range(3)]))
    put(root, "c/near.png", scene(1).point(lambda value: value + 3))
    (root / "b" / "broken.png").write_bytes(b"no image")
    put(root, "stray.png", scene(700))
    return root


def test_however_a_folder_is_cut_the_version_is_the_same(workers: Workers, tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    whole, told, none = workers.run(root, 1 << 30, **SPEC)
    assert none == 0
    about = json.loads((whole.out / "dataset.json").read_text())
    assert about["features"][0]["shape"] == [3, 24, 24]
    assert about["quarantined"]["reasons"] == {"cannot be decoded": 1, "is in no class folder": 1}
    assert about["flagged"] == {"is too dark": 1}
    for piece_bytes in (1_000, PIECE):
        cut, result, _ = workers.run(root, piece_bytes, **SPEC)
        assert result.outputs["pieces"]["all"] > 2
        assert hashes(cut) == hashes(whole)
        assert result.outputs["rows"] == told.outputs["rows"]


def test_grey_images_stay_grey_where_the_one_in_colours_is_left_out(workers: Workers, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number in range(60):
        put(root, f"{'ab'[number % 2]}/{number:03d}.png", scene(number))
    put(root, "b/zz.png", Image.new("RGB", (24, 24), (1, 2, 3)))
    spec = {**SPEC, "clean": [{"do": "exposure", "min_brightness": 0.1, "action": "remove"}]}
    whole, _, _ = workers.run(root, 1 << 30, **spec)
    cut, _, pieces = workers.run(root, PIECE, **spec)
    assert json.loads((cut.out / "dataset.json").read_text())["features"][0]["shape"] == [1, 24, 24]
    assert pieces > 1
    assert hashes(cut) == hashes(whole)


def test_images_that_are_added_cost_the_pieces_of_their_folder_alone(workers: Workers, tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    _, first, pieces = workers.run(root, PIECE, **SPEC)
    put(root, "b/zzz.png", scene(900))
    again, second, more = workers.run(root, PIECE, **SPEC)
    assert more == 1 < pieces
    assert sum(second.outputs["rows"].values()) == sum(first.outputs["rows"].values()) + 1
    whole, _, _ = workers.run(root, 1 << 30, **SPEC)
    assert hashes(again) == hashes(whole)
    # Other steps and another size are other pieces.
    smaller = SPEC | {"clean": [{"do": "resize", "width": 8, "height": 8}]}
    _, other, new = workers.run(root, PIECE, **smaller)
    assert new == other.outputs["pieces"]["all"] > 1
    assert workers.run(root, PIECE, **SPEC, seed=3)[2] == 0


def test_a_worker_unpacks_the_images_of_its_piece_alone(workers: Workers, tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    (root / "stray.png").unlink()  # Below another folder it would be in one.
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(root.rglob("*.png")):
            packed.write(path, f"set/{path.relative_to(root)}")
    whole, _, _ = workers.run(root, 1 << 30, **SPEC)
    cut, _, pieces = workers.run(archive, PIECE, **SPEC)
    assert pieces > 2
    assert hashes(cut)["train-00000.arrow"] == hashes(whole)["train-00000.arrow"]
    for out in workers.done.values():
        unpacked = list((Path(out).parent / "unpacked").rglob("*.png"))
        looks = (Path(out) / "looks.jsonl").read_text().splitlines()
        assert len(unpacked) == len(looks) < 96


def test_what_can_be_read_from_its_beginning_alone_is_one_piece(workers: Workers, tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as packed:
        packed.add(root, "set")
    assert workers.run(tmp_path / "set.tar.gz", PIECE, **SPEC)[2] == 0


def test_a_name_that_is_not_utf8_comes_through(workers: Workers, tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    put(root, "a/\udcff.png", scene(800))
    whole, told, _ = workers.run(root, 1 << 30, **SPEC)
    cut, result, _ = workers.run(root, PIECE, **SPEC)
    assert hashes(cut) == hashes(whole)
    assert result.outputs["rows"] == told.outputs["rows"]


def test_splits_and_faults_are_those_of_the_whole(workers: Workers, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number in range(80):
        put(root, f"{'train' if number < 60 else 'test'}/{'ab'[number % 2]}/{number:03d}.png", scene(number))
    whole, _, _ = workers.run(root, 1 << 30, **SPEC)
    cut, result, pieces = workers.run(root, PIECE, **SPEC)
    assert pieces > 1
    assert hashes(cut) == hashes(whole)
    assert result.outputs["rows"]["test"] == 20
    put(root, "test/a/leak.png", scene(0))
    with pytest.raises(InvalidInput, match="leak: "):
        workers.run(root, PIECE, task="image-classification")

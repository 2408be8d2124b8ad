"""Declared steps on images: size, exposure, doubles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_data_prep.domain.image_steps import gradient_bits, sharpness
from sextant_data_prep.ledger import REMOVED
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Workbench

MakeBench = Callable[..., Workbench]


def scene(seed: int, side: int = 32) -> Image.Image:
    """A random picture with edges and areas."""
    coarse = np.random.default_rng(seed).integers(40, 216, (6, 6), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.NEAREST)


def folder(root: Path, images: dict[str, Image.Image]) -> Path:
    """A folder of these images by CLASS/NAME, beside forty of two classes."""
    for number in range(40):
        images[f"{'ab'[number % 2]}/{number:03d}"] = scene(number)
    for name, image in images.items():
        path = root / "set" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return root / "set"


def prepared(make_bench: MakeBench, root: Path, *clean: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The description, and the images that were left out."""
    bench = make_bench(root, task="image-classification", clean=list(clean))
    meta = prepare(bench).registers[0].meta
    log = bench.out / REMOVED
    return meta, [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_images_come_in_the_size_that_is_asked_for(make_bench: MakeBench, tmp_path: Path) -> None:
    meta, _ = prepared(make_bench, folder(tmp_path, {}), {"do": "resize", "width": 20, "height": 12})
    assert meta["features"][0]["shape"] == [1, 12, 20]


def test_blurred_dark_and_bright_images_are_flagged_or_left_out(make_bench: MakeBench, tmp_path: Path) -> None:
    odd = {
        "a/x_blurred": scene(99).filter(ImageFilter.GaussianBlur(8)),
        "a/y_dark": Image.new("L", (32, 32), 3),
        "b/z_bright": Image.new("L", (32, 32), 252),
    }
    step = {"do": "exposure", "min_sharpness": 50.0, "min_brightness": 0.05, "max_brightness": 0.95}
    root = folder(tmp_path, odd)
    meta, removed = prepared(make_bench, root, step)
    assert meta["flagged"] == {"is blurred": 1, "is too bright": 1, "is too dark": 1}
    assert removed == []
    meta, removed = prepared(make_bench, root, {**step, "action": "remove"})
    assert meta["removed"] == {"exposure": 3}
    assert [line["reason"] for line in removed] == ["is blurred", "is too dark", "is too bright"]
    assert sum(split["rows"] for split in meta["splits"].values()) == 40


def test_of_images_with_the_same_pixels_the_first_stays(make_bench: MakeBench, tmp_path: Path) -> None:
    root = folder(tmp_path, {"a/zz": scene(0), "b/zz": scene(2)})
    _, removed = prepared(make_bench, root, {"do": "deduplicate"})
    assert [line["reason"] for line in removed] == ["stood there before", "stood there before, with another label"]


def test_images_that_are_nearly_the_same_are_left_out_unless_their_labels_differ(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    root = folder(tmp_path, {"a/zz": scene(0).point(lambda v: v + 5), "b/zz": scene(2).point(lambda v: v + 5)})
    _, removed = prepared(make_bench, root, {"do": "deduplicate", "near": 0.95})
    assert [line["reason"] for line in removed] == ["is nearly the same as an image before"]


def test_steps_that_leave_nothing_are_refused(make_bench: MakeBench, tmp_path: Path) -> None:
    step = {"do": "exposure", "min_sharpness": 1e6, "action": "remove"}
    with pytest.raises(InvalidInput, match="leave no image"):
        prepared(make_bench, folder(tmp_path, {}), step)


def test_blurring_lowers_sharpness_and_light_does_not_change_the_bits() -> None:
    for seed in range(10):
        image = scene(seed)
        blurred = image.filter(ImageFilter.GaussianBlur(2))
        sharp, soft = (sharpness(np.asarray(one, np.float64)) for one in (image, blurred))
        assert soft < sharp / 4
        lighter = image.point(lambda v: v + 10)
        assert (gradient_bits(image) ^ gradient_bits(lighter)).bit_count() <= 2

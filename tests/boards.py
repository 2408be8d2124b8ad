"""Small circuit boards that are drawn: a reference and an inspected picture of each, and the boxes of its defects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
DEFECTS = ("gap", "spot")
BOXES: dict[str, Any] = {
    "format": "lines",
    "images": ["{board}/{number}_ok.png", "{board}/{number}_seen.png"],
    "file": "{board}/{number}.txt",
    "columns": ["left", "top", "right", "bottom", "class"],
    "classes": {"1": "gap", "2": "spot"},
}
"""What a spec says of the folder that `write_boards` makes."""
Defects = list[tuple[int, int, int, int, int]]
"""Sides and the number of the class, from 1."""


def board(rng: np.random.Generator, defects: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Defects]:
    """Reference and inspected picture (SIDE, SIDE): vertical tracks, with gaps in these and spots between them."""
    first, pitch = int(rng.integers(4, 8)), 16
    ok = np.zeros((SIDE, SIDE), np.uint8)
    # A number at the edge tells boards apart.
    ok[:, :3] = 255 * rng.integers(0, 2, (SIDE, 1))
    tracks = list(range(first, SIDE - 16, pitch))
    for left in tracks:
        ok[:, left : left + 6] = 255
    seen, boxes = ok.copy(), Defects()
    for lane in rng.permutation(len(tracks))[:defects]:
        kind, top, size = int(rng.integers(1, 3)), int(rng.integers(2, SIDE - 12)), int(rng.integers(6, 9))
        left = tracks[lane] if kind == 1 else tracks[lane] + 7
        width = 6 if kind == 1 else size
        seen[top : top + size, left : left + width] = 0 if kind == 1 else 255
        boxes.append((left, top, left + width, top + size, kind))
    return ok, seen, boxes


def write_boards(root: Path, boards: int, each: int, seed: int = 0) -> None:
    """`BOARD/NUMBER_ok.png`, `BOARD/NUMBER_seen.png` and `BOARD/NUMBER.txt`; every fourth picture has no defect."""
    rng = np.random.default_rng(seed)
    for name in range(boards):
        folder = root / f"board{name:02d}"
        folder.mkdir(parents=True)
        for number in range(each):
            ok, seen, boxes = board(rng, 0 if number % 4 == 3 else int(rng.integers(1, 4)))
            Image.fromarray(ok).save(folder / f"{number:03d}_ok.png")
            Image.fromarray(seen).save(folder / f"{number:03d}_seen.png")
            (folder / f"{number:03d}.txt").write_text("".join(" ".join(map(str, box)) + "\n" for box in boxes))


def as_coco(root: Path) -> None:
    """`boxes.json` with the same boxes."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path in sorted(root.glob("*/*_seen.png")):
        images.append(
            {"id": len(images), "file_name": path.relative_to(root).as_posix(), "width": SIDE, "height": SIDE}
        )
        for line in path.with_name(path.name.replace("_seen.png", ".txt")).read_text().splitlines():
            left, top, right, bottom, kind = map(int, line.split())
            box = [left, top, right - left, bottom - top]
            annotations.append({"id": len(annotations), "image_id": len(images) - 1, "bbox": box, "category_id": kind})
    categories = [{"id": number, "name": name} for number, name in enumerate(DEFECTS, 1)]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (root / "boxes.json").write_text(json.dumps(whole))


def as_voc(root: Path) -> None:
    """`BOARD/NUMBER.xml` with the same boxes."""
    for path in root.glob("*/*.txt"):
        objects = ""
        for line in path.read_text().splitlines():
            sides, kind = line.split()[:4], DEFECTS[int(line.split()[4]) - 1]
            named = zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True)
            box = "".join(f"<{name}>{side}</{name}>" for name, side in named)
            objects += f"<object><name>{escape(kind)}</name><bndbox>{box}</bndbox></object>"
        path.with_suffix(".xml").write_text(f"<annotation>{objects}</annotation>")

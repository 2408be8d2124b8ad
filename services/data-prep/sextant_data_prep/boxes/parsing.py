"""The files of boxes: COCO, VOC, and lines of columns."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from sextant_data_prep import listing
from sextant_data_prep.boxes.finding import Row
from sextant_data_prep.domain.marks import Mark
from sextant_shared.contracts.annotations import Annotations
from sextant_shared.damage import Damaged, decoding
from sextant_shared.errors import InvalidInput

MOST_BYTES = 16 << 20
"""Of the boxes of one row."""
Marks = Callable[[Row, int, int], list[Mark]]
"""(row, width, height) -> its boxes, which may be none. Raises Damaged with the reason where they cannot be read."""
NO_FILE = "has no file of boxes"


def reader(root: Path, boxes: Annotations) -> Marks:
    """What reads the boxes of a row. Raises InvalidInput where the one file for all of them is no COCO."""
    match boxes.format:
        case "coco":
            return Coco(listing.held(root, boxes.file), boxes.file).marks
        case "voc":
            return lambda row, width, height: _voc(_text(root, row))
    return lambda row, width, height: list(_lines(_text(root, row), boxes, width, height))


def _text(root: Path, row: Row) -> str:
    path = listing.held(root, row.file)
    if path is None:
        raise Damaged(NO_FILE)
    if path.stat().st_size > MOST_BYTES:
        raise Damaged("its file of boxes is too large")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Damaged("its file of boxes is not UTF-8") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Damaged("a side of a box is no number") from None


def _lines(text: str, boxes: Annotations, width: int, height: int) -> Iterator[Mark]:
    columns = boxes.columns or []
    for line in filter(str.strip, text.splitlines()):
        cells = line.split() if boxes.separator == " " else line.split(boxes.separator)
        if len(cells) != len(columns):
            raise Damaged("a line of its boxes has another number of columns")
        said = {name: cell.strip() for name, cell in zip(columns, cells, strict=True) if name != "ignore"}
        label = said.pop("class")
        along, down = (width, height) if boxes.relative else (1, 1)
        scale = {"left": along, "right": along, "width": along, "center_x": along}
        yield _mark({name: _number(cell) * scale.get(name, down) for name, cell in said.items()}, label)


def _mark(at: dict[str, float], label: str) -> Mark:
    """From the middle and the size, a corner and the size, or two corners."""
    if "center_x" in at:
        at["left"], at["top"] = at["center_x"] - at["width"] / 2, at["center_y"] - at["height"] / 2
    right = at["right"] if "right" in at else at["left"] + at["width"]
    bottom = at["bottom"] if "bottom" in at else at["top"] + at["height"]
    return Mark(at["left"], at["top"], right, bottom, label)


def _voc(text: str) -> list[Mark]:
    # Entities are declared in a document type alone: without one there is nothing that could grow.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise Damaged("its file of boxes declares a document type")
    with decoding(ET.ParseError):
        root = ET.fromstring(text)  # noqa: S314 - see above
    found = []
    for item in root.iter("object"):
        label, box = item.findtext("name"), item.find("bndbox")
        sides = [] if box is None else [box.findtext(name) for name in ("xmin", "ymin", "xmax", "ymax")]
        if label is None or not sides or None in sides:
            raise Damaged("an object has no name or no box")
        left, top, right, bottom = (_number(str(side)) for side in sides)
        found.append(Mark(left, top, right, bottom, label.strip()))
    return found


class Coco:
    """Boxes of all images, by the names of these."""

    def __init__(self, path: Path | None, name: str) -> None:
        """Raises InvalidInput where the file is not there, or is no COCO as to its main parts."""
        if path is None:
            raise InvalidInput(f"there is no file {name[:120]!r}", field="boxes.file")
        try:
            whole = json.loads(path.read_bytes())
            self._classes = {_key(one["id"]): str(one["name"]) for one in whole["categories"]}
            self._images = {str(one["file_name"]): _key(one["id"]) for one in whole["images"]}
            self._boxes: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for one in whole["annotations"]:
                self._boxes[_key(one["image_id"])].append(one)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            what = f"{name[:120]!r} is no COCO: {type(error).__name__} {str(error)[:120]}"
            accepted = (
                "JSON with images (id, file_name), annotations (image_id, bbox, category_id), categories (id, name)"
            )
            raise InvalidInput(what, field="boxes.file", accepted=accepted) from None

    def marks(self, row: Row, width: int, height: int) -> list[Mark]:
        """Those of an image, whose name may leave out the folders before it; of crowds there are no boxes."""
        del width, height
        parts = row.images[-1].split("/")
        names = ("/".join(parts[first:]) for first in range(len(parts)))
        image = next((self._images[name] for name in names if name in self._images), None)
        if image is None:
            raise Damaged("is not in the file of boxes")
        return [self._mark(one) for one in self._boxes.get(image, []) if not one.get("iscrowd")]

    def _mark(self, one: dict[str, Any]) -> Mark:
        with decoding():
            left, top, width, height = map(float, one["bbox"])
            label = self._classes.get(_key(one["category_id"]))
        if label is None:
            raise Damaged("a box has an unknown class")
        return Mark(left, top, left + width, top + height, label)


def _key(number: object) -> str:
    if not isinstance(number, int | str):
        raise TypeError(f"an id is {type(number).__name__}")
    return str(number)

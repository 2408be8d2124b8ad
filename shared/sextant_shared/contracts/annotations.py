"""How a `prepare` job finds images and the boxes that belong to them."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from sextant_shared.contracts.base import Accepted, Text

FIELD = re.compile(r"\{([a-z][a-z0-9_]*)\}")
MOST_FIELDS, MOST_A_PART = 8, 3
"""Of a path, and between two slashes of it: the ways to match a name grow with its length to this power."""
Column = Literal["left", "top", "right", "bottom", "width", "height", "center_x", "center_y", "class", "ignore"]
SIDES = (
    {"left", "top", "right", "bottom"},
    {"left", "top", "width", "height"},
    {"center_x", "center_y", "width", "height"},
)


class Template:
    """A path with fields, such as `{board}/{number}_test.png`: a field stands for a part without `/`."""

    def __init__(self, text: str) -> None:
        """Raises ValueError for braces that are no fields, fields side by side, and ways out of the source."""
        self.text = text
        plain = FIELD.sub("", text)
        self.fields = list(dict.fromkeys(FIELD.findall(text)))
        if "{" in plain or "}" in plain or "}{" in text or len(self.fields) > MOST_FIELDS:
            accepted = f"names in braces with something between them, {MOST_FIELDS} at most: {{board}}/{{number}}.png"
            raise ValueError(f"{text[:80]!r} is no path with fields; accepted: {accepted}")
        parts = text.split("/")
        if any(part in ("", ".", "..") or "\\" in part for part in parts):
            raise ValueError(f"{text[:80]!r} is no path below the source; accepted: FOLDER/FILE, without . and ..")
        if any(len(FIELD.findall(part)) > MOST_A_PART for part in parts):
            raise ValueError(f"{text[:80]!r} has over {MOST_A_PART} fields between two slashes")
        pattern, seen = "", set[str]()
        for at, part in enumerate(FIELD.split(text)):
            if at % 2 == 0:
                pattern += re.escape(part)
            else:
                pattern += f"(?P={part})" if part in seen else f"(?P<{part}>[^/]+)"
                seen.add(part)
        self._pattern = re.compile(pattern)

    def match(self, path: str) -> dict[str, str] | None:
        """The fields of a path; nothing where it is another one."""
        found = self._pattern.fullmatch(path)
        return found.groupdict() if found else None

    def fill(self, fields: dict[str, str]) -> str:
        """The path with these fields."""
        return FIELD.sub(lambda found: fields[found[1]], self.text)


class Annotations(Accepted):
    """Where images and boxes lie below the source, as paths with fields."""

    format: Literal["coco", "voc", "lines"]
    images: list[Text] = Field(
        min_length=1, max_length=8, description="paths of the images of a row, the reference first; one or several"
    )
    file: Text = Field(description="path of the boxes: one file (coco), or one a row (voc, lines)")
    columns: list[Column] | None = Field(None, min_length=5, max_length=64, description="of a line (lines)")
    separator: Literal[" ", ",", ";", "\t"] = Field(" ", description="between columns (lines)")
    relative: bool = Field(False, description="lengths are shares of the width and height (lines)")
    classes: dict[Text, Text] | None = Field(
        None, min_length=1, max_length=1000, description="what the file says, and the class's name; no others are known"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        paths = [Template(path) for path in self.images]
        last, file = set(paths[-1].fields), Template(self.file)
        if not last:
            raise ValueError("images: the last path needs a field that tells rows apart, such as {number}")
        for path in [*paths[:-1], *([] if self.format == "coco" else [file])]:
            if unknown := set(path.fields) - last:
                raise ValueError(f"{path.text[:80]!r} has the field {min(unknown)!r}, which the last image has not")
        if self.format == "coco" and file.fields:
            raise ValueError("file: COCO has one file with all boxes, without fields")
        if self.format != "coco" and not file.fields:
            raise ValueError("file: each row has a file of its own, so its path needs fields")
        if (self.format == "lines") != (self.columns is not None):
            raise ValueError("columns are for the format lines, and needed there")
        if self.columns is not None:
            self._check_columns(self.columns)
        return self

    @staticmethod
    def _check_columns(columns: list[Column]) -> None:
        used = [name for name in columns if name != "ignore"]
        if len(set(used)) < len(used) or "class" not in used or set(used) - {"class"} not in SIDES:
            accepted = " or ".join(", ".join(sorted(sides)) for sides in SIDES)
            raise ValueError(f"columns must be class and {accepted}, each once, and ignore")

    @property
    def fields(self) -> list[str]:
        """What a path of a row says, by which rows can be kept together."""
        return Template(self.images[-1]).fields

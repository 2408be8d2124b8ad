"""Pictures for reports: points where they belong, what is no number left out, names that stay names."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

from sextant_shared.pictures import HEIGHT, LEFT, WIDTH, curves, key, matrix


def points(picture: str) -> list[list[tuple[float, float]]]:
    lines = re.findall(r'points="([^"]*)"', picture)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in lines]  # type: ignore[misc]


def test_curves_share_one_scale() -> None:
    found = points(curves({"a": [(0.0, 1.0), (10.0, 3.0)], "b": [(5.0, 2.0)]}, "both"))
    assert found == [[(LEFT, 4 + HEIGHT), (LEFT + WIDTH, 4)], [(LEFT + WIDTH / 2, 4 + HEIGHT / 2)]]


def test_what_is_no_number_is_left_out() -> None:
    found = points(curves({"a": [(0.0, 1.0), (1.0, math.nan), (2.0, math.inf), (3.0, 2.0)]}, "a"))
    assert [x for x, _ in found[0]] == [LEFT, LEFT + WIDTH]
    assert curves({"a": [(0.0, math.nan)]}, "a") == ""
    assert curves({}, "none") == ""


def test_one_point_and_a_flat_line_have_a_place() -> None:
    assert points(curves({"a": [(1.0, 7.0)]}, "a")) == [[(LEFT, 4)]]
    assert {y for _, y in points(curves({"a": [(1.0, 7.0), (2.0, 7.0)]}, "a"))[0]} == {4}


def test_pictures_are_well_formed_whatever_the_names() -> None:
    nasty = '<&">'
    for picture in (curves({nasty: [(0.0, 1.0)]}, nasty), matrix([nasty, "b"], [[1, 0], [0, 2]], nasty), key([nasty])):
        assert ET.fromstring(picture).tag in ("svg", "p")


def test_a_matrix_has_a_cell_for_each_pair_and_a_number_where_there_are_rows() -> None:
    picture = ET.fromstring(matrix(["a", "b"], [[3, 0], [1, 2]]))
    assert len(picture.findall("rect")) == 4
    assert [text.text for text in picture.findall("text")] == ["a", "a", "3", "b", "b", "1", "2"]

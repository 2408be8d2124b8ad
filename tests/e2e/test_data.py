"""A team's own data: pushed, prepared with its bad rows set aside, trained on, pulled."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from sextant_shared.contracts.views import JobView
from tests.e2e.conftest import Stack


def prepare(stack: Stack, path: Path, **spec: Any) -> JobView:
    """Push `path` and prepare it."""
    upload = stack.client.push(path)
    job = stack.client.submit({"kind": "prepare", "source": upload.uri, **spec})
    return stack.client.wait(job, timeout=60, check=False)


def table(rows: int, bad: int) -> str:
    """Two classes that a line separates, with rows of the wrong width among them."""
    rng = random.Random(0)
    lines = ["x,y,label"]
    for _ in range(rows):
        x, y = rng.gauss(0, 1), rng.gauss(0, 1)
        lines.append(f"{x:.4f},{y:.4f},{'above' if y > x else 'below'}")
    lines[5:5] = ["1.0,2.0,above,extra"] * bad
    return "\n".join(lines) + "\n"


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.timeout(120)
def test_a_table_with_a_bad_row_is_trained_on_without_it(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text(table(600, bad=2))
    done = prepare(stack, file, task="tabular", target="label", name="points")
    assert done.state == "SUCCEEDED", done.error
    outputs = done.outputs or {}
    assert outputs["quarantined"]["rows"] == 2
    assert sum(outputs["rows"].values()) == 600
    train = stack.client.submit(
        {"kind": "train", "name": "points", "data": {"dataset": "points"}, "model": {"zoo": "mlp"}}
    )
    metrics = (stack.client.wait(train, timeout=60).outputs or {})["metrics"]
    assert metrics["val_accuracy"] > 0.9


def test_texts_are_cleaned_and_what_was_left_out_comes_with_the_version(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "questions.csv"
    rows = [f"please {verb} order {number},{verb}" for number in range(60) for verb in ("send", "cancel")]
    odd = ["write to ann@example.org about a refund,send", "no,send", "please send order 7,send", "no label,"]
    file.write_text("\n".join(["question,intent", *rows, *odd]) + "\n")
    clean = [{"do": "mask"}, {"do": "length", "min_words": 2}, {"do": "deduplicate"}]
    columns = {"text": "question", "target": "intent", "task": "text-classification"}
    done = prepare(stack, file, name="questions", clean=clean, **columns)
    assert done.state == "SUCCEEDED", done.error
    outputs = done.outputs or {}
    assert sum(outputs["rows"].values()) == 121
    assert outputs["removed"] == {"deduplicate": 1, "length": 1}

    stack.client.pull("questions", tmp_path / "pulled", kind="dataset")
    texts: set[str] = set()
    for path in (tmp_path / "pulled").glob("*.arrow"):
        texts |= set(pa.ipc.open_file(pa.memory_map(str(path))).read_all()["text"].to_pylist())
    assert "write to <EMAIL> about a refund" in texts
    assert "step deduplicate" in (tmp_path / "pulled" / "report.html").read_text()
    assert lines(tmp_path / "pulled" / "quarantine.jsonl") == [{"row": 125, "reason": "the label is missing"}]
    assert lines(tmp_path / "pulled" / "removed.jsonl") == [
        {"row": 123, "reason": "has under 2 words", "step": "length"},
        {"row": 124, "reason": "stood there before", "step": "deduplicate"},
    ]


def test_too_many_bad_rows_fail_the_job_and_are_counted(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text(table(100, bad=20))
    failed = prepare(stack, file, task="tabular", target="label")
    assert failed.state == "FAILED"
    assert "20" in (failed.error or {})["message"]


def test_a_folder_of_images_with_a_corrupt_one(stack: Stack, tmp_path: Path) -> None:
    for index in range(60):
        name = ("dark", "light")[index % 2]
        (tmp_path / "scans" / name).mkdir(parents=True, exist_ok=True)
        image = Image.new("L", (16, 16), 40 + 150 * (index % 2) + index % 7)
        image.putpixel((index % 16, index // 16), 0)
        image.save(tmp_path / "scans" / name / f"{index}.png")
    (tmp_path / "scans" / "dark" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but not really")
    done = prepare(stack, tmp_path / "scans", task="image-classification", name="scans", max_bad_share=0.05)
    assert done.state == "SUCCEEDED", done.error
    assert (done.outputs or {})["quarantined"]["rows"] == 1


def test_what_is_no_table_and_no_column_is_named(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text(table(50, bad=0))
    failed = prepare(stack, file, task="tabular", target="colour")
    assert failed.state == "FAILED"
    assert (failed.error or {})["field"] == "target"
    picture = tmp_path / "picture.csv"
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    picture.write_bytes(buffer.getvalue())
    assert prepare(stack, picture, task="tabular", target="label").state == "FAILED"


def test_the_same_data_gives_the_same_version(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text(table(200, bad=0))
    first = prepare(stack, file, task="tabular", target="label", name="twice")
    again = prepare(stack, file, task="tabular", target="label", name="twice")
    assert (first.outputs or {})["dataset"]["digest"] == (again.outputs or {})["dataset"]["digest"]
    pulled = stack.client.pull("twice", tmp_path / "pulled", kind="dataset")
    assert (tmp_path / "pulled" / "dataset.json").is_file(), pulled

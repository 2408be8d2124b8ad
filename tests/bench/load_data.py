"""Loading training data: residency on a sparse terabyte, and speed on real images against torch's DataLoader."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sextant_data_prep.images import preparing
from sextant_parallel import GlobalOrder
from sextant_shared.contracts.specs import PrepareSpec, Split, TrainConfig
from sextant_trainer.training.tasks import Task, open_task
from tests.bench.report import Report
from tests.data import needed

BATCH, WORKERS = 128, (0, 1, 2)
FILE_ROWS, BATCH_ROWS, ROW_BYTES = 1 << 20, 1 << 16, 3 * 32 * 32
TERABYTE = 10**12
PLANTED = 500


class Sparse(io.RawIOBase):
    """A file that leaves holes where long runs of zeros are written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Long pieces are the zeros of columns here."""
        size = memoryview(data).nbytes
        if size >= BATCH_ROWS:
            self._file.seek(size, os.SEEK_CUR)
        else:
            self._file.write(data)
        return size

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._file.tell()

    def close(self) -> None:
        """With the length that was written."""
        if not self._file.closed:
            self._file.truncate()
            self._file.close()
        super().close()


def run(report: Report) -> None:
    """Both parts."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="sextant-bench-") as directory:
        _residency(report, Path(directory) / "sparse")
        _speed(report, Path(directory) / "real")


def _residency(report: Report, folder: Path) -> None:
    folder.mkdir()
    count = -(-TERABYTE // (FILE_ROWS * ROW_BYTES)) if not report.quick else 31
    first = folder / "00000.arrow"
    starts = _template(first)
    for number in range(1, count):
        subprocess.run(["cp", "--sparse=always", first, folder / f"{number:05d}.arrow"], check=True)
    planted = np.random.default_rng(0).integers(0, count * FILE_ROWS, PLANTED)
    for row in planted.tolist():
        file, place = divmod(row, FILE_ROWS)
        batch, within = divmod(place, BATCH_ROWS)
        with (folder / f"{file:05d}.arrow").open("r+b") as stream:
            stream.seek(starts[batch] + within * ROW_BYTES)
            stream.write(int(row).to_bytes(8, "little"))
    (folder / "planted.json").write_text(json.dumps(planted.tolist()))
    steps = 1000 if report.quick else 4000
    command = [sys.executable, "-m", "tests.bench.clients.load_sparse", str(folder), str(steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    if found["found"] != found["planted"]:
        raise SystemExit(f"{found['found']} of {found['planted']} planted rows were found where they lie")
    for key in ("resident_mb", "open_s"):
        report.figure(key, found[key])
    report.figure("sparse_samples_per_second", found["samples_per_second"])
    report.note(
        f"sparse set: {found['rows']:,} images of 3x32x32 in {count} files, {found['bytes'] / 1e12:.2f} TB, {steps} "
        f"batches of 256 in shuffled order; all {PLANTED} rows that were marked beforehand were found; resident is the "
        "largest of the whole process, torch included"
    )
    shutil.rmtree(folder)


def _template(path: Path) -> list[int]:
    """Write a file of zeros; where the pixels of each batch begin in it."""
    schema = pa.schema([("image", pa.list_(pa.uint8(), ROW_BYTES)), ("label", pa.int64()), ("id", pa.int64())])
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(BATCH_ROWS * ROW_BYTES, np.uint8)), ROW_BYTES)
    numbers = pa.array(np.zeros(BATCH_ROWS, np.int64))
    batch = pa.record_batch([pixels, numbers, numbers], schema=schema)
    with Sparse(path) as raw, pa.PythonFile(raw, "w") as sink, pa.ipc.new_file(sink, schema) as writer:
        for _ in range(FILE_ROWS // BATCH_ROWS):
            writer.write_batch(batch)
    with pa.memory_map(str(path)) as source:
        base = source.read_buffer(1).address
        reader = pa.ipc.open_file(source)
        columns = (reader.get_batch(number).column("image") for number in range(reader.num_record_batches))
        return [column.flatten().buffers()[1].address - base for column in columns]


def _speed(report: Report, folder: Path) -> None:
    file = needed("cifar10/cifar10_train10k_test2k.zip")
    _prepare(file, folder)
    epochs, rounds = (2, 1) if report.quick else (5, 3)
    task = open_task(folder, TrainConfig(), {})
    ours = [_seconds(_ours(task, epochs)) for _ in range(rounds)]
    theirs = {workers: [_seconds(_loaded(Images(task), workers, epochs)) for _ in range(rounds)] for workers in WORKERS}
    batched = [_seconds(_loaded(Batches(task), 0, epochs)) for _ in range(rounds)]
    samples = task.rows("train") * epochs
    report.figure("samples_per_second", samples / min(ours))
    for workers, taken in theirs.items():
        report.figure(f"torch_{workers}_per_second", samples / min(taken))
    report.figure("torch_batched_per_second", samples / min(batched))
    report.figure("ratio", min(map(min, theirs.values())) / min(ours))
    report.figure("ratio_batched", min(batched) / min(ours))
    report.sample("seconds", ours)
    report.note(
        f"{task.rows('train'):,} images of CIFAR-10 as the platform stores them, batches of {BATCH}, normalised to "
        f"float32, {epochs} epochs, the best of {rounds} rounds; ratio is to the best DataLoader with 0, 1 or 2 "
        "workers over the same mapped file, one sample a call; ratio_batched to one whose data set gathers whole "
        "batches, as ours does (__getitems__)"
    )


def _prepare(file: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            part, label, image = name.split("/")
            if image and part == "train":
                (folder / "raw" / label).mkdir(parents=True, exist_ok=True)
                (folder / "raw" / label / image).write_bytes(archive.read(name))
    spec = PrepareSpec(source="upload://u", task="image-classification", split=Split(val=0.05, test=0.05))
    found = preparing.read(spec, folder / "raw", folder / "scratch", lambda *_: None)
    preparing.prepare(spec, found, folder, {"task": spec.task}, lambda *_: None)


def _ours(task: Task, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    order = GlobalOrder(task.rows("train"), BATCH, 0)
    for step in range(order.steps(epochs)):
        yield task.train_batch(order, step, slice(0, BATCH))


class Images(Dataset[tuple[Tensor, int]]):
    """The same columns, one sample a call."""

    def __init__(self, task: Any) -> None:
        part = task.data.splits["train"]
        (self.pixels,), (self.labels,) = list(part.features.parts()), list(part.labels.parts())
        self.mean, self.std = task.data.mean, task.data.std

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        pixels = (self.pixels[row].astype(np.float32) - self.mean) / self.std
        return torch.from_numpy(pixels), int(self.labels[row])


class Batches(Images):
    """The rows of a batch gathered together."""

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        pixels = (self.pixels[rows].astype(np.float32) - self.mean) / self.std
        return torch.from_numpy(pixels), torch.from_numpy(self.labels[rows])


def _together(batch: Any) -> Any:
    return batch


def _loaded(data: Images, workers: int, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    collate = _together if isinstance(data, Batches) else None
    loader: DataLoader[Any] = DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0, collate_fn=collate
    )
    for _ in range(epochs):
        yield from cast("Iterator[tuple[Tensor, Tensor]]", loader)


def _seconds(batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    began = time.perf_counter()
    for inputs, targets in batches:
        assert inputs.dtype == torch.float32
        assert len(inputs) == len(targets)
    return time.perf_counter() - began

"""The work of a `prepare` job: read, clean, label, split, write."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import polars as pl

from sextant_data_prep import archives, images, packages, report, rows, series, sources, writing
from sextant_data_prep.domain import splitting
from sextant_data_prep.domain.quality import Quality
from sextant_data_prep.domain.samples import Samples, encode_labels, row_bytes, statistics
from sextant_data_prep.ledger import Ledger
from sextant_shared.artefacts import safe_path
from sextant_shared.contracts.specs import SERIES_TASKS, PrepareSpec
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Registration, Result, Workbench

SCRATCH = "scratch"


def prepare(bench: Workbench) -> Result:
    """Make the dataset version that the order asks for. Raises InvalidInput where the source does not allow it."""
    spec = PrepareSpec.model_validate(bench.order.spec, strict=False)
    bench.progress(0.05, "reading")
    name = spec.register_as or bench.order.name
    about = {"task": spec.task, "name": name, "source": spec.source, "seed": spec.seed}
    if spec.source.startswith("package://"):
        described = _of_samples(bench, spec, packages.read(spec.source, spec.task), about)
    elif spec.task == "image-classification":
        described = _of_samples(bench, spec, images.read(_uploaded(bench, spec), spec.clean), about)
    elif spec.task in SERIES_TASKS:
        described = _of_series(bench, spec, _uploaded(bench, spec), about)
    else:
        described = _of_rows(bench, spec, _uploaded(bench, spec), about)
    bench.progress(1.0, "done", {"rows": sum(info["rows"] for info in described["splits"].values())})
    files = sorted(path.name for path in bench.out.iterdir())
    counts = {split: info["rows"] for split, info in described["splits"].items()}
    outputs = {"rows": counts, "quarantined": described["quarantined"]}
    if described.get("removed"):
        outputs["removed"] = described["removed"]
    return Result(
        outputs=outputs,
        registers=[Registration(type="dataset", name=name, output="dataset", files=files, meta=described)],
    )


def _of_rows(bench: Workbench, spec: PrepareSpec, path: Path, about: dict[str, Any]) -> dict[str, Any]:
    scratch = bench.directory / SCRATCH
    try:
        source = sources.of(path, spec.task)
        made = rows.prepare(spec, source, bench.out, scratch, about, bench.progress)
    finally:
        rmtree(scratch, ignore_errors=True)
    (bench.out / report.NAME).write_text(report.render(made.described, made.quality), encoding="utf-8")
    return made.described


def _of_series(bench: Workbench, spec: PrepareSpec, path: Path, about: dict[str, Any]) -> dict[str, Any]:
    source = sources.of(path, spec.task)
    described, quality = series.prepare(spec, source, bench.out, about, bench.progress)
    (bench.out / report.NAME).write_text(report.render(described, quality), encoding="utf-8")
    return described


def _of_samples(bench: Workbench, spec: PrepareSpec, samples: Samples, about: dict[str, Any]) -> dict[str, Any]:
    samples.quarantine.check(samples.total, spec.max_bad_share)
    classes, labels = encode_labels(samples)
    bench.progress(0.5, "splitting", {"rows": samples.total, "bad": len(samples.quarantine.rows)})
    keys = [splitting.content_key(row_bytes(samples, row), spec.seed) for row in range(len(labels))]
    splits = splitting.assign(keys, labels.tolist(), spec.split.val, spec.split.test)
    train = np.flatnonzero(np.array(splits) == "train")
    if set(splits) != set(splitting.SPLITS):
        raise InvalidInput(f"{len(labels)} rows are too few for three splits", field="split", accepted="more rows")
    bench.progress(0.7, "writing")
    about = {
        **about,
        "statistics": statistics(samples, train),
        "quarantined": {"rows": len(samples.quarantine.rows), "reasons": samples.quarantine.reasons},
        "duplicates": len(keys) - len(set(keys)),
    }
    if spec.clean:
        about |= {"removed": _note_removed(bench.out, samples), "flagged": dict(sorted(samples.flagged.items()))}
    described = writing.write(bench.out, samples, classes, labels, splits, about)
    (bench.out / report.NAME).write_text(report.render(described, Quality(samples.total)), encoding="utf-8")
    return described


def _note_removed(out: Path, samples: Samples) -> dict[str, int]:
    ledger = Ledger(out)
    for row, step, reason in samples.removed:
        ledger.note(pl.DataFrame({"row": [row], "reason": [reason]}), step)
    return dict(sorted(ledger.removed.items()))


def _uploaded(bench: Workbench, spec: PrepareSpec) -> Path:
    """The file or folder that the source names, unpacked where it was an archive."""
    upload = bench.order.input("source")
    path = Path(upload.path or "") / upload.name
    if archives.is_archive(path):
        path = archives.unpack(path, bench.directory / "unpacked")
    inside = spec.source.removeprefix("upload://").partition("/")[2]
    if inside:
        path = path / str(safe_path(inside))
    if not path.exists():
        raise InvalidInput(f"the upload holds no {inside[:80]!r}", field="source")
    return path

"""The work of a `prepare` job: read, clean, label, split, write."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sextant_data_prep import archives, images, packages, tables, writing
from sextant_data_prep.domain import splitting
from sextant_data_prep.domain.samples import Samples, encode_labels, row_bytes, statistics
from sextant_shared.artefacts import safe_path
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Registration, Result, Workbench

TABLES = (".csv", ".jsonl", ".ndjson")


def prepare(bench: Workbench) -> Result:
    """Make the dataset version that the order asks for. Raises InvalidInput where the source does not allow it."""
    spec = PrepareSpec.model_validate(bench.order.spec, strict=False)
    bench.progress(0.05, "reading")
    samples = _read(bench, spec)
    samples.quarantine.check(samples.total, spec.max_bad_share)
    classes, labels = encode_labels(samples)
    bench.progress(0.5, "splitting", {"rows": samples.total, "bad": len(samples.quarantine.rows)})
    keys = [splitting.content_key(row_bytes(samples, row), spec.seed) for row in range(len(labels))]
    splits = splitting.assign(keys, labels.tolist(), spec.split.val, spec.split.test)
    train = np.flatnonzero(np.array(splits) == "train")
    if set(splits) != set(splitting.SPLITS):
        raise InvalidInput(f"{len(labels)} rows are too few for three splits", field="split", accepted="more rows")
    bench.progress(0.7, "writing")
    name = spec.register_as or bench.order.name
    about = {
        "task": spec.task,
        "name": name,
        "source": spec.source,
        "seed": spec.seed,
        "statistics": statistics(samples, train),
        "quarantined": {"rows": len(samples.quarantine.rows), "reasons": samples.quarantine.reasons},
        "duplicates": len(keys) - len(set(keys)),
    }
    described = writing.write(bench.out, samples, classes, labels, splits, about)
    bench.progress(1.0, "done", {"rows": len(labels)})
    files = sorted(path.name for path in bench.out.iterdir() if path.name != "quarantine.jsonl")
    counts = {split: info["rows"] for split, info in described["splits"].items()}
    return Result(
        outputs={"rows": counts, "quarantined": described["quarantined"]},
        registers=[Registration(type="dataset", name=name, output="dataset", files=files, meta=described)],
    )


def _read(bench: Workbench, spec: PrepareSpec) -> Samples:
    if spec.source.startswith("package://"):
        return packages.read(spec.source, spec.task)
    upload = bench.order.input("source")
    path = Path(upload.path or "") / upload.name
    if archives.is_archive(path):
        path = archives.unpack(path, bench.directory / "unpacked")
    inside = spec.source.removeprefix("upload://").partition("/")[2]
    if inside:
        path = path / str(safe_path(inside))
    if not path.exists():
        raise InvalidInput(f"the upload holds no {inside[:80]!r}", field="source")
    if spec.task == "image-classification":
        return images.read(path)
    return tables.read(_single_table(path), spec.task, spec.target, spec.text)


def _single_table(path: Path) -> Path:
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    fitting = [p for p in found if p.suffix.lower() in TABLES]
    if len(fitting) != 1:
        accepted = f"one file with {', '.join(TABLES)}, or upload://ID/PATH"
        raise InvalidInput(f"the upload holds {len(fitting)} tables", field="source", accepted=accepted)
    return fitting[0]

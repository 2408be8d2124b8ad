"""The work of a `prepare` job: read, clean, label, split, write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any, Protocol

import numpy as np

from sextant_data_prep import cutting, dividing, packages, report, rows, series, sources, writing
from sextant_data_prep.boxes import preparing as preparing_boxes
from sextant_data_prep.domain import splitting
from sextant_data_prep.domain.quality import Quality
from sextant_data_prep.domain.samples import Samples, encode_labels, row_bytes, statistics
from sextant_data_prep.images import preparing as preparing_images
from sextant_data_prep.merging import Cleaned
from sextant_shared import archives
from sextant_shared.artefacts import safe_path
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Divided, Parts, Registration, Result, Workbench

DIVISIBLE = ("tabular", "text-classification", "image-classification", "defect-detection")
"""Tasks whose sources are divided among workers where they are large."""


class Images(Protocol):
    """How a task makes a version of images: what `Gathered` is stays between its own functions."""

    def divide(self, spec: PrepareSpec, root: Path, least: int) -> Divided | None:
        """The pieces of a large folder."""

    def clean(
        self, spec: PrepareSpec, order: dict[str, Any], upload: Callable[[Sequence[str]], Path], out: Path, say: Any
    ) -> Result:
        """Do one piece."""

    def put_together(self, spec: PrepareSpec, parts: Parts) -> Any:
        """Gather what the pieces hold."""

    def read(self, spec: PrepareSpec, root: Path, scratch: Path, say: Any) -> Any:
        """Gather what a folder holds."""

    def prepare(
        self, spec: PrepareSpec, images: Any, out: Path, about: dict[str, Any], say: Any
    ) -> tuple[dict[str, Any], Quality]:
        """Write the version."""


OF_IMAGES: dict[str, Images] = {"image-classification": preparing_images, "defect-detection": preparing_boxes}


def work(bench: Workbench) -> Result | Divided:
    """Do what the order asks for: a dataset version, or a piece of one; a large one is divided first.

    Raises InvalidInput where the source does not allow it.
    """
    spec = PrepareSpec.model_validate(bench.order.spec, strict=False)
    piece, parts = bench.order.inputs.get("piece"), bench.order.parts
    of_images = OF_IMAGES.get(spec.task)
    if piece is not None:
        clean: Any = of_images.clean if of_images else dividing.clean
        done: Result = clean(spec, piece["order"], partial(_uploaded, bench, spec), bench.out, bench.progress)
        return done
    if parts is None and (spec.source.startswith("package://") or spec.task not in DIVISIBLE):
        return _registered(bench, spec, _undivided(bench, spec))
    with _scratch(bench) as scratch:
        described = _images(bench, spec, of_images, scratch) if of_images else _rows(bench, spec, scratch)
        if isinstance(described, Divided):
            return described
        made = _registered(bench, spec, described)
    if parts is None:
        return made
    told = {"all": len(parts.directories), "reused": parts.reused}
    return made.model_copy(update={"outputs": {**made.outputs, "pieces": told}})


def _undivided(bench: Workbench, spec: PrepareSpec) -> dict[str, Any]:
    """The version of a source that is one piece however large it is."""
    bench.progress(0.05, "reading")
    if spec.source.startswith("package://"):
        return _of_samples(bench, spec, packages.read(spec.source, spec.task))
    return _of_series(bench, spec, _uploaded(bench, spec))


def _registered(bench: Workbench, spec: PrepareSpec, described: dict[str, Any]) -> Result:
    bench.progress(1.0, "done", {"rows": sum(info["rows"] for info in described["splits"].values())})
    name = spec.register_as or bench.order.name
    files = sorted(path.name for path in bench.out.iterdir())
    counts = {split: info["rows"] for split, info in described["splits"].items()}
    outputs = {"rows": counts, "quarantined": described["quarantined"]}
    if described.get("removed"):
        outputs["removed"] = described["removed"]
    return Result(
        outputs=outputs,
        registers=[Registration(type="dataset", name=name, output="dataset", files=files, meta=described)],
    )


def _about(spec: PrepareSpec) -> dict[str, Any]:
    """Neither the name nor the source: the same rows are the same version, however they are called and got here."""
    return {"task": spec.task, "seed": spec.seed}


@contextmanager
def _scratch(bench: Workbench) -> Iterator[Path]:
    scratch = bench.directory / "scratch"
    try:
        yield scratch
    finally:
        rmtree(scratch, ignore_errors=True)


def _rows(bench: Workbench, spec: PrepareSpec, scratch: Path) -> dict[str, Any] | Divided:
    """The version of the rows, or the pieces of a source that is divided first."""
    if bench.order.parts is not None:
        cleaned = dividing.put_together(spec, bench.order.parts, bench.out, scratch)
    else:
        cleaned = _divided(bench, spec, scratch)
    return cleaned if isinstance(cleaned, Divided) else _of_rows(bench, spec, cleaned)


def _images(bench: Workbench, spec: PrepareSpec, of: Images, scratch: Path) -> dict[str, Any] | Divided:
    """The same of images."""
    if bench.order.parts is not None:
        return _of_images(bench, spec, of, of.put_together(spec, bench.order.parts))
    bench.progress(0.05, "reading")
    root = _uploaded(bench, spec)
    divided = None if _streamed(bench) else of.divide(spec, root, _piece_bytes(bench))
    return divided or _of_images(bench, spec, of, of.read(spec, root, scratch, bench.progress))


def _streamed(bench: Workbench) -> bool:
    """Whether a piece of the source could be come to only through all before it."""
    return archives.is_streamed(Path(bench.order.input("source").name))


def _piece_bytes(bench: Workbench) -> int:
    return int(bench.order.service.get("piece_bytes", dividing.PIECE_BYTES))


def _divided(bench: Workbench, spec: PrepareSpec, scratch: Path) -> Cleaned | Divided:
    """The pieces of a large source; the cleaned rows of any other."""
    bench.progress(0.05, "reading")
    source = sources.of(_uploaded(bench, spec), spec.task)
    cuts = [] if _streamed(bench) else cutting.cut(source, _piece_bytes(bench))
    if len(cuts) > 1:
        return dividing.divide(spec, source, cuts, scratch, bench.progress)
    return rows.clean(spec, source, bench.out, scratch, bench.progress)


def _of_rows(bench: Workbench, spec: PrepareSpec, cleaned: Cleaned) -> dict[str, Any]:
    made = rows.describe(spec, cleaned, bench.out, _about(spec), bench.progress)
    (bench.out / report.NAME).write_text(report.render(made.described, made.quality), encoding="utf-8")
    return made.described


def _of_images(bench: Workbench, spec: PrepareSpec, of: Images, images: Any) -> dict[str, Any]:
    described, quality = of.prepare(spec, images, bench.out, _about(spec), bench.progress)
    (bench.out / report.NAME).write_text(report.render(described, quality), encoding="utf-8")
    return described


def _of_series(bench: Workbench, spec: PrepareSpec, path: Path) -> dict[str, Any]:
    source = sources.of(path, spec.task)
    described, quality = series.prepare(spec, source, bench.out, _about(spec), bench.progress)
    (bench.out / report.NAME).write_text(report.render(described, quality), encoding="utf-8")
    return described


def _of_samples(bench: Workbench, spec: PrepareSpec, samples: Samples) -> dict[str, Any]:
    samples.quarantine.check(samples.total, spec.max_bad_share)
    classes, labels = encode_labels(samples)
    bench.progress(0.5, "splitting", {"rows": samples.total, "bad": len(samples.quarantine.rows)})
    keys = [splitting.content_key(row_bytes(samples, row), spec.seed) for row in range(len(labels))]
    splits = splitting.assign(keys, labels.tolist(), spec.split.val, spec.split.test)
    train = np.flatnonzero(np.array(splits) == "train")
    splitting.insist_on_all(splits, given=False)
    bench.progress(0.7, "writing")
    about = {
        **_about(spec),
        "statistics": statistics(samples, train),
        "quarantined": {"rows": len(samples.quarantine.rows), "reasons": samples.quarantine.reasons},
        "duplicates": len(keys) - len(set(keys)),
    }
    described = writing.write(bench.out, samples, classes, labels, splits, about)
    (bench.out / report.NAME).write_text(report.render(described, Quality(samples.total)), encoding="utf-8")
    return described


def _uploaded(bench: Workbench, spec: PrepareSpec, names: Collection[str] | None = None) -> Path:
    """The file or folder that the source names; of an archive it is unpacked, all of it or the files of `names`."""
    upload = bench.order.input("source")
    path = Path(upload.path or "") / upload.name
    inside = spec.source.removeprefix("upload://").partition("/")[2]
    if archives.is_archive(path):
        only = None if names is None else {str(safe_path(f"{inside}/{name}".strip("/"))) for name in names}
        path = archives.unpack(path, bench.directory / "unpacked", only)
    if inside:
        path = path / str(safe_path(inside))
    if not path.exists():
        raise InvalidInput(f"the upload holds no {inside[:80]!r}", field="source")
    return path

"""A table or a set of texts, from reader to dataset version: in passes, with memory that does not grow with it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sextant_data_prep import deciding, encoding, leaks, learning, merging
from sextant_data_prep.cleaning import Cleaner, Say
from sextant_data_prep.domain.assigning import TRAIN
from sextant_data_prep.domain.quality import Quality
from sextant_data_prep.domain.splitting import SPLITS
from sextant_data_prep.figures import TEXT, Sampler, TableFigures, TextLengths
from sextant_data_prep.learning import Training
from sextant_data_prep.merging import Cleaned, Located
from sextant_data_prep.readers.batch import ROW
from sextant_data_prep.roles import Roles
from sextant_data_prep.sinks import SplitWriter
from sextant_data_prep.sources import Source
from sextant_data_prep.staging import LABEL
from sextant_data_prep.writing import FORMAT
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput

PASSES = 3
"""How often a table is read at most: its columns may turn out to be of other types than they seemed."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was made: the description of the dataset version, and what its report shows beside that."""

    described: dict[str, Any]
    quality: Quality


def prepare(spec: PrepareSpec, source: Source, out: Path, scratch: Path, about: dict[str, Any], say: Say) -> Prepared:
    """Write the dataset version of `source` under `out`, in one piece. `scratch` is removed by the caller."""
    return describe(spec, clean(spec, source, out, scratch, say), out, about, say)


def clean(spec: PrepareSpec, source: Source, out: Path, scratch: Path, say: Say) -> Cleaned:
    """The cleaned rows of `source`, below `scratch`; what is to be noted of others goes to `out`.

    Raises InvalidInput where there is nothing to learn from, or too many rows are bad.
    """
    roles = Roles.of(spec, documents=source.documents is not None, splits=source.splits)
    whole = Located(scratch / "piece", [table.name for table in source.tables])
    cleaner = Cleaner(spec, source, roles, whole.directory, say)
    numeric = cleaner.guess()
    for _ in range(PASSES):
        cleaner.clean(numeric)
        cleaned = merging.merge(spec, roles, numeric, [whole], out, scratch)
        if cleaned.settled:
            break
        numeric = cleaned.profiles.numeric()
    check(spec, cleaned)
    return cleaned


def describe(spec: PrepareSpec, cleaned: Cleaned, out: Path, about: dict[str, Any], say: Say) -> Prepared:
    """Write the dataset version of cleaned rows under `out`."""
    ledger = cleaned.ledger
    say(0.5, "splitting", {"rows": float(ledger.read), "bad": float(sum(ledger.reasons.values()))})
    classes, places = cleaned.labels.classes()
    decision = deciding.decide(spec, cleaned, places)
    for doubles in deciding.left_out(cleaned, decision.fates):
        ledger.note(doubles, "deduplicate")
    say(0.6, "writing", {})
    leaking = leaks.find(spec.clean, cleaned, decision.fates)
    sampler = Sampler(cleaned)
    training = Training(cleaned, decision.fates)
    training.limits = learning.limits(training)
    description = _write(training, classes, places, out, sampler)
    about = {
        **about,
        "quarantined": {"rows": sum(ledger.reasons.values()), "reasons": dict(sorted(ledger.reasons.items()))},
        "removed": dict(sorted(ledger.removed.items())),
        "changed": dict(sorted(ledger.changed.items())),
        "duplicates": decision.duplicates,
    }
    if training.limits:
        about["outliers"] = {name: asdict(limits) for name, limits in training.limits.items()}
    if len(cleaned.before) > 1:
        about["files"] = cleaned.before
    if decision.time is not None:
        about["time"] = decision.time
    if leaking is not None:
        about["leaks"] = leaking
    whole = {**description, **about}
    (out / "dataset.json").write_text(json.dumps(whole, indent=1, sort_keys=True))
    return Prepared(whole, Quality(ledger.read, sampler.columns(cleaned)))


def check(spec: PrepareSpec, cleaned: Cleaned) -> None:
    """Raise InvalidInput where there is nothing to learn from, or too many rows are bad."""
    for bound in cleaned.profiles.rules.bounds:
        if bound.column not in cleaned.numeric:
            raise InvalidInput(
                f"bounds: column {bound.column[:80]!r} is none of numbers", field="clean", accepted="such columns"
            )
    cleaned.ledger.check(spec.max_bad_share)
    if not cleaned.staging.rows:
        raise InvalidInput("the steps leave no row", field="clean", accepted="wider limits")
    if spec.task == "tabular" and not any(profile.present for profile in cleaned.profiles.columns.values()):
        raise InvalidInput("there is no column to learn from beside the target", field="source")


def _write(
    training: Training, classes: list[str], places: NDArray[np.int64], out: Path, sampler: Sampler
) -> dict[str, Any]:
    cleaned, text = training.cleaned, training.cleaned.roles.text
    encoded = encoding.features(training) if text is None else {}
    made = {name: one.made.alias(name) for name, one in encoded.items()} or {TEXT: pl.col(text or "").alias(TEXT)}
    types = {name: pa.float32() if text is None else pa.string() for name in made}
    described = [
        {"name": name, "dtype": _dtype(kind), "shape": [], **(encoded[name].plain() if encoded else {})}
        for name, kind in types.items()
    ]
    schema = pa.schema({**types, "label": pa.int64(), "id": pa.int64()})
    writers = [SplitWriter(out, split, schema) for split in SPLITS]
    counts = np.zeros((len(SPLITS), len(classes)), np.int64)
    figures = TextLengths() if text is not None else TableFigures(list(made))
    labels = pl.Series(places)
    for first, frame in cleaned.staging.parts():
        fate = training.fates[first : first + len(frame)]
        sampler.add(first, frame, fate)
        rows = frame.select(*made.values(), labels.gather(frame[LABEL]).alias("label"), pl.col(ROW).alias("id"))
        for split, writer in enumerate(writers):
            part = rows.filter(pl.Series(fate == split))
            writer.add(part.to_arrow(compat_level=pl.CompatLevel.oldest()))
            counts[split] += np.bincount(part["label"].to_numpy(), minlength=len(classes))
            if split == TRAIN:
                figures.add(part)
    return _described(writers, counts, described, classes, cleaned.roles.target, figures)


def _described(
    writers: list[SplitWriter],
    counts: NDArray[np.int64],
    features: list[dict[str, Any]],
    classes: list[str],
    target: str,
    figures: TextLengths | TableFigures,
) -> dict[str, Any]:
    digest = hashlib.sha256()
    splits: dict[str, Any] = {}
    for name, writer, count in zip(SPLITS, writers, counts, strict=True):
        writer.close()
        for one in writer.digests():
            digest.update(one)
        splits[name] = {"rows": writer.rows, "files": writer.files, "class_counts": count.tolist()}
    schema = {"format": FORMAT, "features": features, "target": {"name": target, "classes": classes}}
    digest.update(json.dumps(schema, sort_keys=True).encode())
    return {**schema, "splits": splits, "digest": digest.hexdigest(), "statistics": figures.plain()}


def _dtype(kind: pa.DataType) -> str:
    return "string" if kind == pa.string() else "float32"

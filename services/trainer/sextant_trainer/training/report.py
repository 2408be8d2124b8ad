"""The report of a train job: one page that stands alone, the same as data, and a card of the model."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sextant_shared.pictures import curves, key, matrix
from sextant_trainer.training.study import Study, Worst

PAGE, DATA, CARD = "report.html", "report.json", "card.json"
PACKAGES = ("sextant-platform", "torch", "numpy", "pyarrow", "transformers", "tokenizers", "safetensors")
MOST_CLASSES = 30
"""Up to as many have a matrix; of more the pairs that are confused most are listed."""
MOST_PAIRS = 30
STYLE = (
    "body{font:15px system-ui;margin:2rem auto;max-width:64rem;color:#222}h2{margin-top:2rem}"
    "td,th{padding:.2rem .8rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}svg text{font:12px system-ui}"
    "figure{display:inline-block;margin:.6rem 1.2rem .6rem 0;max-width:32rem}figcaption{overflow-wrap:anywhere}"
    "img{image-rendering:pixelated;max-width:256px}"
)
Row = Mapping[str, float]


def card(about: Mapping[str, Any], parameters: int, trained: int, plan: str) -> dict[str, Any]:
    """What a user of the model has to know, from `about`, which is its model.json.

    `parameters` are all that it has, and `trained` those that training changed.
    """
    return {
        "task": about["task"],
        "architecture": about["architecture"],
        "parameters": {"all": parameters, "trained": trained},
        **{
            key: about[key]
            for key in ("pretrained", "teacher", "temperature", "threshold", "level", "window", "columns")
            if key in about
        },
        "input": about["input"],
        "classes": about["classes"],
        "dataset": about["dataset"],
        "metrics": about["metrics"],
        "hyperparameters": about["hyperparameters"],
        "plan": plan,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that make a model what it is."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def as_json(about: Mapping[str, Any], curve: Sequence[Row], study: Study) -> str:
    """The report as data, with `about`, the card."""
    return json.dumps({"card": about, "curve": curve, "validation": study.plain()}, indent=1, sort_keys=True)


def as_page(about: Mapping[str, Any], curve: Sequence[Row], study: Study) -> str:
    """The report as HTML."""
    data = about["dataset"]
    # Not the model's own name: the same run under another one makes the same files.
    title = f"{about['architecture']['zoo']} on {data['name']}@{data['version']}: training report"
    parts = [f"<h1>{escape(title)}</h1>", *_card(about), *_curves(curve), *_errors(study), *_worst(study.worst)]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
        f"{''.join(parts)}</html>"
    )


def _card(about: Mapping[str, Any]) -> Iterator[str]:
    data, count = about["dataset"], about["parameters"]
    yield "<h2>Model card</h2>"
    yield _table(
        {
            "task": about["task"],
            "architecture": about["architecture"]["zoo"],
            "parameters": f"{count['all']:,}, of which {count['trained']:,} were trained",
            "dataset": f"{data['name']}@{data['version']}, digest {data['digest'][:16]}",
            **({"pretrained": about["pretrained"]["source"]} if "pretrained" in about else {}),
            **({"teacher": "{name}@{version}".format(**about["teacher"])} if "teacher" in about else {}),
            "plan": about["plan"],
            **{name: f"{about[name]:.4g}" for name in ("temperature", "threshold", "level") if name in about},
        }
    )
    yield "<h3>Metrics of the best epoch</h3>" + _table({n: f"{v:.4g}" for n, v in about["metrics"].items()})
    yield "<h3>Settings</h3>" + _table({**about["architecture"]["config"], **about["hyperparameters"]})
    yield "<h3>Versions</h3>" + _table(about["versions"])


def _table(rows: Mapping[str, Any]) -> str:
    told = ((name, "none" if value is None else str(value)) for name, value in rows.items())
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text[:400])}</td></tr>" for name, text in told)
    return f"<table>{cells}</table>"


def _curves(curve: Sequence[Row]) -> Iterator[str]:
    """Losses together, and each other figure of validation by itself."""
    names = [name for name in (curve[-1] if curve else {}) if name != "epoch"]
    losses = [name for name in names if name.endswith("loss")]
    others = [[name] for name in names if name not in losses]
    yield "<h2>Curves</h2><p>By epoch.</p>"
    for together in [losses, *others]:
        points = {name: [(row["epoch"], row[name]) for row in curve if name in row] for name in together}
        yield f"<figure>{curves(points, ', '.join(together))}<figcaption>{key(together)}</figcaption></figure>"


def _errors(study: Study) -> Iterator[str]:
    if study.confusion or study.by_step:
        seen = f"{study.examined:,} of {study.rows:,} rows of the validation split, drawn at random"
        yield f"<h2>Errors</h2><p>On {seen}, with the weights of the best epoch.</p>"
    if study.by_step:
        points = {"squared error": [(at + 1.0, value) for at, value in enumerate(study.by_step)]}
        yield f"<figure>{curves(points, 'squared error by step')}<figcaption>By step, scaled.</figcaption></figure>"
    if study.confusion and len(study.classes) <= MOST_CLASSES:
        yield "<p>Rows: the true class. Columns: what the model said. Shade: share of the row.</p>"
        yield matrix(study.classes, study.confusion)
    elif study.confusion:
        yield _pairs(study)


def _pairs(study: Study) -> str:
    counts = [
        (count, study.classes[i], study.classes[j])
        for i, row in enumerate(study.confusion)
        for j, count in enumerate(row)
        if count and i != j
    ]
    rows = "".join(
        f"<tr><td>{escape(true)}</td><td>{escape(said)}</td><td>{count}</td></tr>"
        for count, true, said in sorted(counts, key=lambda one: (-one[0], one[1:]))[:MOST_PAIRS]
    )
    return f"<table><tr><th>is</th><th>was called</th><th>rows</th></tr>{rows}</table>"


def _worst(rows: Sequence[Worst]) -> Iterator[str]:
    if rows:
        numbered = "The number is that of the row in the source, and of a series in the order of time."
        yield f"<h2>Worst errors</h2><p>By loss. {numbered}</p>"
    for row in rows:
        verdict = f": {row.said}, is {row.truth}" if row.said else ""
        caption = f"row {row.row}{verdict} (loss {row.loss:.3g})"
        picture = f'<img alt="row {row.row}" src="{escape(row.image)}">' if row.image else ""
        if row.curves:
            picture = curves(row.curves, f"row {row.row}") + key(list(row.curves))
        text = f"<br>{escape(row.text[:400])}" if row.text else ""
        yield f"<figure>{picture}<figcaption>{escape(caption)}{text}</figcaption></figure>"

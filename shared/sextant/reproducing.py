"""Runs a job again from what was recorded of it, and says whether the same came out. Flows: no I/O here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sextant import _requests as requests
from sextant._exchange import Flow, Policy, exchange
from sextant._flows import wait
from sextant.errors import BadInput
from sextant_shared.contracts.views import JobView, VersionView

KINDS = ("prepare", "train", "script", "tune", "export", "evaluate")
OUTPUT: Mapping[str, requests.VersionKind] = {"dataset": "dataset", "model": "model"}
CLOSE = 1e-5
"""Relative difference of metrics up to which two runs are the same but for rounding."""

Sameness = Literal["identical", "equal", "different", "failed"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A job and its second run: every file of the version that it made is the same (`identical`), what it found is, to
    within CLOSE (`equal`), or neither.
    """

    job: str
    step: str | None
    kind: str
    again: str
    verdict: Sameness
    differences: list[str] = field(default_factory=list)


def sources(job: JobView) -> list[JobView]:
    """The jobs that make up the reproduction of a job: itself, or the steps of a pipeline whose results are recorded.

    Raises BadInput where nothing can be reproduced.
    """
    # Trials and pieces are done again with what they are parts of.
    all_ = (job.steps or []) if job.kind == "pipeline" else [job]
    found = [one for one in all_ if one.kind in KINDS and one.state == "SUCCEEDED"]
    if not found:
        raise BadInput(
            f"nothing of {job.kind} {job.id}, which is {job.state}, can be reproduced; "
            f"accepted are jobs of the kinds {', '.join(KINDS)} that succeeded, and pipelines of them",
            field="job",
        )
    return found


def spec_of(job: JobView) -> dict[str, Any]:
    """The spec that does the same again: inputs pinned to the versions that were used, results under other names."""
    spec = dict(job.spec)
    inputs = job.inputs or {}
    for name, kind in (("data", "dataset"), ("model", "model"), ("teacher", "model")):
        used = inputs.get(name)
        if isinstance(used, dict) and used.get("type") == kind:
            spec[name] = {kind: f"{used['name']}@{used['version']}"}
    found = inputs.get("config")
    if isinstance(found, dict):
        spec["config"] = found["config"]
        if spec.get("model") is None:
            spec["model"] = {"zoo": found["zoo"], "config": found.get("model", {}), **found.get("pretrained", {})}
    weights = inputs.get("weights")
    if isinstance(weights, dict) and weights.get("type") == "model":
        spec["model"] = {**spec["model"], "weights": "model://{name}@{version}".format(**weights)}
    if job.kind == "prepare":
        spec["reuse"] = False
    if job.kind == "evaluate":
        spec["endpoint"] = inputs["endpoint"]
    if made := _made(job):
        spec["register_as"] = f"{made[1]['name']}-again"
    return {**spec, "name": f"{job.name}-again"}


def reproduce(job: JobView, timeout: float | None, policy: Policy) -> Flow[Comparison]:
    """Run one of `sources` again, and compare."""
    view = yield from exchange(requests.submit(spec_of(job)), policy)
    again = yield from wait(view.id, timeout, False, policy)
    about = (str(job.id), job.step, job.kind, str(again.id))
    if again.state != "SUCCEEDED":
        reason = (again.error or {}).get("message") or "no reason given"
        return Comparison(*about, "failed", [f"the second run is {again.state}: {reason}"])
    first = yield from _version(job, policy)
    second = yield from _version(again, policy)
    verdict, differences = compare(job, first, again, second)
    return Comparison(*about, verdict, differences)


def _version(job: JobView, policy: Policy) -> Flow[VersionView | None]:
    """The version that a job made, if its kind makes any."""
    if not (made := _made(job)):
        return None
    kind, output = made
    return (yield from exchange(requests.version(kind, f"{output['name']}@{output['version']}"), policy))


def _made(job: JobView) -> tuple[requests.VersionKind, dict[str, Any]] | None:
    outputs = job.outputs or {}
    return next(((kind, outputs[name]) for name, kind in OUTPUT.items() if name in outputs), None)


def compare(
    job: JobView, first: VersionView | None, again: JobView, second: VersionView | None
) -> tuple[Sameness, list[str]]:
    """What two runs made and found: the verdict, and each difference in words."""
    differences: list[str] = []
    hashes = [
        {file["path"]: file["sha256"] for file in version.files} if version else {} for version in (first, second)
    ]
    for path in sorted(hashes[0] | hashes[1]):
        if hashes[0].get(path) != hashes[1].get(path):
            both = path in hashes[0] and path in hashes[1]
            differences.append(f"{path} differs" if both else f"{path} is in one run alone")
    same_files = bool(hashes[0]) and not differences
    found = [_found(one.outputs or {}) for one in (job, again)]
    # What an older version of the product did not record cannot be compared.
    told = [name for name in sorted(found[0] | found[1]) if not (name.startswith("served ") and name not in found[0])]
    apart = [name for name in told if not _close(found[0].get(name), found[1].get(name))]
    differences += [f"{name}: {found[0].get(name)} and {found[1].get(name)}" for name in apart]
    differences += _tools(job, again)
    if same_files and not apart:
        return "identical", differences
    return ("different" if apart or not found[0] else "equal"), differences


def _close(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float | int):
        return math.isclose(first, second, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(first == second)


def _found(outputs: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on how fast the machine was: metrics, numbers of rows, what was chosen or served."""
    plain = ("best_value", "best_trial", "trials", "failed", "rows")
    found = {name: value for name, value in outputs.items() if name in plain and not isinstance(value, dict)}
    found |= outputs.get("metrics", {})
    for group, name in (("rows", "rows of"), ("served", "served")):
        if isinstance(values := outputs.get(group), dict):
            found |= {f"{name} {key}": value for key, value in values.items()}
    config = outputs.get("best", {}).get("config", {})
    return found | {f"best {key}": value for key, value in config.items()}


def _tools(job: JobView, again: JobView) -> list[str]:
    first, second = ((one.outputs or {}).get("made_with", {}) for one in (job, again))
    return [
        f"made with {name} {first.get(name, 'unknown')}, now {second.get(name, 'unknown')}"
        for name in sorted(first | second)
        if first.get(name) != second.get(name)
    ]

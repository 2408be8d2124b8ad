"""A job spec in any of the forms that people hold one in -> the plain data that the API takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sextant import documents
from sextant.errors import BadInput
from sextant_shared.contracts.specs import JobSpec, PipelineSpec

SpecLike = JobSpec | Mapping[str, Any] | str | Path


def plain(spec: SpecLike) -> dict[str, Any]:
    """The spec as data. A text or path names a YAML or JSON file. Raises BadInput."""
    if isinstance(spec, JobSpec):
        return _of_model(spec)
    if isinstance(spec, str | Path):
        return with_kind(documents.load(spec).content)
    return with_kind(dict(spec))


def with_kind(content: dict[str, Any]) -> dict[str, Any]:
    """A mapping with steps and without a kind is a pipeline."""
    if "steps" in content and "kind" not in content:
        return {"kind": "pipeline", **content}
    return content


def places_of_code(content: dict[str, Any]) -> list[str]:
    """The parts of a spec that run code of one's own: steps, or `` for the spec itself. Raises BadInput for none."""
    steps = content.get("steps")
    parts = steps if content.get("kind") == "pipeline" and isinstance(steps, dict) else {"": content}
    found = [name for name, part in parts.items() if isinstance(part, dict) and _runs_code(part)]
    if not found:
        raise BadInput(
            "code was given, and nothing in the spec runs it; accepted are the kind script, and train with model.code",
            field="code",
        )
    return found


def _runs_code(part: dict[str, Any]) -> bool:
    model = part.get("model")
    return "code" not in part and (part.get("kind") == "script" or (isinstance(model, dict) and "code" in model))


def with_code(content: dict[str, Any], places: list[str], uri: str) -> dict[str, Any]:
    """The spec with the upload as the code of these parts."""
    if places == [""]:
        return {**content, "code": uri}
    steps = {name: {**step, "code": uri} if name in places else step for name, step in content["steps"].items()}
    return {**content, "steps": steps}


def encode(content: Any) -> bytes:
    """JSON for the wire. Raises BadInput for what JSON cannot say (NaN, infinity, dates, bytes)."""
    try:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"this cannot be sent as JSON: {error}") from None


def put(content: dict[str, Any], assignment: str) -> dict[str, Any]:
    """The content with `a.b=value` set; the value is read as YAML. Raises BadInput."""
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise BadInput(f"{assignment!r} sets nothing; accepted is FIELD[.FIELD...]=VALUE", field="--set")
    changed: dict[str, Any] = _put(content, keys, documents.scalar(text), path)
    return changed


def _put(content: Any, keys: list[str], value: Any, path: str) -> Any:
    key, below = keys[0], keys[1:]
    if isinstance(content, list):
        if not key.isdigit() or int(key) >= len(content):
            raise BadInput(f"--set {path}: {key!r} is no place in a list of {len(content)}", field="--set")
        index = int(key)
        new = _put(content[index], below, value, path) if below else value
        return [*content[:index], new, *content[index + 1 :]]
    if not isinstance(content, dict):
        raise BadInput(f"--set {path}: there is a plain value above {key!r}, which has no fields", field="--set")
    return {**content, key: _put(content.get(key, {}), below, value, path) if below else value}


def _of_model(spec: JobSpec) -> dict[str, Any]:
    # Only what was written, so that the same spec in Python and in YAML is the same request; the kind always.
    content = {"kind": getattr(spec, "kind", None), **spec.model_dump(mode="json", exclude_unset=True)}
    if isinstance(spec, PipelineSpec):
        content["steps"] = {name: _of_model(step) for name, step in spec.steps.items()}
    return content

"""Planning without a server: a model's profile, a cluster's description, and the plan that fits them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from sextant import documents
from sextant.errors import BadInput
from sextant_planner import catalogue
from sextant_planner.cluster import Cluster
from sextant_planner.model import ModelProfile
from sextant_planner.record import PlanningError

if TYPE_CHECKING:
    from sextant_planner.search.engine import Choice
    from sextant_planner.search.space import Wishes

T = TypeVar("T")
SHORT = ("device", "devices", "speeds")
"""The fields of a short description: a device of the catalogue, how many, and their speeds where they differ."""


def read_model(name: str) -> ModelProfile:
    """A model of the catalogue, or a profile in a file. Raises BadInput naming what there is."""
    if not name.endswith(".json") and "/" not in name:
        return _planned(lambda: catalogue.model(name))
    file = Path(name)
    if not file.is_file():
        raise BadInput(f"{name}: there is no such file; models of the catalogue: {_names('models')}")
    return _planned(lambda: ModelProfile.from_json(file.read_bytes()), name)


def read_cluster(file: str | None, device: str | None, devices: int | None) -> Cluster:
    """From a YAML or JSON file, short or a whole profile, or from the two words. Raises BadInput."""
    if file is not None:
        content = documents.load(file).content
        return _short(content, file) if set(content) <= set(SHORT) else _whole(content, file)
    if device is None or devices is None:
        raise BadInput(f"give --cluster FILE, or --device and --devices; devices of the catalogue: {_names('devices')}")
    return _planned(lambda: catalogue.cluster(device, devices))


def find(model: ModelProfile, cluster: Cluster, wishes: Wishes, top: int) -> Choice:
    """The best plans. Raises BadInput that says what would fit where nothing does."""
    from sextant_planner.search.engine import search

    return _planned(lambda: search(model, cluster, wishes, top=top))


def _short(content: dict[str, Any], file: str) -> Cluster:
    device, devices = content.get("device"), content.get("devices")
    if not isinstance(device, str) or not isinstance(devices, int) or devices < 1:
        raise BadInput(f"{file}: device must be one of {_names('devices')}, and devices a number of 1 or more")
    made = _planned(lambda: catalogue.cluster(device, devices), file)
    speeds = content.get("speeds")
    if speeds is None:
        return made
    return _whole({**made.model_dump(), "speeds": speeds}, file)


def _whole(content: dict[str, Any], file: str) -> Cluster:
    try:
        return Cluster.model_validate(content, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{file}: {field}: {first['msg']} (given {first.get('input')!r})") from None


def _planned(action: Callable[[], T], source: str | None = None) -> T:
    try:
        return action()
    except PlanningError as error:
        raise BadInput(f"{source}: {error}" if source else str(error)) from None


def _names(kind: str) -> str:
    return ", ".join(catalogue.names(kind))

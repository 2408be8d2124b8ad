"""Shipped profiles, so that a laptop can plan for a cluster: common devices in their nodes, and common models.

Devices are from public constants, with their sources; a profile measured on the machine at hand is better than any of
these. Models were traced from the zoo by `python -m sextant_trainer profile`.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

from sextant_planner.cluster import Cluster, Device, Link
from sextant_planner.model import ModelProfile
from sextant_planner.record import PlanningError, Record


class Node(Record):
    """A device, the links inside a node of `devices_a_node`, and the one between nodes."""

    device: Device
    devices_a_node: int
    inside: Link
    between: Link


def names(kind: str = "devices") -> list[str]:
    """The catalogue's entries: its `devices`, or its `models`."""
    return sorted(entry.name.removesuffix(".json") for entry in _folder(kind).iterdir() if entry.name.endswith(".json"))


def node(name: str) -> Node:
    """The device with this name, in its node. Raises PlanningError listing the names."""
    return Node.from_json(_read("devices", name))


def model(name: str) -> ModelProfile:
    """The model with this name. Raises PlanningError listing the names."""
    return ModelProfile.from_json(_read("models", name))


def cluster(name: str, devices: int) -> Cluster:
    """`devices` of the catalogue's `name`, in full nodes as far as they go."""
    entry = node(name)
    links = [entry.inside]
    if devices > entry.devices_a_node:
        links.append(entry.between.model_copy(update={"size": devices}))
    return Cluster(name=f"{devices} x {name}", devices=(entry.device,), layout=(0,) * devices, links=tuple(links))


def _read(kind: str, name: str) -> bytes:
    known = names(kind)
    if name not in known:
        one = kind.removesuffix("s")
        raise PlanningError(f"no {one} {name!r}; there are: {', '.join(known)}", field=one, nearest=known)
    return _folder(kind).joinpath(f"{name}.json").read_bytes()


def _folder(kind: str) -> Traversable:
    return files(__package__).joinpath(kind)

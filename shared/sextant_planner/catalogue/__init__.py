"""Shipped profiles of common devices and of the nodes they come in, from public constants: a laptop can plan for them.

Each JSON file holds a device and its links with the sources of their figures. A profile measured on the machine at hand
is better than any of these.
"""

from __future__ import annotations

from importlib.resources import files

from sextant_planner.cluster import Cluster, Device, Link
from sextant_planner.record import PlanningError, Record


class Node(Record):
    """A device, the links inside a node of `devices_a_node`, and the one between nodes."""

    device: Device
    devices_a_node: int
    inside: Link
    between: Link


def names() -> list[str]:
    """The catalogue's entries."""
    here = files(__package__)
    return sorted(entry.name.removesuffix(".json") for entry in here.iterdir() if entry.name.endswith(".json"))


def node(name: str) -> Node:
    """The entry with this name. Raises PlanningError listing the names."""
    if name not in names():
        raise PlanningError(f"no device {name!r}; there are: {', '.join(names())}", field="device", nearest=names())
    return Node.from_json(files(__package__).joinpath(f"{name}.json").read_bytes())


def cluster(name: str, devices: int) -> Cluster:
    """`devices` of the catalogue's `name`, in full nodes as far as they go."""
    entry = node(name)
    links = [entry.inside]
    if devices > entry.devices_a_node:
        links.append(entry.between.model_copy(update={"size": devices}))
    return Cluster(name=f"{devices} x {name}", devices=(entry.device,), layout=(0,) * devices, links=tuple(links))

"""The cluster profile: devices, and what moving data between them costs, measured or from public constants."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from sextant_planner.model import Points
from sextant_planner.record import Record


class Collective(StrEnum):
    """The operations that plans are made of."""

    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"
    REDUCE_SCATTER = "reduce_scatter"
    SEND = "send"
    """From one rank to one other."""


class Device(Record):
    """One kind of device."""

    name: str
    flops: dict[str, float] = Field(description="peak, a second, by precision")
    memory_bytes: float = Field(gt=0)
    memory_bandwidth: float = Field(gt=0, description="bytes a second")
    memory_efficiency: float = Field(1.0, gt=0, le=1, description="share of memory_bandwidth reached")
    product_ceiling: float = Field(1.0, gt=0, le=1, description="share of the peak that the largest products reach")
    product_half_inner: float = Field(0.0, ge=0, description="inner size at which a product reaches half of that")
    multiprocessors: int = Field(0, ge=0, description="tiles of a product computed at once; 0: no rounding to tiles")
    tile: tuple[int, int] = Field((128, 256), description="rows and columns, or the other way round")
    kernel_s: float = Field(0.0, ge=0, description="the least time of one operation")
    host_bandwidth: float = Field(25e9, gt=0, description="bytes a second between host and device, for offloading")
    source: str = Field("", description="where the figures are from")


class Link(Record):
    """What joins the members of groups up to `size` neighbouring devices."""

    name: str
    size: int = Field(ge=1, description="devices within reach: 8 for the links of an 8-device node")
    bandwidth: float = Field(gt=0, description="bytes a second and direction, of one device")
    latency_s: float = Field(0.0, ge=0)
    efficiency: float = Field(1.0, gt=0, le=1, description="share of the bandwidth that collectives reach")
    tables: dict[str, Points] = Field(
        default_factory=dict,
        description="measured: '<collective>/<group size>' -> (bytes, seconds); go before the rest",
    )
    source: str = ""


class Cluster(Record):
    """Devices in rank order. Neighbouring ranks are joined by the first link that reaches far enough."""

    name: str
    devices: tuple[Device, ...] = Field(min_length=1)
    layout: tuple[int, ...] = Field(description="for each rank, the index of its device")
    links: tuple[Link, ...] = Field(min_length=1, description="the nearest first; the last must reach all devices")
    speeds: tuple[float, ...] = Field((), description="for each rank, its speed in the device's own: 0.5 is half")
    overlap: float = Field(
        0.9, ge=0, le=1, description="share of data-parallel communication that may hide behind compute"
    )
    prefetch: bool = Field(
        True, description="sharded parameters move while others are computed with; not on processors"
    )
    overlap_slowdown: float = Field(1.0, ge=1, description="how much slower compute is while data moves")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if any(not 0 <= index < len(self.devices) for index in self.layout):
            raise ValueError(f"layout names a device that is not there; there are {len(self.devices)}")
        if self.links[-1].size < len(self.layout):
            raise ValueError(f"the last link reaches {self.links[-1].size} of {len(self.layout)} devices")
        if self.speeds and len(self.speeds) != len(self.layout):
            raise ValueError(f"speeds must be {len(self.layout)} numbers, one a rank")
        return self

    @property
    def size(self) -> int:
        """Devices."""
        return len(self.layout)

    def exposed_s(self, moved_s: float, computed_s: float) -> float:
        """What moving data beside a computation adds to it: what is not hidden, and what computing loses by it."""
        hidden = min(moved_s, self.overlap * computed_s)
        return moved_s - hidden + hidden * (self.overlap_slowdown - 1)

    @property
    def uniform(self) -> bool:
        """Whether all ranks are alike."""
        return len(set(self.layout)) == 1 and len(set(self.speeds)) <= 1

    def device(self, rank: int) -> Device:
        """The device of a rank."""
        return self.devices[self.layout[rank]]

    def speed(self, rank: int) -> float:
        """The speed of a rank, in that of its device."""
        return self.speeds[rank] if self.speeds else 1.0

    def rate(self, rank: int, precision: str) -> float:
        """Arithmetic a second that a rank reaches at best."""
        device = self.device(rank)
        return device.flops[precision] * device.product_ceiling * self.speed(rank)

    def link(self, span: int) -> Link:
        """The link that joins a group which lies within `span` neighbouring ranks."""
        return next(link for link in self.links if link.size >= span)

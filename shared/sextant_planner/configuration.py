"""What a user may say of parallelism: degrees, and how far the planner may go beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import log2, prod
from typing import Annotated, Any

from pydantic import Field, ValidationError

from sextant_planner.cluster import Cluster
from sextant_planner.plan import Precision, Schedule, Sharding
from sextant_planner.record import PlanningError, Record
from sextant_planner.search.space import Wishes, divisors

DEGREES = ("model_parallelism", "data_parallelism", "pipeline_stages", "context_parallelism")


class ParallelConfig(Record):
    """Degrees that are absent are the planner's to choose; with `auto_tune` those given are only compared with."""

    model_parallelism: int | None = Field(None, ge=1, description="tensor-parallel ranks")
    data_parallelism: int | None = Field(None, ge=1)
    pipeline_stages: int | None = Field(None, ge=1)
    context_parallelism: int | None = Field(None, ge=1)
    auto_tune: bool = Field(False, description="look at all degrees, and take the best")
    global_batch: int | None = Field(None, ge=1, description="samples a step; 8 a device by default")
    microbatches: int | None = Field(None, ge=1)
    # A user's document has words and lists for these three.
    precision: Precision | None = Field(
        None, strict=False, description="bfloat16 where the devices are faster in it, by default"
    )
    sharding: tuple[Annotated[Sharding, Field(strict=False)], ...] = Field(tuple(Sharding), strict=False, min_length=1)
    schedules: tuple[Annotated[Schedule, Field(strict=False)], ...] = Field(tuple(Schedule), strict=False, min_length=1)
    offload_optimizer: bool = False
    recompute: bool = True
    compile: bool = Field(False, description="blocks go through torch.compile; with `probe`, where that is faster")
    probe: int = Field(
        0, ge=0, le=5, description="so many of the best plans run for a few steps, and the fastest is taken"
    )

    @classmethod
    def read(cls, config: Mapping[str, Any] | ParallelConfig) -> ParallelConfig:
        """From a dictionary. Raises PlanningError that names the field, what was given and what is accepted."""
        if isinstance(config, ParallelConfig):
            return config
        try:
            return cls.model_validate(dict(config), strict=False)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            accepted = ", ".join(cls.model_fields)
            message = f"{field}: {first['msg']} (given {first.get('input')!r}); the fields are: {accepted}"
            raise PlanningError(message, field=field) from None

    @property
    def degrees(self) -> tuple[int | None, ...]:
        """In the order of DEGREES."""
        return tuple(getattr(self, name) for name in DEGREES)

    @property
    def devices(self) -> int:
        """The product of the degrees that are given."""
        return prod(degree or 1 for degree in self.degrees)

    def fits(self, world: int) -> bool:
        """Whether the degrees given, with some others, make up this many devices."""
        if all(self.degrees[:3]):
            return self.devices == world
        return world % self.devices == 0

    def require_fit(self, world: int) -> None:
        """Raises PlanningError with the nearest degrees where these do not fit the world."""
        if self.fits(world):
            return
        nearest = self.nearest(world)
        told = " x ".join(f"{name} {degree}" for name, degree in nearest.items())
        given = " x ".join(f"{name} {degree}" for name, degree in zip(DEGREES, self.degrees, strict=True) if degree)
        raise PlanningError(
            f"{given} makes {self.devices} devices, and there are {world}; the nearest that fits: {told}"
            " (or auto_tune, which chooses)",
            field="degrees",
            nearest=nearest,
        )

    def nearest(self, world: int) -> dict[str, int]:
        """The degrees that make up the world and are the fewest doublings and halvings away."""
        names = [name for name, degree in zip(DEGREES, self.degrees, strict=True) if degree]
        wanted = [degree for degree in self.degrees if degree]
        choices = [c for c in product(divisors(world), repeat=len(names)) if self._makes(c, world)]
        best = min(choices, key=lambda c: sum(abs(log2(a / b)) for a, b in zip(c, wanted, strict=True)))
        return dict(zip(names, best, strict=True))

    def _makes(self, degrees: tuple[int, ...], world: int) -> bool:
        total = prod(degrees)
        return total == world if all(self.degrees[:3]) else world % total == 0

    def wishes(self, cluster: Cluster, *, free: bool = False) -> Wishes:
        """What the search may look at; `free` lets it choose all degrees."""
        fixed = (None,) * len(DEGREES) if free else self.degrees
        tp, dp, pp, cp = fixed
        return Wishes(
            global_batch=self.global_batch or 8 * cluster.size,
            dp=dp,
            tp=tp,
            pp=pp,
            cp=cp,
            sharding=self.sharding,
            schedules=self.schedules,
            microbatches=self.microbatches,
            precision=self.precision or _fastest(cluster),
            offload_optimizer=self.offload_optimizer,
            recompute=self.recompute,
            compile=self.compile,
        )


def _fastest(cluster: Cluster) -> Precision:
    peaks = [device.flops for device in cluster.devices]
    faster = all(each.get(Precision.BFLOAT16, 0.0) > each[Precision.FLOAT32] for each in peaks)
    return Precision.BFLOAT16 if faster else Precision.FLOAT32

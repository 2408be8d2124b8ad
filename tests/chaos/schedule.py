"""Which faults strike when, and how long: follows from a seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

LEASE_S = 2.0
SERVERS = ("postgres", "valkey", "nats")
WORKERS = ("data-prep", "exporter", "data-prep@b", "trainer")
SERVICES = (*WORKERS, "scheduler-api", "scheduler-control", "scheduler-notary", "tuner", "inference")
LINKS = (*SERVERS, "api")
WAIT_S = (1.0, 3.0)
"""Between two faults."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What strikes at `at_s` after the first, and ends `lasts_s` later where it lasts."""

    at_s: float
    kind: str
    target: str = ""
    lasts_s: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_s:6.2f} s  {self.kind} {self.target}{lasts}"


WEIGHTS = {
    "kill": 10,
    "stop": 5,
    "flush": 1,
    "delete-stream": 1,
    "crash-database": 1,
    "duplicate": 3,
    "fill-disk": 1,
    "slow-consumer": 1,
    "latency": 2,
    "slices": 1,
    "reset": 3,
    "partition": 3,
}
"""How often a kind is chosen, beside the others. Clocks are skewed all the time: see `skews`."""


def plan(seed: int, faults: int) -> list[Fault]:
    """The schedule of a run: every kind once, and the rest by weight, in random order."""
    rng = Random(f"schedule {seed}")
    kinds = list(WEIGHTS)
    kinds += rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()), k=max(0, faults - len(kinds)))
    kinds = kinds[:faults] if faults >= len(WEIGHTS) else rng.sample(kinds, faults)
    rng.shuffle(kinds)
    made, at_s = [], 1.0
    processes = _turns(rng, [*SERVICES, *SERVERS])
    stopped = _turns(rng, list(SERVICES))
    links = _turns(rng, list(LINKS))
    for kind in kinds:
        target, lasts_s = "", 0.0
        match kind:
            case "kill":
                target = next(processes)
            case "stop":
                target, lasts_s = next(stopped), rng.uniform(1.0, 3.0) * LEASE_S
            case "duplicate" | "fill-disk" | "slow-consumer":
                lasts_s = rng.uniform(2.0, 4.0)
            case "latency" | "slices":
                target, lasts_s = next(links), rng.uniform(2.0, 4.0)
            case "partition":
                target, lasts_s = next(links), rng.uniform(0.5, 2.0) * LEASE_S
            case "reset":
                target = next(links)
        made.append(Fault(round(at_s, 3), kind, target, round(lasts_s, 3)))
        at_s += rng.uniform(*WAIT_S)
    return made


def _turns(rng: Random, names: list[str]) -> Iterator[str]:
    """Each once before any comes again, in an order that is new each time."""
    while True:
        yield from rng.sample(names, len(names))


def skews(seed: int) -> dict[str, float]:
    """By how many seconds the wall clock of each worker is wrong, up to ten minutes either way."""
    rng = Random(f"clocks {seed}")
    return {name: round(rng.choice((-1, 1)) * rng.uniform(300.0, 600.0), 1) for name in WORKERS[:3]}

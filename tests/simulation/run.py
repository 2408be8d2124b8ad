"""Run seeds of the simulation: `python -m tests.simulation.run [--seed N] [--seeds N] [--first N]`."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.actors import build
from tests.simulation.invariants import Violation
from tests.simulation.model import WallError
from tests.simulation.world import STEPS

SHOWN = 40


@dataclass(slots=True)
class Outcome:
    """What a number of seeds gave."""

    seeds: int = 0
    seconds: float = 0.0
    digest: str = ""
    failures: dict[int, str] = field(default_factory=dict)


def run_seed(seed: int) -> tuple[bytes, str | None, list[str]]:
    """The digest of the trace, the invariant that broke, if one did, and the trace."""
    world = build(seed)
    broken: str | None = None
    try:
        world.run()
    except (Violation, WallError) as error:
        broken = f"{type(error).__name__}: {error}"
    return world.digest(), broken, world.trace


def run_seeds(
    first: int,
    number: int,
    *,
    until: float = float("inf"),
    stop: bool = False,
    say: Callable[[str], None] | None = None,
) -> Outcome:
    """Seeds from `first` on, at most `number`, none begun after `until` (monotonic); `stop` at the first failure."""
    outcome, whole, began = Outcome(), hashlib.blake2b(digest_size=16), time.monotonic()
    for seed in range(first, first + number):
        if time.monotonic() > until:
            break
        digest, broken, _ = run_seed(seed)
        whole.update(digest)
        outcome.seeds += 1
        if broken:
            outcome.failures[seed] = broken
            if stop:
                break
        if say and outcome.seeds % 1000 == 0:
            say(f"{outcome.seeds} seeds, {len(outcome.failures)} failures")
    outcome.seconds, outcome.digest = time.monotonic() - began, whole.hexdigest()
    return outcome


def explain(seed: int) -> str:
    """How to run a failing seed again, and its last events."""
    digest, broken, trace = run_seed(seed)
    lines = [f"seed {seed}: {broken or 'holds'}", f"again: .venv/bin/python -m tests.simulation.run --seed {seed}"]
    lines += [f"trace {digest.hex()}, {len(trace)} events; the last:", *(f"  {line}" for line in trace[-SHOWN:])]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Show one seed, or run several; 1 where an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__)
    parser.add_argument("--seed", type=int, help="show this one, with its whole trace")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        _, broken, trace = run_seed(options.seed)
        sys.stdout.write("\n".join([*trace, broken or "every invariant holds"]) + "\n")
        return 1 if broken else 0
    outcome = run_seeds(options.first, options.seeds)
    rate = outcome.seeds / outcome.seconds
    sys.stdout.write(f"{outcome.seeds} seeds of {STEPS} steps, {rate:.0f} a second, trace {outcome.digest}\n")
    for seed in list(outcome.failures)[:3]:
        sys.stdout.write(explain(seed) + "\n")
    sys.stdout.write(f"{len(outcome.failures)} failures\n")
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Run seeds: `python -m tests.chaos.run [--seed N] [--jobs N] [--faults N] [--logs DIRECTORY]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from uuid import UUID

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from sextant import AsyncClient, Client
from sextant.auditing import Verdict
from sextant.witnessing import verify_server
from tests.chaos import evidence, invariants, ledger, schedule, workload
from tests.chaos.faults import Striker
from tests.chaos.inbox import Inbox
from tests.chaos.platform import Platform, running
from tests.chaos.recovery import Recovery, recoveries
from tests.simulation.model import Store

JOBS, FAULTS = 380, 30
PER_SECOND = 6.0
CHECK_EVERY_S = 8.0
STILL_S, CALM_WITHIN_S = 60.0, 300.0
"""After the last fault every job has ended and every message is published by then, and at no time has nothing ended or
been published for so long; or the run has failed. How long it takes is a matter of the machine.
"""
CONSUMED_WITHIN_S = 15.0
REFILLED_WITHIN_S = 20.0
PREPARED_WITHIN_S = 60.0
SHOWN = 20
SKEW_SEEN_S = 60.0
LEFT = text(
    "SELECT (SELECT count(*) FROM jobs WHERE finished_at IS NULL)"
    " + (SELECT count(*) FROM outbox WHERE published_at IS NULL)"
)


@dataclass
class Outcome:
    """What one seed gave."""

    seed: int
    jobs: int = 0
    faults: int = 0
    lost: set[str] = field(default_factory=set)
    completed_twice: int = 0
    executed_twice: int = 0
    violations: list[str] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    effects: Counter[str] = field(default_factory=Counter)
    without_effect: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    calm_after_s: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether something does not hold, or was not tried."""
        return bool(self.lost or self.completed_twice or self.violations or self.without_effect)


async def run_seed(seed: int, jobs: int = JOBS, faults: int = FAULTS, logs: Path | None = None) -> Outcome:
    """A platform of its own, its jobs and its faults, and what is left when calm has returned."""
    outcome = Outcome(seed)
    async with running(seed, keep_logs=logs) as platform, AsyncClient(platform.url, platform.key, retries=50) as client:
        engine = create_engine(platform.direct.database_url, pool_pre_ping=True)
        clients = workload.Clients(client, platform.home.path / "clients.jsonl", Random(f"clients {seed}"))
        inbox = Inbox(platform.direct.nats_url)
        reading = asyncio.create_task(inbox.run())
        first = await client.submit(workload.PREPARE)
        await _prepared(engine, first.id)
        visiting = asyncio.create_task(clients.visit(first.id))
        striker = Striker(platform, engine, clients, inbox, Random(f"strikes {seed}"))
        planned = schedule.plan(seed, faults)
        checking = asyncio.create_task(_check_on(engine, clients, outcome))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(clients.run(workload.plan(seed, jobs, PER_SECOND)))
            tasks.create_task(striker.run(planned))
        if checking.done():
            checking.result()  # It ends by itself for a fault of its own alone.
        checking.cancel()
        visiting.cancel()
        outcome.calm_after_s = await _calm(engine)
        await _refilled(engine, platform.direct.nats_url)
        await _consumed(engine, inbox)
        reading.cancel()
        await _judge(platform, engine, clients, inbox, striker, outcome)
        engine.dispose()
    outcome.faults = len(planned)
    outcome.without_effect = sorted(
        {fault.kind for fault in planned if not striker.effects[fault.kind]} - striker.skipped.keys()
    )
    return outcome


async def _prepared(engine: Engine, job_id: UUID) -> None:
    """Wait until there is a dataset to train on."""
    began = time.monotonic()
    while time.monotonic() - began < PREPARED_WITHIN_S:
        with engine.connect() as conn:
            if conn.execute(text("SELECT state FROM jobs WHERE id = :id"), {"id": job_id}).scalar() == "SUCCEEDED":
                return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"the dataset was not prepared within {PREPARED_WITHIN_S:.0f} s, and nothing was wrong yet")


async def _check_on(engine: Engine, clients: workload.Clients, outcome: Outcome) -> None:
    """What must hold at every moment, now and then; the store may be down."""
    while True:
        await asyncio.sleep(CHECK_EVERY_S)
        # What is accepted is read before the rows, which may have more.
        answers = workload.read(clients.path)
        with suppress(SQLAlchemyError):
            outcome.violations += await asyncio.to_thread(_look, engine, answers)
            outcome.checks += 1


def _look(engine: Engine, answers: list[workload.Answer]) -> list[str]:
    return list(invariants.of_rows(evidence.read_store(engine), answers))


async def _read(engine: Engine) -> Store | None:
    try:
        return await asyncio.to_thread(evidence.read_store, engine)
    except SQLAlchemyError:
        return None


async def _calm(engine: Engine) -> float:
    """Wait until nothing is left to do, or too long; the seconds that it took."""
    began = moved = time.monotonic()
    least: int | None = None
    while time.monotonic() - moved < STILL_S and time.monotonic() - began < CALM_WITHIN_S:
        with suppress(SQLAlchemyError), engine.connect() as conn:
            left = int(conn.execute(LEFT).scalar_one())
            if not left:
                break
            if least is None or left < least:
                least, moved = left, time.monotonic()
        await asyncio.sleep(0.5)
    return time.monotonic() - began


async def _refilled(engine: Engine, url: str) -> None:
    """Give the control process the time to make the stream again, which the last fault may have taken away."""
    began = time.monotonic()
    while time.monotonic() - began < REFILLED_WITHIN_S:
        store, stream = await _read(engine), await evidence.read_stream(url)
        if store and {kept.message.msg_id for kept in store.outbox.values()} <= set(stream):
            return
        await asyncio.sleep(1.0)


async def _consumed(engine: Engine, inbox: Inbox) -> None:
    """Give the consumer the time to read what the stream has."""
    began = time.monotonic()
    store = await _read(engine)
    while store and time.monotonic() - began < CONSUMED_WITHIN_S:
        if {kept.message.msg_id for kept in store.outbox.values()} <= inbox.seen:
            return
        await asyncio.sleep(0.3)


def _audit(platform: Platform) -> Verdict:
    """The log as the server gives it, checked against what the notary signed."""
    with Client(platform.direct_url, platform.key) as client:
        return verify_server(client, platform.home.notary_pubkey, platform.home.notary_checkpoints)


async def _judge(
    platform: Platform, engine: Engine, clients: workload.Clients, inbox: Inbox, striker: Striker, outcome: Outcome
) -> None:
    store, answers = evidence.read_store(engine), workload.read(clients.path)
    work = ledger.read(platform.ledger)
    stream = await evidence.read_stream(platform.direct.nats_url)
    verdict = await asyncio.to_thread(_audit, platform)
    outcome.jobs = len({answer.key for answer in answers})
    outcome.lost = invariants.lost(store, answers)
    outcome.completed_twice = invariants.completed_twice(store)
    outcome.executed_twice = invariants.executed_twice(store)
    outcome.violations += [
        *clients.wrong,
        *invariants.of_rows(store, answers),
        *([] if verdict.verdict == "ok" else [f"I9: {verdict.verdict}: {verdict.reason}"]),
        *invariants.of_stream(store, stream, inbox.seen),
        *invariants.of_files(evidence.Files.read(engine, platform.home.artefacts)),
        *invariants.unfinished(store),
        *invariants.of_work(work),
    ]
    outcome.recoveries = recoveries(store, striker.strikes)
    outcome.effects, outcome.skipped = striker.effects, striker.skipped
    outcome.states = Counter(str(row.state) for row in store.jobs.values())
    outcome.answers = clients.told
    offsets = {round((entry.wall - entry.at) / SKEW_SEEN_S) for entry in work}
    outcome.effects["skewed-clocks"] = len(offsets)


def explain(outcome: Outcome, jobs: int, faults: int) -> str:
    """What a failing seed broke, its schedule, and how to run it again."""
    found = outcome.violations[:SHOWN]
    found += [f"lost: {key}" for key in sorted(outcome.lost)[:SHOWN]]
    found += [f"{kind} had no effect" for kind in outcome.without_effect]
    found = found or [f"{outcome.completed_twice} jobs completed twice"]
    lines = [f"seed {outcome.seed}: {found[0]}", *found[1:], "its schedule:"]
    lines += map(str, schedule.plan(outcome.seed, faults))
    lines += [f"again: .venv/bin/python -m tests.chaos.run --seed {outcome.seed} --jobs {jobs} --faults {faults}"]
    return "\n".join(lines)


def tell(outcome: Outcome) -> str:
    """One seed in a few lines."""
    seconds = sorted(recovery.seconds for recovery in outcome.recoveries)
    slowest = sorted(outcome.recoveries, key=lambda recovery: -recovery.seconds)[:3]
    worst = ", ".join(f"{each.seconds:.1f} s after {each.fault.kind} {each.fault.target}".strip() for each in slowest)
    return (
        f"seed {outcome.seed}: {outcome.jobs} jobs, {outcome.faults} faults, {len(outcome.lost)} lost,"
        f" {outcome.completed_twice} completed twice, {len(outcome.violations)} violations;"
        f" {outcome.executed_twice} executed again, {len(seconds)} recoveries (worst: {worst or 'none'}),"
        f" calm after {outcome.calm_after_s:.1f} s, {outcome.checks} checks\n"
        f"  {dict(outcome.states)}; answers {dict(outcome.answers)}\n  effects {dict(outcome.effects)}"
    )


def run_seeds(
    seeds: range, jobs: int, faults: int, say: Callable[[str], None], logs: Path | None = None
) -> Iterator[Outcome]:
    """One after the other."""
    for seed in seeds:
        outcome = asyncio.run(run_seed(seed, jobs, faults, logs))
        say(tell(outcome))
        if outcome.failed:
            say(explain(outcome, jobs, faults))
        yield outcome


def main() -> int:
    """The exit status says whether all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--faults", type=int, default=FAULTS)
    parser.add_argument("--logs", type=Path, help="keep the processes' logs there")
    given = parser.parse_args()
    seeds = range(given.seed, given.seed + given.seeds)
    outcomes = list(run_seeds(seeds, given.jobs, given.faults, lambda line: print(line, flush=True), given.logs))
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())

"""The chaos runner's workload and such of its faults as apply, on Celery and on Ray Jobs, side by side with ours.

A job's effect is the line that it writes at its end. Lost: its submission was answered, and it has none when all is
calm. Completed twice: it has several. Nothing of the platform takes part, but for the server and the proxy that both
use.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import psutil
import redis.asyncio as redis
from redis.exceptions import RedisError

from sextant.stack import processes
from sextant.stack.home import Home
from sextant.stack.servers import Valkey
from sextant.stack.supervisor import Supervisor
from tests.bench import chaos_ray
from tests.bench.baseline_judging import Found, judge, still
from tests.bench.clients.chaos_celery import TASK, build
from tests.bench.platforms import directory
from tests.bench.report import Report
from tests.chaos import schedule, workload
from tests.chaos.faults import LINK_KINDS, disturb, flush
from tests.chaos.proxy import Proxy
from tests.chaos.run import FAULTS, JOBS, PER_SECOND
from tests.chaos.schedule import Fault

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 6
QUICK = (1, 150, 16)
WORKERS = ("data-prep", "exporter", "data-prep@b")
"""Under the names that the schedule has for them."""
QUEUE = "celery"
"""As Celery names it where nothing else is said."""
RESTART_S = 0.4
BACK_WITHIN_S = 60.0


def applies(fault: Fault) -> bool:
    """Whether there is something for it to strike: workers, and the broker."""
    if fault.kind in ("kill", "stop"):
        return fault.target in (*WORKERS, "valkey")
    return fault.kind == "flush" or (fault.kind in LINK_KINDS and fault.target == "valkey")


def plan(seed: int, number: int) -> list[Fault]:
    """The first faults of a longer schedule that apply, as far apart as there."""
    apart_s = sum(schedule.WAIT_S) / 2
    fitting = [fault for fault in schedule.plan(seed, 20 * number) if applies(fault)][:number]
    return [replace(fault, at_s=1.0 + index * apart_s) for index, fault in enumerate(fitting)]


def measure(report: Report) -> None:
    """Celery as it comes, Celery tuned, Ray Jobs."""
    seeds, jobs, faults = QUICK if report.quick else (SEEDS, JOBS, FAULTS)
    for name, tuned in (("celery_default", False), ("celery_tuned", True)):
        found = Found()
        for seed in range(seeds):
            report.say(f"{name}, seed {seed}")
            asyncio.run(_celery(seed, jobs, faults, found, tuned=tuned))
        found.tell(report, name)
    chaos_ray.measure(report).tell(report, "ray_jobs")
    report.note("Celery: three prefork workers of one process each, started again 0.4 s after they end; Valkey as ours")
    report.note(
        "tuned: late acknowledgement, rejected when its worker is lost, visibility timeout of 10 s swept each second"
    )
    report.note(
        "faults: of the same schedules those that strike workers, the broker or the link to it, as many and as often"
    )
    report.note("invariants: I15, I3 and I17 alone can be asked of jobs that note their starts and their ends")
    report.note("recovery: from the kill of a job's worker to the job's next start; nan where none was begun again")
    report.note(
        "lost_to_flush: the broker held it when it was emptied; lost_in_queue: it holds it still, and none takes it"
    )


@dataclass
class Bench:
    """A broker behind a proxy, its workers, and what they note."""

    broker: Valkey
    home: Home
    supervisor: Supervisor
    proxy: Proxy
    work: Path
    pids: dict[str, int] = field(default_factory=dict)


@asynccontextmanager
async def _running(*, tuned: bool) -> AsyncIterator[Bench]:
    with directory() as path:
        home = Home.prepare(path)
        credentials = home.credentials()
        supervisor = Supervisor(home, lambda name, line: None)
        given = {"SEXTANT_DATABASE_URL": "-", "SEXTANT_NATS_URL": "-"}
        await supervisor.start(processes.servers(home, credentials, 0, given), 60)
        broker = Valkey(home, credentials)
        bench = Bench(broker, home, supervisor, Proxy(broker.socket), path / "work.txt")
        await bench.proxy.start()
        url = f"redis://:{quote(credentials.valkey)}@127.0.0.1:{bench.proxy.port}/0"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
            "CHAOS_BROKER": url,
            "CHAOS_WORK": str(bench.work),
            "CHAOS_TUNED": "1" if tuned else "0",
        }
        workers = [asyncio.create_task(_worker(bench, name, environment)) for name in WORKERS]
        try:
            yield bench
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await bench.proxy.stop()
            await supervisor.stop()


async def _worker(bench: Bench, name: str, environment: dict[str, str]) -> None:
    """A worker that is started again whenever it ends."""
    command = [
        "-m",
        "celery",
        "-A",
        "tests.bench.clients.chaos_celery",
        "worker",
        "-c",
        "1",
        "-n",
        f"{name.replace('@', '-')}@host",
    ]
    with (bench.home.logs / "workers.log").open("ab") as log:
        while True:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=log, stderr=log, start_new_session=True,
                env={**environment, "CHAOS_WORKER": name}, cwd=ROOT,
            )  # fmt: skip
            bench.pids[name] = process.pid
            try:
                await process.wait()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await asyncio.sleep(RESTART_S)


async def _celery(seed: int, jobs: int, faults: int, found: Found, *, tuned: bool) -> None:
    wanted = [each for each in workload.plan(seed, jobs, PER_SECOND) if each.spec["kind"] == "probe"]
    planned = plan(seed, faults)
    strikes: list[tuple[float, Fault]] = []
    async with _running(tuned=tuned) as bench:
        url = f"redis://:{quote(bench.home.credentials().valkey)}@127.0.0.1:{bench.proxy.port}/0"
        app = build(url, tuned=tuned)
        answered: set[str] = set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_submit(app.send_task, wanted, answered))
            tasks.create_task(_strike_all(bench, planned, strikes, found))
        await asyncio.to_thread(still, bench.work)
        app.close()
        found.left |= await _held(bench.broker.url)
        kills = [(at, fault.target) for at, fault in strikes if fault.kind == "kill" and fault.target in WORKERS]
        judge(bench.work, answered, kills, found)
    found.seeds += 1
    found.faults += len(planned)


async def _submit(send: Callable[..., object], wanted: list[workload.Wanted], answered: set[str]) -> None:
    """Each until the broker has taken it; under its own id, which is all that Celery has for a key."""
    began = time.monotonic()

    async def one(each: workload.Wanted) -> None:
        while True:
            try:
                arguments = [each.key, each.spec["sleep_s"]]
                await asyncio.to_thread(send, TASK, args=arguments, task_id=each.key)
            except Exception:  # noqa: BLE001 - whatever it was, the broker did not say that it has it
                await asyncio.sleep(0.2)
            else:
                answered.add(each.key)
                return

    async with asyncio.TaskGroup() as tasks:
        for each in wanted:
            await asyncio.sleep(max(0.0, began + each.at_s - time.monotonic()))
            tasks.create_task(one(each))


async def _strike_all(bench: Bench, planned: list[Fault], strikes: list[tuple[float, Fault]], found: Found) -> None:
    began = time.monotonic()

    async def one(fault: Fault) -> None:
        strikes.append((time.time(), fault))
        if fault.kind == "flush":
            found.flushed |= await _held(bench.broker.url)
        found.effects[fault.kind] += await _strike(bench, fault)

    async with asyncio.TaskGroup() as tasks:
        for fault in planned:
            await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
            tasks.create_task(one(fault))


async def _held(url: str) -> set[str]:
    """The keys of the jobs whose messages wait in the broker, or are out at a worker that has not acknowledged them; as
    soon as it is there. Raises TimeoutError where it does not come back.
    """
    async with (
        asyncio.timeout(BACK_WITHIN_S),
        redis.Redis.from_url(url.replace("redis+socket", "unix"), decode_responses=True) as client,
    ):
        while True:
            with contextlib.suppress(RedisError):
                async with client.pipeline(transaction=True) as both:
                    both.lrange(QUEUE, 0, -1)
                    both.hvals("unacked")
                    waiting, out = await both.execute()
                messages = [json.loads(text) for text in waiting] + [json.loads(text)[0] for text in out]
                return {message["headers"]["id"] for message in messages}
            await asyncio.sleep(0.1)


async def _strike(bench: Bench, fault: Fault) -> int:
    match fault.kind:
        case "kill" if fault.target == "valkey":
            return _signal([bench.supervisor.pids()["valkey"]], signal.SIGKILL)
        case "kill":
            return _signal(_family(bench.pids[fault.target]), signal.SIGKILL)
        case "stop":
            family = _family(bench.pids[fault.target])
            number = _signal(family, signal.SIGSTOP)
            await asyncio.sleep(fault.lasts_s)
            _signal(family, signal.SIGCONT)
            return number
        case "flush":
            return await flush(bench.broker.url)
    return await disturb(bench.proxy, fault)


def _family(pid: int) -> list[int]:
    """A host's worth: the worker and its pool."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [*(child.pid for child in psutil.Process(pid).children(recursive=True)), pid]
    return []


def _signal(pids: list[int], number: signal.Signals) -> int:
    sent = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            sent = 1
    return sent

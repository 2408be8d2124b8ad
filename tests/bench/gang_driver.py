"""`python -m tests.bench.gang_driver HOME ANSWER quick|full HOST...`: a platform over hosts, run from the first.

HOSTs are names of network namespaces; this process is in that of the first one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import psutil

from sextant import Client
from sextant._requests import JobLike
from sextant.answers import ProgressEvent
from sextant.stack import control
from sextant.stack.home import Credentials, Home
from sextant.stack.processes import Options
from sextant.stack.servers import USER, Nats, Postgres
from sextant.witnessing import verify_server
from sextant_shared.contracts.views import JobView
from tests.bench import shaped
from tests.bench.object_store import BUCKET, object_store

PORT, NATS_PORT, POSTGRES_PORT = 8700, 4222, 5432
LEASE_S = 5.0
Blow = Callable[[str, list[psutil.Process]], None]
"""What befalls a host with these processes."""
EVERY = 20
PREPARE = {"kind": "prepare", "name": "digits", "source": "package://sklearn/digits", "task": "image-classification"}


def train(epochs: int) -> dict[str, Any]:
    """Without batch normalisation: the result is that of one process, whatever the plan."""
    return {
        "kind": "train",
        "name": "digits",
        "data": {"dataset": "digits"},
        "model": {"zoo": "vit", "config": {"patch": 2, "hidden": 64, "heads": 4, "layers": 2}},
        "config": {"epochs": epochs, "checkpoint_every_steps": EVERY, "batch_size": 48},
        "resources": {"ranks": 3, "min_ranks": 2},
        "parallel": {"auto_tune": True},
    }


@contextmanager
def servers(home: Home, credentials: Credentials) -> Iterator[dict[str, str]]:
    """PostgreSQL, NATS and the object store on this host's address; the environment of every service."""
    here = shaped.address(0)
    postgres, nats = Postgres(home, credentials), Nats(home, credentials, NATS_PORT)
    postgres.prepare()
    nats.prepare()
    with (home.postgres / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 192.0.2.0/24 scram-sha-256\n")
    runs = postgres.command()
    processes = [
        subprocess.Popen([*runs.command, "-c", f"listen_addresses={here}"], user=runs.account, cwd="/"),
        subprocess.Popen([*nats.command().command, "--addr", here]),
    ]
    where = home.path / "objects"
    where.mkdir()
    try:
        with object_store(where, here) as keys:
            yield {
                **keys,
                "SEXTANT_DATABASE_URL": f"postgresql+psycopg://{USER}:{quote(credentials.postgres)}@{here}/postgres",
                "SEXTANT_NATS_URL": f"nats://{USER}:{quote(credentials.nats)}@{here}:{NATS_PORT}",
                "SEXTANT_ARTEFACTS_URL": f"s3://{BUCKET}/platform",
                "SEXTANT_LEASE_S": str(LEASE_S),
            }
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def agent(host: str, home: Home, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """A trainer on a host, which sees neither the platform's directory nor that of another host."""
    own = {
        "SEXTANT_NODE_NAME": host,
        "SEXTANT_WORK_DIR": f"{home.path}/work",
        "SEXTANT_SLOTS": "1",
        "SEXTANT_REDIS_URL": "redis://127.0.0.1",
    }
    script = f'mount -t tmpfs tmpfs {home.path} && mkdir {home.path}/work && exec "$0" -m sextant_trainer agent'
    command = ["ip", "netns", "exec", host, "unshare", "--mount", "sh", "-c", script, sys.executable]
    log = (home.logs / f"{host}.log").open("ab")
    process = subprocess.Popen(command, env={**os.environ, **environment, **own}, stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()
        log.close()


def kill(host: str, processes: list[psutil.Process]) -> None:
    """All that runs on the host ends."""
    del host
    for process in processes:
        process.kill()


def cut(host: str, processes: list[psutil.Process]) -> None:
    """The host's link goes down."""
    del processes
    subprocess.run(["ip", "-n", host, "link", "set", shaped.DEVICE, "down"], check=True)


def mend(host: str) -> None:
    """The host's link is up again."""
    subprocess.run(["ip", "-n", host, "link", "set", shaped.DEVICE, "up"], check=True)


def strike(client: Client, spec: dict[str, Any], host: str, who: psutil.Process, blow: Blow) -> dict[str, Any]:
    """Run a job, hit a host in its midst, and tell what became of both."""
    job = client.submit(spec)
    steps: list[tuple[float, int]] = []
    struck_at = 0.0
    watch = ThreadPoolExecutor(1)
    gone_at: Future[float] | None = None
    for event in client.stream(job):
        if not isinstance(event, ProgressEvent) or event.at is None:
            continue
        steps.append((event.at.timestamp(), int(event.metrics["step"] or 0)))
        if not struck_at and event.fraction >= 0.5:
            everything = who.children(recursive=True)
            # Of the agent, the zygote and the ranks, those without children of their own are the ranks.
            gone_at = watch.submit(gone, [process for process in everything if not process.children()])
            struck_at = time.time()
            blow(host, [*everything, who])
    told = summary(client, seen_through(client, job))
    after = [(at, step) for at, step in steps if at > told["claimed_at"]]
    before = [step for at, step in steps if at < told["claimed_at"]]
    resumed_at, first_step = after[0]
    return told | {
        "struck_at": struck_at,
        "resumed_at": resumed_at,
        "last_step": max(before),
        "first_step": first_step,
        "gone_at": gone_at.result() if gone_at else struck_at,
    }


def gone(ranks: list[psutil.Process]) -> float:
    """When the last of these has ended."""
    while any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks):
        time.sleep(0.02)
    return time.time()


def seen_through(client: Client, job: JobLike) -> JobView:
    """The job when it has succeeded; else the end of its log is told."""
    ended = client.wait(job, timeout=240, check=False)
    if ended.state != "SUCCEEDED":
        lines = "".join(log.text for log in client.logs(job))
        raise SystemExit(f"the job is {ended.state}: {ended.error}\n{lines[-6000:]}")
    return ended


def summary(client: Client, ended: JobView) -> dict[str, Any]:
    """What is told of a job that has ended."""
    events = list(client.events(ended))
    lost = [event.body["reason"] for event in events if event.event == "worker-lost"]
    claims = [event.at.timestamp() for event in events if event.event == "claimed"]
    path = f"s3://{BUCKET}/platform/{ended.id}/{ended.fence}/metrics.jsonl"
    curve = [json.loads(line)["val_loss"] for line in fsspec.open(path, "rt").open().read().splitlines()]
    plan = (ended.outputs or {})["plan"]["describe"]
    return {"curve": curve, "plan": plan, "reason": "; ".join(lost), "claimed_at": claims[-1]}


def wait_for(client: Client, names: set[str]) -> None:
    """Until these nodes take work."""
    until = time.monotonic() + 90
    while not names <= {node.name for node in client.nodes() if node.state == "READY"}:
        if time.monotonic() > until:
            raise SystemExit(
                f"the nodes are {[(node.name, node.state) for node in client.nodes()]}, not {sorted(names)}"
            )
        time.sleep(0.1)


def main(directory: Path, answer: Path, hosts: list[str], *, quick: bool) -> None:
    """Run the job undisturbed, then with each blow; write what was found."""
    home = Home.prepare(directory)
    credentials = home.credentials()
    spec = train(6 if quick else 10)
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        environment = stack.enter_context(servers(home, credentials))
        os.environ.update(environment)
        stack.callback(control.down, directory)
        now = control.up_detached(directory, Options(port=PORT, slots=1))
        client = stack.enter_context(Client(now.url, credentials.admin_key))
        first = next(iter(client.nodes())).name
        client.wait(client.submit(PREPARE), timeout=60)
        stack.enter_context(agent(hosts[1], home, environment))
        blows: list[tuple[str, Blow]] = [("killed", kill), ("cut", cut)]
        for name, blow in blows:
            with agent(hosts[2], home, environment) as who:
                wait_for(client, {first, *hosts[1:]})
                if "calm" not in found:
                    calm = summary(client, seen_through(client, client.submit(spec)))
                    found["calm"] = calm | {"every": EVERY, "lease_s": LEASE_S}
                found[name] = strike(client, spec, hosts[2], who, blow)
                mend(hosts[2])
        verdict = verify_server(client, home.notary_pubkey, home.notary_checkpoints)
        if verdict.verdict != "ok":
            raise SystemExit(f"the audit log is broken: {verdict}")
    answer.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[4:], quick=sys.argv[3] == "quick")

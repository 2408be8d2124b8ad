"""The clients: they submit jobs under idempotency keys until each is accepted, and keep a ledger of the answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from sextant import AsyncClient
from sextant.errors import ApiError, Conflict, NotFound, NotReachable

DATASET = "digits"
PREPARE = {"kind": "prepare", "name": DATASET, "source": "package://sklearn/digits", "task": "image-classification"}
RETRY = {"max_attempts": 4, "backoff_s": 0.2}
SHORTEST_S, LONGEST_S = 0.05, 0.8
SHARES = {"fail-once": 0.04, "pipeline": 0.03, "cancel": 0.03, "train": 0.01, "prepare": 0.01}
"""Of the jobs; the rest are probes that succeed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job to be submitted: when, under which key, what, and how long after that to cancel it, if at all."""

    at_s: float
    key: str
    spec: dict[str, Any]
    cancel_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API accepted. `token` is what the job gives back where it succeeds and gives anything back."""

    key: str
    job_id: UUID
    at: float
    token: str | None


def plan(seed: int, number: int, per_second: float) -> list[Wanted]:
    """The jobs of a run, which come at random moments, as many a second on average."""
    rng = Random(f"jobs {seed}")
    made, at_s = [], 0.0
    for index in range(number):
        kind = rng.choices([*SHARES, "probe"], [*SHARES.values(), 1.0 - sum(SHARES.values())])[0]
        sleep_s = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** (rng.random() ** 3)
        spec = _spec(kind, f"{seed}-{index}", round(sleep_s, 3))
        cancel_after_s = rng.uniform(0.0, 0.6) if kind == "cancel" else None
        made.append(Wanted(at_s, f"chaos-{seed}-{index}", spec, cancel_after_s))
        at_s += rng.expovariate(per_second)
    return made


def _spec(kind: str, token: str, sleep_s: float) -> dict[str, Any]:
    probe = {"kind": "probe", "sleep_s": sleep_s, "returns": {"token": token}, "retry": RETRY}
    match kind:
        case "fail-once":
            return {**probe, "outcome": "fail-once"}
        case "pipeline":
            step = {"kind": "probe", "sleep_s": sleep_s, "retry": RETRY}
            return {"kind": "pipeline", "steps": {"a": step, "b": step}, "after": {"b": ["a"]}}
        case "train":
            config = {"epochs": 1, "checkpoint_every_steps": 10}
            model = {"zoo": "mlp", "config": {"hidden": 16}}
            return {"kind": "train", "data": {"dataset": DATASET}, "model": model, "config": config, "retry": RETRY}
        case "prepare":
            return {**PREPARE, "retry": RETRY}
    return probe


@dataclass
class Clients:
    """Submits what is wanted when it is wanted, and notes what comes back."""

    client: AsyncClient
    path: Path
    rng: Random
    doubling: float = 0.0
    """The share of submissions that are sent a second time."""
    told: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Answers that should not have been given."""

    async def run(self, wanted: list[Wanted]) -> None:
        """Until every job is accepted and every cancellation answered."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for each in wanted:
                await asyncio.sleep(max(0.0, began + each.at_s - time.monotonic()))
                tasks.create_task(self._one(each))

    async def visit(self, job_id: UUID) -> None:
        """Look at a job now and then, until cancelled: there is always somebody on the link."""
        while True:
            await asyncio.sleep(0.3)
            try:
                await self.client.job(job_id)
            except NotFound:
                self.wrong.append(f"I1: job {job_id} was accepted, and is not there to be looked at")
            except NotReachable:
                self.told["unreachable"] += 1
            except ApiError as error:
                self._refused(error)

    async def _one(self, wanted: Wanted) -> None:
        job_id = await self._submit(wanted)
        if self.rng.random() < self.doubling:
            again = await self._submit(wanted)
            self.told["submitted-twice"] += 1
            if again != job_id:
                self.wrong.append(f"I2: {wanted.key} was accepted as {job_id} and as {again}")
        if wanted.cancel_after_s is not None:
            await asyncio.sleep(wanted.cancel_after_s)
            await self._cancel(job_id)

    async def _submit(self, wanted: Wanted) -> UUID:
        while True:
            try:
                answer = await self.client.submit(wanted.spec, wanted.key)
            except NotReachable:
                self.told["unreachable"] += 1
            except ApiError as error:
                self._refused(error)
            else:
                self._note(Answer(wanted.key, answer.id, time.time(), wanted.spec.get("returns", {}).get("token")))
                return answer.id
            await asyncio.sleep(0.2)

    async def _cancel(self, job_id: UUID) -> None:
        while True:
            try:
                await self.client.cancel(job_id)
            except Conflict:
                self.told["too-late-to-cancel"] += 1
            except NotFound:
                self.wrong.append(f"I1: job {job_id} was accepted, and is not there to be cancelled")
            except NotReachable:
                self.told["unreachable"] += 1
                continue
            except ApiError as error:
                self._refused(error)
                await asyncio.sleep(0.2)
                continue
            return

    def _refused(self, error: ApiError) -> None:
        # Every request is right, so that only "not now" is an answer to it.
        self.told[f"status-{error.status}"] += 1
        if error.status not in (429, 503):
            self.wrong.append(f"I1: a right request was answered with {error.status}: {error}")
        if error.status < 500 and error.status != 429:
            raise error

    def _note(self, answer: Answer) -> None:
        self.told["accepted"] += 1
        line = {"key": answer.key, "job_id": str(answer.job_id), "at": answer.at, "token": answer.token}
        with self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")


def read(path: Path) -> list[Answer]:
    """The ledger."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [Answer(line["key"], UUID(line["job_id"]), line["at"], line["token"]) for line in lines]

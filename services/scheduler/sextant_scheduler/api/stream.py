"""Live: a job's states, progress and log lines as server-sent events, and its log so far."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from sextant_scheduler.api.context import Context, Guarded, Here, ReadsJobs
from sextant_scheduler.api.fanout import Message, live_body
from sextant_scheduler.store import reads
from sextant_shared.contracts.messages import live_subject
from sextant_shared.contracts.views import JobView
from sextant_shared.lifecycle.states import State

router = APIRouter(route_class=Guarded, prefix="/v1/jobs", tags=["jobs"])

# Seconds between looks into the store, in case a message about the end was lost.
LOOK_EVERY_S = 2.0
HISTORY = 200


@router.get("/{job_id}/stream", response_class=StreamingResponse)
async def stream(job_id: UUID, here: Here, who: ReadsJobs) -> StreamingResponse:
    """Server-sent events: `state`, `progress`, `log`, and `end` when the job has ended."""
    family = await here.read(lambda conn: reads.family(conn, who.tenant, job_id))
    here.quotas.check_stream(who.tenant)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(here, who.tenant, family), media_type="text/event-stream", headers=headers)


@router.get("/{job_id}/logs")
async def logs(
    job_id: UUID, here: Here, who: ReadsJobs, tail: Annotated[int, Query(ge=1, le=10_000)] = 1000
) -> dict[str, list[dict[str, Any]]]:
    """What the job, and the jobs below it, have written so far."""
    family = await here.read(lambda conn: reads.family(conn, who.tenant, job_id))
    items: list[dict[str, Any]] = []
    for job in family:
        text = await _log_of(here, job)
        if text:
            lines = text.splitlines()[-tail:]
            items.append({"job_id": str(job.id), "step": job.step, "text": "\n".join(lines)})
    return {"items": items}


async def _log_of(here: Context, job: JobView) -> str:
    history = await here.bus.history(live_subject(job.root_id, job.id, "log"), HISTORY)
    return "".join(_texts(history))


def _texts(history: list[bytes]) -> Iterator[str]:
    for message in history:
        # Whoever may write to the bus may write anything.
        with suppress(ValueError):
            yield str(live_body("log", message)["text"])


async def _events(here: Context, tenant: str, family: list[JobView]) -> AsyncIterator[str]:
    root = family[0]
    wanted = {job.id for job in family}
    with here.quotas.stream(tenant), here.fanout.listen(root.root_id) as queue:
        # Read again now that the listener is in place: nothing falls between the snapshot and the first message.
        family = await here.read(lambda conn: reads.family(conn, tenant, root.id))
        for job in family:
            yield _event("state", _state(job))
        if State(family[0].state).is_terminal:
            yield _end(family[0].id, family[0].state)
            return
        while True:
            try:
                message = await asyncio.wait_for(queue.get(), LOOK_EVERY_S)
            except TimeoutError:
                job = await here.read(lambda conn: reads.job(conn, tenant, root.id))
                if State(job.state).is_terminal:
                    yield _event("state", _state(job))
                    yield _end(job.id, job.state)
                    return
                yield ": still here\n\n"
                continue
            if _is_end(message, root.id):
                # Events may come again, and an operator may have queued the job again since: the store knows.
                job = await here.read(lambda conn: reads.job(conn, tenant, root.id))
                if not State(job.state).is_terminal:
                    continue
            for line in _render(message, root.id, wanted):
                yield line
            if _is_end(message, root.id):
                return


def _render(message: Message, job_id: UUID, wanted: set[UUID]) -> list[str]:
    body = message.body
    about = UUID(body["job_id"])
    if message.what == "state":
        parent = body.get("parent_id")
        if about not in wanted and (parent is None or UUID(parent) not in wanted):
            return []
        wanted.add(about)
        state = {k: body.get(k) for k in ("kind", "name", "state", "event", "root_id", "parent_id", "attempt")}
        lines = [_event("state", {"id": str(about), "step": body.get("step"), "at": body["occurred_at"], **state})]
        if _is_end(message, job_id):
            lines.append(_end(about, body["state"]))
        return lines
    return [_event(message.what, body)] if about in wanted else []


def _is_end(message: Message, job_id: UUID) -> bool:
    body = message.body
    return message.what == "state" and UUID(body["job_id"]) == job_id and State(body["state"]).is_terminal


def _state(job: JobView) -> dict[str, Any]:
    at = job.finished_at or job.started_at or job.created_at
    fields = {"kind", "name", "step", "state", "root_id", "parent_id", "error", "attempt"}
    return {"id": str(job.id), "at": at.isoformat(), **job.model_dump(mode="json", include=fields)}


def _end(job_id: UUID, state: str) -> str:
    return _event("end", {"id": str(job_id), "state": state})


def _event(name: str, body: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(body)}\n\n"

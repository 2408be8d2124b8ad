"""Advance a search: read its trials, decide, and commit what was decided in the same transaction."""

from __future__ import annotations

import hashlib
import json
from random import Random
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection

from sextant_shared.contracts.specs import TrainSpec, TuneSpec
from sextant_shared.errors import InvalidInput
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.machine import Event, Job, Settle, Transition
from sextant_shared.lifecycle.states import State
from sextant_tuner import store
from sextant_tuner.domain.search import Finish, StartTrial, Tell, decide

log = structlog.get_logger(__name__)
ACTOR = "tuner"
ROUNDS = 300


def advance(conn: Connection, job_id: UUID, rng: Random) -> bool:
    """Do what the search's state calls for; whether anything was done. Safe to call at any time, by any number."""
    acted = False
    for _ in range(ROUNDS):
        job, _now = jobs.lock(conn, job_id)
        if job.state.is_terminal or not _round(conn, job, rng):
            break
        acted = True
    return acted


def _round(conn: Connection, job: Job, rng: Random) -> bool:
    spec = TuneSpec.model_validate(job.spec, strict=False)
    trials = store.history(conn, job.id, spec.metric)
    try:
        actions = decide(spec, job.state, trials)
    except InvalidInput as error:
        detail = {"message": error.message, "field": error.field}
        return _tell(conn, job.id, Settle(State.FAILED, detail), rng)
    except Exception as error:
        # The same history would raise it again, in every round, and end the process that all other searches share.
        log.exception("tuner.search_failed", job_id=str(job.id))
        detail = {"message": f"the search cannot go on: {type(error).__name__}: {error}"}
        return _tell(conn, job.id, Settle(State.FAILED, detail), rng)
    acted = False
    for action in actions:
        match action:
            case StartTrial():
                acted |= jobs.submit(conn, [_trial_job(job, spec, action)])[0].created
            case Tell():
                acted |= _tell(conn, action.job_id or job.id, action.event, rng)
            case Finish():
                acted |= _tell(conn, job.id, action.event, rng)
                if acted and action.event.state is State.SUCCEEDED:
                    jobs.write_manifest(conn, job.id, job.fence, [], action.outputs)
    return acted


def _tell(conn: Connection, job_id: UUID, event: Event, rng: Random) -> bool:
    _, decision = jobs.apply(conn, job_id, event, actor=ACTOR, rng=rng)
    return isinstance(decision, Transition)


def _trial_job(search: Job, spec: TuneSpec, trial: StartTrial) -> jobs.NewJob:
    step = f"trial-{trial.number}"
    name = f"{search.name}.{step}"
    body: dict[str, Any] = {
        "kind": "train",
        "name": name[:64].rstrip(".-_"),
        "data": search.spec["data"],
        "model": search.spec["model"],
        "config": trial.config,
        "resources": search.spec["resources"],
        "retry": search.spec["retry"],
        "priority": search.spec["priority"],
    }
    plain = TrainSpec.model_validate(body, strict=False).model_dump(mode="json")
    return jobs.NewJob(
        id=new_id(),
        tenant=search.tenant,
        kind="train",
        name=name,
        spec=plain,
        body_hash=hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest(),
        idem_key=jobs.own_key(search.id, step),
        root_id=search.root_id,
        actor=ACTOR,
        inputs={**(search.inputs or {}), "point": trial.point},
        parent_id=search.id,
        step=step,
        priority=spec.priority,
        max_attempts=spec.retry.max_attempts,
        backoff_s=spec.retry.backoff_s,
    )

"""What people ask of a job: cancel, pause, resume, retry; and why it does not run."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from uuid import UUID

from sqlalchemy import Connection

from sextant_scheduler.domain.why import Situation, explain
from sextant_scheduler.handlers.submission import look_up_inputs, new_job
from sextant_scheduler.store import control, reads
from sextant_shared.contracts.limits import UserCode
from sextant_shared.contracts.specs import SPEC, PipelineSpec
from sextant_shared.contracts.views import JobView, WhyView
from sextant_shared.errors import Conflict
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.machine import GANG_KINDS, Event, Requeue
from sextant_shared.lifecycle.states import State
from sextant_shared.security import Identity


def tell(conn: Connection, who: Identity, job_id: UUID, event: Event, rng: Random) -> JobView:
    """Apply `event` to the job; the job as it is then. Raises NotFound, Conflict."""
    _, decision = jobs.apply(conn, job_id, event, actor=who.actor, rng=rng, tenant=who.tenant)
    jobs.insist(decision)
    return reads.job(conn, who.tenant, job_id)


def retry(conn: Connection, who: Identity, job_id: UUID, rng: Random, user_code: UserCode) -> JobView:
    """Queue a quarantined job again; for one that failed or was cancelled, submit the same spec as a new job."""
    job, _ = jobs.lock(conn, job_id, tenant=who.tenant)
    # Read, not locked: a pipeline locks itself before its steps.
    if job.parent_id is not None and State(reads.job(conn, who.tenant, job.parent_id).state).is_terminal:
        raise Conflict("the job is a step of one that has ended; retry that one")
    if job.state is State.QUARANTINED:
        return tell(conn, who, job_id, Requeue(), rng)
    if job.state not in (State.FAILED, State.CANCELLED) or job.parent_id is not None:
        raise Conflict(
            f"only a quarantined, failed or cancelled job of its own can be retried; this one is {job.state}"
        )
    spec = SPEC.validate_python(job.spec, strict=False)
    inputs = look_up_inputs(conn, spec, who.tenant, user_code)
    again = new_job(
        spec, tenant=who.tenant, actor=who.actor, key=jobs.own_key("retry", job_id, new_id()), inputs=inputs
    )
    jobs.submit(conn, [replace(again, name=job.name)])
    return reads.job(conn, who.tenant, again.id)


def why(conn: Connection, who: Identity, job_id: UUID, node_timeout_s: float) -> WhyView:
    """Why the job does not run at this moment. Raises NotFound."""
    view = reads.job(conn, who.tenant, job_id)
    job, now = jobs.lock(conn, job_id, tenant=who.tenant)
    parent = reads.job(conn, who.tenant, job.parent_id) if job.parent_id else None
    resources = job.spec.get("resources", {})
    ranks = int(resources.get("ranks", 1))
    waiting = job.state is State.QUEUED
    situation = Situation(
        state=job.state,
        kind=job.kind,
        ranks=ranks,
        least=int(resources.get("min_ranks") or ranks),
        now=now,
        run_after=job.run_after,
        lease_owner=job.lease_owner,
        lease_until=job.lease_until,
        error=view.error,
        paused_parent=parent.id if parent and parent.state == State.PAUSED else None,
        unmet=_unmet(parent, job.step) if parent and job.state is State.BLOCKED else [],
        ahead=reads.ahead_of(conn, job_id) if waiting else [],
        running=reads.running_of_kind(conn, job.kind) if waiting else [],
        nodes=control.live_nodes(conn, node_timeout_s) if job.kind in GANG_KINDS else [],
    )
    reasons = explain(situation)
    # Those of other tenants count, and are not named.
    own = reads.owned(conn, who.tenant, {each for reason in reasons for each in reason.jobs})
    shown = [reason.model_copy(update={"jobs": [each for each in reason.jobs if each in own]}) for reason in reasons]
    return WhyView(id=job_id, state=job.state, reasons=shown)


def _unmet(parent: JobView, step: str | None) -> list[tuple[str, UUID, str]]:
    needs = PipelineSpec.model_validate(parent.spec, strict=False).dependencies().get(step or "", set())
    return [
        (child.step, child.id, child.state)
        for child in parent.steps or []
        if child.step in needs and child.state != State.SUCCEEDED
    ]

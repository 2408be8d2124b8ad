"""Routes of jobs."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import Field, ValidationError
from pydantic.config import JsonDict
from pydantic_core import from_json
from sqlalchemy import Connection

from sextant_scheduler.api import quotas
from sextant_scheduler.api.context import Context, Guarded, Here, ReadsAudit, ReadsJobs, WritesJobs, context
from sextant_scheduler.api.idempotency import key_of, once
from sextant_scheduler.api.problems import findings_of
from sextant_scheduler.handlers import commands
from sextant_scheduler.handlers.submission import look_up_inputs, needs_look_up, new_job, submit_all
from sextant_scheduler.store import reads
from sextant_shared.contracts.base import Accepted, Text
from sextant_shared.contracts.specs import KINDS, SPEC, JobSpec
from sextant_shared.contracts.views import (
    AuditView,
    Finding,
    JobView,
    LineageNode,
    LineageView,
    Page,
    SubmittedView,
    ValidationView,
    WhyView,
)
from sextant_shared.errors import InvalidInput, KeyReused
from sextant_shared.lifecycle.jobs import NewJob, Submitted, own_key
from sextant_shared.lifecycle.machine import Cancel, Event, Pause, Resume
from sextant_shared.lifecycle.states import State
from sextant_shared.security import Identity

router = APIRouter(route_class=Guarded, prefix="/v1/jobs", tags=["jobs"])
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[UUID | None, Query(description="the `next` of the page before")]
Filter = Annotated[Text | None, Query(description="only those with this name")]
Kind = Annotated[str | None, Query(pattern=f"^({'|'.join(KINDS)})$")]
SPEC_SCHEMA: JsonDict = {"$ref": "#/components/schemas/JobSpec"}
SPEC_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": SPEC_SCHEMA}}}}
MAX_BATCH = 1000


class CancelBody(Accepted):
    """Why a job is cancelled, for the audit log."""

    reason: Text = ""


class BatchBody(Accepted):
    """Jobs to accept together."""

    jobs: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_BATCH, json_schema_extra={"items": SPEC_SCHEMA})


@router.post(
    "",
    status_code=202,
    response_model=SubmittedView,
    responses={200: {"model": SubmittedView, "description": "Submitted before, with the same key"}},
    openapi_extra=SPEC_BODY,
)
async def submit(request: Request, who: WritesJobs) -> Response:
    """Accept a job. With an Idempotency-Key, the same request again gives the same job (200)."""
    here = context(request)  # a dependency less on the path that is taken most
    key = key_of(request) or own_key("auto", uuid4())
    spec = SPEC.validate_json(await request.body())
    view, created = await accept(here, who, spec, key)
    headers = {} if created else {"Idempotent-Replayed": "true"}
    return Response(view.model_dump_json(), 202 if created else 200, headers, "application/json")


async def accept(here: Context, who: Identity, spec: JobSpec, key: str) -> tuple[SubmittedView, bool]:
    """Make the job durable; whether it is new. Raises KeyReused, InvalidInput, RateLimited, Unavailable."""
    inputs: dict[str, Any] = {}
    if needs_look_up(spec):
        inputs = await here.read(lambda conn: look_up_inputs(conn, spec, who.tenant, here.settings.user_code))
    await here.quotas.admit(who.tenant, quotas.size(spec))
    job = new_job(spec, tenant=who.tenant, actor=who.actor, key=key, inputs=inputs)
    done = await here.submissions.submit(job)
    if not done.same_body:
        raise KeyReused(field="Idempotency-Key", accepted="a new key for each new request")
    return _submitted(job, done), done.created


def _submitted(job: NewJob, done: Submitted) -> SubmittedView:
    return SubmittedView(id=done.id, kind=job.kind, name=job.name, state=done.state, created_at=done.created_at)


@router.post("/batch", status_code=202)
async def submit_batch(
    body: BatchBody, request: Request, here: Here, who: WritesJobs
) -> dict[str, list[SubmittedView]]:
    """Accept up to 1000 jobs, all or none."""
    specs: list[JobSpec] = []
    for index, item in enumerate(body.jobs):
        try:
            specs.append(SPEC.validate_python(item))
        except ValidationError as error:
            first = findings_of(error.errors())[0]
            raise InvalidInput(first.message, field=f"jobs.{index}.{first.field}", accepted=first.accepted) from None
    raw = await request.body()
    await here.quotas.admit(who.tenant, sum(quotas.size(spec) for spec in specs))

    def accept_all(conn: Connection) -> dict[str, Any]:
        made = submit_all(conn, specs, tenant=who.tenant, actor=who.actor, user_code=here.settings.user_code)
        return {"items": [_submitted(job, done).model_dump(mode="json") for job, done in made]}

    answer = await here.write(lambda conn: once(conn, request, who.tenant, raw, accept_all))
    return {"items": [SubmittedView.model_validate(item) for item in answer["items"]]}


@router.post("/validate", openapi_extra=SPEC_BODY)
async def validate(request: Request, here: Here, who: WritesJobs) -> ValidationView:
    """Say whether a spec would be accepted, and change nothing."""
    try:
        spec = SPEC.validate_python(from_json(await request.body()))
    except ValidationError as error:
        return ValidationView(valid=False, errors=findings_of(error.errors()))
    except ValueError as error:
        return ValidationView(valid=False, errors=[Finding(field="(body)", message=f"is no JSON: {error}")])
    try:
        await here.read(lambda conn: look_up_inputs(conn, spec, who.tenant, here.settings.user_code))
    except InvalidInput as error:
        finding = Finding(field=error.field or "(body)", message=error.message, accepted=error.accepted)
        return ValidationView(valid=False, errors=[finding])
    return ValidationView(valid=True)


@router.get("")
async def list_jobs(
    here: Here,
    who: ReadsJobs,
    kind: Kind = None,
    state: State | None = None,
    name: Filter = None,
    parent: UUID | None = None,
    root: UUID | None = None,
    top: bool = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[JobView]:
    """Jobs, the newest first."""
    where = {"kind": kind, "state": state, "name": name, "parent_id": parent, "root_id": root}
    items = await here.read(lambda conn: reads.job_page(conn, who.tenant, where, top=top, limit=limit, before=cursor))
    return Page(items=items, next=str(items[-1].id) if len(items) == limit else None)


@router.get("/batch", include_in_schema=False)
@router.get("/validate", include_in_schema=False)
async def only_posted(who: ReadsJobs) -> None:
    """These would else be taken for ids of jobs."""
    raise HTTPException(405)


@router.get("/{job_id}")
async def get_job(job_id: UUID, here: Here, who: ReadsJobs) -> JobView:
    """One job, with the jobs that it made."""
    return await here.read(lambda conn: reads.job(conn, who.tenant, job_id))


@router.get("/{job_id}/events")
async def events(job_id: UUID, here: Here, who: ReadsAudit) -> Page[AuditView]:
    """The job's history: its rows of the audit log."""
    await here.read(lambda conn: reads.job(conn, who.tenant, job_id))
    rows = await here.read(lambda conn: reads.audit_page(conn, who.tenant, subject=job_id, after=None, limit=500))
    return Page(items=rows)


@router.get("/{job_id}/why")
async def why(job_id: UUID, here: Here, who: ReadsJobs) -> WhyView:
    """Why the job does not run at this moment, and what would change that."""
    return await here.read(lambda conn: commands.why(conn, who, job_id, here.settings.node_timeout_s))


@router.get("/{job_id}/lineage")
async def lineage(job_id: UUID, here: Here, who: ReadsJobs) -> LineageView:
    """All that the job's outputs were made from, end to end."""
    rows = await here.read(lambda conn: reads.lineage(conn, who.tenant, job_id))
    return LineageView(nodes=[_lineage_node(row) for row in rows])


def _lineage_node(row: Any) -> LineageNode:
    inputs = row.inputs or {}
    from_inputs = [str(v["id"]) for v in inputs.values() if isinstance(v, dict) and "id" in v]
    made_from = [str(row.job_id)] if row.job_id else from_inputs
    return LineageNode(type=row.type, id=str(row.id), name=row.name, digest=row.digest, made_from=made_from)


async def _command(request: Request, here: Context, who: Identity, job_id: UUID, event: Event) -> JobView:
    body = await request.body()
    answer = await here.write(
        lambda conn: once(
            conn,
            request,
            who.tenant,
            body,
            lambda c: commands.tell(c, who, job_id, event, here.rng).model_dump(mode="json"),
        )
    )
    return JobView.model_validate(answer)


@router.post("/{job_id}/cancel", status_code=202)
async def cancel(
    job_id: UUID, request: Request, here: Here, who: WritesJobs, body: CancelBody | None = None
) -> JobView:
    """End the job, in whatever state it is."""
    return await _command(request, here, who, job_id, Cancel(body.reason if body else ""))


@router.post("/{job_id}/pause", status_code=202)
async def pause(job_id: UUID, request: Request, here: Here, who: WritesJobs) -> JobView:
    """Stop the job, at a checkpoint where it has them, until it is resumed."""
    return await _command(request, here, who, job_id, Pause())


@router.post("/{job_id}/resume", status_code=202)
async def resume(job_id: UUID, request: Request, here: Here, who: WritesJobs) -> JobView:
    """Let a paused job go on from its last checkpoint."""
    return await _command(request, here, who, job_id, Resume())


@router.post("/{job_id}/retry", status_code=202)
async def retry(job_id: UUID, request: Request, here: Here, who: WritesJobs) -> JobView:
    """Queue a quarantined job again, or run the spec of a failed or cancelled one as a new job."""
    await here.quotas.admit(who.tenant, 1)
    answer = await here.write(
        lambda conn: once(
            conn,
            request,
            who.tenant,
            b"",
            lambda c: commands.retry(c, who, job_id, here.rng, here.settings.user_code).model_dump(mode="json"),
        )
    )
    return JobView.model_validate(answer)

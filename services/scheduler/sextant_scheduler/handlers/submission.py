"""Accepting a job: from a validated spec to the row that is inserted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import to_json
from sqlalchemy import Connection, Row, select

from sextant_scheduler.domain.placement import nearest_that_fits
from sextant_scheduler.domain.resolution import named_references, step_references_outside_pipeline
from sextant_shared.contracts.limits import UserCode
from sextant_shared.contracts.models import CodeModel, OwnModel, ZooModel
from sextant_shared.contracts.references import DatasetRef, ModelRef, StepRef
from sextant_shared.contracts.specs import (
    JobSpec,
    PipelineSpec,
    PrepareSpec,
    ProbeSpec,
    ScriptSpec,
    TrainSpec,
    TuneSpec,
)
from sextant_shared.errors import InvalidInput, NotFound
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.jobs import NewJob
from sextant_shared.lifecycle.machine import Job
from sextant_shared.lifecycle.states import State
from sextant_shared.store import tables as t
from sextant_shared.store import versions
from sextant_shared.store.versions import VersionType
from sextant_zoo import mapping, pretrained
from sextant_zoo import registry as zoo

UPLOAD = "upload://"
SOURCES = "package://sklearn/NAME or upload://ID[/PATH]"
PACKAGE = "package://"


def new_job(
    spec: JobSpec,
    *,
    tenant: str,
    actor: str,
    key: str,
    parent: Job | None = None,
    step: str | None = None,
    inputs: dict[str, Any] | None = None,
) -> NewJob:
    """The row of a job that does `spec`; without inputs, it waits for them."""
    job_id = new_id()
    plain = spec.model_dump(mode="json", by_alias=True)
    kind = plain["kind"]
    return NewJob(
        id=job_id,
        tenant=tenant,
        kind=kind,
        name=spec.name or (f"{parent.name}.{step}" if parent else kind),
        spec=plain,
        body_hash=body_hash(plain),
        idem_key=key,
        root_id=parent.root_id if parent else job_id,
        actor=actor,
        state=State.QUEUED if inputs is not None else State.BLOCKED,
        inputs=inputs,
        parent_id=parent.id if parent else None,
        step=step,
        priority=spec.priority,
        max_attempts=spec.retry.max_attempts,
        backoff_s=spec.retry.backoff_s,
    )


def submit_all(
    conn: Connection, specs: Sequence[JobSpec], *, tenant: str, actor: str, user_code: UserCode
) -> list[tuple[NewJob, jobs.Submitted]]:
    """Insert a job for each of `specs`. Raises InvalidInput naming the first that cannot be accepted."""
    new: list[NewJob] = []
    for index, spec in enumerate(specs):
        try:
            inputs = look_up_inputs(conn, spec, tenant, user_code)
        except InvalidInput as error:
            raise InvalidInput(error.message, field=f"jobs.{index}.{error.field}", accepted=error.accepted) from None
        new.append(new_job(spec, tenant=tenant, actor=actor, key=jobs.own_key("auto", new_id()), inputs=inputs))
    return list(zip(new, jobs.submit(conn, new), strict=True))


def body_hash(plain: dict[str, Any]) -> str:
    """What makes two submissions the same: SHA-256 over the spec with its defaults filled in."""
    return hashlib.sha256(to_json(plain)).hexdigest()


def look_up_inputs(conn: Connection, spec: JobSpec, tenant: str, user_code: UserCode) -> dict[str, Any]:
    """The inputs that a spec names, as they are registered now; for a pipeline, by step.

    Raises InvalidInput naming the field where there is no such dataset, model or upload, where nothing could run it,
    and where it has code of its own and `user_code` is off.
    """
    if isinstance(spec, PipelineSpec):
        tasks = {step: child.task for step, child in spec.steps.items() if isinstance(child, PrepareSpec)}
        for step, child in spec.steps.items():
            _check_code(child, f"steps.{step}.", user_code)
        found = {step: _inputs(conn, child, tenant, f"steps.{step}.", tasks) for step, child in spec.steps.items()}
        for step, child in spec.steps.items():
            if isinstance(child, TrainSpec) and child.model is None and isinstance(child.config, StepRef):
                # The model that it trains is that of a search, with the weights that this began with.
                weights = found.get(child.config.step, {}).get("weights")
                found[step] |= {"weights": weights} if weights else {}
        return {step: inputs for step, inputs in found.items() if inputs}
    if field := step_references_outside_pipeline(spec):
        raise InvalidInput(
            "only a step of a pipeline can refer to another step",
            field=field,
            accepted="a dataset, model or endpoint by name",
        )
    _check_code(spec, "", user_code)
    return _inputs(conn, spec, tenant, "", {})


def _check_code(spec: JobSpec, where: str, user_code: UserCode) -> None:
    if getattr(spec, "code", None) is not None and user_code == "off":
        raise InvalidInput(
            "user code is not enabled: an administrator enables it by the setting SEXTANT_USER_CODE of this server",
            field=f"{where}code",
            accepted="kinds and models without code",
        )


def needs_look_up(spec: JobSpec) -> bool:
    """Whether accepting the spec takes a look into the store."""
    return not isinstance(spec, ProbeSpec)


def _inputs(conn: Connection, spec: JobSpec, tenant: str, where: str, tasks: Mapping[str, str]) -> dict[str, Any]:
    """`tasks` are those of the data that other steps prepare."""
    inputs: dict[str, Any] = {}
    task: str | None = None
    for field, reference in named_references(spec).items():
        kind: VersionType = "dataset" if isinstance(reference, DatasetRef) else "model"
        name = reference.dataset if isinstance(reference, DatasetRef) else reference.model
        try:
            row = versions.find(conn, kind, tenant, name)
        except NotFound as error:
            raise InvalidInput(error.message, field=f"{where}{field}") from None
        inputs[field] = _version(kind, row)
        task = row.meta.get("task") if field == "data" else task
    if isinstance(getattr(spec, "endpoint", None), str):
        inputs["endpoint"] = getattr(spec, "endpoint")  # noqa: B009 - only some kinds have the field
    if isinstance(spec, PrepareSpec) and not spec.source.startswith(PACKAGE):
        inputs["source"] = _upload(conn, spec.source, tenant, f"{where}source")
    if isinstance(spec, TrainSpec | ScriptSpec) and spec.code is not None:
        inputs["code"] = _upload(conn, spec.code, tenant, f"{where}code")
    if isinstance(spec, TrainSpec | TuneSpec):
        if isinstance(spec.model, ZooModel) and (found := _weights(conn, spec.model, tenant, where)):
            inputs["weights"] = found
        _check_model(spec, where, tasks.get(spec.data.step) if isinstance(spec.data, StepRef) else task)
        _check_width(conn, spec, where)
    return inputs


def _weights(conn: Connection, model: ZooModel, tenant: str, where: str) -> dict[str, Any]:
    """What the model's weights are, where they are an upload or a trained version; packages are the trainer's."""
    source, field = model.weights or "", f"{where}{pretrained.FIELD}"
    if source.startswith(pretrained.UPLOAD):
        return _upload(conn, source, tenant, field, pretrained.accepted())
    if not source.startswith(pretrained.MODEL):
        return {}
    try:
        reference = ModelRef(model=source.removeprefix(pretrained.MODEL)).model
        row = versions.find(conn, "model", tenant, reference)
    except ValidationError:
        accepted = pretrained.accepted()
        raise InvalidInput(f"{source[:80]!r} names no model", field=field, accepted=accepted) from None
    except NotFound as error:
        raise InvalidInput(error.message, field=field) from None
    trained = row.meta.get("architecture", {}).get("zoo") if row.meta.get("format") == "safetensors" else None
    if trained != model.zoo:
        what = f"is for {trained}" if trained else "was not trained here"
        raise InvalidInput(f"{source} {what}", field=field, accepted=f"a trained {model.zoo}")
    return _version("model", row)


def _version(kind: VersionType, row: Row[Any]) -> dict[str, Any]:
    return {"type": kind, "id": str(row.id), "name": row.name, "version": row.version, "digest": row.digest}


def _upload(conn: Connection, source: str, tenant: str, field: str, accepted: str = SOURCES) -> dict[str, Any]:
    upload_id = _upload_id(source, field, accepted)
    query = select(t.uploads).where(t.uploads.c.id == upload_id, t.uploads.c.tenant == tenant)
    row = conn.execute(query).one_or_none()
    if row is None or not row.completed:
        state = "is not complete" if row else "does not exist"
        raise InvalidInput(f"the upload {upload_id} {state}", field=field)
    return {"type": "upload", "id": str(row.id), "path": row.path, "size": row.size, "sha256": row.sha256}


def _upload_id(source: str, field: str, accepted: str) -> UUID:
    try:
        if not source.startswith(UPLOAD):
            raise ValueError
        return UUID(source.removeprefix(UPLOAD).partition("/")[0])
    except ValueError:
        raise InvalidInput(f"{source[:80]!r} names no source", field=field, accepted=accepted) from None


def _check_model(spec: TrainSpec | TuneSpec, where: str, task: str | None) -> None:
    """`task` is that of the data, where it is known."""
    if spec.model is None:
        return
    try:
        if isinstance(spec.model, CodeModel):
            return
        if isinstance(spec.model, OwnModel):
            mapping.check_mapping(spec.model.architecture, spec.model.settings, task)
            return
        zoo.check(spec.model.zoo, spec.model.config)
        if task is not None:
            zoo.check_task(spec.model.zoo, task)
        if spec.model.weights is not None and not spec.model.weights.startswith((pretrained.UPLOAD, pretrained.MODEL)):
            pretrained.check_source(spec.model.weights, spec.model.zoo)
    except zoo.UnknownModelError as error:
        raise InvalidInput(str(error), field=f"{where}{error.field}", accepted=error.accepted) from None


def _check_width(conn: Connection, spec: TrainSpec | TuneSpec, where: str) -> None:
    living = t.nodes.c.state != "SILENT"
    slots = conn.execute(select(t.nodes.c.slots).where(living)).scalars()
    least = spec.resources.min_ranks or spec.resources.ranks
    nearest = nearest_that_fits(least, slots)
    if nearest is not None:
        raise InvalidInput(
            f"there are not {least} slots; the nodes together have {nearest}",
            field=f"{where}resources.{'min_ranks' if spec.resources.min_ranks else 'ranks'}",
            accepted=f"1 to {nearest}",
        )

"""Making a work order: the inputs that the job names, fetched to this machine, and the checkpoint to resume from."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from sextant_shared.artefacts import Artefacts, File
from sextant_shared.contracts.limits import UserCode
from sextant_shared.execution.workbench import Input, Parts, Resume, WorkOrder
from sextant_shared.execution.workshop import Workshop
from sextant_shared.lifecycle.jobs import last_checkpoint
from sextant_shared.lifecycle.machine import Job
from sextant_shared.store import versions


def lay_out(shop: Workshop, job: Job, directory: Path) -> None:
    """Make the attempt's directory, with its order. Raises NotFound where an input is gone."""
    (directory / "out").mkdir(parents=True, mode=0o700)
    with shop.engine.connect() as conn:
        order = make_order(conn, job, shop.artefacts, shop.service(job), shop.user_code)
    (directory / "work.json").write_text(order.model_dump_json())


def hand_over(directory: Path, parts: Parts) -> None:
    """Add what became of the pieces of the work to its order."""
    path = directory / "work.json"
    order = WorkOrder.model_validate_json(path.read_bytes())
    path.write_text(order.model_copy(update={"parts": parts}).model_dump_json())


def make_order(
    conn: Connection, job: Job, artefacts: Artefacts, service: dict[str, str], user_code: UserCode = "off"
) -> WorkOrder:
    """The order for the attempt that `job` (as claimed) stands for. Raises NotFound where an input is gone."""
    inputs = {field: _fetch(conn, value, artefacts) for field, value in (job.inputs or {}).items()}
    return WorkOrder(
        job_id=str(job.id),
        kind=job.kind,
        name=job.name,
        fence=job.fence,
        attempt=job.attempt,
        spec=job.spec,
        inputs=inputs,
        resume=_resume(conn, job, artefacts),
        service=service,
        user_code=user_code,
    )


def _fetch(conn: Connection, value: Any, artefacts: Artefacts) -> Any:
    if not isinstance(value, dict):
        return value
    match value.get("type"):
        case "dataset" | "model" as kind:
            row = versions.by_id(conn, kind, UUID(value["id"]))
            path = artefacts.fetch(versions.prefix_of(row.job_id, row.fence), versions.files_of(row))
            record = Input(
                id=str(row.id), name=row.name, version=row.version, digest=row.digest, path=str(path), meta=row.meta
            )
            return record.model_dump()
        case "upload":
            file = File(value["path"], value["size"], value["sha256"])
            path = artefacts.fetch(f"uploads/{value['id']}", [file])
            record = Input(id=value["id"], name=value["path"], version=1, digest=file.sha256, path=str(path))
            return record.model_dump()
    return value


def _resume(conn: Connection, job: Job, artefacts: Artefacts) -> Resume | None:
    row = last_checkpoint(conn, job.id)
    if row is None:
        return None
    path = artefacts.fetch(f"{job.id}/{row.path}", [File(**file) for file in row.files])
    return Resume(path=str(path), step=row.step, samples=row.samples)

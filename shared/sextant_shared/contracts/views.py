"""What the API answers. Clients ignore fields that they do not know."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import Field

from sextant_shared.contracts.base import Received

T = TypeVar("T")


class Page(Received, Generic[T]):
    """A part of a list; `next` is the cursor of the following part, or None at the end."""

    items: list[T]
    next: str | None = None


class JobView(Received):
    """A job as it is now."""

    id: UUID
    kind: str
    name: str
    state: str
    root_id: UUID
    parent_id: UUID | None = None
    step: str | None = None
    priority: int = 0
    spec: dict[str, Any] = {}
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    attempt: int = 0
    errors: int = 0
    worker_deaths: int = 0
    fence: int = 0
    created_by: str = ""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    steps: list[JobView] | None = None
    """The jobs that a pipeline or tune job made; only where a single job is asked for."""


class SubmittedView(Received):
    """The answer to a submission."""

    id: UUID
    kind: str
    name: str
    state: str
    created_at: datetime


class Finding(Received):
    """One fault of a request: the field, what was given, and what is accepted."""

    field: str
    message: str
    given: str | None = None
    accepted: str | None = None


class Problem(Received):
    """An error by RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Finding] = []


class ValidationView(Received):
    """What a dry run found; nothing was changed."""

    valid: bool
    errors: list[Finding] = []
    warnings: list[str] = []


class AuditView(Received):
    """One row of the audit log."""

    subject_type: str
    subject_id: UUID
    seq: int
    at: datetime
    actor: str
    event: str
    from_state: str | None = None
    to_state: str | None = None
    fence: int
    attempt: int
    body: dict[str, Any]
    hash: str


class CheckpointsView(Received):
    """The audit log's checkpoints, as signed notes (C2SP signed-note)."""

    items: list[str]


class ExpiredView(Received):
    """How many rows were taken out of the audit log."""

    rows: int


class Reason(Received):
    """Why a job does not run at this moment, and what would change that."""

    rule: str
    message: str
    remedy: str | None = None
    jobs: list[UUID] = []


class WhyView(Received):
    """The answer to `why`."""

    id: UUID
    state: str
    reasons: list[Reason]


class VersionView(Received):
    """A registered dataset or model version."""

    id: UUID
    name: str
    version: int
    digest: str
    job_id: UUID
    files: list[dict[str, Any]]
    meta: dict[str, Any]
    created_at: datetime


class EndpointView(Received):
    """An endpoint: what it should serve, and whether it does."""

    name: str
    state: str
    model: dict[str, Any] | None = None
    generation: int
    observed_generation: int
    error: str | None = None
    url: str
    updated_at: datetime


class NodeView(Received):
    """A trainer node and its slots."""

    name: str
    state: str
    slots: int
    used: int
    last_seen: datetime
    info: dict[str, Any] = {}


class KeyView(Received):
    """An API key; `secret` is there only in the answer to its creation."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = Field(None, description="to a minute")
    tenant: str = "default"
    secret: str | None = None


class UploadView(Received):
    """An upload: `received` of `size` bytes are there; once complete it is named by `uri` in a spec."""

    id: UUID
    path: str
    size: int
    sha256: str
    received: int
    completed: bool
    uri: str


class LineageNode(Received):
    """One thing in a lineage: a job, dataset, model or endpoint, and the ids of what it was made from."""

    type: str
    id: str
    name: str
    digest: str | None = None
    made_from: list[str] = []


class LineageView(Received):
    """All that something was made from, end to end."""

    nodes: list[LineageNode]

"""Every call of the API as a value: what is sent, and the type of the answer. Pure; the two clients carry it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

from sextant._specs import SpecLike, encode, plain
from sextant.answers import EndpointModel, Items, LogView, Prediction, SubmittedList, VersionInfo
from sextant.errors import BadInput
from sextant_shared.contracts.views import (
    AuditView,
    CheckpointsView,
    EndpointView,
    ExpiredView,
    JobView,
    KeyView,
    LineageView,
    NodeView,
    Page,
    SubmittedView,
    UploadView,
    ValidationView,
    VersionView,
    WhyView,
)

T = TypeVar("T")
VersionKind = Literal["dataset", "model"]
PAGE = "200"
INFER_TIMEOUT_S = 120.0


class HasId(Protocol):
    """A view with an id."""

    @property
    def id(self) -> UUID:
        """The id."""


JobLike = UUID | str | HasId


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request. A `repeatable` one may be sent again even where the first may have arrived."""

    method: str
    path: str
    result: type[T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    repeatable: bool = True
    timeout_s: float | None = None

    def at(self, cursor: str) -> Call[T]:
        """The same list from a page's `next` on."""
        return replace(self, query={**self.query, "cursor": cursor})


def job_id(job: JobLike) -> str:
    """The id of a job, however it is named. Raises BadInput for what is no id."""
    value = job if isinstance(job, UUID | str) else job.id
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise BadInput(f"{str(value)[:80]!r} is no id; an id is a UUID, as in the answer to a submission") from None


def _get(path: str, result: type[T], **query: str | int | bool | None) -> Call[T]:
    given = {name: _query(value) for name, value in query.items() if value is not None}
    return Call("GET", path, result, query=given)


def _query(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _change(
    method: str, path: str, result: type[T], body: Any = None, key: str | None = None, repeatable: bool = True
) -> Call[T]:
    headers = {"Idempotency-Key": key or str(uuid4())}
    content = None if body is None else encode(body)
    if content is not None:
        headers["Content-Type"] = "application/json"
    return Call(method, path, result, headers=headers, content=content, repeatable=repeatable)


def submit(spec: SpecLike, key: str | None = None) -> Call[SubmittedView]:
    """Accept a job."""
    return _change("POST", "/v1/jobs", SubmittedView, plain(spec), key)


def submit_many(specs: Iterable[SpecLike], key: str | None = None) -> Call[SubmittedList]:
    """Accept up to 1000 jobs."""
    return _change("POST", "/v1/jobs/batch", SubmittedList, {"jobs": [plain(spec) for spec in specs]}, key)


def validate(spec: SpecLike) -> Call[ValidationView]:
    """Check a spec and change nothing."""
    return _change("POST", "/v1/jobs/validate", ValidationView, plain(spec))


def job(which: JobLike) -> Call[JobView]:
    """One job."""
    return _get(f"/v1/jobs/{job_id(which)}", JobView)


def jobs(
    kind: str | None = None,
    state: str | None = None,
    name: str | None = None,
    parent: JobLike | None = None,
    root: JobLike | None = None,
    top: bool = False,
) -> Call[Page[JobView]]:
    """Jobs, the newest first."""
    above = {"parent": job_id(parent) if parent else None, "root": job_id(root) if root else None}
    only_top = True if top else None
    return _get("/v1/jobs", Page[JobView], kind=kind, state=state, name=name, top=only_top, limit=PAGE, **above)


def events(which: JobLike) -> Call[Page[AuditView]]:
    """A job's history."""
    return _get(f"/v1/jobs/{job_id(which)}/events", Page[AuditView])


def logs(which: JobLike, tail: int | None = None) -> Call[Items[LogView]]:
    """What a job and those below it have written."""
    return _get(f"/v1/jobs/{job_id(which)}/logs", Items[LogView], tail=tail)


def command(which: JobLike, verb: Literal["pause", "resume", "retry"]) -> Call[JobView]:
    """Tell a job to do something."""
    return _change("POST", f"/v1/jobs/{job_id(which)}/{verb}", JobView)


def cancel(which: JobLike, reason: str = "") -> Call[JobView]:
    """End a job."""
    return _change("POST", f"/v1/jobs/{job_id(which)}/cancel", JobView, {"reason": reason})


def why(which: JobLike) -> Call[WhyView]:
    """Why a job does not run."""
    return _get(f"/v1/jobs/{job_id(which)}/why", WhyView)


def lineage(which: JobLike) -> Call[LineageView]:
    """What a job's outputs were made from."""
    return _get(f"/v1/jobs/{job_id(which)}/lineage", LineageView)


def stream_path(which: JobLike) -> str:
    """Where a job's live events come from."""
    return f"/v1/jobs/{job_id(which)}/stream"


def versions(kind: VersionKind, name: str | None = None) -> Call[Page[VersionView]]:
    """Dataset or model versions, the newest first."""
    return _get(f"/v1/{kind}s", Page[VersionView], name=name, limit=PAGE)


def version(kind: VersionKind, reference: str) -> Call[VersionView]:
    """One version by NAME or NAME@VERSION."""
    return _get(f"/v1/{kind}s/{_segment(reference, '@')}", VersionView)


def file_path(kind: VersionKind, reference: str, path: str) -> str:
    """Where a version's file comes from."""
    return f"/v1/{kind}s/{_segment(reference, '@')}/files/{quote(path, safe='/')}"


def new_upload(path: str, size: int, sha256: str, key: str) -> Call[UploadView]:
    """Announce a file."""
    return _change("POST", "/v1/uploads", UploadView, {"path": path, "size": size, "sha256": sha256}, key)


def upload(upload_id: JobLike) -> Call[UploadView]:
    """How much of an upload is there."""
    return _get(f"/v1/uploads/{job_id(upload_id)}", UploadView)


def piece(upload_id: JobLike, offset: int, content: bytes) -> Call[UploadView]:
    """A part of an upload. Sent again only after the server was asked how much it has."""
    headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
    path = f"/v1/uploads/{job_id(upload_id)}"
    return Call("PATCH", path, UploadView, headers=headers, content=content, repeatable=False)


def endpoints() -> Call[Page[EndpointView]]:
    """The endpoints."""
    return _get("/v1/endpoints", Page[EndpointView])


def endpoint(name: str) -> Call[EndpointView]:
    """One endpoint."""
    return _get(f"/v1/endpoints/{_segment(name)}", EndpointView)


def delete_endpoint(name: str) -> Call[EndpointView]:
    """Take an endpoint down."""
    return _change("DELETE", f"/v1/endpoints/{_segment(name)}", EndpointView)


def endpoint_model(name: str) -> Call[EndpointModel]:
    """The inputs and outputs of an endpoint."""
    return _get(f"/v2/models/{_segment(name)}", EndpointModel)


def infer(name: str, tensors: list[dict[str, Any]]) -> Call[Prediction]:
    """An inference request of the Open Inference Protocol."""
    call = _change("POST", f"/v2/models/{_segment(name)}/infer", Prediction, {"inputs": tensors})
    return replace(call, timeout_s=INFER_TIMEOUT_S)


def nodes() -> Call[Page[NodeView]]:
    """The trainer nodes."""
    return _get("/v1/nodes", Page[NodeView])


def audit(subject: JobLike | None = None) -> Call[Page[AuditView]]:
    """Rows of the audit log."""
    return _get("/v1/audit", Page[AuditView], subject=job_id(subject) if subject else None, limit=PAGE)


def audit_log(which: JobLike | None = None) -> str:
    """Where the whole audit log is downloaded from; its other rows are hashes alone where a job is given."""
    return "/v1/audit/log" + (f"?subject={job_id(which)}" if which else "")


def checkpoints(after: int) -> Call[CheckpointsView]:
    """The audit log's checkpoints over more than `after` rows."""
    return _get("/v1/audit/checkpoints", CheckpointsView, after=str(after))


def expire_audit(before: datetime) -> Call[ExpiredView]:
    """Take old rows out of the audit log."""
    return _change("POST", "/v1/audit/expirations", ExpiredView, {"before": before.isoformat()})


def keys() -> Call[Page[KeyView]]:
    """The API keys."""
    return _get("/v1/keys", Page[KeyView])


def create_key(
    name: str, scopes: Iterable[str], expires_in_days: int | None = None, tenant: str | None = None
) -> Call[KeyView]:
    """Make an API key. Not repeatable: the server does not keep the answer, for it holds the secret."""
    body: dict[str, Any] = {"name": name, "scopes": list(scopes), "expires_in_days": expires_in_days}
    # A server before this one knows no tenant.
    body |= {"tenant": tenant} if tenant else {}
    return _change("POST", "/v1/keys", KeyView, body, repeatable=False)


def rotate_key(key_id: JobLike, overlap_s: int) -> Call[KeyView]:
    """Replace an API key. Not repeatable, likewise."""
    path = f"/v1/keys/{job_id(key_id)}/rotate"
    return _change("POST", path, KeyView, {"overlap_s": overlap_s}, repeatable=False)


def revoke_key(key_id: JobLike) -> Call[KeyView]:
    """Revoke an API key."""
    return _change("DELETE", f"/v1/keys/{job_id(key_id)}", KeyView)


def server_version() -> Call[VersionInfo]:
    """The server's version."""
    return _get("/v1/version", VersionInfo)


def _segment(name: str, safe: str = "") -> str:
    if not name or name in (".", "..") or "/" in name:
        raise BadInput(f"{name[:80]!r} is no name; accepted are lower-case letters, digits, dots, dashes, underscores")
    return quote(name, safe=safe)

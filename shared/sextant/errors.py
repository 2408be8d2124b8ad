"""What the client raises.

ClientError
├── BadInput         a file, value or reference given here is not usable; nothing was sent
├── NotReachable     no server answers at the URL
├── TransferFailed   bytes arrived that do not have the promised hash
├── TimedOut         the job did not end in the time given (also a TimeoutError)
├── JobFailed        the job ended in another state than SUCCEEDED
└── ApiError         the server refused; `status`, `title`, `detail` and `findings` are its problem details
    ├── InvalidRequest   400, 413, 422
    ├── AccessRefused    401, 403
    ├── NotFound         404
    └── Conflict         409
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sextant_shared.contracts.views import Finding, JobView


class ClientError(Exception):
    """The base of all errors of the client."""


class BadInput(ClientError):
    """Something given here is not usable; nothing was sent."""

    def __init__(
        self, message: str, *, field: str | None = None, accepted: str | None = None, line: int | None = None
    ) -> None:
        self.field = field
        self.accepted = accepted
        self.line = line
        super().__init__(f"{message}; accepted is {accepted}" if accepted else message)


class NotReachable(ClientError):
    """No server answers at the URL."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"no server answers at {url} ({reason})")


class TransferFailed(ClientError):
    """The bytes that arrived do not have the promised hash or size."""


class TimedOut(ClientError, TimeoutError):
    """The job did not end in the time given."""


class JobFailed(ClientError):
    """The job ended in another state than SUCCEEDED; `job` is how it ended."""

    def __init__(self, job: JobView) -> None:
        self.job = job
        detail = (job.error or {}).get("message")
        super().__init__(f"{job.kind} job {job.name} ({job.id}) is {job.state}" + (f": {detail}" if detail else ""))


class ApiError(ClientError):
    """The server refused the request; the fields are its problem details (RFC 9457)."""

    def __init__(self, status: int, title: str, detail: str, findings: list[Finding] | None = None) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.findings = findings or []
        super().__init__(f"{status} {title}: {detail}" if detail and detail != title else f"{status} {title}")


class InvalidRequest(ApiError):
    """The request holds something that is not accepted; `findings` name the fields."""


class AccessRefused(ApiError):
    """The API key is missing, unknown, or lacks the scope."""


class NotFound(ApiError):
    """The server has no such object."""


class Conflict(ApiError):
    """The object's state does not allow this."""


def api_error(status: int, title: str, detail: str, findings: list[Finding]) -> ApiError:
    """The error class that fits an HTTP status."""
    kinds = {400: InvalidRequest, 413: InvalidRequest, 422: InvalidRequest, 401: AccessRefused, 403: AccessRefused}
    kind: type[ApiError] = {**kinds, 404: NotFound, 409: Conflict}.get(status, ApiError)
    return kind(status, title, detail, findings)

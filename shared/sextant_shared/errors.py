"""The error tree of the platform. A class's docstring is its default message.

SextantError
├── PermanentError             trying again changes nothing
│   ├── InvalidInput           a field was given something that is not accepted
│   │   └── KeyReused          an idempotency key came back with another body
│   ├── NotFound
│   ├── Conflict               the object is in a state that does not allow this
│   ├── Unauthenticated
│   ├── Forbidden
│   ├── PayloadTooLarge
│   ├── WorkFailed             the user's work failed and will fail again
│   └── StaleFence             another attempt owns the job now; stop at once
└── TransientError             the same call may succeed later
    ├── Unavailable            a server or endpoint cannot be reached
    ├── TooSlow                a request's body did not arrive in time
    ├── RateLimited
    │   └── QuotaExceeded      a tenant has as much as it may have
    └── WorkInterrupted        the work's process died; the job goes on elsewhere

Only the API maps these to HTTP (RFC 9457 problem details).
"""

from __future__ import annotations


class SextantError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None, *, field: str | None = None, accepted: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.field = field
        self.accepted = accepted
        super().__init__(self.message)


class PermanentError(SextantError):
    """This cannot succeed, however often it is tried."""


class TransientError(SextantError):
    """This did not succeed now and may later."""


class InvalidInput(PermanentError):
    """A field holds a value that is not accepted."""


class KeyReused(InvalidInput):
    """This Idempotency-Key was used before with another request."""


class NotFound(PermanentError):
    """No such object."""


class Conflict(PermanentError):
    """The object's state does not allow this."""


class Unauthenticated(PermanentError):
    """A valid API key is needed: Authorization: Bearer KEY."""


class Forbidden(PermanentError):
    """This API key lacks the scope for this."""


class PayloadTooLarge(PermanentError):
    """The request's body is larger than accepted."""


class WorkFailed(PermanentError):
    """The work failed."""


class StaleFence(PermanentError):
    """Another attempt owns this job now."""


class Unavailable(TransientError):
    """A server cannot be reached at present."""


class RateLimited(TransientError):
    """Too many requests; try again later."""

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooSlow(TransientError):
    """The request's body took too long to arrive."""


class QuotaExceeded(RateLimited):
    """A tenant has as much as it may have; try again when some of it is gone."""


class WorkInterrupted(TransientError):
    """The process that did the work died."""

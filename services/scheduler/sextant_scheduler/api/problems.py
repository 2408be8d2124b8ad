"""Errors as RFC 9457 problem details: the only place where an error meets an HTTP status."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from sextant_shared import errors as e
from sextant_shared.contracts.specs import BY_KIND, KINDS
from sextant_shared.contracts.views import Finding, Problem

log = structlog.get_logger(__name__)

STATUS: dict[type[e.SextantError], int] = {
    e.InvalidInput: 422,
    e.NotFound: 404,
    e.Conflict: 409,
    e.StaleFence: 409,
    e.Unauthenticated: 401,
    e.Forbidden: 403,
    e.PayloadTooLarge: 413,
    e.TooSlow: 408,
    e.RateLimited: 429,
    e.Unavailable: 503,
}
MEDIA_TYPE = "application/problem+json"
GIVEN_MAX, FIELD_MAX, FINDINGS_MAX = 80, 300, 50
FULL = (errno.ENOSPC, errno.EDQUOT)


def answer(problem: Problem, retry_after_s: int = 1) -> Response:
    """The response for a problem; one that may pass says after how many seconds to try again."""
    headers = {}
    if problem.status in (429, 503):
        headers["Retry-After"] = str(retry_after_s)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(problem.model_dump_json(), problem.status, headers, MEDIA_TYPE)


def problem_of(error: e.SextantError) -> Problem:
    """How an error of ours is told."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    findings = [Finding(field=error.field, message=error.message, accepted=error.accepted)] if error.field else []
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=error.message, errors=findings)


def answer_to(error: e.SextantError) -> Response:
    """The response for an error of ours."""
    return answer(problem_of(error), error.retry_after_s if isinstance(error, e.RateLimited) else 1)


def invalid(findings: list[Finding]) -> Problem:
    """A request with faults."""
    detail = "; ".join(f"{f.field}: {f.message}" for f in findings[:3]) or "the request is not valid"
    return Problem(title=HTTPStatus(422).phrase, status=422, detail=detail, errors=findings)


def findings_of(errors: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """Pydantic's errors, with the field as the user wrote it; the first of them, for an answer must not outgrow what
    was asked.
    """
    return [
        Finding(field=_field(err)[:FIELD_MAX], message=_message(err), given=_given(err), accepted=_accepted(err))
        for err in islice(errors, FINDINGS_MAX)
    ]


def _location(error: Mapping[str, Any]) -> tuple[Any, ...]:
    # A kind that is missing or unknown is a fault of the field that says it, not of what holds it.
    if error["type"].startswith("union_tag_"):
        return (*error["loc"], str(error["ctx"]["discriminator"]).strip("'"))
    return tuple(error["loc"])


def _field(error: Mapping[str, Any]) -> str:
    # A union's location also names the branch that was tried, which the user never wrote: a kind at the beginning and
    # behind a step's name, a model's class elsewhere. An unknown field, and a key that is refused, were written.
    parts = [str(part) for part in _location(error)]
    written = {len(parts) - 1} if error["type"] == "extra_forbidden" else set()
    written |= {index - 1 for index, part in enumerate(parts) if part == "[key]"}
    of_kind = {0, 3} if parts[:2] == ["pipeline", "steps"] else {0}
    kept = [
        part
        for index, part in enumerate(parts)
        if index in written or not (part[:1].isupper() or "[" in part or (index in of_kind and part in KINDS))
    ]
    return ".".join(kept) or "(body)"


def _message(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def _given(error: Mapping[str, Any]) -> str | None:
    if error["type"] == "missing":
        return None
    given = repr(error.get("input"))
    return given if len(given) <= GIVEN_MAX else given[:GIVEN_MAX] + "..."


def _accepted(error: Mapping[str, Any]) -> str | None:
    context = error.get("ctx") or {}
    if error["type"] == "extra_forbidden":
        return _siblings(error["loc"])
    if "expected_tags" in context:
        return str(context["expected_tags"])
    return str(context["expected"]) if "expected" in context else None


def _siblings(location: tuple[Any, ...]) -> str | None:
    """The fields beside an unknown one: of the model that the location leads to."""
    parts = [str(part) for part in location[:-1]]
    at: Any = BY_KIND.get(parts[0]) if parts else None
    if parts[:2] == ["pipeline", "steps"] and len(parts) == 4:
        at = BY_KIND.get(parts[3])
    elif len(parts) > 1:
        return None
    return ", ".join(at.model_fields) if at else None


def _methods(app: FastAPI, path: str) -> list[str]:
    """What a path allows, as the description has it (RFC 9110, 15.5.6)."""
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    matching = [path] if path in paths else [known for known in paths if compile_path(known)[0].match(path)]
    return sorted(method.upper() for known in matching for method in paths[known])


def install(app: FastAPI) -> None:
    """Let the application answer every error as a problem."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, e.SextantError)  # noqa: S101 - registered for this class alone
        return answer_to(error)

    async def invalid_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError | ValidationError)  # noqa: S101 - likewise
        found = error.errors()
        if isinstance(error, RequestValidationError):
            # FastAPI says first where the field came from: body, query, path, header.
            found = [{**fault, "loc": fault["loc"][1:]} for fault in found]
        return answer(invalid(findings_of(found)))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - likewise
        phrase = HTTPStatus(error.status_code).phrase
        made = answer(Problem(title=phrase, status=error.status_code, detail=str(error.detail)))
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            made.headers["Allow"] = ", ".join(_methods(app, request.url.path))
        return made

    async def store(request: Request, error: Exception) -> Response:
        log.warning("api.store_failed", error=str(error)[:500])
        # A pool without a free connection is a store that is too busy.
        away = isinstance(error, OperationalError | PoolTimeout)
        detail = "the metadata store is not reachable at present" if away else "the metadata store refused the request"
        status = 503 if away else 500
        return answer(Problem(title=HTTPStatus(status).phrase, status=status, detail=detail))

    async def system(request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)  # noqa: S101 - likewise
        if error.errno not in FULL:
            return await unexpected(request, error)
        log.error("api.disk_full", error=error.strerror)
        detail = "the server's disk is full: nothing of this request was kept; send it again when there is room"
        return answer(Problem(title=HTTPStatus(507).phrase, status=507, detail=detail))

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("api.unexpected", exc_info=error)
        return answer(Problem(title="Internal Server Error", status=500, detail="an unexpected error; it was logged"))

    app.add_exception_handler(e.SextantError, ours)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_exception_handler(ValidationError, invalid_request)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(SQLAlchemyError, store)
    app.add_exception_handler(OSError, system)
    app.add_exception_handler(Exception, unexpected)

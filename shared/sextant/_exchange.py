"""How a call is carried out, without doing any I/O: generators say what to do next, a client does it and answers.

A flow yields effects (Send, Fetch, Sleep) and is given their outcomes; so the sync and the async client share all rules
about retries, errors and answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from sextant._requests import Call
from sextant.errors import ApiError, ClientError, NotReachable, api_error
from sextant_shared.contracts.views import Finding, Problem

T = TypeVar("T")
BUSY = (429, 503)
MAX_WAIT_S = 30.0


@dataclass(frozen=True)
class Send:
    """Send a request and read the whole answer."""

    call: Call[Any]


@dataclass(frozen=True)
class Fetch:
    """Get bytes from `offset` on and hand each piece to `sink` as it comes."""

    path: str
    offset: int
    sink: Callable[[bytes], object]


@dataclass(frozen=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """What came back; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Broken:
    """The connection failed; `unsent` where the server cannot have seen the request."""

    reason: str
    unsent: bool


Effect = Send | Fetch | Sleep
Outcome = Answer | Broken | None
Flow = Generator[Effect, Outcome, T]


@dataclass(frozen=True)
class Done(Generic[T]):
    """A flow has come to its result."""

    result: T


def advance(flow: Flow[T], outcome: Outcome) -> Effect | Done[T]:
    """Give a flow the outcome of its last effect (None to begin); what it wants next. For `_run` of the clients."""
    try:
        return flow.send(outcome)
    except StopIteration as end:
        return Done(end.value)


@dataclass(frozen=True)
class Policy:
    """How often, and how long apart, a failed request is sent again."""

    url: str
    retries: int = 5
    base_s: float = 0.2
    cap_s: float = 5.0
    rng: Random = field(default_factory=Random)

    def wait(self, failures: int, retry_after: str | None = None) -> Sleep:
        """Full jitter (AWS Architecture Blog 2015), and never less than what the server asks for."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 20))
        asked = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
        return Sleep(min(MAX_WAIT_S, asked + self.rng.uniform(ceiling / 2, ceiling)))


def exchange(call: Call[T], policy: Policy) -> Flow[T]:
    """Send the call until it is answered. Raises ApiError, NotReachable."""
    failures = 0
    while True:
        outcome = yield Send(call)
        failures += 1
        may_repeat = failures <= policy.retries
        if isinstance(outcome, Answer):
            if outcome.status not in BUSY or not may_repeat:
                return parse(outcome, call.result)
            yield policy.wait(failures, outcome.headers.get("retry-after"))
        elif isinstance(outcome, Broken):
            if not may_repeat or not (call.repeatable or outcome.unsent):
                raise NotReachable(policy.url, outcome.reason)
            yield policy.wait(failures)


def parse(answer: Answer, result: type[T]) -> T:
    """The answer as what was asked for. Raises ApiError."""
    if answer.status >= 400:
        raise error_of(answer)
    try:
        parsed: T = _adapter(cast(Hashable, result)).validate_json(answer.content or b"null")
    except ValidationError as error:
        raise ClientError(
            f"the server's answer is not understood ({error.error_count()} faults, first: {error.errors()[0]['msg']}); "
            "is the URL that of a Sextant server of this version?"
        ) from None
    return parsed


@cache
def _adapter(result: Hashable) -> TypeAdapter[Any]:
    # Building one takes longer than using it; there are as many as there are kinds of answers.
    return TypeAdapter(cast(type[Any], result))


def error_of(answer: Answer) -> ApiError:
    """The error that an answer tells: problem details, the inference protocol's `error`, or a bare status."""
    try:
        body = json.loads(answer.content)
    except ValueError:
        body = None
    if isinstance(body, dict) and "title" in body:
        try:
            problem = Problem.model_validate(body)
        except ValidationError:
            pass
        else:
            return api_error(answer.status, problem.title, problem.detail, problem.errors)
    detail = body.get("error") or body.get("detail") if isinstance(body, dict) else None
    findings: list[Finding] = []
    title = "the server refused" if answer.status < 500 else "the server failed"
    return api_error(answer.status, title, str(detail or "the answer gives no detail"), findings)

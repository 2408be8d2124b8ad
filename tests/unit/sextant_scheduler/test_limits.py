"""What a request may cost before it is looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from sextant_scheduler.api import limits
from sextant_scheduler.api.limits import MAX_DEPTH, Limits, check_depth
from sextant_scheduler.api.quotas import Rates, size
from sextant_scheduler.metrics import ApiMetrics
from sextant_shared.contracts.specs import SPEC
from sextant_shared.errors import InvalidInput, RateLimited

PIECES = 20_000


def ask(pieces: Sequence[Message | None], path: str = "/v1/jobs", **scope: Any) -> tuple[int | None, bytes]:
    """The status that a request with these messages gets, and the body that the application saw; None never comes."""
    seen: list[bytes] = []
    sent: list[Message] = []
    waiting = list(pieces)

    async def receive() -> Message:
        message = waiting.pop(0)
        if message is None:
            await asyncio.sleep(60)
        return message or {}

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            seen.append(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    served = Limits(app, 1000, 2, 2, ApiMetrics(CollectorRegistry()))
    whole = {"type": "http", "path": path, "method": "POST", "headers": [], **scope}
    asyncio.run(served(whole, receive, send))
    statuses = [message["status"] for message in sent if message["type"] == "http.response.start"]
    return statuses[0] if statuses else None, b"".join(seen)


def piece(body: bytes, more: bool = False) -> Message:
    """A part of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_tiny_pieces_is_put_together_and_counted() -> None:
    assert ask([*(piece(b"x", True) for _ in range(999)), piece(b"x")]) == (200, b"x" * 1000)
    assert ask([*(piece(b"x", True) for _ in range(1000)), piece(b"x")])[0] == 413
    assert ask([*(piece(b"", True) for _ in range(PIECES)), piece(b"")])[0] == 200


def test_a_length_that_is_announced_is_believed_and_one_that_is_none_is_not() -> None:
    assert ask([piece(b"")], headers=[(b"content-length", b"1001")])[0] == 413
    assert ask([piece(b"x")], headers=[(b"content-length", b"-1")])[0] == 200
    assert ask([piece(b"x")], headers=[(b"content-length", b"9" * 5000)])[0] == 413


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/uploads/x"])
def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(limits, "BODY_S", 0.05)
    monkeypatch.setattr(limits, "LARGE_BODY_S", 0.05)
    assert ask([piece(b"x", True), None], path)[0] == 408
    assert ask([None], path)[0] == 408


def test_a_client_that_leaves_gets_no_answer_and_the_application_no_half_body() -> None:
    assert ask([piece(b"x", True), {"type": "http.disconnect"}]) == (None, b"")


def test_depth_counts_brackets_and_not_those_in_texts() -> None:
    check_depth(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    check_depth(json.dumps({"x": "[" * 5000}).encode())
    check_depth(json.dumps({"x": '\\"[' * 500 + "\\"}).encode())
    check_depth(b"[[]," * 30 + b"[]" + b"]" * 30)
    check_depth(json.dumps([[]] * 5000).encode())
    for deep in (b"[" * (MAX_DEPTH + 1), b'{"a":' * 5000, b'["a",' * 100_000, b'"' + b"[" * 100 + b'"' + b"[" * 65):
        with pytest.raises(InvalidInput, match="deeper"):
            check_depth(deep)


def test_a_key_has_its_rate_and_a_burst_of_a_second() -> None:
    now = [0.0]
    rates = Rates(2.0, lambda: now[0])
    for _ in range(2):
        rates.take("k")
    with pytest.raises(RateLimited) as refused:
        rates.take("k")
    assert refused.value.retry_after_s == 1
    rates.take("other")
    now[0] += 0.5
    rates.take("k")
    with pytest.raises(RateLimited):
        rates.take("k")


def test_a_rate_under_one_a_second_lets_one_pass_and_says_how_long_to_wait() -> None:
    rates = Rates(0.1, lambda: 0.0)
    rates.take("k")
    with pytest.raises(RateLimited) as refused:
        rates.take("k")
    assert refused.value.retry_after_s == 10


def test_a_job_counts_with_what_it_makes() -> None:
    tune = {
        "kind": "tune",
        "data": {"dataset": "d"},
        "model": {"zoo": "mlp"},
        "maximize": "accuracy",
        "trials": 9,
        "parallel": 4,
    }
    assert size(SPEC.validate_python({"kind": "probe"})) == 1
    assert size(SPEC.validate_python(tune)) == 5
    assert size(SPEC.validate_python({**tune, "trials": 2})) == 3
    assert size(SPEC.validate_python({"kind": "pipeline", "steps": {"a": {"kind": "probe"}, "b": tune}})) == 7

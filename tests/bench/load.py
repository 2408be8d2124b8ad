"""Submissions that arrive whatever the answers: at 70 % of what `submit` reaches, at twice of it, and after it."""

from __future__ import annotations

import json
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import uuid4

import uvloop
from sqlalchemy import create_engine, text

from tests.bench import floor, submit
from tests.bench.open_loop import PATIENCE_S, UNANSWERED, Answer, open_loop
from tests.bench.platforms import Platform, parts
from tests.bench.report import Report, percentile

SHARE, OVERLOAD = 0.7, 2.0
ROUNDS = 6
"""The steady load comes in so many parts, each with one of the floor at the same rate after it."""
TARGET_MS = 100.0
CONNECTIONS = 512
KEYS = 8
"""So many clients, so that no key's own rate is what is measured."""
BACK_WITHIN_S = 10.0
STEADY_S = 3
"""So many seconds as they should be, one after the other, are normal."""
LATER = (429, 503)
ROOM = {"SEXTANT_MAX_OPEN_JOBS": "100000000"}
"""Nothing takes the jobs: they all stay open."""


@dataclass(frozen=True)
class Phase:
    """What was sent in one phase: the prefix of its idempotency keys, and the answers by their number."""

    prefix: str
    answers: list[Answer]

    def ok(self) -> list[Answer]:
        """Those that were accepted."""
        return [answer for answer in self.answers if answer.status == 202]

    def latencies_ms(self) -> list[float]:
        """Of what was accepted."""
        return [1000 * answer.latency_s for answer in self.ok()]

    def wrong(self) -> int:
        """Answers that are neither an acceptance nor a word to come later, and requests without an answer."""
        return sum(answer.status not in (202, *LATER) for answer in self.answers)


def run(report: Report) -> None:
    """One API process and its servers on this machine, with the load generator beside them."""
    seconds = (3.0, 10.0, 5.0) if report.quick else (5.0, 60.0, 20.0)
    with _environment(ROOM), parts("scheduler-api") as platform:
        rates = [submit.measure(platform, seconds[0]).per_second for _ in range(4)][1:]
        reached = statistics.median(rates)
        report.say(f"closed loop, 16 clients: {reached:.0f}/s")
        send = _sender(platform)
        steady, bare = _alternate(report, platform, send, SHARE * reached, seconds[1])
        over = send(OVERLOAD * reached, seconds[2])
        after = send(SHARE * reached, 2 * BACK_WITHIN_S)
        _tell(report, rates, steady, seconds[1])
        _tell_floor(report, steady, bare)
        _tell_overload(report, over, seconds[2])
        _tell_return(report, steady, after)
        _compare(report, platform, [*steady, over, after])


def _alternate(
    report: Report, platform: Platform, send: Callable[[float, float], Phase], per_second: float, seconds: float
) -> tuple[list[Phase], list[Phase]]:
    """The steady load on ours and on the floor, by turns."""
    ours: list[Phase] = []
    bare: list[Phase] = []
    with floor.serving(platform.urls.database_url) as url:
        body = b"{}"
        head = f"POST /jobs HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        for number in range(ROUNDS):
            ours.append(send(per_second, seconds / ROUNDS))
            bare.append(_send(url, lambda _: head + body, "", per_second, seconds / ROUNDS))
            told = ", ".join(f"{percentile(phase[-1].latencies_ms(), 0.99):.0f} ms" for phase in (ours, bare))
            report.say(f"round {number} at {per_second:.0f}/s: p99 of ours and of the floor {told}")
    return ours, bare


def _tell(report: Report, rates: list[float], steady: list[Phase], seconds: float) -> None:
    latencies = _all_ms(steady)
    offered = sum(len(phase.answers) for phase in steady)
    report.figure("submit_per_second", statistics.median(rates))
    report.figure("offered_per_second", offered / seconds)
    for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)):
        report.figure(name, percentile(latencies, share))
    report.figure("errors", offered - len(latencies))
    report.sample("submit_per_second", rates)
    report.sample("p99_ms_by_second", _by_second(steady))
    report.note(
        f"latency counts from when a request was due; {KEYS} keys over {CONNECTIONS} connections, open beforehand"
    )
    report.note("generator, API and servers share the machine; neither relay nor workers run")


def _tell_floor(report: Report, steady: list[Phase], bare: list[Phase]) -> None:
    """What the same stream takes with nothing of ours in its way."""
    for name, share in (("floor_p50_ms", 0.5), ("floor_p99_ms", 0.99)):
        report.figure(name, percentile(_all_ms(bare), share))
    ratios = [
        percentile(a.latencies_ms(), 0.99) / percentile(b.latencies_ms(), 0.99)
        for a, b in zip(steady, bare, strict=True)
    ]
    report.figure("p99_ratio", statistics.median(ratios))
    report.sample("p99_ratio", ratios)
    report.sample("floor_p99_ms_by_second", _by_second(bare))
    report.note(
        "floor: the same stream on the same rows and indices, a statement each, FastAPI + asyncpg, in turns with ours; "
        "p99_ratio is the median of the rounds"
    )


def _all_ms(phases: list[Phase]) -> list[float]:
    return [latency for phase in phases for latency in phase.latencies_ms()]


def _tell_overload(report: Report, over: Phase, seconds: float) -> None:
    statuses = Counter(answer.status for answer in over.answers)
    report.figure("overload_offered_per_second", len(over.answers) / seconds)
    report.figure("overload_accepted_per_second", statuses[202] / seconds)
    report.figure("overload_p99_ms", percentile(over.latencies_ms(), 0.99))
    report.figure("overload_told_to_wait", sum(statuses[status] for status in LATER))
    silent = [a for a in over.answers if a.status in LATER and not a.retry_after]
    report.figure("without_retry_after", len(silent))
    report.figure("other_answers", over.wrong())
    told = ", ".join(f"{status or 'none'}: {number}" for status, number in sorted(statuses.items()))
    report.note(f"answers under overload by status: {told}")
    late = [1000 * (answer.sent_s - answer.due_s) for answer in over.answers if answer.status != UNANSWERED]
    report.note(f"under overload requests went out {percentile(late, 0.99):.0f} ms late (p99)")


def _tell_return(report: Report, before: list[Phase], after: Phase) -> None:
    report.figure("back_to_normal_s", _back_to_normal(after))
    report.figure("other_answers_after", after.wrong())
    seconds = {"before": _by_second(before), "after": _by_second([after])}
    told = ", ".join(f"{sum(s > TARGET_MS for s in found)} of {len(found)} {name}" for name, found in seconds.items())
    report.note(f"normal again: from {STEADY_S} good seconds on; seconds over {TARGET_MS:.0f} ms at p99: {told}")


def _by_second(phases: list[Phase]) -> list[float]:
    """The 99th percentile of what was due in each second, in ms; a second with a refusal counts as without answers."""
    seconds: dict[tuple[int, int], list[float]] = {}
    for number, phase in enumerate(phases):
        for answer in phase.answers:
            worth = 1000 * answer.latency_s if answer.status == 202 else 1000 * PATIENCE_S
            seconds.setdefault((number, int(answer.due_s)), []).append(worth)
    return [percentile(seconds[second], 0.99) for second in sorted(seconds)]


def _back_to_normal(after: Phase) -> float:
    """Seconds from the end of the overload after which STEADY_S seconds in a row are as they should be."""
    good = [p99 <= TARGET_MS for p99 in _by_second([after])]
    steady = [start for start in range(len(good) - STEADY_S + 1) if all(good[start : start + STEADY_S])]
    return float(steady[0] if steady else len(good))


def _compare(report: Report, platform: Platform, phases: list[Phase]) -> None:
    """What the clients were told against what is in the table."""
    engine = create_engine(platform.urls.database_url)
    lost = kept_though_refused = 0
    for phase in phases:
        with engine.connect() as conn:
            query = text("SELECT idem_key FROM jobs WHERE idem_key LIKE :prefix")
            stored = set(conn.execute(query, {"prefix": f"{phase.prefix}-%"}).scalars())
        by_key = {f"{phase.prefix}-{number}": answer.status for number, answer in enumerate(phase.answers)}
        lost += sum(status == 202 and key not in stored for key, status in by_key.items())
        kept_though_refused += sum(status in LATER and key in stored for key, status in by_key.items())
    engine.dispose()
    report.figure("lost", lost)
    report.figure("kept_though_refused", kept_though_refused)


def _sender(platform: Platform) -> Callable[[float, float], Phase]:
    """Sends at a rate for some seconds."""
    with platform.client() as client:
        keys = [client.create_key(f"load-{number}", ["jobs:write"]).secret for number in range(KEYS)]
    body = json.dumps({"kind": "probe"}).encode()
    url = f"{platform.url}/v1/jobs"
    heads = [
        f"POST /v1/jobs HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nIdempotency-Key: "
        for key in keys
    ]

    def send(per_second: float, seconds: float) -> Phase:
        prefix = uuid4().hex

        def make(number: int) -> bytes:
            return f"{heads[number % KEYS]}{prefix}-{number}\r\n\r\n".encode() + body

        return _send(url, make, prefix, per_second, seconds)

    return send


def _send(url: str, make: Callable[[int], bytes], prefix: str, per_second: float, seconds: float) -> Phase:
    stream = open_loop(url, make, per_second=per_second, seconds=seconds, connections=CONNECTIONS)
    return Phase(prefix, uvloop.run(stream))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

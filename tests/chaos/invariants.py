"""The invariants of docs/reliability.md, by their numbers: what is checked while a run goes on, and what after it.

Those that rows alone can break are `tests.simulation.invariants`, the same that judge the simulation.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

from sextant_shared.lifecycle.states import State
from tests.chaos.evidence import Files
from tests.chaos.ledger import Entry, overlaps
from tests.chaos.workload import Answer
from tests.simulation.invariants import Violation, broken, check_outbox, check_slots, check_steps
from tests.simulation.model import Store

ABOUT = {
    "I1": "what was answered as accepted is there, with the same body",
    "I2": "one job for a key, and one for a step of a pipeline",
    "I3": "a job succeeds at most once",
    "I4": "an ended job stays as it ended; a quarantined one may be queued again by a person",
    "I5": "a job's row says what the last entry of its audit log says",
    "I6": "every change is a legal transition from the state before",
    "I7": "the fence rises by one at each claim and never else",
    "I8": "a job's audit log has no gaps",
    "I9": "the audit log's chain holds, and so do its seals",
    "I10": "each audit entry has its message, written in the same transaction",
    "I11": "when calm returns, every message is in the stream, once",
    "I12": "a job has a manifest if it succeeded and only then, of the last fence, and its files are there",
    "I13": "errors and lost workers stay within their limits",
    "I14": "a cancelled job has no manifest",
    "I15": "when calm returns, every job ends; no lease without an owner",
    "I16": "a node's slots are never given twice; a gang starts in the epoch that was reserved for it",
    "I17": "no work is done under a fence when another has it",
}


def of_rows(store: Store, answers: Iterable[Answer]) -> Iterator[str]:
    """At any moment: I1 to I8, I10, I12 to I14 and I16, as far as rows tell."""
    for job_id in store.jobs:
        yield from (f"{found} (job {job_id})" for found in broken(store, job_id))
    for check in (check_outbox, check_steps, check_slots):
        try:
            check(store)
        except Violation as violation:
            yield str(violation)
    yield from _accepted(store, answers)


def _accepted(store: Store, answers: Iterable[Answer]) -> Iterator[str]:
    for answer in answers:
        row = store.jobs.get(answer.job_id)
        if row is None or row.idem_key != answer.key:
            yield f"I1: {answer.key} was accepted as job {answer.job_id}, which is not there"
        elif answer.token is not None and row.spec["returns"] != {"token": answer.token}:
            yield f"I1: {answer.key} was accepted with another body than that of job {answer.job_id}"
        elif answer.token is not None and store.manifests.get(answer.job_id, (0, {"token": answer.token}))[1] != {
            "token": answer.token
        }:
            yield f"I12: job {answer.job_id} gives something else than its own token {answer.token}"


def of_files(files: Files) -> Iterator[str]:
    """I12: the files that manifests name are there, byte by byte."""
    for job_id, (fence, named) in files.named.items():
        for file in named:
            path = files.root / str(job_id) / str(fence) / file["path"]
            if not path.is_file():
                yield f"I12: {file['path']} of job {job_id} is missing"
            elif hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
                yield f"I12: {file['path']} of job {job_id} is not what its manifest says"


def of_stream(store: Store, stream: list[str], inbox: set[str] | None = None) -> Iterator[str]:
    """I11: what the outbox holds is marked, in the stream once, and has come to a consumer that keeps an inbox."""
    messages = {kept.message.msg_id for kept in store.outbox.values()}
    if waiting := sum(not kept.published for kept in store.outbox.values()):
        yield f"I11: {waiting} messages are not published"
    if missing := messages - set(stream):
        yield f"I11: {len(missing)} of {len(messages)} messages are not in the stream, such as {min(missing)}"
    twice = [message for message, count in Counter(stream).items() if count > 1]
    if twice:
        yield f"I11: {len(twice)} messages are in the stream more than once, such as {min(twice)}"
    if inbox is not None and (unseen := messages - inbox):
        yield f"I11: {len(unseen)} messages did not come to the consumer, such as {min(unseen)}"


def of_work(entries: Iterable[Entry]) -> Iterator[str]:
    """I17, by what the workers noted."""
    return overlaps(entries)


def unfinished(store: Store) -> Iterator[str]:
    """I15: what has not ended."""
    for job_id, row in store.jobs.items():
        if not row.state.is_terminal:
            yield f"I15: job {job_id} ({row.kind}) is still {row.state}, fence {row.fence}, of {row.lease_owner}"


def lost(store: Store, answers: Iterable[Answer]) -> set[str]:
    """Keys that were accepted and have no job that has ended."""
    rows = {answer.key: store.jobs.get(answer.job_id) for answer in answers}
    return {key for key, row in rows.items() if row is None or not row.state.is_terminal}


def completed_twice(store: Store) -> int:
    """Jobs that succeeded more than once, or whose manifest is of another fence than the last."""
    successes = {job_id: sum(e.to_state is State.SUCCEEDED for e in log) for job_id, log in store.audit.items()}
    stale = {job_id for job_id, (fence, _) in store.manifests.items() if fence != store.jobs[job_id].fence}
    return len(stale | {job_id for job_id, number in successes.items() if number > 1})


def executed_twice(store: Store) -> int:
    """Jobs that were begun under more than one fence: allowed, and told."""
    return sum(row.fence > 1 for row in store.jobs.values())

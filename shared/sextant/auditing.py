"""Checks an audit log against checkpoints, line by line: what can be known of it without trust in whoever has it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from sextant.errors import BadInput
from sextant_shared.contracts import auditing
from sextant_shared.contracts.merkle import Tree, leaf_hash
from sextant_shared.contracts.notes import Checkpoint

if TYPE_CHECKING:
    pass

SEALED_WITHIN_S = 60.0
"""A row older than this, as the log's own clock says, should be under a checkpoint."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: `ok`, `tampered`, or `incomplete` where it cannot be known; `reason` names the first row."""

    verdict: Literal["ok", "tampered", "incomplete"]
    rows: int
    subjects: int
    sealed: int
    """Leaves of the tree; those of other tenants count."""
    unsealed: int
    expired: int
    """Rows that were taken out by the rules, so that only their leaves are left."""
    checkpoints: int
    at: str
    """When the log was exported, by the server's clock."""
    reason: str | None = None


class Tampered(Exception):
    """The log is not what was written; the message names the first row that does not hold."""


class Incomplete(Exception):
    """What is at hand does not suffice to know."""


def verify(lines: Iterable[str | bytes], checkpoints: list[Checkpoint], job: str | None = None) -> Verdict:
    """Check a log, line by line: each row's hash and place, the tree at each checkpoint, and each job's head.

    With `job`, the tree and this job's rows alone.

    Raises BadInput for what is no audit log at all.
    """
    check = _Check(checkpoints, job)
    try:
        check.run(lines)
    except Tampered as found:
        return check.verdict("tampered", str(found))
    except Incomplete as found:
        return check.verdict("incomplete", str(found))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return check.verdict("tampered", f"a record is not as the format asks for: {type(error).__name__} {error}")
    return check.verdict("ok")


@dataclass(slots=True)
class _Subject:
    """What was seen of a subject: its last row, and the place of the first that is there."""

    kind: str
    seq: int
    hash: str
    state: str | None
    fence: int | None
    """None where the last row is gone."""
    present_from: float
    """Index of the first leaf whose row is there; infinite where none is, or none is sealed."""
    last_gone: dict[str, Any] | None = None


class _Check:
    def __init__(self, checkpoints: list[Checkpoint], job: str | None = None) -> None:
        self._checkpoints = checkpoints
        self._signed = checkpoints[-1].size if checkpoints else 0
        self._next = 0
        self._tree = Tree()
        self._subjects: dict[str, _Subject] = {}
        self._expiries: list[tuple[str, int]] = []
        self._jobs = 0
        self._rows = self._unsealed = self._expired = 0
        self._late: str | None = None
        self._first_since: str | None = None
        self._at = ""
        self._subject = job

    def verdict(self, which: Literal["ok", "tampered", "incomplete"], reason: str | None = None) -> Verdict:
        counts = (self._rows, len(self._subjects), self._tree.size, self._unsealed, self._expired, self._next, self._at)
        return Verdict(which, *counts, reason)

    def run(self, lines: Iterable[str | bytes]) -> None:
        records = _records(lines)
        header = next(records, {})
        if header.get("log") != auditing.FORMAT:
            raise BadInput(f"this is no audit log: its first line does not say {auditing.FORMAT!r}", field="log")
        self._at, self._subject = header["at"], self._subject or header["subject"]
        self._meet()
        end = None
        found = {"sealed": 0, "unsealed": 0, "jobs": 0}
        for record in records:
            if end is not None:
                raise Tampered("the log goes on after its end")
            if "index" in record:
                found["sealed"] += 1
                self._leaf(record)
            elif "row" in record:
                found["unsealed"] += 1
                self._waiting(record)
            elif "job" in record:
                found["jobs"] += 1
                self._job(record["job"])
            else:
                end = record["end"]
        if end is None:
            raise Incomplete("the log ends in the middle: its last line is missing")
        if end != found:
            raise Tampered(f"the log's last line counts {end}, and it has {found}")
        self._finish()

    def _leaf(self, record: dict[str, Any]) -> None:
        index, given = record["index"], record["leaf"]
        if index != self._tree.size:
            raise Tampered(f"leaf {self._tree.size} is missing: leaf {index} follows")
        if "gone" in record:
            hashed = self._gone(record["gone"], index)
        elif "row" in record:
            hashed = self._sealed(record["row"], index)
        else:
            hashed = bytes.fromhex(given)
        if hashed.hex() != given:
            raise Tampered(f"{_name(record.get('row') or record['gone'])} is not what leaf {index} was made of")
        self._tree.append(hashed)
        self._meet()

    def _sealed(self, row: dict[str, Any], index: int) -> bytes:
        self._first_since = self._first_since or _name(row)
        if index >= self._signed:
            self._expect_soon(row)
        if self._subject in (None, row["subject_id"]):
            self._row(row, index)
        if row["event"] == auditing.EXPIRED:
            before = json.loads(row["body"])["before"]
            if _seconds(before, row["at"]) < auditing.KEPT_AT_LEAST.total_seconds():
                raise Tampered(f"{_name(row)} takes out rows that are younger than {auditing.KEPT_AT_LEAST.days} days")
            self._expiries.append((before, index))
        return _leaf_of(row)

    def _gone(self, row: dict[str, Any], index: int) -> bytes:
        self._first_since = self._first_since or _name(row)
        if self._subject not in (None, row["subject_id"]):
            return _leaf_of(row)
        self._expired += 1
        last = self._subjects.get(row["subject_id"])
        self._in_order(row, last)
        present_from = last.present_from if last else math.inf
        gone = _Subject(row["subject_type"], row["seq"], row["hash"], None, None, present_from, row)
        self._subjects[row["subject_id"]] = gone
        return _leaf_of(row)

    def _meet(self) -> None:
        while self._next < len(self._checkpoints) and self._checkpoints[self._next].size == self._tree.size:
            self._compare(self._checkpoints[self._next])
            self._next += 1

    def _compare(self, checkpoint: Checkpoint) -> None:
        if checkpoint.root != self._tree.root():
            before = self._checkpoints[self._next - 1].size if self._next else 0
            raise Tampered(
                f"the checkpoint over {checkpoint.size} rows, of {checkpoint.at}, does not hold: one of the leaves "
                f"{before} to {checkpoint.size - 1} was changed, from {self._first_since or 'another tenant'} on"
            )
        self._first_since = None

    def _row(self, row: dict[str, Any], index: float) -> None:
        self._rows += 1
        subject = row["subject_id"]
        last = self._subjects.get(subject)
        self._in_order(row, last)
        if row["prev_hash"] != (last.hash if last else ""):
            raise Tampered(f"{_name(row)} does not follow the row before it: one of the two was changed")
        if last and last.kind == "job" and last.state and row["from_state"] != last.state:
            raise Tampered(f"{_name(row)} leaves the state {row['from_state']}; the row before it went to {last.state}")
        if auditing.row_hash(row, bytes.fromhex(row["prev_hash"])).hex() != row["hash"]:
            raise Tampered(f"{_name(row)} does not have the hash of what it says")
        present_from = min(index, last.present_from) if last else index
        last_gone = last.last_gone if last else None
        self._subjects[subject] = _Subject(
            row["subject_type"], row["seq"], row["hash"], row["to_state"], row["fence"], present_from, last_gone
        )

    def _in_order(self, row: dict[str, Any], last: _Subject | None) -> None:
        if row["seq"] != (last.seq + 1 if last else 1):
            raise Tampered(f"{_name(row)} follows seq {last.seq if last else 0}: rows are missing, doubled or moved")

    def _waiting(self, record: dict[str, Any]) -> None:
        row = record["row"]
        if self._subject not in (None, row["subject_id"]):
            return
        self._unsealed += 1
        if not record["waits"]:
            raise Tampered(f"{_name(row)} is neither sealed nor waits for it: it was put in, or its leaf taken out")
        self._row(row, math.inf)
        self._expect_soon(row)

    def _expect_soon(self, row: dict[str, Any]) -> None:
        if self._late is None and _seconds(row["at"], self._at) > SEALED_WITHIN_S:
            self._late = _name(row)

    def _job(self, job: dict[str, Any]) -> None:
        if self._subject not in (None, job["id"]):
            return
        self._jobs += 1
        last = self._subjects.get(job["id"])
        if last is None:
            raise Tampered(f"job {job['id']} has no row in the audit log")
        same = (last.seq, last.hash) == (job["seq"], job["hash"])
        if not same or (last.fence is not None and (last.state, last.fence) != (job["state"], job["fence"])):
            raise Tampered(
                f"job {job['id']} is {job['state']} with seq {job['seq']} and fence {job['fence']}; "
                f"its last row, seq {last.seq}, says {last.state or 'nothing'} with fence {last.fence}"
            )

    def _finish(self) -> None:
        missing = self._checkpoints[self._next] if self._next < len(self._checkpoints) else None
        # One that was signed later may be over rows that came later.
        if missing and _seconds(missing.at, self._at) >= 0:
            before = self._checkpoints[self._next - 1].size if self._next else 0
            raise Tampered(
                f"one of the leaves {before} to {missing.size - 1} was taken out: {missing.size} rows were signed at "
                f"{missing.at}, and the log has {self._tree.size}"
            )
        for subject in self._subjects.values():
            if subject.last_gone is not None and not self._was_expired(subject, subject.last_gone):
                raise Tampered(f"{_name(subject.last_gone)} was sealed and is gone")
        if self._subject is not None and self._subject not in self._subjects:
            raise Incomplete(f"the log has no row of {self._subject}")
        known = sum(subject.kind == "job" for subject in self._subjects.values())
        if known != self._jobs:
            raise Tampered(f"{known} jobs have rows in the audit log, and {self._jobs} are there")
        if self._late:
            raise Incomplete(
                f"{self._late} is older than {SEALED_WITHIN_S:.0f} s, and none of the {len(self._checkpoints)} "
                "checkpoints at hand is over it: get the newer ones, or see whether the notary runs"
            )

    def _was_expired(self, subject: _Subject, gone: dict[str, Any]) -> bool:
        # Only whole histories are taken out: what is there came later.
        return subject.kind == "job" and any(
            gone["at"] < before and index < subject.present_from for before, index in self._expiries
        )


def _leaf_of(row: dict[str, Any]) -> bytes:
    fields = (row["tenant"], row["subject_type"], row["subject_id"], row["seq"], row["at"], row["hash"])
    return leaf_hash(auditing.leaf(*fields))


def _name(row: dict[str, Any]) -> str:
    return f"{row['subject_type']} {row['subject_id']} seq {row['seq']}"


def _seconds(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _records(lines: Iterable[str | bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            raise Incomplete(f"line {number} is cut off, or no JSON: {line[:60]!r}") from None
        if not isinstance(record, dict):
            raise Tampered(f"line {number} is no record: {line[:60]!r}")
        yield record

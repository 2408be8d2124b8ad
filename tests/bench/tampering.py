"""Ways to falsify a sealed audit log for someone with all rights on the database server, each hiding what it can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text

from sextant_scheduler.handlers.notary import Notary, Seals
from sextant_scheduler.handlers.submission import new_job
from sextant_scheduler.store import log
from sextant_shared.contracts.notes import Checkpoint, Signer, Verifier
from sextant_shared.contracts.specs import SPEC
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle import machine as m

TENANT = "default"


def fill(engine: Engine, number: int, rng: Random) -> None:
    """Histories of `number` jobs: each is claimed, and fails, succeeds after a lost worker, or still runs."""
    probe = SPEC.validate_python({"kind": "probe"})
    with engine.begin() as conn:
        for _ in range(number):
            job = new_job(probe, tenant=TENANT, actor='k\u00e9y:\u2028 "', key=uuid4().hex, inputs={})
            jobs.submit(conn, [job])
            apply(conn, job.id, m.Claim("w1", 10.0), rng)
            if rng.random() < 0.8:
                detail = {"message": 'a "b" \\ \u00fc \U0001f600', "loss": rng.random()}
                apply(conn, job.id, m.Fail(1, detail, retriable=False), rng)


def apply(conn: Connection, job_id: Any, event: Any, rng: Random) -> None:
    """One event of a job's history."""
    jobs.apply(conn, job_id, event, actor="w1", rng=rng)


def seal(engine: Engine, directory: Path, batches: int = 1) -> None:
    """Let a notary seal what waits."""
    seals = Seals(directory)
    with engine.begin() as conn:
        notary = Notary(conn, seals)
    for _ in range(batches):
        with engine.begin() as conn:
            sealed = notary.seal(conn)
        if sealed is not None:
            notary.publish(sealed)


def exported(conn: Connection, subject: str | None = None) -> list[str]:
    """The log's lines, as the API gives them."""
    return list(log.lines(conn, log.moment(conn), TENANT, UUID(subject) if subject else None))


@dataclass(frozen=True)
class Victim:
    """A sealed row: of a job, with its index in the tree."""

    subject: str
    seq: int
    index: int

    @property
    def where(self) -> dict[str, Any]:
        """Parameters that say which row it is."""
        return {"id": self.subject, "seq": self.seq}

    @property
    def name(self) -> str:
        """As a verdict names it."""
        return f"job {self.subject} seq {self.seq}"


def pick(conn: Connection, rng: Random, condition: str = "true") -> Victim:
    """Any sealed row of a job that meets a condition on the leaf `l` and the row `a`."""
    query = f"""SELECT l.subject_id, l.seq, l.index FROM audit_leaves l JOIN audit a USING (subject_id, seq)
        WHERE l.subject_type = 'job' AND {condition} ORDER BY l.index"""
    rows = conn.execute(text(query)).all()
    subject, seq, index = rows[rng.randrange(len(rows))]
    return Victim(str(subject), seq, index)


ROW = "WHERE subject_id = :id AND seq = :seq"
LAST = "NOT EXISTS (SELECT 1 FROM audit b WHERE b.subject_id = a.subject_id AND b.seq > a.seq)"
NOT_LAST = f"NOT ({LAST})"
REHASH = """
DO $$ DECLARE r record; prev bytea; BEGIN
    FOR r IN SELECT * FROM audit WHERE subject_id = '{id}' ORDER BY seq LOOP
        prev := coalesce((SELECT hash FROM audit WHERE subject_id = r.subject_id AND seq = r.seq - 1), '');
        UPDATE audit SET prev_hash = prev, hash = audit_hash(prev, subject_type, subject_id, seq, at, actor, event,
            from_state, to_state, fence, attempt, body) WHERE subject_id = r.subject_id AND seq = r.seq;
    END LOOP;
    UPDATE jobs SET audit_hash = a.hash FROM audit a WHERE a.subject_id = id AND a.seq = jobs.seq AND id = '{id}';
    UPDATE audit_leaves l SET hash = a.hash, at = a.at FROM audit a
        WHERE a.subject_id = l.subject_id AND a.seq = l.seq AND l.subject_id = '{id}';
END $$
"""


def _sql(statement: str, condition: str = "true") -> Callable[[Connection, Random], Victim]:
    def tamper(conn: Connection, rng: Random) -> Victim:
        victim = pick(conn, rng, condition)
        conn.execute(text(statement), victim.where)
        return victim

    return tamper


def _swap_in_subject(conn: Connection, rng: Random) -> Victim:
    victim = pick(conn, rng, NOT_LAST)
    for step in ("SET seq = -1 WHERE subject_id = :id AND seq = :seq",
                 "SET seq = :seq WHERE subject_id = :id AND seq = :seq + 1",
                 "SET seq = :seq + 1 WHERE subject_id = :id AND seq = -1"):  # fmt: skip
        conn.execute(text(f"UPDATE audit {step}"), victim.where)
    return victim


def _swap_between_jobs(conn: Connection, rng: Random) -> Victim:
    victim = pick(conn, rng)
    other = pick(conn, rng, f"a.seq = {victim.seq} AND a.subject_id <> '{victim.subject}'")
    blank = "00000000-0000-0000-0000-000000000000"
    for source, target in ((victim.subject, blank), (other.subject, victim.subject), (blank, other.subject)):
        statement = "UPDATE audit SET subject_id = :target WHERE subject_id = :source AND seq = :seq"
        conn.execute(text(statement), {"source": source, "target": target, "seq": victim.seq})
    return min(victim, other, key=lambda one: one.index)


def _insert(conn: Connection, rng: Random) -> Victim:
    """A row more at the end of a job's chain, with the right hash and the job made to agree."""
    last = pick(conn, rng, LAST)
    conn.execute(
        text(f"""INSERT INTO audit (subject_type, subject_id, seq, at, tenant, actor, event, from_state, to_state,
            fence, attempt, body, prev_hash, hash)
            SELECT subject_type, subject_id, seq + 1, at, tenant, actor, event, to_state, to_state, fence, attempt,
            body, hash, '' FROM audit {ROW}"""),
        last.where,
    )
    conn.execute(text("UPDATE jobs SET seq = seq + 1 WHERE id = :id"), last.where)
    rehash(conn, last.subject)
    return Victim(last.subject, last.seq + 1, -1)


def rehash(conn: Connection, subject: str) -> None:
    """Make a chain, its job and its leaves agree with what the rows say now."""
    conn.exec_driver_sql(REHASH.format(id=subject).replace("%", "%%"))


def _rewrite(conn: Connection, rng: Random) -> Victim:
    """The row, its job's whole chain, the job and the leaves: all agree with each other."""
    victim = pick(conn, rng)
    conn.execute(text(f"UPDATE audit SET actor = 'someone else' {ROW}"), victim.where)
    rehash(conn, victim.subject)
    return victim


def _backdate(conn: Connection, rng: Random) -> Victim:
    victim = pick(conn, rng)
    conn.execute(text(f"UPDATE audit SET at = at - interval '1 hour' {ROW}"), victim.where)
    rehash(conn, victim.subject)
    return victim


def _cut_job(conn: Connection, rng: Random) -> Victim:
    """A job's last row, with its leaf and every leaf after it renumbered, and the job put back."""
    victim = pick(conn, rng, f"{LAST} AND a.seq > 1")
    conn.execute(text(f"DELETE FROM audit {ROW}"), victim.where)
    conn.execute(text(f"DELETE FROM audit_leaves {ROW}"), victim.where)
    conn.execute(text("UPDATE audit_leaves SET index = -index WHERE index > :i"), {"i": victim.index})
    conn.execute(text("UPDATE audit_leaves SET index = -index - 1 WHERE index < 0"))
    conn.execute(
        text("""UPDATE jobs SET seq = a.seq, state = a.to_state, fence = a.fence, audit_hash = a.hash FROM audit a
            WHERE a.subject_id = jobs.id AND jobs.id = :id AND a.seq = :seq - 1"""),
        victim.where,
    )
    return victim


def _roll_back(conn: Connection, rng: Random) -> Victim:
    """All that came after a moment is gone, jobs and checkpoints too, as if it had never been."""
    victim = pick(conn, rng, "l.index > 0")
    at = {"i": victim.index}
    conn.execute(text("DELETE FROM audit a USING audit_leaves l WHERE l.index >= :i AND l.subject_id = a.subject_id "
                      "AND l.seq = a.seq"), at)  # fmt: skip
    conn.execute(text("DELETE FROM audit_leaves WHERE index >= :i"), at)
    conn.execute(text("DELETE FROM audit_checkpoints WHERE size > :i"), at)
    conn.execute(text("DELETE FROM jobs j WHERE NOT EXISTS (SELECT 1 FROM audit a WHERE a.subject_id = j.id)"))
    conn.execute(
        text("""UPDATE jobs SET seq = a.seq, state = a.to_state, fence = a.fence, audit_hash = a.hash FROM audit a
            WHERE a.subject_id = jobs.id
            AND a.seq = (SELECT max(seq) FROM audit b WHERE b.subject_id = jobs.id)""")
    )
    return victim


def _false_expiry(conn: Connection, rng: Random) -> Victim:
    """A young job's rows are taken out, and a row says that they were old."""
    victim = pick(conn, rng)
    conn.execute(text("DELETE FROM audit WHERE subject_id = :id"), victim.where)
    before = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    conn.execute(
        text("SELECT audit_append('audit', md5('x')::uuid, :tenant, 'someone', 'audit.expired', NULL, NULL, "
             "jsonb_build_object('before', cast(:before as text), 'rows', 3))"),
        {"tenant": TENANT, "before": before},
    )  # fmt: skip
    conn.execute(text("INSERT INTO audit_unsealed (subject_id, seq) VALUES (md5('x')::uuid, 1)"))
    return victim


KINDS: dict[str, Callable[[Connection, Random], Victim]] = {
    "edit the actor": _sql(f"UPDATE audit SET actor = 'someone' {ROW}"),
    "edit the body": _sql(f'UPDATE audit SET body = \'{{"message": ""}}\' {ROW}'),
    "edit the state": _sql(f"UPDATE audit SET to_state = 'SUCCEEDED' {ROW}"),
    "edit the tenant": _sql(f"UPDATE audit SET tenant = 'other' {ROW}"),
    "delete a row": _sql(f"DELETE FROM audit {ROW}"),
    "delete a row and its leaf": _sql(f"WITH x AS (DELETE FROM audit {ROW}) DELETE FROM audit_leaves {ROW}"),
    "delete a job": _sql(
        "WITH x AS (DELETE FROM audit WHERE subject_id = :id), y AS (DELETE FROM attempts WHERE job_id = :id) "
        "DELETE FROM jobs WHERE id = :id"
    ),
    "insert a row": _insert,
    "reorder a job's rows": _swap_in_subject,
    "swap rows between jobs": _swap_between_jobs,
    "rewrite a chain and its leaves": _rewrite,
    "backdate a row, rewritten": _backdate,
    "cut a job's last row": _cut_job,
    "roll everything back": _roll_back,
    "pretend that rows expired": _false_expiry,
    "edit the job alone": _sql("UPDATE jobs SET state = 'SUCCEEDED' WHERE id = :id", f"{LAST} AND a.seq > 1"),
}


def tampered(conn: Connection, kind: str, rng: Random) -> tuple[Victim, list[str]]:
    """Do it, and export; the caller rolls back."""
    conn.execute(text("SET LOCAL session_replication_role = replica"))
    victim = KINDS[kind](conn, rng)
    return victim, exported(conn)


def forged(checkpoints: list[Checkpoint], verifier: Verifier) -> str:
    """The same checkpoints, signed by someone else in the notary's name."""
    other = Signer.new(verifier.name)
    return "".join(other.sign(one.text()) for one in checkpoints)

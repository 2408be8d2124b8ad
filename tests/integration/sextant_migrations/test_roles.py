"""Each service's role in the database: what it may not do is refused by the server."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from sextant.stack.accounts import passwords
from sextant.stack.running import RunningServers
from sextant_migrations import roles
from sextant_shared.contracts.rights import SERVICES
from sextant_shared.errors import InvalidInput, NotFound, StaleFence
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import gangs, jobs
from sextant_shared.lifecycle.machine import Cancel
from sextant_shared.lifecycle.place import Place
from sextant_shared.lifecycle.states import State
from sextant_shared.store import audit
from sextant_shared.store import tables as t

Connect = dict[str, Engine]
FORGED = """
INSERT INTO audit (subject_type, subject_id, seq, at, tenant, actor, event, fence, attempt, body, prev_hash, hash)
VALUES ('job', gen_random_uuid(), 1, now(), 'default', 'x', 'x', 0, 0, '{}', '', '')
"""
TO_ALL = [
    FORGED,
    "UPDATE audit SET actor = 'nobody'",
    "DELETE FROM audit",
    "TRUNCATE audit",
    "ALTER TABLE audit DISABLE TRIGGER ALL",
    "DROP TRIGGER jobs_guard ON jobs",
    "INSERT INTO outbox (msg_id, subject, payload) VALUES ('x', 'jobs.probe.queued.v1', '{}')",
    "INSERT INTO attempts (job_id, fence, worker) VALUES (gen_random_uuid(), 1, 'x')",
    "DELETE FROM jobs",
    "TRUNCATE jobs CASCADE",
    "UPDATE manifests SET fence = 99",
    "DELETE FROM manifests",
    "UPDATE models SET digest = 'x'",
    "UPDATE datasets SET digest = 'x'",
    "UPDATE legal_transition SET to_state = 'SUCCEEDED'",
    "INSERT INTO legal_transition VALUES ('FAILED', 'SUCCEEDED')",
    "CREATE TABLE mine (x int)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE ROLE mine SUPERUSER",
    "SET ROLE sextant",
    "SET session_replication_role = replica",
    "COPY jobs TO PROGRAM 'true'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT rolpassword FROM pg_authid",
    "ALTER SYSTEM SET fsync = off",
]
TO_SOME = {
    "SELECT secret_hash FROM api_keys": SERVICES.keys() - {"scheduler-api", "inference"},
    "INSERT INTO api_keys (id, tenant, name, prefix, secret_hash, scopes) "
    "VALUES (gen_random_uuid(), 'default', 'x', 'x', '', '{admin}')": SERVICES.keys() - {"scheduler-api"},
    "UPDATE api_keys SET scopes = '{admin}'": SERVICES.keys(),
    "UPDATE api_keys SET secret_hash = ''": SERVICES.keys(),
    "SELECT body FROM replies": SERVICES.keys() - {"scheduler-api"},
    "SELECT payload FROM outbox": SERVICES.keys() - {"scheduler-control"},
    "UPDATE outbox SET payload = '{}'": SERVICES.keys(),
    "SELECT * FROM uploads": SERVICES.keys() - {"scheduler-api"},
    "INSERT INTO models (id, tenant, name, version, digest, job_id, fence, files, meta) "
    "VALUES (gen_random_uuid(), 'default', 'x', 1, 'x', gen_random_uuid(), 1, '[]', '{}')": SERVICES.keys()
    - {"data-prep", "exporter", "trainer"},
    "UPDATE endpoints SET model_id = NULL": SERVICES.keys() - {"scheduler-api", "inference"},
    "SELECT audit_append('key', gen_random_uuid(), 'default', 'x', 'x', NULL, NULL, '{}')": SERVICES.keys()
    - {"scheduler-api", "inference"},
    "DELETE FROM nodes": SERVICES.keys() - {"scheduler-control"},
    "DELETE FROM checkpoints": SERVICES.keys(),
    "DELETE FROM audit_unsealed": SERVICES.keys() - {"scheduler-notary"},
    "INSERT INTO audit_leaves SELECT * FROM audit_leaves": SERVICES.keys() - {"scheduler-notary"},
    "UPDATE audit_leaves SET hash = ''": SERVICES.keys(),
    "DELETE FROM audit_leaves": SERVICES.keys(),
    "UPDATE audit_checkpoints SET note = ''": SERVICES.keys(),
    "DELETE FROM audit_checkpoints": SERVICES.keys(),
    "SELECT audit_expire('default', now() - interval '99 days', 'x')": SERVICES.keys() - {"scheduler-api"},
    "SELECT spec FROM jobs": {"scheduler-notary"},
}
DENIED = {**dict.fromkeys(TO_ALL, SERVICES.keys()), **TO_SOME}


@pytest.fixture(scope="module")
def engines(servers: RunningServers) -> Iterator[Connect]:
    """An engine for each service, as its own role, on one database."""
    from sextant_migrations import chain

    admin = create_engine(servers.urls.database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text("CREATE DATABASE roles"))
    owner = create_engine(servers.urls.database_url.replace("@/postgres", "@/roles"))
    with owner.begin() as conn:
        chain.upgrade(conn)
        roles.apply(conn, passwords(servers.home.credentials()))
    made = {}
    for service in SERVICES:
        url = servers.accounts.urls(service)["SEXTANT_DATABASE_URL"]
        made[service] = create_engine(url.replace("@/postgres", "@/roles"))
    yield made
    for engine in made.values():
        engine.dispose()
    owner.dispose()
    admin.dispose()


@pytest.mark.parametrize("statement", DENIED)
def test_what_a_service_has_no_business_with_is_refused(engines: Connect, statement: str) -> None:
    for service in DENIED[statement]:
        with engines[service].connect() as connection:
            conn = connection.execution_options(isolation_level="AUTOCOMMIT")
            with pytest.raises(ProgrammingError, match=r"denied|must be"):
                conn.execute(text(statement))


def submit(conn: Connection) -> jobs.NewJob:
    """A probe."""
    job_id = new_id()
    job = jobs.NewJob(job_id, "default", "probe", "p", {}, "ab" * 32, str(job_id), job_id, "test", inputs={})
    jobs.submit(conn, [job])
    return job


def test_what_a_service_does_is_written_to_the_audit_log_all_the_same(engines: Connect) -> None:
    with engines["scheduler-api"].begin() as conn:
        job, upload = submit(conn), new_id()
        audit.append(conn, "upload", upload, tenant="default", actor="test", event="announced", detail={})
    with engines["scheduler-api"].begin() as conn:
        jobs.apply(conn, job.id, Cancel(""), actor="test", rng=Random(0))
    with engines["scheduler-api"].connect() as conn:
        of_these = t.audit.c.subject_id.in_([job.id, upload])
        rows = conn.execute(t.audit.select().where(of_these).order_by(t.audit.c.subject_id, t.audit.c.seq)).all()
    assert [(row.subject_type, row.to_state) for row in rows] == [
        ("job", State.QUEUED),
        ("job", State.CANCELLED),
        ("upload", None),
    ]


def test_what_a_gang_asks_of_the_store_its_leader_and_the_controller_may(engines: Connect) -> None:
    absent = new_id()
    with engines["trainer"].begin() as conn:
        gangs.distrust(conn, ["nobody"])
        gangs.leave_all(conn, "nobody", {})
        assert gangs.members(conn, absent, 1) == []
        for refused in (
            lambda: gangs.leave(conn, absent, "nobody", 1, {}),
            lambda: gangs.commit_part(conn, absent, 1, Place(), "nobody", step=1, samples=1, path="p", files=[]),
            lambda: gangs.heartbeat(conn, absent, "nobody", 1, 1.0),
            lambda: jobs.commit_checkpoint(conn, absent, 1, step=1, samples=1, path="p", files=[]),
        ):
            with pytest.raises((NotFound, StaleFence)):
                refused()
    with engines["scheduler-control"].begin() as conn:
        gangs.distrust(conn, ["nobody"])
        assert gangs.release_lapsed(conn) == 0


def test_the_guard_holds_for_every_role_that_may_write_jobs(engines: Connect) -> None:
    with engines["scheduler-api"].begin() as conn:
        job = submit(conn)
    for service in ("scheduler-api", "scheduler-control", "trainer", "inference"):
        with engines[service].connect() as conn, pytest.raises(Exception, match="next seq"):
            conn.execute(t.jobs.update().where(t.jobs.c.id == job.id).values(state="SUCCEEDED"))


def test_no_table_is_open_that_nobody_has_thought_of(engines: Connect) -> None:
    named = {*roles.PUBLIC_TO_SERVICES, "legal_transition", *(table for of in roles.GRANTS.values() for table in of)}
    for service, engine in engines.items():
        with engine.connect() as conn:
            query = "SELECT has_any_column_privilege(oid, 'SELECT, INSERT, UPDATE') FROM pg_class WHERE relname = :t"
            for table in set(inspect(conn).get_table_names()) - named:
                assert not conn.execute(text(query), {"t": table}).scalar_one(), (service, table)


def test_a_role_loses_what_is_no_longer_granted(engines: Connect, servers: RunningServers) -> None:
    owner = create_engine(servers.urls.database_url.replace("@/postgres", "@/roles"))
    with owner.begin() as conn:
        conn.execute(text("GRANT DELETE ON jobs TO sextant_tuner"))
        conn.execute(text("GRANT UPDATE (scopes) ON api_keys TO sextant_tuner"))
    with owner.begin() as conn:
        roles.apply(conn, passwords(servers.home.credentials()))
    owner.dispose()
    for statement in ("DELETE FROM jobs", "UPDATE api_keys SET scopes = '{}'"):
        with engines["tuner"].connect() as conn, pytest.raises(ProgrammingError, match="denied"):
            conn.execute(text(statement))


@pytest.mark.parametrize("given", ["nobody:" + "x" * 20, "tuner:short", "tuner", "tuner:changeme"])
def test_a_bad_list_of_roles_is_refused(given: str) -> None:
    with pytest.raises(InvalidInput, match="SEXTANT_ROLES"):
        roles.parse(given)

"""Each service's role in the database, with what it needs of each table and nothing else.

Applied after the chain, whenever a migration is told the roles' passwords: a table that is not named here is closed. No
service can write the audit log or the outbox: the database's own functions do, as the owner of the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from sextant_shared.contracts.rights import account
from sextant_shared.errors import InvalidInput

EXPIRE = "audit_expire(text, timestamptz, text)"
APPEND = "audit_append(text, uuid, text, text, text, text, text, jsonb)"
READ = "SELECT"
PUBLIC_TO_SERVICES = (
    "jobs",
    "attempts",
    "audit",
    "manifests",
    "checkpoints",
    "datasets",
    "models",
    "endpoints",
    "nodes",
)
"""What every service may read; `legal_transition` is read by the guard of `jobs`, as whoever writes there."""

READS: Mapping[str, Sequence[str]] = {"scheduler-notary": ["audit"]}
"""Of those that need less."""

_HELD = {
    "jobs": "UPDATE",
    "manifests": "INSERT",
    "datasets": "INSERT",
    "models": "INSERT",
    "reservations": "SELECT, DELETE",
}
"""What a worker changes that sees a job through."""

GRANTS: Mapping[str, Mapping[str, str]] = {
    "scheduler-api": {
        "jobs": "INSERT, UPDATE",
        "reservations": "SELECT, DELETE",
        "endpoints": "UPDATE",
        "uploads": "SELECT, INSERT, UPDATE",
        "replies": "SELECT, INSERT",
        "audit_unsealed": "SELECT",
        "audit_leaves": "SELECT",
        "audit_checkpoints": "SELECT",
        "api_keys": "SELECT, INSERT, UPDATE (expires_at, revoked_at, last_used_at)",
    },
    "scheduler-control": {
        "jobs": "INSERT, UPDATE",
        "manifests": "INSERT",
        "outbox": "SELECT, UPDATE (published_at), DELETE",
        "replies": "SELECT (tenant, key, at), DELETE",
        "nodes": "INSERT, UPDATE, DELETE",
        "reservations": "SELECT, INSERT, UPDATE, DELETE",
    },
    "scheduler-notary": {
        "audit_unsealed": "SELECT, DELETE",
        "audit_leaves": "SELECT, INSERT",
        "audit_checkpoints": "SELECT, INSERT",
    },
    # The pieces of a large preparation are jobs of their own.
    "data-prep": {**_HELD, "jobs": "INSERT, UPDATE"},
    "exporter": _HELD,
    "trainer": {
        **_HELD,
        "reservations": "SELECT, UPDATE, DELETE",
        "nodes": "UPDATE (state)",
        "checkpoints": "INSERT, UPDATE",
        "checkpoint_parts": "SELECT, INSERT, DELETE",
    },
    "tuner": {"jobs": "INSERT, UPDATE", "manifests": "INSERT", "reservations": "SELECT, DELETE"},
    "inference": {
        "jobs": "UPDATE",
        "manifests": "INSERT",
        "reservations": "SELECT, DELETE",
        "endpoints": "INSERT, UPDATE",
        "api_keys": "SELECT",
    },
}
APPENDS = ("scheduler-api", "inference")
"""Those that change what is no job, and say so to the audit log."""

FIELD = "SEXTANT_ROLES"
LEAST = 16
"""Characters of a password: what was left at a default, or made up in haste, is shorter."""
PLAIN = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"


def parse(text: str) -> dict[str, str]:
    """The passwords by service, from "SERVICE:PASSWORD SERVICE:PASSWORD ...". Raises InvalidInput."""
    found = dict(word.partition(":")[::2] for word in text.split())
    for service, password in found.items():
        if service not in GRANTS:
            services = ", ".join(GRANTS)
            raise InvalidInput(f"SEXTANT_ROLES: {service[:80]!r} is no service; they are {services}", field=FIELD)
        if len(password) < LEAST:
            raise InvalidInput(f"SEXTANT_ROLES: the password of {service} has under {LEAST} characters", field=FIELD)
    return found


def apply(conn: Connection, passwords: Mapping[str, str]) -> None:
    """Make the roles of these services, or set their passwords, and give them exactly their rights."""
    for service, password in passwords.items():
        role = account(service)
        known = conn.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first()
        if known is None:
            conn.execute(text(f"CREATE ROLE {role}"))
        # Not through `text`, which takes the colon in what the server stores for a parameter.
        conn.exec_driver_sql(f"ALTER ROLE {role} {PLAIN} PASSWORD '{_scram(conn, role, password)}'")
        for statement in statements(service):
            conn.execute(text(statement))


def statements(service: str) -> list[str]:
    """What gives a service's role its rights, and takes away all others that it may have had."""
    role = account(service)
    made = [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}",
        f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM {role}",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT SELECT ON {', '.join(READS.get(service, (*PUBLIC_TO_SERVICES, 'legal_transition')))} TO {role}",
    ]
    made += [f"GRANT {rights} ON {table} TO {role}" for table, rights in GRANTS[service].items()]
    if service in APPENDS:
        made.append(f"GRANT EXECUTE ON FUNCTION {APPEND} TO {role}")
    if service == "scheduler-api":
        made.append(f"GRANT EXECUTE ON FUNCTION {EXPIRE} TO {role}")
    return made


def _scram(conn: Connection, role: str, password: str) -> str:
    # What the server stores: so the password itself is in no statement, and in no log of statements.
    driver = conn.connection.driver_connection
    assert driver is not None  # noqa: S101 - the connection is open
    verifier: bytes = driver.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    return verifier.decode()

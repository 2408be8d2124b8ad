"""The tables of the metadata store. The Alembic chain creates them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_index",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

Time = DateTime(timezone=True)
NOW = text("clock_timestamp()")
EMPTY = text("'{}'::jsonb")

legal_transition = Table(
    "legal_transition",
    metadata,
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    UniqueConstraint("from_state", "to_state", postgresql_nulls_not_distinct=True),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("body_hash", LargeBinary, nullable=False),
    Column("idem_key", Text, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("root_id", Uuid, nullable=False),
    Column("parent_id", Uuid),
    Column("step", Text),
    Column("inputs", JSONB),
    Column("state", Text, nullable=False),
    Column("seq", BigInteger, nullable=False, server_default="1"),
    Column("actor", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=EMPTY),
    Column("changed_at", Time, nullable=False, server_default=NOW),
    Column("audit_hash", LargeBinary, nullable=False, server_default=text("'\\x'::bytea")),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("errors", Integer, nullable=False, server_default="0"),
    Column("worker_deaths", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False, server_default="3"),
    Column("backoff_s", Double, nullable=False, server_default="2"),
    Column("lease_owner", Text),
    Column("lease_until", Time),
    Column("run_after", Time, nullable=False, server_default=NOW),
    Column("dispatched_at", Time),
    Column("progress", JSONB),
    Column("error", JSONB),
    Column("created_by", Text, nullable=False),
    Column("created_at", Time, nullable=False, server_default=NOW),
    Column("started_at", Time),
    Column("finished_at", Time),
    UniqueConstraint("tenant", "idem_key"),
    Index("jobs_tenant_id_index", "tenant", "id"),
    Index("jobs_parent_index", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
    Index(
        "jobs_next_index",
        "kind",
        text("(attempt > 0) DESC"),
        text("priority DESC"),
        "id",
        postgresql_where=text("state = 'QUEUED'"),
    ),
    Index("jobs_retry_index", "run_after", postgresql_where=text("state = 'RETRY_WAIT'")),
    Index("jobs_lease_index", "lease_until", postgresql_where=text("lease_until IS NOT NULL")),
    Index("jobs_open_index", "kind", "state", postgresql_where=text("finished_at IS NULL")),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("fence", BigInteger, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("started_at", Time, nullable=False, server_default=NOW),
    Column("ended_at", Time),
    Column("outcome", Text),
    Column("error", JSONB),
)

audit = Table(
    "audit",
    metadata,
    Column("subject_type", Text, nullable=False),
    Column("subject_id", Uuid, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("at", Time, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text),
    Column("fence", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("prev_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("xid", BigInteger, nullable=False, server_default=text("(pg_current_xact_id()::text)::bigint")),
)

audit_unsealed = Table(
    "audit_unsealed",
    metadata,
    Column("position", BigInteger, Identity(always=True), primary_key=True),
    Column("subject_id", Uuid, nullable=False, index=True),
    Column("seq", BigInteger, nullable=False),
)

audit_leaves = Table(
    "audit_leaves",
    metadata,
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant", Text, nullable=False),
    Column("subject_type", Text, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", Time, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("subject_id", "seq"),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("msg_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("created_at", Time, nullable=False, server_default=NOW),
    Column("published_at", Time),
    UniqueConstraint("msg_id"),
    Index("outbox_unpublished_index", "id", postgresql_where=text("published_at IS NULL")),
)

manifests = Table(
    "manifests",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("files", JSONB, nullable=False),
    Column("outputs", JSONB, nullable=False),
    Column("at", Time, nullable=False, server_default=NOW),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    Column("files", JSONB, nullable=False),
    Column("at", Time, nullable=False, server_default=NOW),
)


def _versions(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("tenant", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("version", Integer, nullable=False),
        Column("digest", Text, nullable=False),
        Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False),
        Column("fence", BigInteger, nullable=False),
        Column("files", JSONB, nullable=False),
        Column("meta", JSONB, nullable=False),
        Column("created_at", Time, nullable=False, server_default=NOW),
        UniqueConstraint("tenant", "name", "version"),
        Index(f"{name}_job_index", "job_id"),
    )


datasets = _versions("datasets")
models = _versions("models")

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("model_id", Uuid, ForeignKey("models.id")),
    Column("settings", JSONB, nullable=False, server_default=EMPTY),
    Column("job_id", Uuid, ForeignKey("jobs.id")),
    Column("observed_generation", BigInteger, nullable=False, server_default="0"),
    Column("state", Text, nullable=False),
    Column("error", Text),
    Column("updated_at", Time, nullable=False, server_default=NOW),
    UniqueConstraint("tenant", "name"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("slots", Integer, nullable=False),
    Column("instance", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("info", JSONB, nullable=False, server_default=EMPTY),
    Column("last_seen", Time, nullable=False, server_default=NOW),
)

reservations = Table(
    "reservations",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("node", Text, ForeignKey("nodes.name"), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("first_rank", Integer, nullable=False, server_default="0"),
    Column("fence", BigInteger),
    Column("meeting", Text),
    Column("joined_at", Time),
    Column("lease_until", Time),
    Column("ended", JSONB),
    Index("reservations_node_index", "node"),
)

checkpoint_parts = Table(
    "checkpoint_parts",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("fence", BigInteger, primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("files", JSONB, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", Time, nullable=False, server_default=NOW),
    Column("expires_at", Time),
    Column("revoked_at", Time),
    Column("last_used_at", Time),
    UniqueConstraint("prefix"),
)

replies = Table(
    "replies",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("at", Time, nullable=False, server_default=NOW),
    Index("replies_at_index", "at"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("received", BigInteger, nullable=False, server_default="0"),
    Column("completed", Boolean, nullable=False, server_default="false"),
    Column("created_at", Time, nullable=False, server_default=NOW),
)

"""The audit log is sealed: what waits for it, the leaves of its Merkle tree, the signed checkpoints, and the one way in
which old rows may be taken out. The release before writes its rows as it did; they are sealed all the same.
"""

from importlib.resources import files

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WAS_APPEND_ONLY = """
CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
"""


def upgrade() -> None:
    """Create everything; rows that are there already wait to be sealed."""
    op.create_table(
        "audit_unsealed",
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("audit_unsealed_pkey")),
    )
    op.create_index(op.f("audit_unsealed_subject_id_index"), "audit_unsealed", ["subject_id"])
    op.create_table(
        "audit_leaves",
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("subject_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("index", name=op.f("audit_leaves_pkey")),
        sa.UniqueConstraint("subject_id", "seq", name=op.f("audit_leaves_subject_id_seq_key")),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("audit_checkpoints_pkey")),
    )
    sql = files("sextant_migrations").joinpath("sql/0006_sealed_audit.sql").read_text()
    op.get_bind().exec_driver_sql(sql.replace("%", "%%"))


def downgrade() -> None:
    """Remove everything; what was taken out of the log stays out."""
    op.execute("DROP FUNCTION audit_expire")
    op.execute(WAS_APPEND_ONLY)
    op.execute("DROP TRIGGER audit_queue ON audit")
    op.execute("DROP FUNCTION audit_queue")
    op.drop_table("audit_checkpoints")
    op.drop_table("audit_leaves")
    op.drop_table("audit_unsealed")

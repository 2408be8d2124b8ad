"""Gangs over several nodes: who has which ranks, where they meet, and the parts of their checkpoints.

Columns and a table more: the release before runs on as it did.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NEW = ("first_rank", "fence", "meeting", "joined_at", "lease_until", "ended")


def upgrade() -> None:
    """Add them."""
    op.add_column("reservations", sa.Column("first_rank", sa.Integer(), server_default="0", nullable=False))
    op.add_column("reservations", sa.Column("fence", sa.BigInteger()))
    op.add_column("reservations", sa.Column("meeting", sa.Text()))
    op.add_column("reservations", sa.Column("joined_at", sa.DateTime(timezone=True)))
    op.add_column("reservations", sa.Column("lease_until", sa.DateTime(timezone=True)))
    op.add_column("reservations", sa.Column("ended", JSONB()))
    op.create_table(
        "checkpoint_parts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("files", JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("checkpoint_parts_job_id_fkey")),
        sa.PrimaryKeyConstraint("job_id", "fence", "step", "node", name=op.f("checkpoint_parts_pkey")),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("checkpoint_parts")
    for name in reversed(NEW):
        op.drop_column("reservations", name)

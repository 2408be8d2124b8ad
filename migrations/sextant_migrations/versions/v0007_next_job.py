"""A worker claims the first job of its queue: those that have begun, then by priority and age. The release before
claims the job that its message names, and is as fast with these indexes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One index for queued jobs in their order, and one for those that wait to be tried again."""
    op.create_index(
        "jobs_next_index",
        "jobs",
        ["kind", sa.text("(attempt > 0) DESC"), sa.text("priority DESC"), "id"],
        unique=False,
        postgresql_where=sa.text("state = 'QUEUED'"),
    )
    op.create_index(
        "jobs_retry_index", "jobs", ["run_after"], unique=False, postgresql_where=sa.text("state = 'RETRY_WAIT'")
    )
    op.drop_index("jobs_waiting_index", table_name="jobs")


def downgrade() -> None:
    """The index for both."""
    op.create_index(
        "jobs_waiting_index",
        "jobs",
        ["kind", "run_after"],
        unique=False,
        postgresql_where=sa.text("state IN ('QUEUED', 'RETRY_WAIT')"),
    )
    op.drop_index("jobs_retry_index", table_name="jobs")
    op.drop_index("jobs_next_index", table_name="jobs")

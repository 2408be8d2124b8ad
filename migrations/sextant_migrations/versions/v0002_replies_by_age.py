"""Kept replies can be found by their age, to be deleted. An index more: the release before runs on as it did."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("replies_at_index", "replies", ["at"])


def downgrade() -> None:
    """Remove it."""
    op.drop_index("replies_at_index", table_name="replies")

"""A service needs no right to write the audit log: what writes it runs with the rights of the tables' owner.

And keys know when they were used. The release before runs on as it did.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

APPEND = "audit_append(text, uuid, text, text, text, text, text, jsonb)"
WRITERS = ("jobs_record()", APPEND)


def upgrade() -> None:
    """Let them."""
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True)))
    for function in WRITERS:
        # A caller's search path must not lead it to tables of the caller's own.
        op.execute(f"ALTER FUNCTION {function} SECURITY DEFINER SET search_path = public, pg_temp")
    op.execute(f"REVOKE EXECUTE ON FUNCTION {APPEND} FROM PUBLIC")


def downgrade() -> None:
    """Let those that call them."""
    op.execute(f"GRANT EXECUTE ON FUNCTION {APPEND} TO PUBLIC")
    for function in WRITERS:
        op.execute(f"ALTER FUNCTION {function} SECURITY INVOKER RESET search_path")
    op.drop_column("api_keys", "last_used_at")

"""The migrations, on a real server."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, create_engine, inspect, text

from sextant_migrations import chain
from sextant_shared.lifecycle.states import LEGAL


@pytest.fixture
def empty(database_url: str) -> Engine:
    """A database without tables."""
    return create_engine(database_url)


def test_the_database_is_what_the_tables_declare(database: Engine) -> None:
    with database.connect() as conn:
        assert chain.drift(conn) == []


def test_the_chain_goes_up_down_and_up_again_and_leaves_nothing_behind(empty: Engine) -> None:
    for _ in range(2):
        with empty.begin() as conn:
            chain.upgrade(conn)
        with empty.begin() as conn:
            chain.downgrade(conn, "base")
        assert inspect(empty).get_table_names() in ([], ["alembic_version"])
        with empty.connect() as conn:
            ours = "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'public'"
            assert conn.execute(text(ours)).scalar_one() == 0


def test_a_second_upgrade_changes_nothing(database: Engine) -> None:
    with database.begin() as conn:
        chain.upgrade(conn)
        assert chain.drift(conn) == []


def test_the_guard_in_the_database_and_the_rules_in_the_code_name_the_same_transitions(database: Engine) -> None:
    with database.connect() as conn:
        rows = conn.execute(text("SELECT from_state, to_state FROM legal_transition")).all()
    assert {tuple(row) for row in rows} == {(source, target) for source, targets in LEGAL.items() for target in targets}

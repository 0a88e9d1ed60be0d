from __future__ import annotations

import sqlite3

import pytest

from opencode_reactor.store.queries import NEWEST, migration, queries, split
from opencode_reactor.store.sqlite_open import statements


def schema() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    db.create_function("clock_ms", 0, lambda: 0)
    db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    for number in range(1, NEWEST + 1):
        for statement in statements(migration(number)):
            db.execute(statement)
    return db


def test_statements_are_named_and_stripped() -> None:
    text = "-- about\n\n-- name: one\nSELECT 1;\n\n-- name: two\n-- why\nSELECT\n    2;\n"
    assert list(split(text)) == [("one", "SELECT 1"), ("two", "-- why\nSELECT\n    2")]


def test_sql_before_the_first_name_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="before the first"):
        list(split("SELECT 1;\n-- name: one\nSELECT 2;"))


def test_every_statement_is_one_that_the_newest_schema_understands() -> None:
    db = schema()
    for name, sql in queries().items():
        assert db.execute(f"EXPLAIN {sql}", _Anything()).fetchall(), name
    db.close()


def test_no_statement_walks_through_a_whole_table() -> None:
    db = schema()
    # Each has its reason: the few rows that a partial index holds, or it stands on the way to an error.
    bounded = {"commanded_runs", "dead_deliveries"}
    errors = {"newest_run_ids", "newest_ask_ids"}
    walks = {
        name
        for name, sql in queries().items()
        for *_, step in db.execute(f"EXPLAIN QUERY PLAN {sql}", _Anything())
        if step.startswith("SCAN")
    }
    assert walks - bounded - errors == set()
    db.close()


class _Anything(dict[str, int]):
    """Any parameter is there."""

    def __missing__(self, name: str) -> int:
        return 0


def test_no_statement_uses_what_only_one_database_has() -> None:
    text = "\n".join(queries().values()).lower()
    for word in ("json_each", "glob", "ifnull", "insert or", "rowid", "unixepoch", "datetime(", "%s", " ? "):
        assert word not in text


def test_the_newest_schema_is_the_last_migration() -> None:
    assert migration(NEWEST)
    with pytest.raises(FileNotFoundError):
        migration(NEWEST + 1)

from __future__ import annotations

import sqlite3

import pytest

from opencode_reactor.errors import Conflict, StoreError
from opencode_reactor.store.sqlite_errors import mapped


def raised(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("SQLite's own words")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (sqlite3.SQLITE_FULL, "full"),
        (sqlite3.SQLITE_IOERR_WRITE, "refused"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "locked"),
        (sqlite3.SQLITE_CORRUPT_INDEX, "damaged"),
        (sqlite3.SQLITE_NOTADB, "no SQLite database"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "read-only"),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, "cannot be opened"),
        (sqlite3.SQLITE_PERM, "may not"),
        (sqlite3.SQLITE_TOOBIG, "larger"),
    ],
)
def test_each_trouble_is_one_sentence_with_place_remedy_and_cause(code: int, word: str) -> None:
    cause = raised(code)
    error = mapped(cause, "/x.db")
    assert isinstance(error, StoreError)
    assert word in error.message
    assert error.place == "/x.db"
    assert error.remedy
    assert error.__cause__ is cause


def test_a_key_that_is_taken_is_a_conflict_and_other_broken_rules_are_not() -> None:
    assert isinstance(mapped(raised(sqlite3.SQLITE_CONSTRAINT_UNIQUE), "x"), Conflict)
    assert isinstance(mapped(raised(sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY), "x"), Conflict)
    assert isinstance(mapped(raised(sqlite3.SQLITE_CONSTRAINT_NOTNULL), "x"), StoreError)
    assert isinstance(mapped(raised(sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY), "x"), StoreError)


def test_what_nobody_foresaw_keeps_sqlites_own_words() -> None:
    assert "SQLite's own words" in str(mapped(raised(sqlite3.SQLITE_ERROR), "x"))
    assert isinstance(mapped(OverflowError("too large"), "x"), StoreError)


def test_an_error_of_ours_stays_what_it_is() -> None:
    ours, bug = Conflict("x"), KeyError("y")
    assert mapped(ours, "x") is ours
    assert mapped(bug, "x") is bug

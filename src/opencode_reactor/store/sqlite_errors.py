"""What SQLite's errors mean to the operator: one sentence, the place, and what to do next.

Codes: https://www.sqlite.org/rescode.html; the low byte is the primary one.
"""

from __future__ import annotations

import sqlite3

from ..errors import Conflict, ReactorError, StoreError

_MEANINGS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_NOTADB: (
        "this file is not a reactor store: it is no SQLite database",
        "Name another file with --store, or move this one away.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the store is damaged",
        "Restore a copy of the file, or save what can be read with `sqlite3 FILE .recover`.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the store cannot be opened",
        "Look at the permissions of the file and its folder, or name another file with --store.",
    ),
    sqlite3.SQLITE_PERM: (
        "the store may not be opened",
        "Look at the permissions of the file and its folder, or name another file with --store.",
    ),
    sqlite3.SQLITE_READONLY: (
        "the store is read-only",
        "Make the file and its folder writable, or name another file with --store.",
    ),
    sqlite3.SQLITE_BUSY: (
        "another program keeps the store locked",
        "End the program that holds it (`fuser FILE` names it), then try again.",
    ),
    sqlite3.SQLITE_LOCKED: (
        "another program keeps the store locked",
        "End the program that holds it (`fuser FILE` names it), then try again.",
    ),
    sqlite3.SQLITE_FULL: (
        "the disk is full: nothing was written",
        "Make room on the store's disk, then try again.",
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk refused to read or write the store: nothing was written",
        "Look whether the disk is full, over its quota or failing, then try again.",
    ),
    sqlite3.SQLITE_TOOBIG: (
        "a value is larger than the store can hold: nothing was written",
        "SQLite keeps at most 1 GB in one value.",
    ),
}

_TAKEN = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}


def not_a_store(where: str) -> StoreError:
    """What SQLITE_NOTADB means, found out without SQLite."""
    message, remedy = _MEANINGS[sqlite3.SQLITE_NOTADB]
    return StoreError(message, place=where, remedy=remedy)


def code(error: BaseException) -> int:
    """SQLite's primary code; 0 where the error is Python's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def mapped(error: Exception, where: str) -> Exception:
    """The error of this project's tree for what SQLite or its binding raised, the cause chained.

    Anything else is a mistake of ours and stays what it is. A new value each time: an exception that several
    tasks raise would mix up their tracebacks.
    """
    if not isinstance(error, sqlite3.Error | OverflowError):
        return error
    found: ReactorError
    if getattr(error, "sqlite_errorcode", 0) in _TAKEN:
        found = Conflict(f"another such row is there already ({error})", place=where)
    else:
        message, remedy = _MEANINGS.get(code(error), (f"the store answered: {error}", ""))
        found = StoreError(message, place=where, remedy=remedy)
    found.__cause__ = error
    return found

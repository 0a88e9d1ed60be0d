"""One connection to a SQLite store, and how units are carried out on it. Everything here blocks.

Rules of this file: every acknowledged unit is on the disk (WAL, `synchronous=FULL`); one unit's refusal
undoes that unit alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from ..clock import Clock
from ..errors import ReactorError
from .driver import Row, Statement, Unit
from .queries import queries
from .seat import Order, Outcome
from .sqlite_errors import mapped
from .sqlite_open import Place, connect, migrate, prepare


class SqliteSeat:
    """One connection. A reader's seat has only snapshots, a writer's has both."""

    def __init__(self, place: Place, clock: Clock, *, writes: bool) -> None:
        self._place = place
        self._clock = clock
        self._writes = writes
        self._connection: sqlite3.Connection | None = None
        self._committed = False
        self._version: int = 0

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None, "opened before it is used"
        return self._connection

    def open(self) -> None:
        """Connect; the writer makes and migrates the store first. Raises StoreError, SchemaTooNew."""
        if self._writes:
            prepare(self._place)
        self._connection = connect(self._place, self._clock, writes=self._writes)
        migrate(self._connection, self._place)
        self.changed()

    def close(self) -> None:
        """Close the connection; the last one folds the WAL into the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def changed(self) -> bool:
        """Whether we committed, or another connection did (`data_version` counts only those)."""
        try:
            version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            # A hint only, and whoever then reads gets the error itself.
            return False
        changed = self._committed or version != self._version
        self._committed, self._version = False, version
        return changed

    def carry_out(self, orders: Sequence[Order]) -> list[Outcome]:
        """All writes of a group in one commit, then its reads."""
        writes = [order.unit for order in orders if order.writes]
        written = iter(self._commit(writes) if writes else ())
        return [next(written) if order.writes else self._read(order.unit) for order in orders]

    def _read(self, unit: Unit) -> Outcome:
        try:
            self._db.execute("BEGIN")
            try:
                return [self._execute(statement) for statement in unit]
            finally:
                self._roll_back()
        except Exception as error:  # noqa: BLE001  whatever it is, it is its caller's
            return mapped(error, self._place.path)

    def _commit(self, units: Sequence[Unit]) -> list[Outcome]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            # Nobody's turn came: trying them one by one would wait for the same lock many times over.
            return [mapped(error, self._place.path) for _ in units]
        try:
            outcomes = [self._savepoint(unit) for unit in units]
            self._db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  whatever it is, the group must not stay half open
            self._roll_back()
            if len(units) == 1:
                return [mapped(error, self._place.path)]
            # A full disk or too large a value undoes the whole group: only who caused it shall suffer.
            return [outcome for unit in units for outcome in self._commit([unit])]
        self._committed = self._committed or any(not isinstance(o, Exception) for o in outcomes)
        return outcomes

    def _savepoint(self, unit: Unit) -> Outcome:
        self._db.execute("SAVEPOINT unit")
        try:
            rows = [self._execute(statement) for statement in unit]
        except (ReactorError, sqlite3.IntegrityError) as error:
            self._db.execute("ROLLBACK TO unit")
            self._db.execute("RELEASE unit")
            return mapped(error, self._place.path)
        self._db.execute("RELEASE unit")
        return rows

    def _execute(self, statement: Statement) -> list[Row]:
        sql = queries()[statement.name]
        try:
            cursor = self._db.execute(sql, statement.params)
        except UnicodeEncodeError:
            # Half a surrogate pair, as models cut off in mid-emoji write it: no UTF-8 can hold that.
            cursor = self._db.execute(sql, {k: _encodable(v) for k, v in statement.params.items()})
        rows: list[Row] = cursor.fetchall()
        expect = statement.expect
        if expect is not None:
            touched = len(rows) if cursor.description else cursor.rowcount
            if touched != expect.rows:
                raise expect.error(expect.message, remedy=expect.remedy)
        return rows

    def _roll_back(self) -> None:
        # SQLite itself rolls back on some errors; and if even this fails, the next BEGIN says so.
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _encodable(value: object) -> object:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value

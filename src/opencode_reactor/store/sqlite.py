"""The store in one SQLite file: one thread writes and commits in groups, another reads on snapshots.

Rules of this file: a connection is touched by its own thread only; every acknowledged unit is on the disk
(WAL, `synchronous=FULL`); one unit's refusal undoes that unit alone; nothing here waits in the event loop.
Never on a network file system: WAL needs shared memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ..clock import Clock
from ..errors import ReactorError, StoreError
from .driver import Row, Rows, Statement, Unit
from .lockfiles import LockFiles
from .queries import queries
from .sqlite_errors import mapped
from .sqlite_open import Place, connect, migrate, prepare
from .worker import Order, Outcome, Worker

_LOOK_EVERY = 0.1
"""Seconds between two looks for other processes' commits, while somebody wants to know of them."""


class Seat:
    """One connection in its thread. A reader's seat has only snapshots, the writer's may have both."""

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


class SqliteDriver:
    """A `Driver` for one SQLite file, or for `:memory:`, which has one connection and so one thread."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []
        self._writer = self._worker("store writer", writes=not place.read_only)
        alone = place.in_memory or place.read_only
        self._reader = self._writer if alone else self._worker("store reader", writes=False)
        self._locks = LockFiles(None if alone else Path(f"{place.path}-leases"))

    def _worker(self, name: str, *, writes: bool) -> Worker:
        seat = Seat(self._place, self._clock, writes=writes)
        return Worker(name, seat, where=self._place.path, hint=self._hint)

    @property
    def url(self) -> str:
        """Where the store is, as `--store` takes it."""
        return self._place.url

    async def open(self) -> None:
        """Start the threads and open the store. Raises StoreError, SchemaTooNew."""
        await self._writer.start()
        if self._reader is not self._writer:
            await self._reader.start()

    def now(self) -> int:
        """This machine's clock: every process on the file shares it."""
        return self._clock.now()

    async def read(self, unit: Unit) -> Rows:
        """Carry out statements that only read, on one snapshot. Raises StoreError."""
        return await self._reader.carry_out(unit, writes=False)

    async def write(self, unit: Unit) -> Rows:
        """Carry out a unit whole or not at all. Raises what the `Driver` promises."""
        if self._place.read_only:
            raise StoreError(
                "the store is read-only",
                place=self._place.path,
                remedy="Make the file and its folder writable, or name another file with --store.",
            )
        return await self._writer.carry_out(unit, writes=True)

    async def hold(self, server: str, owner: str) -> bool:
        """Show that this owner of a server lives, by a lock beside the database."""
        return self._locks.hold(server, owner)

    async def let_go(self, server: str, owner: str) -> None:
        """Show it no longer."""
        self._locks.let_go(server, owner)

    async def gone(self, server: str, owner: str) -> bool:
        """Whether that owner surely lives no more, or has let go."""
        return self._locks.gone(server, owner)

    async def sweep(self, server: str) -> None:
        """Forget those who are gone."""
        self._locks.sweep(server)

    def changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after commits, ours at once, others' within 0.1 s; returns the way to stop."""
        self._listeners.append(callback)
        self._writer.look_every(_LOOK_EVERY)

        def stop() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)
            if not self._listeners:
                self._writer.look_every(None)

        return stop

    def _hint(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    async def aclose(self) -> None:
        """Carry out what was asked before, then close. The writer last: it folds the WAL into the file."""
        # The locks first: whoever waits for our servers need not wait for the disk.
        self._locks.close()
        if self._reader is not self._writer:
            await self._reader.aclose()
        await self._writer.aclose()


async def open_sqlite(path: str, *, clock: Clock, patience: int) -> SqliteDriver:
    """Open the store at an absolute path or `:memory:`; `patience` in ms. Raises StoreError, SchemaTooNew."""
    driver = SqliteDriver(Place.at(path, patience), clock)
    try:
        await driver.open()
    except BaseException:
        await driver.aclose()
        raise
    return driver

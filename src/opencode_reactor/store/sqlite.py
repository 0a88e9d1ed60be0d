"""The store in one SQLite file: one thread writes and commits in groups, another reads on snapshots.

Rules of this file: a connection is touched by its own thread only; nothing here waits in the event loop.
Never on a network file system: WAL needs shared memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..clock import Clock
from .driver import Rows, Unit
from .lockfiles import LockFiles
from .sqlite_open import Place
from .sqlite_seat import SqliteSeat
from .worker import Worker

_LOOK_EVERY = 0.1
"""Seconds between two looks for other processes' commits, while somebody wants to know of them."""


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
        seat = SqliteSeat(self._place, self._clock, writes=writes)
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

"""The store for a caller without an event loop: everything is done in the calling thread, before it returns.

Commands that only read or write the store have nothing to do meanwhile, and asyncio with its threads would be
half of their start. It is the same store by the same code, without what only matters to who stays: no hints
of commits, and no sign of life beside a lease.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..clock import Clock
from .driver import Rows, Unit
from .opening import path_of, store_on
from .seat import Order, closed
from .sqlite_open import Place
from .sqlite_seat import SqliteSeat
from .store import Store

T = TypeVar("T")


def open_immediate(url: str, *, clock: Clock, patience: int = 5_000) -> Store:
    """Open or make the store, as `open_store` does. Its methods block, and never suspend: see `at_once`.

    Raises StoreError, SchemaTooNew.
    """
    driver = ImmediateDriver(Place.at(path_of(url), patience), clock)
    return at_once(store_on(driver, clock))


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for nothing but an immediate store: it is done in one go.

    Raises what it raises, and RuntimeError where it waits for anything else.
    """
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    msg = f"{work!r} waits for something: it needs an event loop"
    raise RuntimeError(msg)


class ImmediateDriver:
    """A `Driver` for one SQLite file, or for `:memory:`, over one connection."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._closed = False
        self._seat = SqliteSeat(place, clock, writes=not place.read_only)

    @property
    def url(self) -> str:
        """Where the store is, as `--store` takes it."""
        return self._place.url

    async def open(self) -> None:
        """Open the store. Raises StoreError, SchemaTooNew."""
        self._seat.open()

    def now(self) -> int:
        """This machine's clock: every process on the file shares it."""
        return self._clock.now()

    async def read(self, unit: Unit) -> Rows:
        """Carry out statements that only read, on one snapshot. Raises StoreError."""
        return self._carry_out(Order(unit, writes=False))

    async def write(self, unit: Unit) -> Rows:
        """Carry out a unit whole or not at all. Raises what the `Driver` promises."""
        return self._carry_out(Order(unit, writes=True))

    def _carry_out(self, order: Order) -> Rows:
        if self._closed:
            raise closed(self._place.path)
        (outcome,) = self._seat.carry_out((order,))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def hold(self, server: str, owner: str) -> bool:  # noqa: ARG002
        """True: a lease had here is waited for until it runs out."""
        return True

    async def let_go(self, server: str, owner: str) -> None:
        """Nothing was held."""

    async def gone(self, server: str, owner: str) -> bool:  # noqa: ARG002
        """False: not known here."""
        return False

    async def sweep(self, server: str) -> None:
        """Whoever takes leases by a lock looks after the locks."""

    def changed(self, callback: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        """Never calls: there is no event loop to call in."""
        return lambda: None

    async def aclose(self) -> None:
        """Close; the last connection folds the WAL into the file."""
        self._closed = True
        self._seat.close()

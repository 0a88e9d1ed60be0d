"""A thread with a seat in it, reached from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .driver import Rows, Unit
from .seat import Order, Outcome, Seat, closed

_MOST_AT_ONCE = 512
"""Bounds how long the first caller of a group waits for the last."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """An order on its way. `done` is the event loop's; the thread only asks whether it was cancelled."""

    order: Order
    done: asyncio.Future[Rows]


class Worker:
    """One thread and its queue. All orders that wait are handed over together: that is the group commit."""

    def __init__(self, name: str, seat: Seat, *, where: str, hint: Callable[[], None] | None = None) -> None:
        self._seat = seat
        self._where = where
        self._hint = hint
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._pause: float | None = None
        self._stopping = False
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # A daemon: whoever forgets `aclose` loses nothing that was acknowledged, and the process still ends.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    async def start(self) -> None:
        """Start the thread and open the seat. Raises what the seat raised; `aclose` is due all the same."""
        self._thread.start()
        await self._opened

    async def carry_out(self, unit: Unit, *, writes: bool) -> Rows:
        """Hand a unit to the seat and wait for its outcome. Raises StoreError once the worker is stopping."""
        if self._stopping:
            raise closed(self._where)
        waiting = Waiting(Order(unit, writes), self._loop.create_future())
        self._queue.put(waiting)
        return await waiting.done

    def look_every(self, seconds: float | None) -> None:
        """Ask the seat for changes at least so often, and hint; None: never."""
        self._pause = seconds
        self._queue.put(None)

    async def aclose(self) -> None:
        """Carry out what is queued, close the seat, join the thread. Cancelled, the thread does so alone."""
        if not self._thread.ident:
            return
        self._stop()
        await asyncio.shield(self._ended)
        self._thread.join()

    def _stop(self) -> None:
        self._stopping = True
        self._queue.put(None)

    # Below here: the thread.

    def _run(self) -> None:
        try:
            if self._open():
                self._work()
            self._seat.close()
        finally:
            # Whatever happened here, `aclose` must not wait for ever.
            self._call(self._ended.set_result, None)

    def _open(self) -> bool:
        try:
            self._seat.open()
        except Exception as error:  # noqa: BLE001  the thread's edge: whatever it is, its caller gets it
            self._call(self._settle_opening, error)
            return False
        self._call(self._settle_opening, None)
        return True

    def _work(self) -> None:
        while True:
            group = self._take()
            if group:
                self._call(self._settle, group, self._outcomes([waiting.order for waiting in group]))
            if self._pause is not None and self._hint is not None and self._seat.changed():
                self._call(self._hint)
            # Nothing is queued after `_stopping` is set, so an empty queue then stays empty.
            if self._stopping and self._queue.empty():
                return

    def _take(self) -> list[Waiting]:
        group: list[Waiting] = []
        try:
            waiting = self._queue.get(timeout=self._pause)
            while True:
                # A caller that has gone before its turn wants nothing any more.
                if waiting is not None and not waiting.done.cancelled():
                    group.append(waiting)
                if len(group) == _MOST_AT_ONCE:
                    return group
                waiting = self._queue.get_nowait()
        except queue.Empty:
            return group

    def _outcomes(self, orders: Sequence[Order]) -> list[Outcome]:
        try:
            return self._seat.carry_out(orders)
        except Exception as error:  # noqa: BLE001  the thread's edge: a dead thread would hang every caller
            return [error] * len(orders)

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        # The loop may be gone before us: then nobody waits for this answer.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    # Back in the event loop.

    def _settle_opening(self, error: Exception | None) -> None:
        if self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)

    def _settle(self, group: Sequence[Waiting], outcomes: Sequence[Outcome]) -> None:
        for waiting, outcome in zip(group, outcomes, strict=True):
            if waiting.done.done():
                continue
            if isinstance(outcome, Exception):
                waiting.done.set_exception(outcome)
            else:
                waiting.done.set_result(outcome)

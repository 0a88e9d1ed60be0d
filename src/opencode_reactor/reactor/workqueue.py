"""A queue of keys: whatever happened, the same key is worked once, by one hand at a time (after client-go).

A key that is added while it waits is one key; added while it is worked, it is worked once more afterwards.
Whoever takes a key takes its appointments with it: one look serves every reason there was until then, and
makes the next appointment itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

import anyio

from ..clock import Clock

K = TypeVar("K", bound=Hashable)

_SLACK = 64
"""Entries of appointments that no longer stand are cleared away once they outnumber the others by this."""


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """How many keys wait, are being worked, and are due later."""

    waiting: int
    working: int
    delayed: int


class WorkQueue(Generic[K]):
    """Keys to look at, now or later. Not thread-safe: it lives in one event loop.

    One consumer takes keys (`get`) and may hand them to many hands; each hand says `done`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: OrderedDict[K, None] = OrderedDict()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._due: dict[K, int] = {}
        self._heap: list[tuple[int, int, K]] = []
        self._pushed = 0
        self._wake = anyio.Event()

    def add(self, key: K) -> None:
        """Look at this key as soon as a hand is free. Never blocks."""
        if key in self._working:
            self._again.add(key)
        else:
            self._waiting[key] = None
            self._wake.set()

    def add_at(self, key: K, at: int) -> None:
        """Look at this key at `at` (epoch ms) at the latest; an earlier appointment stands."""
        due = self._due.get(key)
        if due is not None and due <= at:
            return
        self._due[key] = at
        self._push(at, key)
        self._wake.set()

    async def get(self) -> K:
        """The next key; the caller owns it until `done`."""
        while True:
            self._release_due()
            if self._waiting:
                key, _ = self._waiting.popitem(last=False)
                self._due.pop(key, None)
                self._working.add(key)
                return key
            self._wake = anyio.Event()
            with anyio.move_on_after(self._until_due()):
                await self._wake.wait()

    def done(self, key: K) -> None:
        """The caller has let go of the key."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def statistics(self) -> QueueStatistics:
        """Counts for people and tests."""
        return QueueStatistics(len(self._waiting), len(self._working), len(self._due))

    def _until_due(self) -> float | None:
        if not self._heap:
            return None
        return max(0.0, (self._heap[0][0] - self._clock.now()) / 1000)

    def _release_due(self) -> None:
        now = self._clock.now()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heappop(self._heap)
            if self._due.get(key) == at:  # else it was replaced by an earlier one, or the key was looked at
                del self._due[key]
                self.add(key)

    def _push(self, at: int, key: K) -> None:
        self._pushed += 1  # breaks ties: keys need not be comparable
        heappush(self._heap, (at, self._pushed, key))
        if len(self._heap) > 2 * len(self._due) + _SLACK:
            # Every look leaves its appointment behind, often hours ahead: they must not pile up.
            self._heap = [(due, number, key) for number, (key, due) in enumerate(self._due.items())]
            self._pushed = len(self._heap)
            heapify(self._heap)

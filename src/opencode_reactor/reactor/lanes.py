"""The ready pool: items in order within a lane, lanes side by side, nothing kept for an idle one.

A lane is a handler and a session. Each handler has hands of its own, so that one that hangs on all of them
keeps no other handler waiting. Hands exist only while there is something in them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Generic, NamedTuple, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


class LaneKey(NamedTuple):
    """A handler's name and a session's id ("" where the event has none)."""

    handler: str
    session: str


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """`busy` lanes hold `waiting` items and `running` ones; `resting` lanes wait for their next try."""

    busy: int
    waiting: int
    running: int
    resting: int
    dropped: int


@dataclass(slots=True)
class _Pool:
    """One handler's lanes that could be worked now, and how many hands are on them."""

    ready: deque[LaneKey] = field(default_factory=deque[LaneKey])
    hands: int = 0


class Lanes(Generic[T]):
    """Lanes of items and the hands that work them. Lives in one event loop.

    `work(key, item)` returns None when it is through with the item, or the seconds after which it wants the
    same item again; meanwhile the lane rests, and only that lane. It must not raise: that ends `run`.
    `depth` bounds the items waiting in one lane, the oldest goes first: for work that never asks again.
    """

    def __init__(
        self,
        work: Callable[[LaneKey, T], Awaitable[float | None]],
        *,
        hands: int,
        depth: int | None = None,
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self._work = work
        self._most_hands = hands
        self._depth = depth
        self._moved = moved
        self._lanes: dict[LaneKey, deque[T]] = {}
        self._pools: dict[str, _Pool] = {}
        self._resting: list[tuple[float, int, LaneKey]] = []
        self._rested = 0
        self._running = 0
        self._waiting = 0
        self._dropped = 0
        self._bell = anyio.Event()
        self._tasks: TaskGroup | None = None
        self._closed = False

    def push(self, key: LaneKey, item: T) -> int:
        """Add an item to the end of a lane. Never blocks. Returns how many were dropped for it (0 or 1)."""
        items = self._lanes.get(key)
        if items is None:
            items = self._lanes[key] = deque()
            self._make_ready(key)
        items.append(item)
        self._waiting += 1
        if self._depth is None or len(items) <= self._depth:
            return 0
        items.popleft()
        self._waiting -= 1
        self._dropped += 1
        return 1

    async def run(self) -> None:
        """Work until cancelled. What was pushed before is worked too."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                for handler, pool in self._pools.items():
                    for _ in pool.ready:
                        self._staff(handler)
                await self._wake_rested()
            finally:
                self._tasks = None  # a late push waits for the next run instead of meeting a closed group

    def close(self) -> None:
        """Begin nothing new; what runs is let finish, what waits stays."""
        self._closed = True

    def statistics(self) -> LaneStatistics:
        """Counts for people and tests."""
        return LaneStatistics(
            len(self._lanes), self._waiting, self._running, len(self._resting), self._dropped
        )

    def _make_ready(self, key: LaneKey) -> None:
        self._pools.setdefault(key.handler, _Pool()).ready.append(key)
        self._staff(key.handler)

    def _staff(self, handler: str) -> None:
        """One more hand for one more ready lane; beyond the bound, the others come to it in turn."""
        pool = self._pools[handler]
        if self._tasks is not None and not self._closed and pool.hands < self._most_hands:
            pool.hands += 1
            self._tasks.start_soon(self._hand, handler, name=f"handler {handler}")

    async def _hand(self, handler: str) -> None:
        pool = self._pools[handler]
        while pool.ready and not self._closed:
            await self._take_turn(pool, pool.ready.popleft())
        pool.hands -= 1

    async def _take_turn(self, pool: _Pool, key: LaneKey) -> None:
        items = self._lanes[key]
        item = items.popleft()
        self._waiting -= 1
        self._running += 1
        rest = await self._work(key, item)
        self._running -= 1
        if rest is not None:
            items.appendleft(item)
            self._waiting += 1
            self._let_rest(key, rest)
        elif items:
            pool.ready.append(key)
        else:
            del self._lanes[key]
        self._moved()

    def _let_rest(self, key: LaneKey, seconds: float) -> None:
        self._rested += 1  # breaks ties in the heap
        heappush(self._resting, (anyio.current_time() + seconds, self._rested, key))
        self._bell.set()

    async def _wake_rested(self) -> None:
        while True:
            self._bell = anyio.Event()
            while self._resting and self._resting[0][0] <= anyio.current_time():
                self._make_ready(heappop(self._resting)[2])
            with anyio.move_on_at(self._resting[0][0] if self._resting else float("inf")):
                await self._bell.wait()

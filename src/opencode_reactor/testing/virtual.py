"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing else can be done.

Hours pass in milliseconds, and one seed gives one course of events: nothing here reads the machine's clock,
and the order of what is ready can be shuffled by a seeded random.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar, cast

T = TypeVar("T")

EPOCH = 1_767_225_600_000
"""ms: where virtual wall time begins (2026-01-01)."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: where the loop would sleep, it moves the loop's clock instead."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found:
            return found
        if timeout is None:
            msg = "nothing is ready and no timer is set: this simulation can never go on"
            raise RuntimeError(msg)
        self._jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time. With `random`, what is ready at once runs in a random order."""

    def __init__(self, random: Random | None = None) -> None:
        self._virtual = 0.0
        self._random = random
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def _jump(self, seconds: float) -> None:
        self._virtual += max(seconds, 0.0)

    def _run_once(self) -> None:
        # asyncio's own queue and step: there is no public way to choose among what is ready.
        ready = cast("deque[asyncio.Handle]", vars(self)["_ready"])
        if self._random is not None and len(ready) > 1:
            order = list(ready)
            self._random.shuffle(order)
            ready.clear()
            ready.extend(order)
        cast("Any", super())._run_once()  # noqa: SLF001


class VirtualClock:
    """The `Clock` of a virtual loop. `offset` (ms) can be changed: a wall clock that jumps."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.offset = 0

    def now(self) -> int:
        """Virtual wall time, ms since the epoch."""
        return EPOCH + self.offset + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        """Virtual seconds; a wall clock's jumps do not touch it."""
        return self._loop.time()


def run_virtual(main: Callable[[VirtualClock], Coroutine[Any, Any, T]], seed: int | None = None) -> T:
    """Run `main` on virtual time; with a seed, what is ready at once is shuffled by it."""
    loop = VirtualLoop(None if seed is None else Random(seed))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(VirtualClock(loop)))

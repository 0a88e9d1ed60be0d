"""Stopping on a signal: what runs is cancelled in order, and a second signal does not wait for that."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ..reactor.together import first_of

T = TypeVar("T")


class Stopped(Exception):
    """A signal ended the work. `number` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


async def unless_stopped(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` returns. SIGINT and SIGTERM cancel it; raises Stopped then."""
    results: list[T] = []
    caught: list[int] = []
    try:
        async with anyio.create_task_group() as group:

            async def listen() -> None:
                # Left at the first signal, so that the second one has its usual, immediate effect.
                with anyio.open_signal_receiver(*_signals()) as signals:
                    async for number in signals:
                        caught.append(number)
                        group.cancel_scope.cancel()
                        return

            group.start_soon(listen)
            results.append(await work())
            group.cancel_scope.cancel()
    except BaseExceptionGroup as failures:
        raise first_of(failures) from failures
    if results:
        return results[0]
    raise Stopped(caught[0])


def _signals() -> list[signal.Signals]:
    # A shell starts its background jobs with SIGINT ignored: it is not meant for them, SIGTERM is.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGINT]

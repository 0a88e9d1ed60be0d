from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from opencode_reactor.clock import Clock, SystemClock
from opencode_reactor.errors import Conflict
from opencode_reactor.model.runs import Run
from opencode_reactor.store import Store

# Who has no event loop is given no hints.
one_that_hints = pytest.mark.parametrize("store", ["sqlite", "memory"], indirect=True)


async def hinted(event: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await event.wait()


async def quiet(event: asyncio.Event) -> None:
    """No hint is on its way any more: three looks of a tenth of a second passed without one."""
    while True:
        event.clear()
        try:
            async with asyncio.timeout(0.35):
                await event.wait()
        except TimeoutError:
            return


@one_that_hints
async def test_a_commit_of_ones_own_is_hinted_in_the_event_loop(store: Store) -> None:
    event = asyncio.Event()
    stop = store.changed(event.set)
    await quiet(event)
    await store.add_run(Run("r1", "p", "s", "/", "{}"), [])
    await hinted(event)
    stop()


@pytest.mark.parametrize("open_here", ["threads"], indirect=True)
async def test_a_commit_of_another_is_hinted_soon(open_here: Callable[[Clock], Awaitable[Store]]) -> None:
    ours, theirs = await open_here(SystemClock()), await open_here(SystemClock())
    event = asyncio.Event()
    stop = ours.changed(event.set)
    await quiet(event)
    begun = asyncio.get_running_loop().time()
    await theirs.add_run(Run("r1", "p", "s", "/", "{}"), [])
    await hinted(event)
    assert asyncio.get_running_loop().time() - begun < 1
    stop()


@one_that_hints
async def test_what_changed_nothing_gives_no_hint(store: Store) -> None:
    await store.add_run(Run("r1", "p", "s", "/", "{}"), [])
    event = asyncio.Event()
    stop = store.changed(event.set)
    await quiet(event)
    await store.run("r1")
    with pytest.raises(Conflict):
        await store.add_run(Run("r1", "p", "s", "/", "{}"), [])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.35):
            await event.wait()
    stop()


@one_that_hints
async def test_who_stopped_listening_hears_nothing_and_the_others_still_do(store: Store) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    stop_first, stop_second = store.changed(first.set), store.changed(second.set)
    await quiet(second)
    first.clear()
    stop_first()
    stop_first()
    await store.add_run(Run("r1", "p", "s", "/", "{}"), [])
    await hinted(second)
    assert not first.is_set()
    stop_second()

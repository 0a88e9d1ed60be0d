"""What every driver must do. A second driver is one more parameter of `url` (and of `store`).

`immediate` is the store of who has no event loop: what only matters to who stays is not asked of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from opencode_reactor.clock import Clock, SystemClock
from opencode_reactor.store import Store, open_store
from opencode_reactor.store.immediate import open_immediate


@pytest.fixture(params=["sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that several processes can open; nothing is there yet."""
    assert request.param == "sqlite"
    return f"sqlite://{tmp_path}/state/reactor.db"


@pytest.fixture(params=["threads", "immediate"])
async def open_here(
    request: pytest.FixtureRequest, url: str
) -> AsyncIterator[Callable[[Clock], Awaitable[Store]]]:
    """Opens the store at `url`, as often as one likes, each with its clock."""
    stores: list[Store] = []

    async def opened(clock: Clock) -> Store:
        at_once = request.param == "immediate"
        store = open_immediate(url, clock=clock) if at_once else await open_store(url, clock=clock)
        stores.append(store)
        return store

    yield opened
    for store in stores:
        await store.aclose()


@pytest.fixture(params=["sqlite", "memory", "immediate"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """One store, alone."""
    place, clock = f"sqlite://{tmp_path}/alone.db", SystemClock()
    match request.param:
        case "immediate":
            opened = open_immediate(place, clock=clock)
        case "memory":
            opened = await open_store("sqlite://:memory:", clock=clock)
        case _:
            opened = await open_store(place, clock=clock)
    yield opened
    await opened.aclose()

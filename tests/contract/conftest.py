"""What every driver must do. A second driver is one more parameter of `url` (and of `store`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from opencode_reactor.clock import Clock, SystemClock
from opencode_reactor.store import Store, open_store


@pytest.fixture(params=["sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that several processes can open; nothing is there yet."""
    assert request.param == "sqlite"
    return f"sqlite://{tmp_path}/state/reactor.db"


@pytest.fixture
async def open_here(url: str) -> AsyncIterator[Callable[[Clock], Awaitable[Store]]]:
    """Opens the store at `url`, as often as one likes, each with its clock."""
    stores: list[Store] = []

    async def opened(clock: Clock) -> Store:
        store = await open_store(url, clock=clock)
        stores.append(store)
        return store

    yield opened
    for store in stores:
        await store.aclose()


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """One store, alone."""
    place = "sqlite://:memory:" if request.param == "memory" else f"sqlite://{tmp_path}/alone.db"
    opened = await open_store(place, clock=SystemClock())
    yield opened
    await opened.aclose()

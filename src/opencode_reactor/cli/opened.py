"""Commands that only read or write the store: open it, do the work, close it."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..clock import SystemClock
from ..store import Store, open_store
from .options import Options

T = TypeVar("T")


def in_store(options: Options, work: Callable[[Store], Awaitable[T]]) -> T:
    """What `work` returns, done with the store that the options name."""

    async def session() -> T:
        store = await open_store(options.settings().store, clock=SystemClock())
        try:
            return await work(store)
        finally:
            await store.aclose()

    return asyncio.run(session())


def person() -> str:
    """Who types, as the store keeps it beside every decision."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # No password entry for this user id, as in many containers.
        name = str(os.getuid())
    return f"person: {name}"


async def served(store: Store, server: str) -> str:
    """Empty where a reactor serves that server now, else what to start."""
    if await store.lease(server) is not None:
        return ""
    return f"nobody serves {server} now: `reactor serve` takes it up"

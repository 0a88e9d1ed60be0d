"""Commands that only read or write the store: open it, do the work, close it."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..clock import SystemClock
from ..store import Store
from ..store.immediate import at_once, open_immediate
from .options import Options

T = TypeVar("T")


def in_store(options: Options, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    """What `work` returns, done with the store that the options name. It may wait for nothing else."""
    store = open_immediate(options.settings().store, clock=SystemClock())
    try:
        return at_once(work(store))
    finally:
        at_once(store.aclose())


def person() -> str:
    """Who types, as the store keeps it beside every decision."""
    # Late: only who decides is named, and the import is no small one.
    import getpass

    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # No password entry for this user id, as in many containers.
        name = str(os.getuid())
    return f"person: {name}"


async def served(options: Options, store: Store, server: str) -> str:
    """Empty where a reactor serves that server now, else what to start."""
    if await store.lease(server) is not None:
        return ""
    return f"nobody serves {server} now: `{options.serve(server)}` takes it up"

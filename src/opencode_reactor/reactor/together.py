"""Doing several things side by side, with the plain exception of the first that fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio


async def together(*calls: Callable[[], Awaitable[None]]) -> None:
    """Await all calls side by side. The first failure ends the others and is raised as it is, ungrouped."""
    try:
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(call)
    except BaseExceptionGroup as failures:
        raise first_of(failures) from failures


def first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain exception in a group of groups."""
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first

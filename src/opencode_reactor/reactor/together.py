"""Doing several things side by side, with the plain exception of the first that fails."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, cast

import anyio

Call: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


async def together(*calls: Call) -> None:
    """Await all calls side by side. The first failure ends the others and is raised as it is, ungrouped."""
    try:
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(call)
    except BaseExceptionGroup as failures:
        raise first_of(failures) from failures


def first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain exception in a group of groups."""
    first: BaseException = failures.exceptions[0]
    while isinstance(first, BaseExceptionGroup):
        first = cast("BaseExceptionGroup[BaseException]", first).exceptions[0]
    return first

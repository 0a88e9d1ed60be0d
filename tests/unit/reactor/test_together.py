from __future__ import annotations

from typing import cast

import anyio
import pytest

from opencode_reactor.errors import Fenced, Unreachable
from opencode_reactor.reactor.together import first_of, together


async def test_calls_go_side_by_side_and_all_are_waited_for() -> None:
    said: list[str] = []
    heard = anyio.Event()

    async def listener() -> None:
        await heard.wait()
        said.append("heard")

    async def speaker() -> None:
        said.append("spoken")
        heard.set()

    with anyio.fail_after(5):
        await together(listener, speaker)
    assert said == ["spoken", "heard"]


async def test_nothing_to_do_is_done() -> None:
    with anyio.fail_after(5):
        await together()


async def test_the_first_failure_ends_the_others_and_is_raised_as_it_is() -> None:
    ended: list[str] = []

    async def waiting() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("ended")

    async def failing() -> None:
        await anyio.lowlevel.checkpoint()
        raise Unreachable("no connection")

    with anyio.fail_after(5), pytest.raises(Unreachable, match="no connection"):
        await together(waiting, failing)
    assert ended == ["ended"]


async def test_of_two_failures_one_is_raised_and_the_other_is_not_lost() -> None:
    async def one() -> None:
        raise Unreachable("one")

    async def two() -> None:
        raise Fenced("two")

    with pytest.raises((Unreachable, Fenced)) as raised:
        await together(one, two)
    cause = raised.value.__cause__
    assert isinstance(cause, BaseExceptionGroup)
    assert {str(failure) for failure in cast("BaseExceptionGroup[Exception]", cause).exceptions} == {
        "one",
        "two",
    }


async def test_a_cancelled_caller_is_cancelled_and_not_told_of_a_failure() -> None:
    with anyio.move_on_after(0.01) as scope:
        await together(anyio.sleep_forever, anyio.sleep_forever)
    assert scope.cancelled_caught


def test_the_first_of_a_group_of_groups_is_a_plain_exception() -> None:
    inner = ExceptionGroup("inner", [ValueError("a"), KeyError("b")])
    assert str(first_of(ExceptionGroup("outer", [inner, OSError("c")]))) == "a"

# pyright: reportUnnecessaryTypeIgnoreComment=true
"""The ignores are the test: each stands where an editor must object, and the type gate proves it."""

from __future__ import annotations

from typing import Any, get_overloads

import pytest

from opencode_reactor.errors import HandlerError
from opencode_reactor.handling import Context, on
from opencode_reactor.handling.marking import mark_of
from opencode_reactor.model.events import (
    EVENTS_BY_NAME,
    Event,
    MessagePartUpdated,
    PermissionAsked,
    QuestionAsked,
    SessionEvent,
    SessionIdle,
)


@on(SessionIdle)
async def by_class(event: SessionIdle, ctx: Context) -> None: ...


@on("session.idle")
async def by_name(event: SessionIdle, ctx: Context) -> None: ...


@on("permission.updated", where=lambda e: e.permission == "read", retries=1, timeout=5, directory="/srv/*")
async def by_old_name(event: PermissionAsked, ctx: Context) -> None: ...


@on(PermissionAsked, where=lambda e: e.permission == "read", live=True, name="x")
async def filtered(event: PermissionAsked, ctx: Context) -> None: ...


@on(SessionIdle)
async def takes_more(event: SessionEvent, ctx: Context) -> None: ...


@on(PermissionAsked, QuestionAsked)
async def two_classes(event: PermissionAsked | QuestionAsked, ctx: Context) -> None: ...


@on("permission.*")
async def by_prefix(event: Event, ctx: Context) -> None: ...


@on("message.part.updated", "session.idle")
async def two_names(event: MessagePartUpdated | SessionIdle, ctx: Context) -> None: ...


@on(PermissionAsked)  # pyright: ignore[reportArgumentType]
async def wrong_class(event: SessionIdle, ctx: Context) -> None: ...


@on("session.idle")  # pyright: ignore[reportArgumentType]
async def wrong_class_by_name(event: PermissionAsked, ctx: Context) -> None: ...


@on("question.updated")  # pyright: ignore[reportArgumentType]
async def wrong_class_by_old_name(event: PermissionAsked, ctx: Context) -> None: ...


@on(SessionIdle)  # pyright: ignore[reportArgumentType]
def not_async(event: SessionIdle, ctx: Context) -> None: ...


@on("session.idle")  # pyright: ignore[reportArgumentType]
def not_async_by_name(event: SessionIdle, ctx: Context) -> None: ...


@on(SessionIdle)  # pyright: ignore[reportArgumentType]
async def no_context(event: SessionIdle) -> None: ...


@on(PermissionAsked, where=lambda e: e.questions)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownLambdaType]
async def wrong_filter(event: PermissionAsked, ctx: Context) -> None: ...


@on(SessionIdle, retries="3")  # pyright: ignore[reportCallIssue, reportArgumentType, reportUntypedFunctionDecorator]
async def wrong_option(event: SessionIdle, ctx: Context) -> None: ...


def test_marking_leaves_the_function_as_it_is_and_notes_what_was_said() -> None:
    mark = mark_of(by_old_name)
    assert mark is not None
    assert (mark.events, mark.retries, mark.timeout, mark.directory) == (
        ("permission.updated",),
        1,
        5,
        "/srv/*",
    )
    assert by_old_name.__name__ == "by_old_name"


def test_nothing_is_checked_before_loading() -> None:
    for function in (wrong_class, not_async, no_context, wrong_option):
        assert mark_of(function) is not None


def test_every_wire_name_has_an_overload_with_its_class() -> None:
    told: dict[str, str] = {}
    for overload in get_overloads(on):
        literal, marker = overload.__annotations__["event"], overload.__annotations__["return"]
        if literal.startswith("Literal["):
            names = literal.removeprefix("Literal[").removesuffix("]").replace("'", "").split(", ")
            told |= dict.fromkeys(names, marker.removeprefix("Marker[e.").removesuffix("]"))
    assert told == {name: cls.__name__ for name, cls in EVENTS_BY_NAME.items()}


def test_without_brackets_or_events_there_is_a_word_about_it() -> None:
    marker: Any = on
    with pytest.raises(HandlerError, match="what to react to"):
        marker(by_class)
    with pytest.raises(HandlerError, match="what to react to"):
        marker()


def test_only_functions_can_be_marked_and_only_once() -> None:
    marker: Any = on(SessionIdle)
    with pytest.raises(HandlerError, match="nothing else"):
        marker(object())
    with pytest.raises(HandlerError, match="once"):
        marker(by_class)

# ruff: noqa: ARG001 - a handler takes both, whatever it uses
from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from types import ModuleType
from typing import Any, Protocol

import pytest

from opencode_reactor.errors import HandlerError
from opencode_reactor.handling import Context, Handler, Registry, collect, handler_of, on
from opencode_reactor.model.events import (
    EVENT_CLASSES,
    Event,
    GlobalDisposed,
    MessagePartDelta,
    PermissionAsked,
    PermissionReplied,
    ServerHeartbeat,
    SessionCreated,
    SessionEvent,
    SessionIdle,
    UnknownEvent,
)
from opencode_reactor.model.sessions import PermissionRequest


def marked(*events: Any, **how: Any) -> Handler:
    """A handler of these events, with no annotations that could disagree."""

    async def handler(event: Any, ctx: Any) -> None: ...

    marker: Any = on
    return handler_of(marker(*events, **how)(handler))


def problem_of(*events: Any, **how: Any) -> HandlerError:
    with pytest.raises(HandlerError) as caught:
        marked(*events, **how)
    return caught.value


def refused(function: Callable[..., object], *events: Any) -> HandlerError:
    marker: Any = on
    with pytest.raises(HandlerError) as caught:
        handler_of(marker(*(events or (SessionIdle,)))(function))
    return caught.value


def asked(session: str = "ses_1", directory: str = "/srv/app") -> PermissionAsked:
    return PermissionAsked(
        directory=directory, session=session, request=PermissionRequest("per_1", session, "bash")
    )


IDLE = SessionIdle(session="ses_1", directory="/srv/app")
DELTA = MessagePartDelta(session="ses_1", message="msg_1", part="prt_1", field="text", delta="x")


def unknown(name: str) -> UnknownEvent:
    return UnknownEvent(name=name, session="ses_1", directory="/srv/app")


@pytest.mark.parametrize("event", [PermissionAsked, "permission.asked", "permission.updated", "permission.*"])
def test_class_and_every_name_of_an_event_select_the_same(event: Any) -> None:
    registry = Registry([marked(event)])
    assert [handler.name for handler in registry.matching(asked())] == ["handler"]
    assert registry.wants("permission.asked")
    assert registry.wants("permission.updated")
    assert not registry.wants("session.idle")
    assert registry.matching(IDLE) == []


def test_a_prefix_takes_the_family_and_what_this_version_does_not_know_of_it() -> None:
    registry = Registry([marked("permission.*")])
    replied = PermissionReplied(session="ses_1", request="per_1", reply="once")
    assert registry.matching(replied)
    assert registry.matching(unknown("permission.v2.asked"))
    assert registry.wants("permission.v2.asked")
    assert not registry.matching(unknown("question.v2.asked"))
    assert not registry.wants("permissions")


def test_a_family_this_version_does_not_know_can_be_had_by_its_prefix() -> None:
    registry = Registry([marked("pty.*")])
    assert registry.wants("pty.exited")
    assert registry.matching(unknown("pty.exited"))
    assert not registry.wants("plugin.added")


def test_unknown_events_take_whatever_has_no_class_of_its_own() -> None:
    registry = Registry([marked(UnknownEvent)])
    assert registry.wants("plugin.added")
    assert not registry.wants("session.idle")
    assert registry.matching(unknown("plugin.added"))
    assert registry.matching(unknown("session.idle")), "a known name whose content could not be read"
    assert registry.matching(IDLE) == []


def test_a_handler_of_a_class_never_gets_an_unreadable_event_of_that_name() -> None:
    assert Registry([marked(SessionIdle)]).matching(unknown("session.idle")) == []


def test_a_base_class_stands_for_all_below_it_but_not_for_what_comes_too_often() -> None:
    durable, live = marked(Event, name="durable"), marked(Event, live=True, name="live")
    registry = Registry([durable, live])
    assert registry.matching(IDLE) == [durable, live]
    assert registry.matching(unknown("plugin.added")) == [durable, live]
    assert registry.matching(DELTA) == [live]
    assert registry.matching(ServerHeartbeat()) == [live]
    assert registry.matching(unknown("session.next.text.delta")) == [live]
    assert all(registry.wants(cls.type) for cls in EVENT_CLASSES)
    assert not Registry([durable]).wants("message.part.delta")
    assert not Registry([durable]).wants("session.next.text.delta")


def test_events_of_sessions_are_those_that_have_one() -> None:
    registry = Registry([marked(SessionEvent)])
    assert registry.matching(IDLE)
    assert not registry.matching(GlobalDisposed())
    assert not registry.matching(unknown("plugin.added"))


@pytest.mark.parametrize(
    ("glob", "directory", "fits"),
    [
        ("/srv/app", "/srv/app", True),
        ("/srv/app/", "/srv/app", True),
        ("/srv/app", "/srv/app/", True),
        ("/srv/app", "/srv/app2", False),
        ("/srv/*", "/srv/a/b", True),
        ("/srv/*", "/srv", False),
        ("/SRV/app", "/srv/app", False),
        ("*", "", True),
        ("/srv/*", "", False),
    ],
)
def test_a_directory_glob_chooses_projects(glob: str, directory: str, fits: bool) -> None:
    registry = Registry([marked(SessionIdle, directory=glob)])
    assert bool(registry.matching(SessionIdle(session="ses_1", directory=directory))) is fits


def test_a_home_folder_in_a_glob_is_the_readers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert marked(SessionIdle, directory="~/work/*").directory == "/home/ada/work/*"


def test_a_filter_decides_and_one_that_raises_lets_the_call_find_out() -> None:
    def broken(event: SessionIdle) -> bool:
        raise LookupError(event.session)

    def of_session(event: SessionIdle, session: str) -> bool:
        return event.session == session

    yes = marked(SessionIdle, where=functools.partial(of_session, session="ses_1"), name="yes")
    no = marked(SessionIdle, where=functools.partial(of_session, session="ses_2"), name="no")
    bad = marked(SessionIdle, where=broken, name="bad")
    assert Registry([yes, no, bad]).matching(IDLE) == [yes, bad]


def test_two_handlers_of_one_name_are_refused_with_both_places() -> None:
    one, two = marked(SessionIdle), marked(SessionCreated)
    with pytest.raises(HandlerError) as caught:
        Registry([one, two])
    assert one.place in str(caught.value)
    assert two.place in str(caught.value)


def test_a_handler_carries_its_place_its_summary_and_the_words_it_selects_by() -> None:
    @on("session.idle", "permission.*", retries=1, timeout=2, live=True, name="other")
    async def handler(event: Event, ctx: Context) -> None:
        """Say what it does.

        And more.
        """

    found = handler_of(handler)
    assert (found.name, found.summary, found.retries, found.timeout) == ("other", "Say what it does.", 1, 2.0)
    assert found.place.startswith(f"{__file__}:")
    assert str(found.selector) == "session.idle, permission.*"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("session.idel", "did you mean 'session.idle'?"),
        ("permission.ask", "did you mean 'permission.asked'?"),
        ("Session.Idle", "session.idle"),
        ("message.part.update", "message.part.updated"),
        ("quantum.leap", '"quantum.*" or UnknownEvent'),
        ("", '".*"'),
        ("session.*.x", "session."),
    ],
)
def test_a_name_of_no_event_is_refused_with_the_nearest_right_one(name: str, remedy: str) -> None:
    problem = problem_of(name)
    assert f"no event is called {name!r}" in problem.message
    assert problem.place.startswith(f"{__file__}:")
    if name:
        assert remedy in problem.remedy


def test_a_misspelt_family_is_refused_with_the_right_one() -> None:
    assert problem_of("permissions.*").remedy == 'did you mean "permission.*"?'


def test_events_that_come_too_often_need_to_be_live() -> None:
    for event in (MessagePartDelta, "message.part.delta", "server.heartbeat"):
        assert "comes too often to be stored" in problem_of(event).message
        assert marked(event, live=True).live
    assert "live=True" in problem_of(SessionIdle, MessagePartDelta).remedy


def test_what_is_no_event_class_is_refused() -> None:
    assert problem_of(int).message == "int is no event class of opencode_reactor"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"retries": -1}, "retries is -1"),
        ({"retries": 1.5}, "retries is 1.5"),
        ({"retries": True}, "retries is True"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": None}, "timeout is None"),
        ({"timeout": math.inf}, "timeout is inf"),
        ({"timeout": math.nan}, "timeout is nan"),
        ({"timeout": "30"}, "timeout is '30'"),
        ({"live": 1}, "live is 1"),
        ({"name": ""}, "name is ''"),
        ({"name": 3}, "name is 3"),
        ({"directory": ""}, "directory is ''"),
        ({"directory": 3}, "directory is 3"),
        ({"where": "read"}, "where must be"),
    ],
)
def test_senseless_options_are_refused_by_name(how: dict[str, Any], words: str) -> None:
    assert words in problem_of(SessionIdle, **how).message


def test_an_async_filter_is_refused_because_it_would_always_be_true() -> None:
    async def where(event: SessionIdle) -> bool:
        return False

    assert "plain function" in problem_of(SessionIdle, where=where).message


def test_a_sync_function_is_refused_with_its_place() -> None:
    def sync(event: SessionIdle, ctx: Context) -> None: ...

    problem = refused(sync)
    assert problem.message == "'sync' is not async"
    assert problem.remedy == "write async def sync(event, ctx)"
    assert problem.place == f"{__file__}:{sync.__code__.co_firstlineno}"


def test_a_generator_is_refused() -> None:
    async def stream(event: SessionIdle, ctx: Context) -> AsyncIterator[int]:
        yield 1

    assert "yield" in refused(stream).message


async def _none() -> None: ...
async def _one(event: Any) -> None: ...
async def _three(event: Any, ctx: Any, more: Any = None) -> None: ...
async def _any(*args: Any) -> None: ...
async def _keyword(event: Any, *, ctx: Any) -> None: ...


@pytest.mark.parametrize("function", [_none, _one, _three, _any, _keyword])
def test_a_handler_takes_exactly_an_event_and_a_context(function: Callable[..., object]) -> None:
    assert "an event and a context" in refused(function).message


def test_a_function_that_expects_another_event_is_refused() -> None:
    async def wrong(event: PermissionAsked, ctx: Context) -> None: ...

    problem = refused(wrong, "session.idle")
    assert problem.message == (
        "'wrong' is marked for session.idle (SessionIdle), but its 'event' is a PermissionAsked"
    )


def test_a_function_that_expects_only_some_of_a_family_is_refused() -> None:
    async def wrong(event: PermissionAsked, ctx: Context) -> None: ...

    assert "permission.replied" in refused(wrong, "permission.*").message


class Quack(Protocol):
    session: str


async def _wider(event: Event, ctx: Context) -> None: ...
async def _union(event: SessionIdle | PermissionAsked, ctx: Context) -> None: ...
async def _unreadable(event: Any, ctx: Any) -> None: ...
async def _protocol(event: Quack, ctx: Context) -> None: ...
async def _optional(event: SessionIdle | None, ctx: Context) -> None: ...
async def _whatever(event: Any, ctx: Any) -> None: ...


_unreadable.__annotations__["event"] = "NoSuchName"


@pytest.mark.parametrize("function", [_wider, _union, _unreadable, _protocol, _optional, _whatever])
def test_annotations_that_take_the_event_in_or_say_nothing_are_fine(
    function: Callable[[Any, Any], Coroutine[Any, Any, None]],
) -> None:
    assert handler_of(on("session.idle")(function)).selector.names == {"session.idle"}


def test_an_unmarked_function_is_no_handler() -> None:
    with pytest.raises(HandlerError, match="not marked"):
        handler_of(_wider.__call__)


def _module(**things: object) -> ModuleType:
    module = ModuleType(__name__)
    vars(module).update(things)
    return module


def test_a_modules_handlers_are_collected_once_each_in_its_order_and_imported_ones_left_out() -> None:
    @on(SessionIdle)
    async def one(event: SessionIdle, ctx: Context) -> None: ...

    @on(SessionIdle)
    async def two(event: SessionIdle, ctx: Context) -> None: ...

    @on(SessionIdle)
    async def foreign(event: SessionIdle, ctx: Context) -> None: ...

    foreign.__module__ = "elsewhere"
    loaded = collect(_module(two=two, one=one, again=one, foreign=foreign, other=3))
    assert [handler.name for handler in loaded.handlers] == ["two", "one"]
    assert loaded.problems == ()


def test_a_bad_handler_does_not_keep_the_modules_others_from_being_collected() -> None:
    marker: Any = on(SessionIdle)

    async def good(event: SessionIdle, ctx: Context) -> None: ...
    def bad(event: SessionIdle, ctx: Context) -> None: ...

    loaded = collect(_module(good=marker(good), bad=marker(bad)))
    assert [handler.name for handler in loaded.handlers] == ["good"]
    assert [problem.message for problem in loaded.problems] == ["'bad' is not async"]


def test_a_decorator_beneath_the_mark_does_not_hide_the_place() -> None:
    def noisy(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, None]]:
        @functools.wraps(function)
        async def wrapped(event: Any, ctx: Any) -> None:
            await function(event, ctx)

        return wrapped

    async def inner(event: SessionIdle, ctx: Context) -> None: ...

    line = inner.__code__.co_firstlineno
    assert handler_of(on(SessionIdle)(noisy(inner))).place == f"{__file__}:{line}"

"""`on`: marks a function as a handler and does nothing else. What is wrong is said when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from inspect import unwrap
from types import FunctionType
from typing import Any, Generic, Literal, TypeAlias, TypedDict, TypeVar, Unpack, cast, overload

from ..errors import HandlerError
from ..model import events as e
from ..model.events import Event
from .context import Context

E = TypeVar("E", bound=Event)

HandlerFunction: TypeAlias = Callable[[E, Context], Coroutine[Any, Any, None]]
Marker: TypeAlias = Callable[[HandlerFunction[E]], HandlerFunction[E]]
Filter: TypeAlias = Callable[[E], bool]

MARK = "__reactor_mark__"


class How(TypedDict, Generic[E], total=False):
    """The keywords of `on`; see there."""

    where: Filter[E] | None
    directory: str | None
    retries: int
    timeout: float
    live: bool
    name: str | None


@dataclass(frozen=True, slots=True)
class Mark:
    """What `on` was told, unchecked. `hides` is the place of an earlier handler of that name in the file."""

    events: tuple[object, ...]
    where: Filter[Any] | None
    directory: str | None
    retries: int
    timeout: float
    live: bool
    name: str | None
    hides: str = ""


# One overload a wire name, so that an editor knows the class behind it; a test compares them with the model.
@overload
def on(event: type[E], /, *more: type[E], **how: Unpack[How[E]]) -> Marker[E]: ...
@overload
def on(
    event: Literal["session.created"], /, **how: Unpack[How[e.SessionCreated]]
) -> Marker[e.SessionCreated]: ...
@overload
def on(
    event: Literal["session.updated"], /, **how: Unpack[How[e.SessionUpdated]]
) -> Marker[e.SessionUpdated]: ...
@overload
def on(
    event: Literal["session.deleted"], /, **how: Unpack[How[e.SessionDeleted]]
) -> Marker[e.SessionDeleted]: ...
@overload
def on(
    event: Literal["session.status"], /, **how: Unpack[How[e.SessionStatus]]
) -> Marker[e.SessionStatus]: ...
@overload
def on(event: Literal["session.idle"], /, **how: Unpack[How[e.SessionIdle]]) -> Marker[e.SessionIdle]: ...
@overload
def on(event: Literal["session.error"], /, **how: Unpack[How[e.SessionError]]) -> Marker[e.SessionError]: ...
@overload
def on(
    event: Literal["session.compacted"], /, **how: Unpack[How[e.SessionCompacted]]
) -> Marker[e.SessionCompacted]: ...
@overload
def on(event: Literal["session.diff"], /, **how: Unpack[How[e.SessionDiff]]) -> Marker[e.SessionDiff]: ...
@overload
def on(
    event: Literal["message.updated"], /, **how: Unpack[How[e.MessageUpdated]]
) -> Marker[e.MessageUpdated]: ...
@overload
def on(
    event: Literal["message.removed"], /, **how: Unpack[How[e.MessageRemoved]]
) -> Marker[e.MessageRemoved]: ...
@overload
def on(
    event: Literal["message.part.updated"], /, **how: Unpack[How[e.MessagePartUpdated]]
) -> Marker[e.MessagePartUpdated]: ...
@overload
def on(
    event: Literal["message.part.delta"], /, **how: Unpack[How[e.MessagePartDelta]]
) -> Marker[e.MessagePartDelta]: ...
@overload
def on(
    event: Literal["message.part.removed"], /, **how: Unpack[How[e.MessagePartRemoved]]
) -> Marker[e.MessagePartRemoved]: ...
@overload
def on(
    event: Literal["permission.asked", "permission.updated"], /, **how: Unpack[How[e.PermissionAsked]]
) -> Marker[e.PermissionAsked]: ...
@overload
def on(
    event: Literal["permission.replied"], /, **how: Unpack[How[e.PermissionReplied]]
) -> Marker[e.PermissionReplied]: ...
@overload
def on(
    event: Literal["question.asked", "question.updated"], /, **how: Unpack[How[e.QuestionAsked]]
) -> Marker[e.QuestionAsked]: ...
@overload
def on(
    event: Literal["question.replied"], /, **how: Unpack[How[e.QuestionReplied]]
) -> Marker[e.QuestionReplied]: ...
@overload
def on(
    event: Literal["question.rejected"], /, **how: Unpack[How[e.QuestionRejected]]
) -> Marker[e.QuestionRejected]: ...
@overload
def on(event: Literal["todo.updated"], /, **how: Unpack[How[e.TodoUpdated]]) -> Marker[e.TodoUpdated]: ...
@overload
def on(event: Literal["file.edited"], /, **how: Unpack[How[e.FileEdited]]) -> Marker[e.FileEdited]: ...
@overload
def on(
    event: Literal["server.connected"], /, **how: Unpack[How[e.ServerConnected]]
) -> Marker[e.ServerConnected]: ...
@overload
def on(
    event: Literal["server.heartbeat"], /, **how: Unpack[How[e.ServerHeartbeat]]
) -> Marker[e.ServerHeartbeat]: ...
@overload
def on(
    event: Literal["server.instance.disposed"], /, **how: Unpack[How[e.ServerInstanceDisposed]]
) -> Marker[e.ServerInstanceDisposed]: ...
@overload
def on(
    event: Literal["global.disposed"], /, **how: Unpack[How[e.GlobalDisposed]]
) -> Marker[e.GlobalDisposed]: ...
@overload
def on(event: str, /, *more: str | type[Event], **how: Unpack[How[Any]]) -> Marker[Any]: ...
def on(
    *events: object,
    where: Filter[Any] | None = None,
    directory: str | None = None,
    retries: int = 3,
    timeout: float = 30.0,
    live: bool = False,
    name: str | None = None,
) -> Marker[Any]:
    """Mark an async function as a handler of `events`: classes, wire names, or prefixes as `"permission.*"`.

    `where` is asked before anything is stored, and again before the call: it should be quick and depend on
    nothing but the event. `directory` is a glob over the event's project directory (`*` also matches `/`).
    `retries` counts the tries after the first, `timeout` is seconds per try. `live=True`: in memory, at most
    once, the oldest dropped when too many wait; the only way to have deltas and heartbeats, which classes and
    prefixes that stand for many events otherwise leave out. `name` is what deliveries are stored under (the
    function's own name if left out): rename it and the old name's deliveries wait for ever.

    Raises HandlerError where there is nothing to mark; everything else is checked when the handler is loaded.
    """
    if not events or not all(isinstance(event, str | type) for event in events):
        raise HandlerError(
            "on() was not told what to react to", remedy="write @on(SessionIdle), with brackets"
        )

    def mark(function: HandlerFunction[Any]) -> HandlerFunction[Any]:
        if not isinstance(function, FunctionType):
            raise HandlerError("on() marks async functions, nothing else")
        if hasattr(function, MARK):
            raise HandlerError("on() marks a function once", remedy="name all its events in one @on(…)")
        hides = _hidden_by(function)
        setattr(function, MARK, Mark(events, where, directory, retries, timeout, live, name, hides))
        return function

    return mark


def _hidden_by(function: FunctionType) -> str:
    """The place of a handler that bears the same name in the same module and is about to be overwritten."""
    earlier = function.__globals__.get(function.__name__)
    if function.__qualname__ != function.__name__ or mark_of(earlier) is None:
        return ""
    return place_of(cast("FunctionType", earlier))


def mark_of(thing: object) -> Mark | None:
    """What `on` left on `thing`, if anything."""
    mark = getattr(thing, MARK, None)
    return mark if isinstance(mark, Mark) else None


def place_of(function: FunctionType) -> str:
    """`file:line` of a function, its decorators included."""
    # A decorator between `on` and the function brings code of its own, from another file.
    code = cast("FunctionType", unwrap(function)).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"

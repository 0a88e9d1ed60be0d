"""Events from the wire.

Nothing here raises because of what a server sent: what cannot be read is an `UnknownEvent`. Older and newer
names of one event are folded into one class. Shapes: opencode-server 2.8 and 2.9.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, cast

from pydantic import Field, ValidationError

from ..model.events import (
    EVENTS_BY_NAME,
    Event,
    FileEdited,
    GlobalDisposed,
    MessagePartDelta,
    MessagePartRemoved,
    MessagePartUpdated,
    MessageRemoved,
    MessageUpdated,
    PermissionAsked,
    PermissionReplied,
    QuestionAsked,
    QuestionRejected,
    QuestionReplied,
    ServerConnected,
    ServerHeartbeat,
    ServerInstanceDisposed,
    SessionCompacted,
    SessionCreated,
    SessionDeleted,
    SessionDiff,
    SessionError,
    SessionIdle,
    SessionInfoEvent,
    SessionStatus,
    SessionUpdated,
    TodoUpdated,
    UnknownEvent,
)
from ..model.sessions import PermissionRequest, Request
from .messages import MaybeError, head_from_wire, part_from_wire
from .shapes import (
    Id,
    MaybeText,
    OldPermissionShape,
    PermissionShape,
    QuestionRequestShape,
    SessionShape,
    Shape,
    StatusShape,
    Text,
    TodoShape,
)

Properties = dict[str, Any]


class Common(TypedDict):
    """What every event has."""

    id: str
    server: str
    directory: str
    received: int
    recovered: bool


def event_from_wire(
    frame: Mapping[str, Any],
    *,
    server: str,
    directory: str = "",
    received: int = 0,
    connection: str = "",
    recovered: bool = False,
) -> Event:
    """The event of one decoded frame: bare, or in `/global/event`'s envelope.

    `directory` is taken where the frame does not name one. `connection` becomes the event's id where the
    frame has none (before 1.14): it must be new for every frame. Asks get an id derived from the ask in
    every version. Never raises.
    """
    payload = frame.get("payload", frame)
    if not isinstance(payload, dict):
        payload = {}
    payload = cast("Properties", payload)
    properties = _properties(payload)
    name = payload.get("type")
    common = Common(
        id=_text(payload.get("id")) or connection,
        server=server,
        directory=_text(frame.get("directory")) or directory or _text(properties.get("directory")),
        received=received,
        recovered=recovered,
    )
    fold = _FOLDS.get(name) if isinstance(name, str) else None
    if fold is not None:
        try:
            return fold(properties, common)
        except ValidationError:
            pass
    return UnknownEvent(name=_text(name), session=_session_in(properties), properties=properties, **common)


def event_from_payload(
    text: str, *, server: str, directory: str = "", received: int = 0, recovered: bool = False
) -> Event:
    """The event that `payload.payload_of` wrote down. Raises ValueError where the text is no JSON object."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("a payload is a JSON object")  # noqa: TRY004 - broken text, not a wrong call
    return event_from_wire(
        cast("Properties", value), server=server, directory=directory, received=received, recovered=recovered
    )


def ask_event(request: Request, *, server: str, directory: str, received: int) -> Event:
    """The event of an ask that was found in a list: the same id as if it had been heard."""
    if isinstance(request, PermissionRequest):
        return PermissionAsked(
            id=natural_id(PermissionAsked, request.id),
            server=server,
            directory=directory,
            received=received,
            recovered=True,
            session=request.session,
            request=request,
        )
    return QuestionAsked(
        id=natural_id(QuestionAsked, request.id),
        server=server,
        directory=directory,
        received=received,
        recovered=True,
        session=request.session,
        request=request,
    )


def natural_id(kind: type[Event], request: str) -> str:
    """The id of an ask's event, the same in every version and on every way to it."""
    return f"{kind.type}:{request}"


def canonical_name(name: str) -> str:
    """The one name of an event that has had several."""
    known = EVENTS_BY_NAME.get(name)
    return known.type if known is not None else name


def _properties(payload: Properties) -> Properties:
    value = payload.get("properties")
    return cast("Properties", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _session_in(properties: Properties) -> str | None:
    """The session an event is about, wherever its version has it."""
    for holder in (properties, properties.get("info"), properties.get("part")):
        if isinstance(holder, dict):
            found = cast("Properties", holder).get("sessionID")
            if isinstance(found, str) and found:
                return found
    return None


class _Of(Shape):
    """Properties of an event of one session."""

    session: Id = Field(alias="sessionID")


class _OfSession(Shape):
    info: SessionShape


class _Status(_Of):
    status: StatusShape


class _Error(Shape):
    session: MaybeText = Field(alias="sessionID")
    error: MaybeError


class _OfMessage(_Of):
    message: Id = Field(alias="messageID")


class _OfPart(_OfMessage):
    part: Id = Field(alias="partID")


class _Delta(_OfPart):
    field: Text
    delta: str


class _PartUpdated(Shape):
    part: dict[str, Any]
    delta: MaybeText


class _Replied(_Of):
    request: Id = Field(alias="requestID")
    reply: str


class _OldReplied(_Of):
    request: Id = Field(alias="permissionID")
    reply: str = Field(alias="response")


class _Answered(_Of):
    request: Id = Field(alias="requestID")
    answers: tuple[tuple[str, ...], ...]


class _Rejected(_Of):
    request: Id = Field(alias="requestID")


class _Todos(_Of):
    todos: tuple[TodoShape, ...]


class _File(Shape):
    file: str


Fold = Callable[[Properties, Common], Event]


def _info(kind: type[SessionInfoEvent]) -> Fold:
    def fold(properties: Properties, common: Common) -> Event:
        info = _OfSession.model_validate(properties).info.noun()
        return kind(session=info.id, info=info, **common)

    return fold


def _bare(kind: type[SessionIdle | SessionCompacted | SessionDiff]) -> Fold:
    return lambda properties, common: kind(session=_Of.model_validate(properties).session, **common)


def _status(properties: Properties, common: Common) -> Event:
    shape = _Status.model_validate(properties)
    return SessionStatus(session=shape.session, status=shape.status.noun(), **common)


def _error(properties: Properties, common: Common) -> Event:
    shape = _Error.model_validate(properties)
    error = shape.error.noun() if shape.error else None
    return SessionError(session=shape.session or None, error=error, **common)


def _message_updated(properties: Properties, common: Common) -> Event:
    message = head_from_wire(properties.get("info"))
    return MessageUpdated(session=message.session, message=message, **common)


def _message_removed(properties: Properties, common: Common) -> Event:
    shape = _OfMessage.model_validate(properties)
    return MessageRemoved(session=shape.session, message=shape.message, **common)


def _part_updated(properties: Properties, common: Common) -> Event:
    shape = _PartUpdated.model_validate(properties)
    part = part_from_wire(shape.part)
    return MessagePartUpdated(session=part.session, part=part, delta=shape.delta, **common)


def _part_delta(properties: Properties, common: Common) -> Event:
    shape = _Delta.model_validate(properties)
    return MessagePartDelta(
        session=shape.session,
        message=shape.message,
        part=shape.part,
        field=shape.field,
        delta=shape.delta,
        **common,
    )


def _part_removed(properties: Properties, common: Common) -> Event:
    shape = _OfPart.model_validate(properties)
    return MessagePartRemoved(session=shape.session, message=shape.message, part=shape.part, **common)


def _permission_asked(properties: Properties, common: Common) -> Event:
    # Told apart by the shape and not by the name: the older one has a type where the newer has a permission.
    shape = PermissionShape if "permission" in properties else OldPermissionShape
    request = shape.model_validate(properties).noun()
    common["id"] = natural_id(PermissionAsked, request.id)
    return PermissionAsked(session=request.session, request=request, **common)


def _permission_replied(properties: Properties, common: Common) -> Event:
    shape = (_Replied if "requestID" in properties else _OldReplied).model_validate(properties)
    common["id"] = natural_id(PermissionReplied, shape.request)
    return PermissionReplied(session=shape.session, request=shape.request, reply=shape.reply, **common)


def _question_asked(properties: Properties, common: Common) -> Event:
    request = QuestionRequestShape.model_validate(properties).noun()
    common["id"] = natural_id(QuestionAsked, request.id)
    return QuestionAsked(session=request.session, request=request, **common)


def _question_replied(properties: Properties, common: Common) -> Event:
    shape = _Answered.model_validate(properties)
    common["id"] = natural_id(QuestionReplied, shape.request)
    return QuestionReplied(session=shape.session, request=shape.request, answers=shape.answers, **common)


def _question_rejected(properties: Properties, common: Common) -> Event:
    shape = _Rejected.model_validate(properties)
    common["id"] = natural_id(QuestionRejected, shape.request)
    return QuestionRejected(session=shape.session, request=shape.request, **common)


def _todo_updated(properties: Properties, common: Common) -> Event:
    shape = _Todos.model_validate(properties)
    return TodoUpdated(session=shape.session, todos=tuple(t.noun() for t in shape.todos), **common)


def _file_edited(properties: Properties, common: Common) -> Event:
    return FileEdited(file=_File.model_validate(properties).file, **common)


_BY_CLASS: Mapping[type[Event], Fold] = {
    SessionCreated: _info(SessionCreated),
    SessionUpdated: _info(SessionUpdated),
    SessionDeleted: _info(SessionDeleted),
    SessionStatus: _status,
    SessionIdle: _bare(SessionIdle),
    SessionError: _error,
    SessionCompacted: _bare(SessionCompacted),
    SessionDiff: _bare(SessionDiff),
    MessageUpdated: _message_updated,
    MessageRemoved: _message_removed,
    MessagePartUpdated: _part_updated,
    MessagePartDelta: _part_delta,
    MessagePartRemoved: _part_removed,
    PermissionAsked: _permission_asked,
    PermissionReplied: _permission_replied,
    QuestionAsked: _question_asked,
    QuestionReplied: _question_replied,
    QuestionRejected: _question_rejected,
    TodoUpdated: _todo_updated,
    FileEdited: _file_edited,
    ServerConnected: lambda _, common: ServerConnected(**common),
    ServerHeartbeat: lambda _, common: ServerHeartbeat(**common),
    ServerInstanceDisposed: lambda _, common: ServerInstanceDisposed(**common),
    GlobalDisposed: lambda _, common: GlobalDisposed(**common),
}
_FOLDS: Mapping[str, Fold] = {name: _BY_CLASS[kind] for name, kind in EVENTS_BY_NAME.items()}

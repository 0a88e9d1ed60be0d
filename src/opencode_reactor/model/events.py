"""Events of OpenCode's streams, typed. A type nobody knows is an `UnknownEvent`, never an error.

Facts, by version: `docs/opencode.md`. The older names `permission.updated` and `question.updated` are the
same events as `permission.asked` and `question.asked`. An event is a hint to look, not the truth: between
its sending and its reading everything may have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from .sessions import (
    Json,
    Message,
    MessageError,
    Part,
    PermissionRequest,
    Question,
    QuestionRequest,
    Session,
    Status,
    Todo,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event, once. Every class names its wire type in `type`.

    `id` is unique per server: the server's own where it has one (1.14 and later), else made when it was
    read; an ask's event bears an id derived from the ask in every version, so that finding it in a list after
    a gap is the same event. `server` is the server's URL; `directory` the project directory ("" for the
    server's own events); `received` epoch ms. `recovered` says that it was not heard but found afterwards.
    """

    type: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other wire names of the same event, older or newer."""
    ephemeral: ClassVar[bool] = False
    """Too frequent to store: only `live=True` handlers may have it."""

    id: str = ""
    server: str = ""
    directory: str = ""
    received: int = 0
    recovered: bool = False

    @property
    def session_id(self) -> str | None:
        """The session this is about; None for the server's own events."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent(Event):
    """An event of one session."""

    session: str

    @property
    def session_id(self) -> str | None:
        """The session this is about."""
        return self.session


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfoEvent(SessionEvent):
    """An event that brings the session itself."""

    info: Session


class SessionCreated(SessionInfoEvent):
    """A session was made. A subagent's has `info.parent`."""

    __slots__ = ()
    type = "session.created"


class SessionUpdated(SessionInfoEvent):
    """A session's title, model, cost or the like changed."""

    __slots__ = ()
    type = "session.updated"


class SessionDeleted(SessionInfoEvent):
    """A session was deleted."""

    __slots__ = ()
    type = "session.deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatus(SessionEvent):
    """A session became busy, idle, or waits to retry its provider. Comes several times per step."""

    type: ClassVar[str] = "session.status"
    status: Status


class SessionIdle(SessionEvent):
    """A session fell idle. After an error or abort it precedes the message's completion, and comes again."""

    __slots__ = ()
    type = "session.idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionError(Event):
    """A turn met an error. Not terminal: it may precede a compaction, come twice, or lack its session."""

    type: ClassVar[str] = "session.error"
    session: str | None = None
    error: MessageError | None = None

    @property
    def session_id(self) -> str | None:
        """The session this is about, where the server said."""
        return self.session


class SessionCompacted(SessionEvent):
    """The server replaced the history by a summary."""

    __slots__ = ()
    type = "session.compacted"


class SessionDiff(SessionEvent):
    """The files a session changed."""

    __slots__ = ()
    type = "session.diff"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageUpdated(SessionEvent):
    """A message was made or changed; its parts come in events of their own."""

    type: ClassVar[str] = "message.updated"
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRemoved(SessionEvent):
    """A message was removed."""

    type: ClassVar[str] = "message.removed"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePartUpdated(SessionEvent):
    """A part was made or changed. Before 1.2 text streams through these, with `delta` what was added."""

    type: ClassVar[str] = "message.part.updated"
    part: Part
    delta: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePartDelta(SessionEvent):
    """Text was added to a part (1.2 and later)."""

    type: ClassVar[str] = "message.part.delta"
    ephemeral: ClassVar[bool] = True
    message: str
    part: str
    field: str
    delta: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePartRemoved(SessionEvent):
    """A part was removed."""

    type: ClassVar[str] = "message.part.removed"
    message: str
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionAsked(SessionEvent):
    """A tool asks for permission. Children ask under their own session."""

    type: ClassVar[str] = "permission.asked"
    aliases: ClassVar[tuple[str, ...]] = ("permission.updated",)
    request: PermissionRequest

    @property
    def permission(self) -> str:
        """What is asked for: `bash`, `edit`, `read`, `external_directory`, …"""
        return self.request.permission

    @property
    def patterns(self) -> tuple[str, ...]:
        """The commands, paths or URLs it is asked for."""
        return self.request.patterns

    @property
    def metadata(self) -> Mapping[str, Json]:
        """The tool's own details."""
        return self.request.metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionReplied(SessionEvent):
    """Somebody answered a permission: `once`, `always` or `reject`."""

    type: ClassVar[str] = "permission.replied"
    request: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionAsked(SessionEvent):
    """The model asks a person."""

    type: ClassVar[str] = "question.asked"
    aliases: ClassVar[tuple[str, ...]] = ("question.updated",)
    request: QuestionRequest

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is asked; one answer for each."""
        return self.request.questions


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionReplied(SessionEvent):
    """Somebody answered a question: the chosen labels, per question."""

    type: ClassVar[str] = "question.replied"
    request: str
    answers: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRejected(SessionEvent):
    """Somebody dismissed a question."""

    type: ClassVar[str] = "question.rejected"
    request: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TodoUpdated(SessionEvent):
    """The model's own list changed."""

    type: ClassVar[str] = "todo.updated"
    todos: tuple[Todo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEdited(Event):
    """A tool wrote a file."""

    type: ClassVar[str] = "file.edited"
    file: str


class ServerConnected(Event):
    """First frame of a connection."""

    __slots__ = ()
    type = "server.connected"
    ephemeral = True


class ServerHeartbeat(Event):
    """The connection lives: every 10 s, every 30 s before 1.2.27. Not in the server's own API document."""

    __slots__ = ()
    type = "server.heartbeat"
    ephemeral = True


class ServerInstanceDisposed(Event):
    """A directory's instance was shut down: its turns are aborted, its asks forgotten."""

    __slots__ = ()
    type = "server.instance.disposed"


class GlobalDisposed(Event):
    """Every instance was shut down."""

    __slots__ = ()
    type = "global.disposed"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent(Event):
    """An event this version does not know, or one that lacks what its type promises. Kept whole."""

    name: str
    """The wire type."""
    session: str | None = None
    properties: Mapping[str, Json] = field(default_factory=dict[str, Json])

    @property
    def session_id(self) -> str | None:
        """The session named in its properties, where there is one."""
        return self.session


EVENT_CLASSES: tuple[type[Event], ...] = (
    SessionCreated,
    SessionUpdated,
    SessionDeleted,
    SessionStatus,
    SessionIdle,
    SessionError,
    SessionCompacted,
    SessionDiff,
    MessageUpdated,
    MessageRemoved,
    MessagePartUpdated,
    MessagePartDelta,
    MessagePartRemoved,
    PermissionAsked,
    PermissionReplied,
    QuestionAsked,
    QuestionReplied,
    QuestionRejected,
    TodoUpdated,
    FileEdited,
    ServerConnected,
    ServerHeartbeat,
    ServerInstanceDisposed,
    GlobalDisposed,
)

EVENTS_BY_NAME: Mapping[str, type[Event]] = {
    name: cls for cls in EVENT_CLASSES for name in (cls.type, *cls.aliases)
}
"""Every wire name, older ones too, to its class."""


def event_name(event: Event) -> str:
    """The wire name of an event, an unknown one's included."""
    return event.name if isinstance(event, UnknownEvent) else event.type

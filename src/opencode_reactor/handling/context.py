"""What a handler is called with, and the acting side it leans on, which is implemented further up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

import structlog
from structlog.typing import FilteringBoundLogger

from ..model.asks import Ask, Reply
from ..model.deliveries import Delivery
from ..model.events import Event, PermissionAsked, QuestionAsked
from ..model.sessions import Json, Question
from ..opencode import Client
from .outcome import Reject

Labels: TypeAlias = str | Sequence[str]
"""The answer to one question: a label, or several where the question allows it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who acts, and on what occasion. `session` is "" for the server's own events.

    (`handler`, `server`, `event`) names the occasion for good: a delivery that is tried again has the same,
    so what must not happen twice (a run, a prompt) can take its identity from it. `delivery` is None for a
    live handler.
    """

    server: str
    directory: str
    session: str
    handler: str
    event: str
    delivery: int | None = None
    attempt: int = 1

    @property
    def by(self) -> str:
        """As it stands in `Ask.answered_by`."""
        return f"handler: {self.handler}"


class Actions(Protocol):
    """What handlers can do. Every call may come again with the same origin: at least once is not once.

    Raises ReactorError: the call failed, the handler with it, and its delivery is tried again.
    """

    async def reply(self, origin: Origin, ask: PermissionAsked | Ask, reply: Reply, message: str, /) -> None:
        """Answer a permission (or an approval). One that somebody answered before is no error."""
        ...

    async def answer(
        self, origin: Origin, ask: QuestionAsked | Ask, answers: tuple[tuple[str, ...], ...], /
    ) -> None:
        """Answer a question, with the labels per question. One that somebody answered before is no error."""
        ...

    async def prompt(self, origin: Origin, session: str, text: str, /) -> None:
        """Send text to a session; once per origin and text."""
        ...

    async def abort(self, origin: Origin, session: str, /) -> None:
        """Stop the session's turn."""
        ...

    async def start(self, origin: Origin, pipeline: str, inputs: Mapping[str, Json], /) -> str:
        """Queue a run of a pipeline, once per origin and pipeline; returns the run's id."""
        ...

    async def notify(self, origin: Origin, text: str, /) -> None:
        """Tell a person."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """A handler's view of the world for one event. `log` already bears server, session, handler, delivery."""

    client: Client
    log: FilteringBoundLogger
    actions: Actions
    origin: Origin

    @property
    def server(self) -> str:
        """The server's URL."""
        return self.origin.server

    @property
    def directory(self) -> str:
        """The project directory the event came from; "" for the server's own events."""
        return self.origin.directory

    @property
    def session(self) -> str:
        """The event's session; "" where it has none."""
        return self.origin.session

    @property
    def attempt(self) -> int:
        """1 on the first try."""
        return self.origin.attempt

    async def reply(self, event: PermissionAsked | Ask, reply: str, message: str = "") -> None:
        """Answer a permission: `once`, `always` or `reject`; `message` tells the model why.

        Raises Reject where `reply` is none of the three.
        """
        try:
            wanted = Reply(reply)
        except ValueError as error:
            raise Reject(f"{reply!r} is no reply: once, always or reject") from error
        await self.actions.reply(self.origin, event, wanted, message)

    async def answer(self, event: QuestionAsked | Ask, *labels: Labels) -> None:
        """Answer a question with its labels; several questions with one label (or list of them) each.

        Raises Reject where the labels do not fit the questions.
        """
        await self.actions.answer(self.origin, event, answers_for(event.questions, labels))

    async def prompt(self, text: str, session: str | None = None) -> None:
        """Send `text` to the event's session, or to another one."""
        await self.actions.prompt(self.origin, self._session(session), text)

    async def abort(self, session: str | None = None) -> None:
        """Stop what the event's session does, or another one."""
        await self.actions.abort(self.origin, self._session(session))

    async def start(self, pipeline: str, inputs: Mapping[str, Json] | None = None) -> str:
        """Queue a run of a pipeline (its file or name); returns the run's id."""
        return await self.actions.start(self.origin, pipeline, inputs or {})

    async def notify(self, text: str) -> None:
        """Tell a person, by whatever the configuration says."""
        await self.actions.notify(self.origin, text)

    def _session(self, session: str | None) -> str:
        chosen = session or self.origin.session
        if not chosen:
            raise Reject("this event has no session: name one")
        return chosen


def make_context(
    event: Event, handler: str, delivery: Delivery | None, client: Client, actions: Actions
) -> Context:
    """The context of one call; `delivery` is None for a live handler."""
    origin = Origin(
        server=event.server,
        directory=event.directory,
        session=event.session_id or "",
        handler=handler,
        event=event.id,
        delivery=delivery.id if delivery else None,
        attempt=delivery.tries + 1 if delivery else 1,
    )
    log = cast("FilteringBoundLogger", structlog.get_logger("opencode_reactor.handlers"))
    bound = log.bind(server=origin.server, session=origin.session, handler=handler, delivery=origin.delivery)
    return Context(client, bound, actions, origin)


def answers_for(questions: Sequence[Question], labels: Sequence[Labels]) -> tuple[tuple[str, ...], ...]:
    """The labels as the server wants them: a list per question. Raises Reject where they do not fit."""
    if len(questions) == 1:
        # One question takes everything that was said, so that a multiple choice reads as it is spoken.
        labels = [[label for one in labels for label in _several(one)]]
    if len(labels) != len(questions):
        raise Reject(f"{len(questions)} questions need as many answers, there are {len(labels)}")
    return tuple(_checked(question, _several(one)) for question, one in zip(questions, labels, strict=True))


def _several(labels: Labels) -> tuple[str, ...]:
    return (labels,) if isinstance(labels, str) else tuple(labels)


def _checked(question: Question, labels: tuple[str, ...]) -> tuple[str, ...]:
    if not labels:
        raise Reject(f"no answer to {question.question!r}")
    if len(labels) > 1 and not question.multiple:
        raise Reject(f"{question.question!r} takes one answer, there are {len(labels)}")
    offered = {option.label for option in question.options}
    if not question.custom and (odd := [label for label in labels if label not in offered]):
        raise Reject(f"{question.question!r} does not offer {', '.join(map(repr, odd))}")
    return labels

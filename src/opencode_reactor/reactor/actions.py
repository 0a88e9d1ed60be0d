"""What handlers can do, done through the same store and engine as everything else."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256

import structlog

from ..errors import Conflict
from ..handling import Origin
from ..model.asks import Ask, AskState, Reply
from ..model.events import PermissionAsked, QuestionAsked
from ..model.sessions import Json
from ..opencode import Client, Prompt
from ..pipeline.ids import follow_up_ids
from ..store import Store
from .asks import AskKeeper
from .engine import Engine
from .lease import LeaseKeeper

log = structlog.get_logger()

Starter = Callable[[Origin, str, Mapping[str, Json]], Awaitable[str]]
"""Queues a run of a pipeline for an origin, once, and returns its id."""


class EngineActions:
    """The acting side of `Context` on one server."""

    def __init__(
        self,
        client: Client,
        store: Store,
        lease: LeaseKeeper,
        asks: AskKeeper,
        engine: Engine,
        starter: Starter,
    ) -> None:
        self._client = client
        self._store = store
        self._lease = lease
        self._asks = asks
        self._engine = engine
        self._starter = starter

    async def reply(self, origin: Origin, ask: PermissionAsked | Ask, reply: Reply, message: str) -> None:
        """Answer a permission or approval; policy goes first, and an answer that came earlier stands."""
        await self._answer(origin, ask, reply, (), message)

    async def answer(
        self, origin: Origin, ask: QuestionAsked | Ask, answers: tuple[tuple[str, ...], ...]
    ) -> None:
        """Answer a question with the labels per question."""
        await self._answer(origin, ask, None, answers, "")

    async def _answer(
        self,
        origin: Origin,
        asked: PermissionAsked | QuestionAsked | Ask,
        reply: Reply | None,
        answers: tuple[tuple[str, ...], ...],
        message: str,
    ) -> None:
        ask = asked
        if not isinstance(ask, Ask):
            ask = await self._asks.admit(ask.request, origin.directory, self._engine.owner_of)
        if ask.state is AskState.OPEN:
            try:
                await self._store.answer_ask(ask, reply=reply, answers=answers, message=message, by=origin.by)
            except Conflict as error:
                log.info("answered before", ask=ask.id, reason=str(error))
        self._engine.look_at_asks(origin.directory)

    async def prompt(self, origin: Origin, session: str, text: str) -> None:
        """Send text to a session, once per origin and text: the ids derive from both, and we look first."""
        messages = await self._client.messages(origin.directory, session)
        seed = f"{origin.handler}|{origin.event}|{session}|{sha256(text.encode()).hexdigest()}"
        message, part = follow_up_ids(self._store.store_id, seed, 0, messages)
        if any(m.id.endswith(message[-14:]) for m in messages):
            return  # sent before: the tail is the digest, whatever the time in front of it
        self._lease.check(self._client.timeout)
        prompt = Prompt(text=text, message=message, part=part)
        await self._client.prompt_async(origin.directory, session, prompt)

    async def abort(self, origin: Origin, session: str) -> None:
        """Stop the session's turn."""
        self._lease.check(self._client.timeout)
        await self._client.abort(origin.directory, session)

    async def start(self, origin: Origin, pipeline: str, inputs: Mapping[str, Json]) -> str:
        """Queue a run of a pipeline, once per origin and pipeline."""
        return await self._starter(origin, pipeline, inputs)

    async def notify(self, origin: Origin, text: str) -> None:
        """Tell a person: for now by the log, at the level that stands out."""
        log.warning("notice", handler=origin.handler, session=origin.session, text=text)


def person() -> str:
    """Who answers at this terminal, as it stands in `Ask.answered_by` and `Command.by`."""
    try:
        return f"person: {getpass.getuser()}"
    except (KeyError, OSError):
        return "person"

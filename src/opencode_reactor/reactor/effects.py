"""Carrying effects out on a server. Each may be repeated without harm; none is believed on its answer."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ..errors import NotFound, Refused
from ..model.runs import Attempt, Run
from ..opencode import Client, Prompt
from ..pipeline.facts import (
    Abort,
    CallRefused,
    CreateSession,
    PromptTaken,
    Result,
    SendPrompt,
    SessionMade,
)
from ..pipeline.plan import Questions, StagePlan
from .lease import LeaseKeeper

FOR_GOOD = frozenset({400, 404, 409, 413, 415, 422})
"""Statuses after which the same call would be refused again."""

PATIENCE = 8
"""Refusals of one attempt's calls (a server that answers 500) after which it is given up: about a minute."""

log = structlog.get_logger()


class Hands:
    """Does what a decision asks for, on one server, while the lease lasts."""

    def __init__(self, client: Client, lease: LeaseKeeper, now: Callable[[], int]) -> None:
        self._client = client
        self._lease = lease
        self._now = now
        self._untouched: set[str] = set()
        self._refusals: dict[str, int] = {}

    def planned_here(self, attempt: Attempt) -> None:
        """This process planned the attempt just now: nobody can have made its session yet."""
        self._untouched.add(attempt.id)

    async def create(self, run: Run, effect: CreateSession) -> Result:
        """Find or create the attempt's session.

        Session ids cannot be chosen (1.1.65 to 1.18.33), so after any doubt the title, which names run, stage
        and attempt, is looked for first. The one case without doubt: planned by this process, never tried.
        """
        if effect.attempt not in self._untouched:
            for session in await self._client.sessions(run.directory, search=effect.title):
                if session.title == effect.title:
                    return SessionMade(session.id, fresh=False)
        self._lease.check(self._client.timeout)
        self._untouched.discard(effect.attempt)
        try:
            session = await self._client.create_session(
                run.directory, title=effect.title, permissions=effect.permissions, metadata=effect.metadata
            )
        except Refused as error:
            return self._refused(effect.attempt, error)
        return SessionMade(session.id, fresh=True)

    async def send(self, run: Run, stage: StagePlan, attempt: Attempt, effect: SendPrompt) -> Result:
        """Send the prompt with its own ids: the same two ids again are harmless while the server lives."""
        prompt = Prompt(
            text=effect.turn.prompt,
            message=effect.turn.message,
            part=effect.turn.part,
            model=attempt.model,
            agent=stage.agent,
            variant=stage.variant,
            tools=self._tools(stage),
        )
        self._lease.check(self._client.timeout)
        try:
            await self._client.prompt_async(run.directory, effect.session, prompt)
        except Refused as error:
            return self._refused(effect.attempt, error)
        return PromptTaken(self._now())

    def _tools(self, stage: StagePlan) -> dict[str, bool]:
        """Take the question tool away where a session rule cannot (before 1.3.2).

        Only from sessions without rules: a prompt's `tools` replace them (measured, both versions). There a
        question is asked, and refused by policy.
        """
        unruled = not self._client.dialect.question_rule and not stage.permissions
        return {"question": False} if unruled and stage.questions is Questions.REJECT else {}

    def _refused(self, attempt: str, error: Refused) -> CallRefused:
        """A refusal for good, or one too many, is a result; anything else leaves doubt for the next look."""
        times = self._refusals[attempt] = self._refusals.get(attempt, 0) + 1
        if error.status in FOR_GOOD or times >= PATIENCE:
            del self._refusals[attempt]
            return CallRefused(str(error))
        raise error

    async def abort(self, run: Run, effect: Abort) -> None:
        """Ask the server to stop the turn; whether it did is seen by looking."""
        self._lease.check(self._client.timeout)
        try:
            await self._client.abort(run.directory, effect.session)
        except NotFound:
            log.debug("nothing to abort", session=effect.session)

"""Looking: what the server and the store say now, gathered side by side for one decision about a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random

import structlog

from ..clock import Clock
from ..errors import BadAnswer, NotFound, Refused
from ..model.asks import Ask, AskKind, AskState
from ..model.runs import Attempt, AttemptState, Command, Run
from ..model.sessions import Catalog, Idle, Message, Status
from ..opencode import Client
from ..pipeline.facts import ChecksRan, Facts, Result, Seen, SessionMade
from ..store import Store
from .together import Call, together

CATALOG_AGE = 30_000
"""ms a server's list of agents and models is believed; it is read again beforehand, at no stage's expense."""
LOOKED_AT = frozenset(
    {
        AttemptState.CREATED,
        AttemptState.SENT,
        AttemptState.RUNNING,
        AttemptState.CHECKING,
        AttemptState.ABORTING,
    }
)
"""States whose next step depends on what stands in the session."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Found:
    """What one look collects; its parts are read side by side."""

    statuses: Mapping[str, Status] = field(default_factory=dict[str, Status])
    messages: dict[str, tuple[Message, ...] | None] = field(
        default_factory=dict[str, "tuple[Message, ...] | None"]
    )
    asks: list[Ask] = field(default_factory=list[Ask])
    commands: list[Command] = field(default_factory=list[Command])
    catalog: Catalog | None = None


class Lookout:
    """Reads what a decision is made from. Keeps nothing but each directory's catalog, for a while."""

    def __init__(self, client: Client, store: Store, clock: Clock, random: Random) -> None:
        self._client = client
        self._store = store
        self._clock = clock
        self._random = random
        self._catalogs: dict[str, tuple[int, Catalog]] = {}

    def forget_catalogs(self) -> None:
        """An instance went down: it may come back with other agents and models."""
        self._catalogs.clear()

    async def freshen_catalogs(self, directories: Collection[str]) -> None:
        """Read again what is known of these directories' catalogs; what is known of others is forgotten.

        No decision waits for it: a server that starts its providers takes a second and more for its list.
        """
        for directory in self._catalogs.keys() - directories:
            del self._catalogs[directory]
        for directory in tuple(self._catalogs):
            now = self._clock.now()
            catalog = await self._client.catalog(directory)
            if directory in self._catalogs:  # else it was forgotten meanwhile, and what was read is as old
                self._catalogs[directory] = (now, catalog)

    async def look(self, run: Run, results: Mapping[str, Result], before: Facts | None = None) -> Facts:
        """The facts about a run, as of now. Attempts that just got a result are not looked at again.

        `before` is what an earlier pass of the same drive rested on: what it saw stands. What has happened
        since brings a hint, and with it a look of its own.
        """
        now = self._store.now()
        # A session made just now holds nothing, and a prompt sent just now cannot be judged yet.
        moved = {a for a, r in results.items() if not isinstance(r, ChecksRan)}
        kept = {} if before is None else {a: s for a, s in before.seen.items() if a not in moved}
        looked = [a for a in _lookable(run) if a.id not in moved and a.id not in kept]
        found = _Found(catalog=before.catalog if before else None)
        if looked or before is None:
            await together(*self._reads(run, looked, found))
        asks = tuple(a for a in found.asks if a.state is AskState.OPEN and a.kind is not AskKind.APPROVAL)
        fresh = {a: Seen(at=now) for a, r in results.items() if isinstance(r, SessionMade) and r.fresh}
        seen = kept | fresh
        seen |= {a.id: _seen(a, now, found, asks) for a in looked}
        approvals = {
            a.stage: a for a in found.asks if a.kind is AskKind.APPROVAL and a.state is AskState.ANSWERED
        }
        return Facts(
            now=now,
            store_id=self._store.store_id,
            seen=seen,
            results=results,
            commands=tuple(found.commands),
            approvals=approvals,
            catalog=found.catalog,
            spread=self._random.random(),
        )

    def _reads(self, run: Run, looked: list[Attempt], found: _Found) -> list[Call]:
        reads: list[Call] = [partial(self._read_store, run, found)]
        if looked:
            reads.append(partial(self._read_status, run.directory, found))
        reads += [partial(self._read_messages, run.directory, a, found) for a in looked]
        if found.catalog is None and not run.state.final:
            reads.append(partial(self._read_catalog, run.directory, found))
        return reads

    async def _read_store(self, run: Run, found: _Found) -> None:
        found.asks = await self._store.asks(run=run.id, states=(AskState.OPEN, AskState.ANSWERED))
        found.commands = await self._store.commands(run.id)

    async def _read_status(self, directory: str, found: _Found) -> None:
        found.statuses = await self._client.status(directory)

    async def _read_messages(self, directory: str, attempt: Attempt, found: _Found) -> None:
        assert attempt.session is not None
        try:
            found.messages[attempt.id] = tuple(await self._client.messages(directory, attempt.session))
        except NotFound:
            found.messages[attempt.id] = None

    async def _read_catalog(self, directory: str, found: _Found) -> None:
        at, catalog = self._catalogs.get(directory, (0, None))
        now = self._clock.now()
        if catalog is None or now - at > CATALOG_AGE:
            try:
                catalog = await self._client.catalog(directory)
            except (Refused, BadAnswer) as error:
                # Then nothing is validated beforehand: no reason to stop what runs.
                log.warning("no catalog", directory=directory, error=str(error))
                return
            self._catalogs[directory] = (now, catalog)
        found.catalog = catalog


def _lookable(run: Run) -> list[Attempt]:
    return [a for a in run.open_attempts if a.session and a.state in LOOKED_AT]


def _seen(attempt: Attempt, now: int, found: _Found, asks: tuple[Ask, ...]) -> Seen:
    assert attempt.session is not None
    messages = found.messages[attempt.id]
    status = found.statuses.get(attempt.session)
    return Seen(
        at=now,
        status=None if isinstance(status, Idle) else status,
        messages=messages or (),
        asks=tuple(a for a in asks if (a.stage, a.attempt) == (attempt.stage, attempt.number)),
        exists=messages is not None,
    )

"""One server under this reactor's care: its lease, its stream, its handlers, its runs, in one task group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import anyio
import structlog

from ..clock import Clock
from ..handling import Context, Handler, Registry, make_context
from ..model.deliveries import Delivery
from ..model.events import Event, SessionInfoEvent
from ..opencode import Client
from ..store import Store
from .actions import EngineActions, Starter
from .asks import AskKeeper, AskPolicy
from .dispatcher import Dispatcher
from .engine import WANTED, Engine, Surroundings
from .lease import LeaseKeeper
from .together import first_of
from .tree import SessionTree
from .watcher import Resync, Watcher

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Charge:
    """What a reactor takes on with a server.

    `directories` are watched from the start. `concurrency` bounds the attempts under way at once. `only`
    limits handlers to the sessions of that run; None: they get everything.
    """

    registry: Registry
    policy: AskPolicy
    directories: tuple[str, ...] = ()
    concurrency: int = 8
    only: str | None = None


class Attached:
    """Cares for one server whenever the lease on it can be had; until then somebody else does."""

    def __init__(
        self,
        client: Client,
        store: Store,
        owner: str,
        charge: Charge,
        starter: Starter,
        *,
        clock: Clock,
        random: Random,
    ) -> None:
        self._client = client
        self._store = store
        self._owner = owner
        self._charge = charge
        self._starter = starter
        self._clock = clock
        self._random = random

    async def run(self) -> None:
        """Care for the server until cancelled. Raises LoginRefused and UnsupportedVersion."""
        lease = LeaseKeeper(self._store, self._client.url, self._owner, self._clock)
        while True:
            try:
                await lease.hold(lambda: self._care(lease))
            except BaseExceptionGroup as failures:
                raise first_of(failures) from failures

    async def _care(self, lease: LeaseKeeper) -> None:
        """Everything for one term of the lease, built anew each time: only the store is carried over."""
        tree = SessionTree(self._client)
        asks = AskKeeper(self._client, self._store, lease, tree, self._charge.policy)
        around = Surroundings(self._client, self._store, lease, tree, asks, self._clock, self._random)
        engine = Engine(around, self._charge.concurrency)
        actions = EngineActions(self._client, self._store, lease, asks, engine, self._starter)
        dispatcher = Dispatcher(
            self._charge.registry,
            self._store,
            context=self._context_maker(actions),
            clock=self._clock,
            random=self._random,
        )

        def deliver(event: Event) -> None:
            if isinstance(event, SessionInfoEvent):
                tree.note(event.info)
            engine.hint(event)
            if self._charge.only is None or engine.run_of(event) == self._charge.only:
                dispatcher.offer(event)

        async def resynced(found: Resync) -> None:
            await engine.look_at_everything(found.directories)

        watcher = Watcher(
            self._client,
            deliver=deliver,
            resynced=resynced,
            wanted=lambda name: name in WANTED or self._charge.registry.wants(name),
            clock=self._clock,
            random=self._random,
        )
        engine.watch, engine.unwatch = watcher.watch, self._unwatch(watcher)
        for directory in self._charge.directories:
            watcher.watch(directory)
        async with anyio.create_task_group() as group:
            group.start_soon(watcher.run)
            group.start_soon(dispatcher.run, self._client.url, self._mine(engine))
            # Nothing is prompted before the first list is done: until then nobody knows what is there.
            await watcher.live.wait()
            log.info("listening", server=self._client.url)
            group.start_soon(engine.run)

    def _unwatch(self, watcher: Watcher) -> Callable[[str], None]:
        """Those that were to be watched from the start stay watched."""

        def unwatch(directory: str) -> None:
            if directory not in self._charge.directories:
                watcher.unwatch(directory)

        return unwatch

    def _mine(self, engine: Engine) -> Callable[[Delivery], bool]:
        """Which deliveries are ours: all, or those of the one run's sessions."""
        only = self._charge.only
        return lambda delivery: only is None or engine.run_of_session(delivery.lane) == only

    def _context_maker(self, actions: EngineActions) -> Callable[[Delivery | None, Event, Handler], Context]:
        def make(delivery: Delivery | None, event: Event, handler: Handler) -> Context:
            return make_context(event, handler.name, delivery, self._client, actions)

        return make

"""Events to handlers, handlers' endings to the store. Knows nothing of runs and calls no server.

A durable handler's event is a row before it is anything else; lanes hold only the rows' ids, so that a
backlog of any length costs little and what a person dropped or revived meanwhile is seen.
"""

from __future__ import annotations

import math
from asyncio import current_task
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias, TypeVar

import anyio
import structlog

from ..backoff import Backoff
from ..clock import Clock
from ..errors import StoreError
from ..handling import Context, Handler, Registry
from ..handling.outcome import (
    Bury,
    Decision,
    Done,
    Failed,
    Finish,
    Outcome,
    Patience,
    Postpone,
    Rejected,
    decide,
    outcome_of,
    shorten,
)
from ..model.deliveries import Delivery, DeliveryState
from ..model.events import Event
from ..opencode import event_from_payload
from .inbox import STORE_BACKOFF, DeliveryStore, Inbox
from .lanes import LaneKey, Lanes

_log = structlog.get_logger(__name__)

T = TypeVar("T")

MakeContext: TypeAlias = Callable[[Delivery | None, Event, Handler], Context]

SWEEP = 15.0
"""Seconds between looks for rows that nobody told us of, where no hint comes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the dispatcher.

    `hands`: calls of one handler side by side · `live`: events waiting per live handler and session ·
    `inbox`: events waiting for the store · `held`: events kept in memory besides their rows, to save reading
    them again · `page`: rows read or written at a time · `backoff`: between the tries of a delivery.
    """

    hands: int = 16
    live: int = 256
    inbox: int = 100_000
    held: int = 1_000
    page: int = 500
    backoff: Backoff = field(default_factory=lambda: Backoff(first=1.0, cap=300.0))


@dataclass(frozen=True, slots=True)
class DispatcherStatistics:
    """Counts since the start; of now are `pending`, `running`, busy `lanes`, and events `held` in memory.

    `strangers` are rows whose handler is not loaded.
    """

    pending: int
    running: int
    lanes: int
    held: int
    done: int
    retried: int
    dead: int
    live_done: int
    live_failed: int
    dropped: int
    lost: int
    strangers: int


@dataclass(slots=True)
class _Counts:
    done: int = 0
    retried: int = 0
    dead: int = 0
    live_done: int = 0
    live_failed: int = 0


class Dispatcher:
    """Hands events to handlers: in order per handler and session, side by side across.

    Durable: at least once; a try that is cut short by the end of `run` is made again by the next. Live: at
    most once, in memory. Whatever one handler does, the others go on.
    """

    def __init__(
        self,
        registry: Registry,
        store: DeliveryStore,
        *,
        context: MakeContext,
        clock: Clock,
        random: Random,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self._registry = registry
        self._store = store
        self._context = context
        self._clock = clock
        self._random = random
        self._limits = limits
        self._counts = _Counts()
        self._known: set[int] = set()
        self._strangers: set[int] = set()
        self._held: dict[int, tuple[Delivery, Event]] = {}
        self._moved = anyio.Event()
        self._recovered = anyio.Event()
        self._mine: Callable[[Delivery], bool] = lambda _: True
        self._inbox = Inbox(
            store,
            self._take_in,
            moved=self._notice,
            random=random,
            most=limits.inbox,
            batch=limits.page,
        )
        self._durable = Lanes[int](self._deliver, hands=limits.hands, moved=self._notice)
        self._live = Lanes[Event](self._show, hands=limits.hands, depth=limits.live, moved=self._notice)

    def offer(self, event: Event) -> None:
        """Take an event. Never blocks, never raises because of a handler; before `run`, it waits."""
        durable: list[Handler] = []
        for handler in self._registry.matching(event):
            if not handler.live:
                durable.append(handler)
            elif self._live.push(LaneKey(handler.name, event.session_id or ""), event):
                self._say_dropped(handler)
        if durable:
            self._inbox.put(event, durable)

    async def run(self, server: str, mine: Callable[[Delivery], bool] = lambda _: True) -> None:
        """Dispatch until cancelled: what the store still holds for `server`, in order, then what comes.

        `mine` says which of the stored rows are ours to handle; the others are left as they are.
        """
        self._mine = mine
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._live.run)
            tasks.start_soon(self._durable.run)
            # Before the inbox writes: newer rows must come behind the older ones in their lanes.
            await self._insist(lambda: self._find(server))
            self._recovered.set()
            tasks.start_soon(self._inbox.run)
            tasks.start_soon(self._sweep, server)

    async def settled(self) -> None:
        """Wait until nothing is pending, running or resting; and before, for `run` to have begun."""
        await self._recovered.wait()
        while self._busy():
            self._moved = anyio.Event()
            await self._moved.wait()

    async def drain(self) -> None:
        """Begin nothing new and wait for what runs: before the end of `run`, so that no try is cut short."""
        self._durable.close()
        self._live.close()
        while self._inbox.waiting or self._durable.statistics().running or self._live.statistics().running:
            self._moved = anyio.Event()
            await self._moved.wait()

    def statistics(self) -> DispatcherStatistics:
        """Counts for people and tests."""
        durable, live, counts = self._durable.statistics(), self._live.statistics(), self._counts
        return DispatcherStatistics(
            pending=durable.waiting + self._inbox.waiting + live.waiting,
            running=durable.running + live.running,
            lanes=durable.busy + live.busy,
            held=len(self._held),
            done=counts.done,
            retried=counts.retried,
            dead=counts.dead,
            live_done=counts.live_done,
            live_failed=counts.live_failed,
            dropped=live.dropped,
            lost=self._inbox.lost,
            strangers=len(self._strangers),
        )

    def _busy(self) -> bool:
        return bool(self._inbox.waiting or self._durable.statistics().busy or self._live.statistics().busy)

    def _notice(self) -> None:
        self._moved.set()

    def _say_dropped(self, handler: Handler) -> None:
        dropped = self._live.statistics().dropped
        if dropped.bit_count() == 1:  # at 1, 2, 4, 8, …: what cannot keep up must not be slowed by its log
            _log.warning(
                "live events dropped: the handler is too slow", handler=handler.name, dropped=dropped
            )

    # Rows into lanes.

    def _take_in(self, delivery: Delivery, event: Event) -> None:
        if len(self._held) < self._limits.held:
            self._held[delivery.id] = (delivery, event)
        self._push(delivery)

    def _push(self, delivery: Delivery) -> None:
        handler = self._registry.handler(delivery.handler)
        if handler is None or handler.live:
            # Left as it is: a file that does not load today is mended tomorrow, its events still there.
            if delivery.id not in self._strangers:
                self._strangers.add(delivery.id)
                _log.debug("a delivery waits for a handler that is not loaded", handler=delivery.handler)
            return
        if delivery.id not in self._known:
            self._known.add(delivery.id)
            self._durable.push(LaneKey(delivery.handler, delivery.lane), delivery.id)

    async def _find(self, server: str) -> None:
        after = 0
        while page := await self._store.pending_deliveries(server, after=after, limit=self._limits.page):
            for delivery in filter(self._mine, page):
                self._push(delivery)
            after = page[-1].id

    async def _sweep(self, server: str) -> None:
        """Find what no event brought: dead letters that a person revived, rows of another process."""
        hint = anyio.Event()

        def ring() -> None:
            hint.set()

        stop = self._store.changed(ring)
        try:
            while True:
                with anyio.move_on_after(SWEEP):
                    await hint.wait()
                hint = anyio.Event()
                began = self._clock.monotonic()
                await self._insist(lambda: self._find(server))
                # Our own commits are hints too. At most a tenth of the time goes into looking.
                await anyio.sleep(max(1.0, 10 * (self._clock.monotonic() - began)))
        finally:
            stop()

    # One delivery.

    async def _deliver(self, key: LaneKey, number: int) -> float | None:
        delivery, event = self._held.pop(number, None) or (await self._read(number), None)
        handler = self._registry.handler(key.handler)
        if handler is None or delivery is None or delivery.state is not DeliveryState.PENDING:
            self._known.discard(number)
            return None
        rest = delivery.not_before - self._store.now()
        if rest > 0:
            return rest / 1000
        outcome = await self._handle(handler, delivery, event)
        patience = Patience(handler.retries, self._limits.backoff)
        return await self._settle(delivery, decide(outcome, delivery.tries, patience, self._random))

    async def _read(self, number: int) -> Delivery | None:
        return await self._insist(lambda: self._store.delivery(number))

    async def _handle(self, handler: Handler, delivery: Delivery, event: Event | None) -> Outcome:
        if event is None:
            try:
                event = _event_of(delivery)
            except ValueError as error:
                return Rejected(f"the stored event cannot be read: {error}")
        return await self._call(handler, delivery, event)

    async def _settle(self, delivery: Delivery, decision: Decision) -> float | None:
        """Remember what became of a delivery; the seconds its lane has to rest, None where it is through."""
        number, log = (
            delivery.id,
            _log.bind(handler=delivery.handler, session=delivery.lane, delivery=delivery.id),
        )
        match decision:
            case Finish():
                await self._insist(lambda: self._store.finish_delivery(number))
                self._counts.done += 1
            case Bury(tries, error):
                await self._insist(lambda: self._store.bury_delivery(number, tries=tries, error=error))
                self._counts.dead += 1
                log.error("handler gave up", tries=tries, error=error, event_name=delivery.name)
            case Postpone(tries, wait, error):
                at = self._store.now() + math.ceil(wait * 1000)
                await self._insist(
                    lambda: self._store.postpone_delivery(number, tries=tries, not_before=at, error=error)
                )
                self._counts.retried += 1
                log.warning("handler is tried again", tries=tries, wait=round(wait, 1), error=error)
                return wait
        self._known.discard(number)
        return None

    async def _show(self, key: LaneKey, event: Event) -> None:
        handler = self._registry.handler(key.handler)
        assert handler is not None, "lanes are only opened for handlers of the registry"
        match await self._call(handler, None, event):
            case Done():
                self._counts.live_done += 1
            case outcome:
                self._counts.live_failed += 1
                error = shorten(outcome.reason)
                _log.warning("live handler failed", handler=handler.name, session=key.session, error=error)

    async def _call(self, handler: Handler, delivery: Delivery | None, event: Event) -> Outcome:
        """The fence: whatever the author's code does ends here, as a value; only our own end passes."""
        try:
            with anyio.move_on_after(handler.timeout):
                if handler.passes(event):
                    await handler.function(event, self._context(delivery, event, handler))
                return Done()
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() == -math.inf:
                raise
            _take_back_cancellation()
            return Failed("the handler let a cancellation out that was not the reactor's")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the handler call, one of the three fences
            return outcome_of(error, handler.file)
        return Failed(f"took longer than its timeout of {handler.timeout:g} s")

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the store says, however often it has to be asked: without it nothing can be remembered."""
        tries = 0
        while True:
            try:
                return await ask()
            except StoreError as error:
                tries += 1
                _log.warning("the store failed, trying again", error=str(error), tries=tries)
            await anyio.sleep(STORE_BACKOFF.delay(tries, self._random))


def _event_of(delivery: Delivery) -> Event:
    return event_from_payload(
        delivery.payload,
        server=delivery.server,
        directory=delivery.directory,
        received=delivery.created,
        recovered=delivery.recovered,
    )


def _take_back_cancellation() -> None:
    """A handler that cancelled its own task cancelled the hand that called it; the hand has more to do."""
    hand = current_task()
    while hand is not None and hand.cancelling():
        hand.uncancel()

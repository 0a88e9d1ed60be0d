"""Durable events on their way into the store: rows first, then the lanes. Never holds up who offers them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

import anyio
import structlog

from ..backoff import Backoff
from ..errors import StoreError
from ..handling import Handler
from ..model.deliveries import Delivery
from ..model.events import Event, event_name
from ..opencode import payload_of

_log = structlog.get_logger(__name__)

STORE_BACKOFF = Backoff(first=0.2, cap=10.0)


class DeliveryStore(Protocol):
    """What the inbox and the dispatcher need of the store; every method raises StoreError."""

    def now(self) -> int:
        """The store's clock, epoch ms."""
        ...

    def changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after any commit, by anybody; returns what ends it."""
        ...

    async def add_deliveries(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Keep what is new to its handler; only that is returned, with ids, in order."""
        ...

    async def pending_deliveries(self, server: str, *, after: int = 0, limit: int = 500) -> list[Delivery]:
        """Pending rows above the id `after`, at most `limit`, in order."""
        ...

    async def delivery(self, number: int) -> Delivery | None:
        """One row, whatever its state."""
        ...

    async def finish_delivery(self, number: int) -> None:
        """It was handled."""
        ...

    async def postpone_delivery(self, number: int, *, tries: int, not_before: int, error: str) -> None:
        """Not before `not_before`, epoch ms."""
        ...

    async def bury_delivery(self, number: int, *, tries: int, error: str) -> None:
        """A dead letter."""
        ...


@dataclass(frozen=True, slots=True)
class _Offer:
    event: Event
    handlers: tuple[str, ...]


class Inbox:
    """What was offered and is not in the store yet. While one write is under way, the next batch gathers.

    `take_in(delivery, event)` is called for each row that is new, in order. A store that fails is tried again
    until it works; beyond `most` waiting events new ones are refused, counted as lost, and said so.
    """

    def __init__(
        self,
        store: DeliveryStore,
        take_in: Callable[[Delivery, Event], None],
        *,
        moved: Callable[[], None],
        random: Random,
        most: int,
        batch: int,
    ) -> None:
        self._store = store
        self._take_in = take_in
        self._moved = moved
        self._random = random
        self._most = most
        self._batch = batch
        self._offers: deque[_Offer] = deque()
        self._bell = anyio.Event()
        self.lost = 0

    @property
    def waiting(self) -> int:
        """Events that are not in the store yet."""
        return len(self._offers)

    def put(self, event: Event, handlers: Sequence[Handler]) -> None:
        """Take an event for these handlers. Never blocks."""
        if len(self._offers) >= self._most:
            # A daemon that grows until it is killed loses all of them, and everything else with them.
            self.lost += 1
            if self.lost.bit_count() == 1:  # at 1, 2, 4, 8, …: an outage must not fill the disk with its log
                _log.error("events lost: the store does not take them", lost=self.lost, waiting=self._most)
            return
        if not event.id:
            # The row's identity; without one of its own every such event would be a repetition of the first.
            event = replace(event, id=f"unnamed-{self._random.getrandbits(64):016x}")
        self._offers.append(_Offer(event, tuple(handler.name for handler in handlers)))
        self._bell.set()

    async def run(self) -> None:
        """Write what comes until cancelled. What is not written by then is as if it had not been heard."""
        while True:
            while self._offers:
                await self._write([self._offers[i] for i in range(min(self._batch, len(self._offers)))])
            self._bell = anyio.Event()
            await self._bell.wait()

    async def _write(self, offers: Sequence[_Offer]) -> None:
        rows = [row for offer in offers for row in _rows(offer, self._store.now())]
        events = {offer.event.id: offer.event for offer in offers}
        added = await self._add(rows)
        # In the lanes before they are out of here, so that they are never nowhere.
        for delivery in added:
            self._take_in(delivery, events[delivery.event])
        for _ in offers:
            self._offers.popleft()
        self._moved()

    async def _add(self, rows: Sequence[Delivery]) -> list[Delivery]:
        tries = 0
        while True:
            try:
                return await self._store.add_deliveries(rows)
            except StoreError as error:
                tries += 1
                _log.warning("events wait: the store failed", error=str(error), waiting=self.waiting)
            await anyio.sleep(STORE_BACKOFF.delay(tries, self._random))


def _rows(offer: _Offer, now: int) -> list[Delivery]:
    event = offer.event
    payload = payload_of(event)
    return [
        Delivery(
            id=0,
            handler=handler,
            server=event.server,
            event=event.id,
            name=event_name(event),
            lane=event.session_id or "",
            directory=event.directory,
            payload=payload,
            created=event.received or now,
            recovered=event.recovered,
        )
        for handler in offer.handlers
    ]

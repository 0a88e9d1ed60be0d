from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from opencode_reactor.errors import StoreError
from opencode_reactor.store.driver import Rows, Statement
from opencode_reactor.store.seat import Order, Outcome
from opencode_reactor.store.worker import Worker


@dataclass
class Desk:
    """A seat without a database: answers every unit with nothing, once the gate is open."""

    gate: threading.Event = field(default_factory=threading.Event)
    busy: threading.Event = field(default_factory=threading.Event)
    groups: list[list[str]] = field(default_factory=list[list[str]])
    threads: set[int] = field(default_factory=set[int])
    refusal: Exception | None = None
    broken: bool = False
    news: bool = False
    closed: int = 0

    def open(self) -> None:
        self.threads.add(threading.get_ident())
        if self.refusal is not None:
            raise self.refusal

    def carry_out(self, orders: Sequence[Order]) -> list[Outcome]:
        self.threads.add(threading.get_ident())
        self.busy.set()
        assert self.gate.wait(5)
        self.groups.append([order.unit[0].name for order in orders])
        if self.broken:
            raise ZeroDivisionError
        return [[] for _ in orders]

    def changed(self) -> bool:
        self.threads.add(threading.get_ident())
        news, self.news = self.news, False
        return news

    def close(self) -> None:
        self.closed += 1


def ask(worker: Worker, name: str) -> asyncio.Task[Rows]:
    return asyncio.create_task(worker.carry_out((Statement(name),), writes=True))


async def busy(desk: Desk) -> None:
    assert await asyncio.to_thread(desk.busy.wait, 5)


async def test_what_waits_while_the_seat_is_busy_is_one_group_in_its_order() -> None:
    desk = Desk()
    worker = Worker("test", desk, where="here")
    await worker.start()
    first = ask(worker, "first")
    await busy(desk)
    rest = [ask(worker, str(n)) for n in range(9)]
    await asyncio.sleep(0)
    desk.gate.set()
    await asyncio.gather(first, *rest)
    assert desk.groups == [["first"], [str(n) for n in range(9)]]
    await worker.aclose()
    assert len(desk.threads) == 1
    assert threading.get_ident() not in desk.threads


async def test_who_went_before_its_turn_is_not_served() -> None:
    desk = Desk()
    worker = Worker("test", desk, where="here")
    await worker.start()
    first = ask(worker, "first")
    await busy(desk)
    gone, stays = ask(worker, "gone"), ask(worker, "stays")
    await asyncio.sleep(0)
    gone.cancel()
    desk.gate.set()
    await asyncio.wait([gone, first, stays])
    assert desk.groups == [["first"], ["stays"]]
    await worker.aclose()


async def test_what_the_seat_raises_reaches_its_callers_and_the_thread_lives_on() -> None:
    desk = Desk(broken=True)
    desk.gate.set()
    worker = Worker("test", desk, where="here")
    await worker.start()
    with pytest.raises(ZeroDivisionError):
        await ask(worker, "one")
    desk.broken = False
    assert await ask(worker, "two") == []
    await worker.aclose()


async def test_a_seat_that_does_not_open_says_so_and_is_closed() -> None:
    desk = Desk(refusal=StoreError("no"))
    worker = Worker("test", desk, where="here")
    with pytest.raises(StoreError, match="no"):
        await worker.start()
    await worker.aclose()
    assert desk.closed == 1


async def test_closing_serves_who_waits_and_refuses_who_comes() -> None:
    desk = Desk()
    worker = Worker("test", desk, where="here")
    await worker.start()
    waiting = [ask(worker, str(n)) for n in range(5)]
    await busy(desk)
    closing = asyncio.ensure_future(worker.aclose())
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="here: the store is closed"):
        await ask(worker, "late")
    desk.gate.set()
    await closing
    assert await asyncio.gather(*waiting) == [[]] * 5
    assert desk.closed == 1


async def test_a_cancelled_closing_is_finished_by_the_thread_itself() -> None:
    desk = Desk()
    worker = Worker("test", desk, where="here")
    await worker.start()
    waiting = ask(worker, "one")
    await busy(desk)
    closing = asyncio.ensure_future(worker.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    desk.gate.set()
    assert await waiting == []
    await worker.aclose()
    assert desk.closed == 1


async def test_a_worker_that_never_started_closes_at_once() -> None:
    desk = Desk()
    await Worker("test", desk, where="here").aclose()
    assert desk.closed == 0


async def test_the_seat_is_looked_at_only_while_somebody_wants_to_know() -> None:
    desk = Desk()
    desk.gate.set()
    event = asyncio.Event()
    worker = Worker("test", desk, where="here", hint=event.set)
    await worker.start()
    desk.news = True
    await ask(worker, "one")
    assert desk.news
    worker.look_every(0.01)
    async with asyncio.timeout(5):
        await event.wait()
    assert not desk.news
    worker.look_every(None)
    await ask(worker, "two")
    desk.news = True
    await ask(worker, "three")
    assert desk.news
    await worker.aclose()

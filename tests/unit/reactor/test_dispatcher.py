# ruff: noqa: ARG001 - a handler takes both, whatever it uses
from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from opencode_reactor.backoff import Backoff
from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import StoreError
from opencode_reactor.handling import Context, Handler, Registry, Reject, Retry, handler_of, make_context, on
from opencode_reactor.model.deliveries import Delivery, DeliveryState
from opencode_reactor.model.events import (
    Event,
    MessagePartDelta,
    PermissionAsked,
    SessionIdle,
    TodoUpdated,
    UnknownEvent,
)
from opencode_reactor.model.sessions import PermissionRequest
from opencode_reactor.opencode import Client
from opencode_reactor.reactor.dispatcher import Dispatcher, Limits
from opencode_reactor.store import Store, open_store

SERVER = "http://127.0.0.1:4096"
QUICK = Backoff(first=0.01, cap=0.02)


class NoActions:
    """Nothing here acts; a handler that tries fails its test."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
        raise AssertionError(name)


@dataclass
class World:
    """A real store in a file, and dispatchers on it one after the other."""

    store: Store
    client: Client = field(default_factory=lambda: Client(SERVER))

    def dispatcher(
        self, *functions: Callable[..., object], store: Any = None, limits: Limits | None = None
    ) -> Dispatcher:
        return Dispatcher(
            Registry(handler_of(function) for function in functions),
            store or self.store,
            context=self.context,
            clock=SystemClock(),
            random=random.Random(1),
            limits=limits or Limits(backoff=QUICK),
        )

    def context(self, delivery: Delivery | None, event: Event, handler: Handler) -> Context:
        return make_context(event, handler.name, delivery, self.client, cast("Any", NoActions()))

    def running(self, dispatcher: Dispatcher) -> AbstractAsyncContextManager[Dispatcher]:
        @asynccontextmanager
        async def run() -> AsyncGenerator[Dispatcher]:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(dispatcher.run, SERVER)
                with anyio.fail_after(10):
                    yield dispatcher
                tasks.cancel_scope.cancel()

        return run()

    async def handle(self, dispatcher: Dispatcher, *events: Event) -> None:
        async with self.running(dispatcher):
            for event in events:
                dispatcher.offer(event)
            await dispatcher.settled()

    async def rows(self) -> list[Delivery]:
        found = [await self.store.delivery(number) for number in range(1, 100)]
        return [row for row in found if row is not None]

    async def states(self) -> list[DeliveryState]:
        return [row.state for row in await self.rows()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await open_store(f"sqlite:///{tmp_path}/store.db", clock=SystemClock())
    yield World(store)
    await store.aclose()


def idle(number: int, session: str = "ses_1") -> SessionIdle:
    return SessionIdle(id=f"evt_{number}", server=SERVER, directory="/srv/app", session=session)


def delta(number: int, session: str = "ses_1") -> MessagePartDelta:
    return MessagePartDelta(
        id=f"evt_{number}",
        server=SERVER,
        session=session,
        message="msg_1",
        part="prt_1",
        field="text",
        delta=str(number),
    )


async def test_a_durable_event_is_a_row_and_the_row_is_done_when_the_handler_returns(world: World) -> None:
    seen: list[tuple[str, str, int, DeliveryState | None]] = []

    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None:
        assert ctx.origin.delivery is not None
        row = await world.store.delivery(ctx.origin.delivery)
        seen.append((ctx.session, ctx.server, ctx.attempt, row.state if row else None))

    await world.handle(world.dispatcher(note), idle(1))
    assert seen == [("ses_1", SERVER, 1, DeliveryState.PENDING)]
    assert await world.states() == [DeliveryState.DONE]


async def test_one_handlers_events_of_one_session_are_handled_in_order_even_when_a_try_fails(
    world: World,
) -> None:
    order: list[str] = []

    @on(SessionIdle)
    async def stumble(event: SessionIdle, ctx: Context) -> None:
        order.append(event.id)
        if event.id == "evt_2" and ctx.attempt < 3:
            raise ValueError("not yet")

    dispatcher = world.dispatcher(stumble)
    await world.handle(dispatcher, *(idle(number) for number in range(1, 5)))
    assert order == ["evt_1", "evt_2", "evt_2", "evt_2", "evt_3", "evt_4"]
    assert dispatcher.statistics().retried == 2
    assert dispatcher.statistics().done == 4


async def test_sessions_are_handled_side_by_side(world: World) -> None:
    together = anyio.Event()
    inside: set[str] = set()

    @on(SessionIdle, timeout=5)
    async def meet(event: SessionIdle, ctx: Context) -> None:
        inside.add(event.session)
        if len(inside) == 8:
            together.set()
        await together.wait()

    await world.handle(world.dispatcher(meet), *(idle(number, f"ses_{number}") for number in range(8)))
    assert len(inside) == 8


async def test_no_more_calls_of_one_handler_run_at_once_than_it_has_hands(world: World) -> None:
    inside = most = 0

    @on(SessionIdle)
    async def count(event: SessionIdle, ctx: Context) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await anyio.sleep(0.001)
        inside -= 1

    limits = Limits(hands=3, backoff=QUICK)
    dispatcher = world.dispatcher(count, limits=limits)
    await world.handle(dispatcher, *(idle(number, f"ses_{number}") for number in range(30)))
    assert most == 3
    assert dispatcher.statistics().done == 30


async def test_a_handler_that_hangs_on_every_hand_keeps_no_other_handler_waiting(world: World) -> None:
    swift: list[str] = []
    all_swift = anyio.Event()

    @on(SessionIdle, timeout=60)
    async def hang(event: SessionIdle, ctx: Context) -> None:
        await anyio.sleep_forever()

    @on(SessionIdle)
    async def run(event: SessionIdle, ctx: Context) -> None:
        swift.append(event.id)
        if len(swift) == 20:
            all_swift.set()

    dispatcher = world.dispatcher(hang, run, limits=Limits(hands=2, backoff=QUICK))
    async with world.running(dispatcher):
        for number in range(20):
            dispatcher.offer(idle(number, f"ses_{number}"))
        await all_swift.wait()
    assert sorted(swift) == sorted(f"evt_{number}" for number in range(20))


async def test_what_keeps_failing_is_a_dead_letter_and_its_lane_goes_on(world: World) -> None:
    tries: list[tuple[str, int]] = []

    @on(SessionIdle, retries=2)
    async def fail(event: SessionIdle, ctx: Context) -> None:
        tries.append((event.id, ctx.attempt))
        if event.id == "evt_1":
            raise KeyError("nothing there")

    await world.handle(world.dispatcher(fail), idle(1), idle(2))
    assert tries == [("evt_1", 1), ("evt_1", 2), ("evt_1", 3), ("evt_2", 1)]
    (dead,) = await world.store.dead_deliveries()
    line = int(handler_of(fail).place.rpartition(":")[2]) + 4
    assert (dead.event, dead.tries, dead.error) == ("evt_1", 3, f"KeyError: 'nothing there' (line {line})")


async def test_backoff_between_tries_grows_by_the_random_source_that_was_handed_in(world: World) -> None:
    waits: list[float] = []
    backoff = Backoff(first=0.01, factor=2, cap=1)

    @on(SessionIdle, retries=3)
    async def fail(event: SessionIdle, ctx: Context) -> None:
        row = await world.store.delivery(ctx.origin.delivery or 0)
        assert row is not None
        if row.tries:
            waits.append(world.store.now() - row.not_before)
        raise ValueError

    began = anyio.current_time()
    await world.handle(world.dispatcher(fail, limits=Limits(backoff=backoff)), idle(1))
    same = random.Random(1)
    least = sum(backoff.delay(tries, same) for tries in (1, 2, 3))
    assert anyio.current_time() - began >= least
    assert len(waits) == 3
    assert min(waits) >= 0


async def test_a_handler_that_raises_retry_is_called_again_after_the_time_it_named(world: World) -> None:
    at: list[float] = []

    @on(SessionIdle)
    async def later(event: SessionIdle, ctx: Context) -> None:
        at.append(anyio.current_time())
        if len(at) == 1:
            raise Retry("not ready", after=0.15)

    dispatcher = world.dispatcher(later)
    await world.handle(dispatcher, idle(1))
    assert at[1] - at[0] >= 0.15
    assert (dispatcher.statistics().retried, dispatcher.statistics().done) == (1, 1)


async def test_retry_counts_as_a_try_and_ends_as_a_dead_letter(world: World) -> None:
    @on(SessionIdle, retries=1)
    async def later(event: SessionIdle, ctx: Context) -> None:
        raise Retry("the build is not ready", after=0)

    await world.handle(world.dispatcher(later), idle(1))
    (dead,) = await world.store.dead_deliveries()
    assert (dead.tries, dead.error) == (2, "the build is not ready")


async def test_reject_is_a_dead_letter_at_once(world: World) -> None:
    calls: list[str] = []

    @on(SessionIdle, retries=5)
    async def never(event: SessionIdle, ctx: Context) -> None:
        calls.append(event.id)
        raise Reject("no such project")

    await world.handle(world.dispatcher(never), idle(1))
    (dead,) = await world.store.dead_deliveries()
    assert calls == ["evt_1"]
    assert (dead.tries, dead.error) == (1, "no such project")


async def test_a_handler_that_outstays_its_timeout_is_cancelled_and_named_so(world: World) -> None:
    ends: list[str] = []

    @on(SessionIdle, timeout=0.05, retries=0)
    async def hang(event: SessionIdle, ctx: Context) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cleaned up")

    await world.handle(world.dispatcher(hang), idle(1))
    (dead,) = await world.store.dead_deliveries()
    assert dead.error == "took longer than its timeout of 0.05 s"
    assert ends == ["cleaned up"]


async def test_a_timeout_of_the_handlers_own_is_its_own_failure(world: World) -> None:
    @on(SessionIdle, retries=0)
    async def impatient(event: SessionIdle, ctx: Context) -> None:
        async with asyncio.timeout(0.01):
            await anyio.sleep_forever()

    await world.handle(world.dispatcher(impatient), idle(1))
    (dead,) = await world.store.dead_deliveries()
    assert dead.error.startswith("TimeoutError")


async def _raise_exit() -> None:
    sys.exit(3)


async def _raise_cancelled() -> None:
    raise asyncio.CancelledError


async def _await_a_cancelled_task() -> None:
    sleeper = asyncio.create_task(anyio.sleep_forever())
    sleeper.cancel()
    await sleeper


async def _cancel_oneself() -> None:
    me = asyncio.current_task()
    assert me is not None
    me.cancel()
    await anyio.sleep_forever()


async def _raise_a_group() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_raise_exit_free)


async def _raise_exit_free() -> None:
    raise ConnectionError("refused by the tracker")


async def _recurse() -> None:
    await _recurse()


@pytest.mark.parametrize(
    ("crash", "words"),
    [
        (_raise_exit, "SystemExit: 3"),
        (_raise_cancelled, "cancellation"),
        (_await_a_cancelled_task, "cancellation"),
        (_cancel_oneself, "cancellation"),
        (_raise_a_group, "ConnectionError: refused by the tracker"),
        (_recurse, "RecursionError"),
    ],
)
async def test_whatever_a_handler_does_its_hand_goes_on_and_others_are_not_touched(
    world: World, crash: Callable[[], Awaitable[None]], words: str
) -> None:
    fine: list[str] = []

    @on(SessionIdle, retries=0)
    async def wild(event: SessionIdle, ctx: Context) -> None:
        if event.id == "evt_1":
            await crash()
        fine.append(f"wild {event.id}")

    @on(SessionIdle)
    async def calm(event: SessionIdle, ctx: Context) -> None:
        fine.append(f"calm {event.id}")

    await world.handle(world.dispatcher(wild, calm), idle(1), idle(2))
    (dead,) = await world.store.dead_deliveries()
    assert words in dead.error
    assert sorted(fine) == ["calm evt_1", "calm evt_2", "wild evt_2"]


async def test_a_secret_in_an_exception_is_not_in_the_dead_letter(world: World) -> None:
    @on(SessionIdle, retries=0)
    async def leak(event: SessionIdle, ctx: Context) -> None:
        raise RuntimeError("GET https://me:hunter2@host failed, password=hunter2, Bearer hunter2hunter2")

    await world.handle(world.dispatcher(leak), idle(1))
    (dead,) = await world.store.dead_deliveries()
    assert "hunter2" not in dead.error
    assert "https://***@host" in dead.error


async def test_the_same_event_offered_twice_is_one_delivery(world: World) -> None:
    calls: list[str] = []

    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None:
        calls.append(event.id)

    dispatcher = world.dispatcher(note)
    async with world.running(dispatcher):
        dispatcher.offer(idle(1))
        dispatcher.offer(idle(1))
        await dispatcher.settled()
        dispatcher.offer(replace(idle(1), recovered=True))
        dispatcher.offer(idle(2))
        await dispatcher.settled()
    assert calls == ["evt_1", "evt_2"]


async def test_events_without_an_id_are_not_taken_for_one_another(world: World) -> None:
    calls: list[str] = []

    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None:
        calls.append(event.session)

    bare = SessionIdle(server=SERVER, session="ses_1")
    await world.handle(world.dispatcher(note), bare, bare)
    assert calls == ["ses_1", "ses_1"]


async def test_a_stopped_dispatcher_leaves_its_work_pending_and_the_next_one_finishes_it_in_order(
    world: World,
) -> None:
    order: list[str] = []
    inside = anyio.Event()

    @on(SessionIdle)
    async def first(event: SessionIdle, ctx: Context) -> None:
        if event.id == "evt_1":
            return
        inside.set()
        await anyio.sleep_forever()

    @on(SessionIdle, name="first")
    async def second(event: SessionIdle, ctx: Context) -> None:
        order.append(f"{event.id} {ctx.attempt}")

    dispatcher = world.dispatcher(first)
    async with world.running(dispatcher):
        for number in range(1, 6):
            dispatcher.offer(idle(number))
        await inside.wait()
    assert await world.states() == [DeliveryState.DONE, *[DeliveryState.PENDING] * 4]

    await world.handle(world.dispatcher(second), idle(6))
    assert order == [f"evt_{number} 1" for number in range(2, 7)]


async def test_a_postponed_delivery_rests_over_a_restart_as_long_as_it_was_told_to(world: World) -> None:
    tried = anyio.Event()
    at: list[float] = []

    @on(SessionIdle)
    async def later(event: SessionIdle, ctx: Context) -> None:
        at.append(anyio.current_time())
        if len(at) == 1:
            tried.set()
            raise Retry("later", after=0.3)

    dispatcher = world.dispatcher(later)
    async with world.running(dispatcher):
        dispatcher.offer(idle(1))
        await tried.wait()
        await dispatcher.drain()
    await world.handle(world.dispatcher(later))
    assert at[1] - at[0] >= 0.29


async def test_a_backlog_is_read_in_pages_and_handled_in_order(world: World) -> None:
    rows = [
        Delivery(0, "note", SERVER, f"evt_{n}", "session.idle", f"ses_{n % 3}", "/srv", _payload(n))
        for n in range(50)
    ]
    await world.store.add_deliveries(rows)
    seen: dict[str, list[int]] = {}

    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None:
        seen.setdefault(event.session, []).append(int(event.id.removeprefix("evt_")))

    limits = Limits(page=7, held=2, backoff=QUICK)
    await world.handle(world.dispatcher(note, limits=limits))
    assert {session: sorted(numbers) for session, numbers in seen.items()} == seen
    assert sum(map(len, seen.values())) == 50


def _payload(number: int) -> str:
    return f'{{"id":"evt_{number}","type":"session.idle","properties":{{"sessionID":"ses_{number % 3}"}}}}'


async def test_events_that_were_not_kept_in_memory_are_read_back_the_same(world: World) -> None:
    seen: list[Event] = []
    asked = PermissionAsked(
        id="permission.asked:per_1",
        server=SERVER,
        directory="/srv/app",
        received=7,
        session="ses_1",
        request=PermissionRequest("per_1", "ses_1", "bash", ("rm ☃",), metadata={"command": "rm ☃"}),
    )

    @on("permission.updated")
    async def note(event: PermissionAsked, ctx: Context) -> None:
        seen.append(event)

    await world.handle(world.dispatcher(note, limits=Limits(held=0, backoff=QUICK)), asked)
    assert seen == [asked]


async def test_a_stored_event_that_cannot_be_read_is_a_dead_letter_and_not_a_crash(world: World) -> None:
    row = Delivery(0, "note", SERVER, "evt_1", "session.idle", "ses_1", "/srv", "{torn")
    await world.store.add_deliveries([row])
    seen: list[str] = []

    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None:
        seen.append(event.id)

    await world.handle(world.dispatcher(note), idle(2))
    (dead,) = await world.store.dead_deliveries()
    assert dead.error.startswith("the stored event cannot be read")
    assert seen == ["evt_2"]


async def test_rows_of_a_handler_that_is_not_loaded_wait_for_it(world: World) -> None:
    row = Delivery(0, "gone", SERVER, "evt_1", "session.idle", "ses_1", "/srv", _payload(1))
    await world.store.add_deliveries([row])

    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None: ...

    @on(SessionIdle, name="gone")
    async def back(event: SessionIdle, ctx: Context) -> None: ...

    dispatcher = world.dispatcher(note)
    await world.handle(dispatcher, idle(2))
    assert dispatcher.statistics().strangers == 1
    assert await world.states() == [DeliveryState.PENDING, DeliveryState.DONE]
    await world.handle(world.dispatcher(note, back))
    assert await world.states() == [DeliveryState.DONE, DeliveryState.DONE]


async def test_rows_that_are_not_ours_are_left_to_whom_they_belong(world: World) -> None:
    await world.store.add_deliveries(
        [
            Delivery(0, "note", SERVER, f"evt_{n}", "session.idle", f"ses_{n}", "/srv", _payload(n))
            for n in range(3)
        ]
    )
    seen: list[str] = []

    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None:
        seen.append(event.session)

    def mine(delivery: Delivery) -> bool:
        return delivery.lane == "ses_1"

    dispatcher = world.dispatcher(note)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dispatcher.run, SERVER, mine)
        await dispatcher.settled()
        tasks.cancel_scope.cancel()
    assert seen == ["ses_1"]
    assert await world.states() == [DeliveryState.PENDING, DeliveryState.DONE, DeliveryState.PENDING]


async def test_a_row_that_somebody_else_finished_before_its_turn_is_passed_over(world: World) -> None:
    seen: list[str] = []
    inside, go = anyio.Event(), anyio.Event()

    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None:
        seen.append(event.id)
        inside.set()
        await go.wait()

    dispatcher = world.dispatcher(note, limits=Limits(held=0, backoff=QUICK))
    async with world.running(dispatcher):
        for number in range(1, 4):
            dispatcher.offer(idle(number))
        await inside.wait()
        await world.store.finish_delivery(2)
        go.set()
        await dispatcher.settled()
    assert seen == ["evt_1", "evt_3"]


async def test_a_dead_letter_that_a_person_revives_is_handled_without_a_restart(world: World) -> None:
    well = False
    done = anyio.Event()

    @on(SessionIdle, retries=0)
    async def moody(event: SessionIdle, ctx: Context) -> None:
        if not well:
            raise ValueError("unwell")
        done.set()

    dispatcher = world.dispatcher(moody)
    async with world.running(dispatcher):
        dispatcher.offer(idle(1))
        await dispatcher.settled()
        (dead,) = await world.store.dead_deliveries()
        well = True
        await world.store.revive_delivery(dead.id)
        await done.wait()
        await dispatcher.settled()
    assert await world.states() == [DeliveryState.DONE]


async def test_events_offered_before_the_start_are_handled_after_it(world: World) -> None:
    seen: list[str] = []

    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None:
        seen.append(f"durable {event.id}")

    @on(SessionIdle, live=True)
    async def peek(event: SessionIdle, ctx: Context) -> None:
        seen.append(f"live {event.id}")

    dispatcher = world.dispatcher(note, peek)
    dispatcher.offer(idle(1))
    dispatcher.offer(idle(2))
    assert dispatcher.statistics().pending == 4
    await world.handle(dispatcher)
    assert sorted(seen) == ["durable evt_1", "durable evt_2", "live evt_1", "live evt_2"]


async def test_live_handlers_get_events_in_order_and_leave_no_row(world: World) -> None:
    seen: list[str] = []

    @on(MessagePartDelta, live=True)
    async def stream(event: MessagePartDelta, ctx: Context) -> None:
        assert ctx.origin.delivery is None
        await anyio.lowlevel.checkpoint()
        seen.append(event.delta)

    await world.handle(world.dispatcher(stream), *(delta(number) for number in range(100)))
    assert seen == [str(number) for number in range(100)]
    assert await world.rows() == []


async def test_a_slow_live_handler_loses_the_oldest_of_its_own_session_only(world: World) -> None:
    seen: list[str] = []
    go = anyio.Event()
    started = anyio.Event()

    @on(MessagePartDelta, live=True)
    async def slow(event: MessagePartDelta, ctx: Context) -> None:
        if event.session == "ses_1":
            started.set()
            await go.wait()
        seen.append(event.delta)

    dispatcher = world.dispatcher(slow, limits=Limits(live=3, backoff=QUICK))
    async with world.running(dispatcher):
        dispatcher.offer(delta(0))
        await started.wait()
        for number in range(1, 10):
            dispatcher.offer(delta(number))
        dispatcher.offer(delta(100, "ses_2"))
        assert dispatcher.statistics().dropped == 6
        go.set()
        await dispatcher.settled()
    assert [number for number in seen if number != "100"] == ["0", "7", "8", "9"]
    assert "100" in seen


async def test_a_live_handler_that_fails_is_not_tried_again_and_keeps_nobody_waiting(world: World) -> None:
    seen: list[str] = []

    @on(SessionIdle, live=True)
    async def fail(event: SessionIdle, ctx: Context) -> None:
        seen.append(event.id)
        raise ValueError("live and wrong")

    dispatcher = world.dispatcher(fail)
    await world.handle(dispatcher, idle(1), idle(2))
    assert seen == ["evt_1", "evt_2"]
    assert dispatcher.statistics().live_failed == 2
    assert await world.store.dead_deliveries() == []


async def test_a_filter_keeps_events_out_of_the_store(world: World) -> None:
    seen: list[str] = []

    @on(SessionIdle, where=lambda e: e.session == "ses_2")
    async def picky(event: SessionIdle, ctx: Context) -> None:
        seen.append(event.session)

    await world.handle(world.dispatcher(picky), idle(1, "ses_1"), idle(2, "ses_2"))
    assert seen == ["ses_2"]
    assert len(await world.rows()) == 1


async def test_a_filter_that_raises_is_its_handlers_failure_and_nobody_elses(world: World) -> None:
    seen: list[str] = []

    def broken(event: SessionIdle) -> bool:
        raise LookupError(event.id)

    @on(SessionIdle, where=broken, retries=1)
    async def never(event: SessionIdle, ctx: Context) -> None:
        seen.append("never")

    @on(SessionIdle, where=broken, live=True)
    async def nor(event: SessionIdle, ctx: Context) -> None:
        seen.append("nor")

    @on(SessionIdle)
    async def well(event: SessionIdle, ctx: Context) -> None:
        seen.append("well")

    dispatcher = world.dispatcher(never, nor, well)
    await world.handle(dispatcher, idle(1))
    (dead,) = await world.store.dead_deliveries()
    assert seen == ["well"]
    assert (dead.handler, dead.tries) == ("never", 2)
    assert dead.error.startswith("LookupError: evt_1")
    assert dispatcher.statistics().live_failed == 1


async def test_a_filter_that_has_been_narrowed_since_decides_over_what_was_stored(world: World) -> None:
    await world.store.add_deliveries(
        [Delivery(0, "note", SERVER, "evt_1", "session.idle", "ses_1", "/srv", _payload(1))]
    )
    seen: list[str] = []

    @on(SessionIdle, where=lambda e: e.session == "ses_9")
    async def note(event: SessionIdle, ctx: Context) -> None:
        seen.append(event.session)

    await world.handle(world.dispatcher(note))
    assert seen == []
    assert await world.states() == [DeliveryState.DONE]


async def test_server_events_without_a_session_share_one_lane(world: World) -> None:
    seen: list[str] = []

    @on(UnknownEvent)
    async def odd(event: UnknownEvent, ctx: Context) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(f"{event.name} {ctx.session!r}")

    events = [UnknownEvent(id=f"evt_{n}", server=SERVER, name=f"pty.{n}") for n in range(3)]
    await world.handle(world.dispatcher(odd), *events)
    assert seen == ["pty.0 ''", "pty.1 ''", "pty.2 ''"]


async def test_nobody_is_called_for_what_nobody_asked_for(world: World) -> None:
    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None: ...

    dispatcher = world.dispatcher(note)
    todo = TodoUpdated(id="evt_1", server=SERVER, session="ses_1", todos=())
    await world.handle(dispatcher, todo, delta(2))
    assert await world.rows() == []
    assert dispatcher.statistics().done == 0


async def test_the_events_of_one_moment_go_into_the_store_together(world: World) -> None:
    store = Counting(world.store)

    @on(SessionIdle)
    async def one(event: SessionIdle, ctx: Context) -> None: ...

    @on(SessionIdle)
    async def two(event: SessionIdle, ctx: Context) -> None: ...

    await world.handle(world.dispatcher(one, two, store=store), *(idle(number) for number in range(20)))
    assert store.batches == [40]


async def test_a_store_that_fails_for_a_while_loses_nothing_and_calls_nobody_twice(world: World) -> None:
    failures = {"add_deliveries": 2, "finish_delivery": 2, "pending_deliveries": 1}
    store = Counting(world.store, failures)
    seen: list[str] = []

    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None:
        seen.append(event.id)

    await world.handle(world.dispatcher(note, store=store), idle(1), idle(2))
    assert seen == ["evt_1", "evt_2"]
    assert await world.states() == [DeliveryState.DONE] * 2


async def test_an_inbox_that_the_store_does_not_empty_refuses_and_counts_what_it_cannot_hold(
    world: World,
) -> None:
    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None: ...

    dispatcher = world.dispatcher(note, limits=Limits(inbox=3, backoff=QUICK))
    for number in range(5):
        dispatcher.offer(idle(number))
    assert (dispatcher.statistics().pending, dispatcher.statistics().lost) == (3, 2)
    await world.handle(dispatcher)
    assert len(await world.rows()) == 3


async def test_draining_lets_what_runs_finish_and_begins_nothing_new(world: World) -> None:
    inside, go = anyio.Event(), anyio.Event()
    ended: list[str] = []

    @on(SessionIdle)
    async def slow(event: SessionIdle, ctx: Context) -> None:
        inside.set()
        await go.wait()
        ended.append(event.id)

    dispatcher = world.dispatcher(slow)
    async with world.running(dispatcher):
        dispatcher.offer(idle(1))
        await inside.wait()
        dispatcher.offer(idle(2))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dispatcher.drain)
            await anyio.lowlevel.checkpoint()
            go.set()
    assert ended == ["evt_1"]
    assert await world.states() == [DeliveryState.DONE, DeliveryState.PENDING]


async def test_an_idle_dispatcher_keeps_no_lane_and_no_hand(world: World) -> None:
    @on(SessionIdle)
    async def note(event: SessionIdle, ctx: Context) -> None: ...

    dispatcher = world.dispatcher(note)
    async with world.running(dispatcher):
        await anyio.wait_all_tasks_blocked()
        before = len(asyncio.all_tasks())
        for number in range(200):
            dispatcher.offer(idle(number, f"ses_{number}"))
        await dispatcher.settled()
        await anyio.wait_all_tasks_blocked()
        assert len(asyncio.all_tasks()) == before
        now = dispatcher.statistics()
        assert (now.lanes, now.held, now.pending, now.running, now.done) == (0, 0, 0, 0, 200)


class Counting:
    """The real store, which fails a set number of times first: a seam at the store's own boundary."""

    def __init__(self, store: Store, failures: dict[str, int] | None = None) -> None:
        self._store = store
        self._failures = failures or {}
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name in {"now", "changed"}:
            return method

        async def call(*args: Any, **named: Any) -> Any:
            if self._failures.get(name, 0) > 0:
                self._failures[name] -= 1
                raise StoreError("database or disk is full")
            if name == "add_deliveries":
                self.batches.append(len(args[0]))
            return await method(*args, **named)

        return call

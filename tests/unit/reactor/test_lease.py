"""Holding a server, on a real store with a short lease."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import Fenced, StoreError
from opencode_reactor.model.runs import Lease
from opencode_reactor.reactor.lease import LeaseKeeper, Terms
from opencode_reactor.store import Store, open_store

SERVER = "http://127.0.0.1:4096"
SHORT = Terms(ttl=400, renew_every=0.1, retry_every=0.02, margin=0.1)
LONG = Terms(ttl=60_000, renew_every=0.05, retry_every=0.02)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(str(tmp_path / "reactor.db"), clock=SystemClock())
    yield opened
    await opened.aclose()


def keeper(store: Store, owner: str = "ada", terms: Terms = SHORT) -> LeaseKeeper:
    return LeaseKeeper(store, SERVER, owner, SystemClock(), terms)


class Broken:
    """A store whose answers about leases a test chooses; `None` goes on to the real one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.taking: Callable[[], Awaitable[None]] | None = None
        self.renewing: Callable[[], Awaitable[None]] | None = None
        self.asked = 0

    async def take_lease(self, server: str, owner: str, ttl: int) -> Lease | None:
        self.asked += 1
        if self.taking is not None:
            await self.taking()
        return await self._store.take_lease(server, owner, ttl)

    async def renew_lease(self, lease: Lease, ttl: int) -> Lease:
        self.asked += 1
        if self.renewing is not None:
            await self.renewing()
        return await self._store.renew_lease(lease, ttl)

    async def drop_lease(self, lease: Lease) -> None:
        await self._store.drop_lease(lease)


async def full() -> None:
    raise StoreError("the disk is full: nothing was written")


async def test_the_lease_is_had_while_the_work_runs_and_dropped_when_it_is_done(store: Store) -> None:
    ours = keeper(store)
    seen: list[Lease] = []

    async def work() -> None:
        seen.append(ours.lease)
        standing = await store.lease(SERVER)
        assert standing is not None
        assert standing.owner == "ada"

    await ours.hold(work)
    assert [lease.epoch for lease in seen] == [1]
    assert await store.lease(SERVER) is None
    with pytest.raises(Fenced):
        _ = ours.lease


async def test_it_is_renewed_for_as_long_as_the_work_takes(store: Store) -> None:
    ours = keeper(store)
    seen: list[Lease] = []

    async def work() -> None:
        for _ in range(8):
            await anyio.sleep(0.1)
            seen.append(ours.lease)

    await ours.hold(work)
    assert {lease.epoch for lease in seen} == {1}
    assert seen[-1].until - seen[0].until >= 400
    assert seen[-1].expires - seen[0].expires >= 0.4


async def test_a_lost_lease_ends_the_work_at_once_and_leaves_the_other_holder_alone(store: Store) -> None:
    ours, ended = keeper(store, terms=LONG), anyio.Event()

    async def work() -> None:
        lease = ours.lease
        await store.drop_lease(lease)
        assert await store.take_lease(SERVER, "bob", 60_000) is not None
        try:
            await anyio.sleep_forever()
        finally:
            with pytest.raises(Fenced):
                ours.check(0.0)
            ended.set()

    with anyio.fail_after(2):
        await ours.hold(work)
    assert ended.is_set()
    standing = await store.lease(SERVER)
    assert standing is not None
    assert standing.owner == "bob"


async def test_a_store_that_does_not_answer_leaves_what_is_left_of_the_lease_and_no_more(
    store: Store,
) -> None:
    broken = Broken(store)
    broken.renewing = anyio.sleep_forever
    ours = LeaseKeeper(broken, SERVER, "ada", SystemClock(), SHORT)  # type: ignore[arg-type]
    began = anyio.current_time()
    with anyio.fail_after(5):
        await ours.hold(anyio.sleep_forever)
    assert 0.3 < anyio.current_time() - began < 2
    assert broken.asked == 2
    assert await store.lease(SERVER) is None


async def test_a_renewal_that_failed_is_tried_again_before_the_lease_is_over(store: Store) -> None:
    broken = Broken(store)
    failures = 2

    async def twice() -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            await full()

    broken.renewing = twice
    ours = LeaseKeeper(broken, SERVER, "ada", SystemClock(), SHORT)  # type: ignore[arg-type]
    with anyio.move_on_after(0.8) as scope:
        await ours.hold(anyio.sleep_forever)
    assert scope.cancelled_caught, "the lease was kept"
    assert failures < -2


async def test_who_comes_second_waits_and_has_it_when_the_first_is_done(store: Store) -> None:
    first, second = keeper(store, "ada"), keeper(store, "bob")
    order: list[str] = []
    held, done = anyio.Event(), anyio.Event()

    async def work() -> None:
        held.set()
        await done.wait()
        order.append(f"ada {first.lease.epoch}")

    async def later() -> None:
        order.append(f"bob {second.lease.epoch}")

    async with anyio.create_task_group() as group:
        group.start_soon(first.hold, work)
        await held.wait()
        group.start_soon(second.hold, later)
        await anyio.sleep(0.6)  # longer than the first lease: it is renewed
        assert order == []
        done.set()
    assert order == ["ada 1", "bob 2"]


async def test_cancelled_it_drops_the_lease_on_its_way_out(store: Store) -> None:
    ours = keeper(store, terms=LONG)
    async with anyio.create_task_group() as group:
        held = anyio.Event()

        async def work() -> None:
            held.set()
            await anyio.sleep_forever()

        group.start_soon(ours.hold, work)
        await held.wait()
        group.cancel_scope.cancel()
    assert await store.lease(SERVER) is None


async def test_what_the_work_raises_is_raised_and_the_lease_dropped(store: Store) -> None:
    async def work() -> None:
        raise ValueError("ours")

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="ours")):
        await keeper(store).hold(work)
    assert await store.lease(SERVER) is None


async def test_no_call_goes_out_on_less_than_its_deadline_and_the_margin(store: Store) -> None:
    ours = keeper(store, terms=Terms(ttl=10_000, renew_every=60, margin=2))

    async def work() -> None:
        assert ours.check(7.5) == ours.lease
        with pytest.raises(Fenced, match="too little is left"):
            ours.check(8.1)

    await ours.hold(work)


async def test_one_keeper_holds_term_after_term_under_growing_epochs(store: Store) -> None:
    ours = keeper(store)
    epochs: list[int] = []

    async def work() -> None:
        epochs.append(ours.lease.epoch)

    for _ in range(3):
        await ours.hold(work)
    assert epochs == [1, 2, 3]


async def test_a_store_that_never_answered_is_the_operators_to_mend(store: Store) -> None:
    broken = Broken(store)
    broken.taking = full
    ours = LeaseKeeper(broken, SERVER, "ada", SystemClock(), SHORT)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="disk is full"):
        await ours.hold(anyio.sleep_forever)


async def test_a_store_that_answered_once_is_waited_for(store: Store) -> None:
    broken = Broken(store)
    ours = LeaseKeeper(broken, SERVER, "ada", SystemClock(), SHORT)  # type: ignore[arg-type]
    had: list[int] = []

    async def work() -> None:
        had.append(ours.lease.epoch)

    await ours.hold(work)
    failures = 2

    async def twice() -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            await full()

    broken.taking = twice
    with anyio.fail_after(5):
        await ours.hold(work)
    assert had == [1, 2]

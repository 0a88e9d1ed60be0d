from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from opencode_reactor.clock import Clock
from opencode_reactor.errors import Fenced
from opencode_reactor.model.runs import Run
from opencode_reactor.store import Store

SERVER = "http://127.0.0.1:4096"


@dataclass
class HandClock:
    """Moved by hand; the wall clock may be set apart from the monotonic one."""

    ms: int = 1_000_000

    def now(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


Open = Callable[[Clock], Awaitable[Store]]


async def test_a_lease_is_had_by_one_owner_and_judged_by_his_own_clock(open_here: Open) -> None:
    clock = HandClock()
    store = await open_here(clock)
    lease = await store.take_lease(SERVER, "ada", 15_000)
    assert lease is not None
    assert (lease.owner, lease.epoch, lease.until) == ("ada", 1, 1_015_000)
    assert lease.expires == pytest.approx(1_015.0)
    assert await store.take_lease(SERVER, "bob", 15_000) is None
    assert await store.lease(SERVER) == replace(lease, expires=0.0)


async def test_two_servers_have_two_owners(open_here: Open) -> None:
    store = await open_here(HandClock())
    one = await store.take_lease(SERVER, "ada", 1_000)
    two = await store.take_lease("http://other", "bob", 1_000)
    assert one is not None
    assert two is not None
    assert (one.owner, two.owner) == ("ada", "bob")


async def test_a_renewed_lease_keeps_its_epoch_and_lasts_longer(open_here: Open) -> None:
    clock = HandClock()
    store = await open_here(clock)
    lease = await store.take_lease(SERVER, "ada", 15_000)
    assert lease is not None
    clock.ms += 14_999
    renewed = await store.renew_lease(lease, 15_000)
    assert (renewed.epoch, renewed.until) == (1, 1_029_999)
    assert renewed.expires == pytest.approx(1_029.999)


async def test_a_lease_that_ran_out_is_nobodys_and_cannot_be_renewed(open_here: Open) -> None:
    clock = HandClock()
    store = await open_here(clock)
    lease = await store.take_lease(SERVER, "ada", 15_000)
    assert lease is not None
    clock.ms += 15_000
    assert await store.lease(SERVER) is None
    with pytest.raises(Fenced, match="epoch 1"):
        await store.renew_lease(lease, 15_000)


async def test_who_takes_over_has_the_next_epoch_and_the_old_owner_is_fenced(open_here: Open) -> None:
    clock = HandClock()
    ours, theirs = await open_here(clock), await open_here(clock)
    run = await ours.add_run(Run("r1", "p", SERVER, "/", "{}"), [])
    old = await ours.take_lease(SERVER, "ada", 15_000)
    assert old is not None
    assert await theirs.take_lease(SERVER, "bob", 15_000) is None
    clock.ms += 15_001
    new = await theirs.take_lease(SERVER, "bob", 15_000)
    assert new is not None
    assert new.epoch == 2
    with pytest.raises(Fenced):
        await ours.save_run(run, replace(run, detail="zombie"), lease=old)
    with pytest.raises(Fenced):
        await ours.renew_lease(old, 15_000)
    saved = await theirs.save_run(run, replace(run, detail="bob's"), lease=new)
    assert await ours.run("r1") == saved


async def test_an_owner_whose_lease_ran_out_unnoticed_may_write_until_another_takes_it(
    open_here: Open,
) -> None:
    clock = HandClock()
    store = await open_here(clock)
    run = await store.add_run(Run("r1", "p", SERVER, "/", "{}"), [])
    lease = await store.take_lease(SERVER, "ada", 1_000)
    assert lease is not None
    clock.ms += 3_600_000
    assert (await store.save_run(run, replace(run, detail="late"), lease=lease)).rev == 2


async def test_a_dropped_lease_is_free_at_once_and_its_epoch_never_comes_again(open_here: Open) -> None:
    store = await open_here(HandClock())
    run = await store.add_run(Run("r1", "p", SERVER, "/", "{}"), [])
    lease = await store.take_lease(SERVER, "ada", 15_000)
    assert lease is not None
    await store.drop_lease(lease)
    assert await store.lease(SERVER) is None
    with pytest.raises(Fenced):
        await store.save_run(run, replace(run, detail="after"), lease=lease)
    again = await store.take_lease(SERVER, "bob", 15_000)
    assert again is not None
    assert again.epoch == 2
    await store.drop_lease(lease)
    assert await store.lease(SERVER) == replace(again, expires=0.0)


async def test_an_owner_that_takes_its_lease_again_fences_its_older_self(open_here: Open) -> None:
    store = await open_here(HandClock())
    old = await store.take_lease(SERVER, "ada", 15_000)
    new = await store.take_lease(SERVER, "ada", 15_000)
    assert old is not None
    assert new is not None
    assert new.epoch == 2
    with pytest.raises(Fenced):
        await store.renew_lease(old, 15_000)


async def test_a_wall_clock_that_jumps_back_never_brings_an_old_epoch_back(open_here: Open) -> None:
    clock = HandClock()
    store = await open_here(clock)
    old = await store.take_lease(SERVER, "ada", 1_000)
    clock.ms += 2_000
    new = await store.take_lease(SERVER, "bob", 1_000)
    clock.ms -= 3_600_000
    assert old is not None
    assert new is not None
    with pytest.raises(Fenced):
        await store.renew_lease(old, 1_000)
    assert (await store.renew_lease(new, 1_000)).epoch == 2


async def test_of_two_processes_that_want_a_free_server_one_has_it(open_here: Open) -> None:
    clock = HandClock()
    ours, theirs = await open_here(clock), await open_here(clock)
    had = [await store.take_lease(SERVER, name, 9_000) for store, name in ((ours, "ada"), (theirs, "bob"))]
    assert [lease.owner for lease in had if lease is not None] == ["ada"]

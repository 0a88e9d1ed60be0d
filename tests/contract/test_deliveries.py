from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from opencode_reactor.clock import Clock
from opencode_reactor.errors import Fenced, NotKnown
from opencode_reactor.model.deliveries import Delivery, DeliveryState
from opencode_reactor.store import Store

SERVER = "http://127.0.0.1:4096"


def delivery(event: str = "evt_1", handler: str = "allow_reads") -> Delivery:
    payload = '{"type":"permission.asked"}'
    return Delivery(0, handler, SERVER, event, "permission.asked", "ses_1", "/work", payload, recovered=True)


@dataclass
class HandClock:
    """Moved by hand."""

    ms: int = 1_000_000

    def now(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


async def test_a_delivery_is_kept_with_an_id_of_its_own(store: Store) -> None:
    (kept,) = await store.add_deliveries([delivery()])
    assert kept == replace(delivery(), id=kept.id, created=kept.created)
    assert 0 < kept.created <= store.now()
    assert await store.pending_deliveries(SERVER) == [kept]
    assert await store.pending_deliveries("http://other") == []


async def test_an_event_found_twice_is_one_delivery_for_each_handler(store: Store) -> None:
    first = await store.add_deliveries([delivery(), delivery(handler="log_all"), delivery()])
    assert [d.handler for d in first] == ["allow_reads", "log_all"]
    second = await store.add_deliveries([delivery(), delivery("evt_2")])
    assert [d.event for d in second] == ["evt_2"]
    assert [d.id for d in await store.pending_deliveries(SERVER)] == [d.id for d in (*first, *second)]
    assert await store.add_deliveries([]) == []


async def test_a_finished_delivery_is_not_pending_and_its_event_not_handled_again(store: Store) -> None:
    (kept,) = await store.add_deliveries([delivery()])
    await store.finish_delivery(kept.id)
    await store.finish_delivery(kept.id)
    assert await store.pending_deliveries(SERVER) == []
    assert await store.add_deliveries([delivery()]) == []


async def test_a_postponed_delivery_keeps_its_place_and_tells_why(store: Store) -> None:
    one, two = await store.add_deliveries([delivery("evt_1"), delivery("evt_2")])
    await store.postpone_delivery(one.id, tries=1, not_before=5_000, error="ValueError: x")
    late = replace(one, tries=1, not_before=5_000, error="ValueError: x")
    assert await store.pending_deliveries(SERVER) == [late, two]


async def test_a_buried_delivery_is_dead_until_it_is_revived(store: Store) -> None:
    (kept,) = await store.add_deliveries([delivery()])
    await store.bury_delivery(kept.id, tries=3, error="gave up")
    dead = replace(kept, state=DeliveryState.DEAD, tries=3, error="gave up")
    assert await store.dead_deliveries() == [dead]
    assert await store.pending_deliveries(SERVER) == []
    await store.revive_delivery(kept.id)
    assert await store.dead_deliveries() == []
    (again,) = await store.pending_deliveries(SERVER)
    assert (again.id, again.tries, again.not_before) == (kept.id, 0, 0)


async def test_a_dropped_delivery_is_gone_for_good(store: Store) -> None:
    (kept,) = await store.add_deliveries([delivery()])
    await store.bury_delivery(kept.id, tries=3, error="gave up")
    await store.drop_delivery(kept.id)
    assert await store.dead_deliveries() == []
    assert await store.pending_deliveries(SERVER) == []
    assert await store.add_deliveries([delivery()]) == []


async def test_only_dead_deliveries_can_be_revived_or_dropped(store: Store) -> None:
    (kept,) = await store.add_deliveries([delivery()])
    for number in (kept.id, 999, -1):
        with pytest.raises(NotKnown, match=f"no dead delivery {number}"):
            await store.revive_delivery(number)
        with pytest.raises(NotKnown, match=f"no dead delivery {number}"):
            await store.drop_delivery(number)


async def test_what_is_done_cannot_be_postponed_or_buried_by_a_latecomer(store: Store) -> None:
    (kept,) = await store.add_deliveries([delivery()])
    await store.finish_delivery(kept.id)
    await store.postpone_delivery(kept.id, tries=1, not_before=0, error="late")
    await store.bury_delivery(kept.id, tries=3, error="late")
    assert await store.pending_deliveries(SERVER) == []
    assert await store.dead_deliveries() == []


async def test_an_owner_that_names_its_lease_is_fenced_here_too(store: Store) -> None:
    (kept,) = await store.add_deliveries([delivery()])
    old = await store.take_lease(SERVER, "ada", 9_000)
    assert old is not None
    assert await store.take_lease(SERVER, "ada", 9_000) is not None
    with pytest.raises(Fenced):
        await store.finish_delivery(kept.id, lease=old)
    with pytest.raises(Fenced):
        await store.postpone_delivery(kept.id, tries=1, not_before=0, error="x", lease=old)
    with pytest.raises(Fenced):
        await store.bury_delivery(kept.id, tries=1, error="x", lease=old)
    assert await store.pending_deliveries(SERVER) == [kept]


async def test_done_deliveries_are_forgotten_after_a_week(
    open_here: Callable[[Clock], Awaitable[Store]],
) -> None:
    clock = HandClock()
    store = await open_here(clock)
    week = 7 * 24 * 60 * 60_000
    one, two, three = await store.add_deliveries([delivery("evt_1"), delivery("evt_2"), delivery("evt_3")])
    await store.finish_delivery(one.id)
    clock.ms += week
    await store.finish_delivery(two.id)
    assert await store.add_deliveries([delivery("evt_1")]) == []
    clock.ms += 1
    await store.finish_delivery(three.id)
    (again,) = await store.add_deliveries([delivery("evt_1"), delivery("evt_2"), delivery("evt_3")])
    assert again.event == "evt_1"
    assert again.id > three.id


async def test_a_delivery_is_read_by_its_number_in_any_state(store: Store) -> None:
    (kept,) = await store.add_deliveries([delivery()])
    assert await store.delivery(kept.id) == kept
    await store.bury_delivery(kept.id, tries=3, error="gave up")
    dead = await store.delivery(kept.id)
    assert dead is not None
    assert dead.state is DeliveryState.DEAD
    assert await store.delivery(999) is None


async def test_a_backlog_is_read_in_pages(store: Store) -> None:
    kept = await store.add_deliveries([delivery(f"evt_{n}") for n in range(5)])
    assert await store.pending_deliveries(SERVER, limit=2) == kept[:2]
    assert await store.pending_deliveries(SERVER, after=kept[1].id, limit=2) == kept[2:4]
    assert await store.pending_deliveries(SERVER, after=kept[4].id, limit=2) == []

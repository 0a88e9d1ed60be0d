"""The queue of keys: one hand a key, and every reason to look served by the next look."""

from __future__ import annotations

import anyio
from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.reactor.workqueue import WorkQueue


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 1_000_000

    def now(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / 1000


def queue_at() -> tuple[WorkQueue[str], HandClock]:
    clock = HandClock()
    return WorkQueue(clock), clock


async def test_a_key_added_again_while_it_waits_is_one_key() -> None:
    queue, _ = queue_at()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert queue.statistics().waiting == 0


async def test_a_key_added_while_it_is_worked_is_worked_once_more_afterwards() -> None:
    queue, _ = queue_at()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert (queue.statistics().waiting, queue.statistics().working) == (0, 1)
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.statistics().waiting == queue.statistics().working == 0


async def test_an_appointment_is_kept_when_its_time_has_come_and_not_before() -> None:
    queue, clock = queue_at()
    queue.add_at("a", clock.at + 500)
    with anyio.move_on_after(0.02) as patience:
        await queue.get()
    assert patience.cancelled_caught
    clock.at += 500
    assert await queue.get() == "a"


async def test_the_earlier_of_two_appointments_stands() -> None:
    queue, clock = queue_at()
    queue.add_at("a", clock.at + 500)
    queue.add_at("a", clock.at + 100)
    queue.add_at("a", clock.at + 900)
    clock.at += 100
    assert await queue.get() == "a"
    assert queue.statistics().delayed == 0


async def test_a_look_serves_the_appointments_that_were_made_before_it() -> None:
    queue, clock = queue_at()
    queue.add_at("a", clock.at + 100)
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    clock.at += 100
    with anyio.move_on_after(0.02) as patience:
        await queue.get()
    assert patience.cancelled_caught


async def test_an_appointment_made_during_a_look_is_kept_after_it() -> None:
    queue, clock = queue_at()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add_at("a", clock.at + 100)
    clock.at += 100
    queue.add("b")
    assert await queue.get() == "b"
    queue.done("a")
    assert await queue.get() == "a"


async def test_a_waiting_hand_is_woken_by_an_earlier_appointment() -> None:
    queue, clock = queue_at()
    queue.add_at("later", clock.at + 3_600_000)
    taken: list[str] = []

    async def take() -> None:
        taken.append(await queue.get())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(take)
            await anyio.wait_all_tasks_blocked()
            queue.add_at("now", clock.at)
    assert taken == ["now"]


async def test_appointments_that_no_longer_stand_do_not_pile_up() -> None:
    queue, clock = queue_at()
    for key in ("a", "b"):
        for _ in range(2_000):
            queue.add_at(key, clock.at + 3_600_000)
            queue.add(key)
            queue.done(await queue.get())
    queue.add_at("b", clock.at + 3_600_000)
    queue.add_at("a", clock.at + 1_800_000)
    assert len(queue._heap) < 100  # pyright: ignore[reportPrivateUsage]
    clock.at += 1_800_000
    assert await queue.get() == "a"
    clock.at += 1_800_000
    assert await queue.get() == "b"


Deed = tuple[str, str, int]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "at", "take", "done", "wait"]), st.sampled_from("abc"), st.integers(0, 50)
        ),
        max_size=60,
    )
)
async def test_no_key_is_ever_lost_or_in_two_hands_whatever_is_done(deeds: list[Deed]) -> None:
    queue, clock = queue_at()
    working: set[str] = set()
    owed: set[str] = set()
    """Keys that were added and not taken since."""

    async def take() -> None:
        with anyio.move_on_after(0):
            key = await queue.get()
            assert key not in working, "one hand a key"
            working.add(key)
            owed.discard(key)

    for deed, key, number in deeds:
        match deed:
            case "add":
                queue.add(key)
                owed.add(key)
            case "at":
                queue.add_at(key, clock.now() + number)
                owed.add(key)
            case "take":
                await take()
            case "done" if key in working:
                working.discard(key)
                queue.done(key)
            case "wait":
                clock.at += number
            case _:
                pass
    clock.at += 1_000
    for _ in range(10):
        for key in tuple(working):
            working.discard(key)
            queue.done(key)
        await take()
    assert owed == set()

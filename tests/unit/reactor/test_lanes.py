from __future__ import annotations

import random

import anyio
import pytest

from opencode_reactor.reactor.lanes import LaneKey, Lanes


@pytest.mark.parametrize("seed", range(5))
async def test_order_within_a_lane_stands_whatever_rests_and_however_hands_take_turns(seed: int) -> None:
    chance = random.Random(seed)
    done: dict[LaneKey, list[int]] = {}
    at_work: set[LaneKey] = set()
    moved = anyio.Event()

    async def work(key: LaneKey, item: int) -> float | None:
        assert key not in at_work, "one lane, one hand"
        at_work.add(key)
        await anyio.lowlevel.checkpoint()
        at_work.discard(key)
        if chance.random() < 0.3:
            return chance.random() * 0.005
        done.setdefault(key, []).append(item)
        if sum(map(len, done.values())) == 300:
            moved.set()
        return None

    lanes = Lanes[int](work, hands=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lanes.run)
        for item in range(300):
            lanes.push(LaneKey(f"h{chance.randrange(3)}", f"s{chance.randrange(5)}"), item)
            if chance.random() < 0.1:
                await anyio.lowlevel.checkpoint()
        with anyio.fail_after(10):
            await moved.wait()
        await anyio.wait_all_tasks_blocked()
        assert lanes.statistics().busy == 0
        tasks.cancel_scope.cancel()
    assert all(items == sorted(items) for items in done.values())


async def test_a_full_lane_drops_its_oldest_waiting_item_and_says_so() -> None:
    seen: list[int] = []
    through = anyio.Event()

    async def work(_key: LaneKey, item: int) -> None:
        seen.append(item)
        if item == 4:
            through.set()

    lanes = Lanes[int](work, hands=1, depth=2)
    dropped = [lanes.push(LaneKey("h", "s"), item) for item in range(5)]
    assert dropped == [0, 0, 1, 1, 1]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lanes.run)
        await through.wait()
        tasks.cancel_scope.cancel()
    assert seen == [3, 4]


async def test_what_is_pushed_after_the_end_waits_and_meets_no_closed_group() -> None:
    seen: list[int] = []

    async def work(_key: LaneKey, item: int) -> None:
        seen.append(item)

    lanes = Lanes[int](work, hands=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lanes.run)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    lanes.push(LaneKey("h", "s"), 1)
    assert (lanes.statistics().waiting, seen) == (1, [])


async def test_a_lane_that_rests_lets_the_others_by() -> None:
    seen: list[str] = []
    through = anyio.Event()

    async def work(_key: LaneKey, item: str) -> float | None:
        if item == "slow" and "slow" not in seen:
            seen.append("slow")
            return 60.0
        seen.append(item)
        if item == "last":
            through.set()
        return None

    lanes = Lanes[str](work, hands=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lanes.run)
        lanes.push(LaneKey("h", "a"), "slow")
        lanes.push(LaneKey("h", "a"), "behind")
        lanes.push(LaneKey("h", "b"), "last")
        await through.wait()
        assert lanes.statistics().resting == 1
        tasks.cancel_scope.cancel()
    assert seen == ["slow", "last"]

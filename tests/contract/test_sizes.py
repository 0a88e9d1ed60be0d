from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from opencode_reactor.clock import Clock, SystemClock
from opencode_reactor.model.runs import Run, RunState, StageRun
from opencode_reactor.store import Store, open_store

SERVER = "http://127.0.0.1:4096"

# The bounds are an order of magnitude above what one slow core needs: they catch a scan, not a slow machine.


async def test_a_list_of_ten_thousand_runs_answers_at_once(
    open_here: Callable[[Clock], Awaitable[Store]],
) -> None:
    store = await open_here(SystemClock())
    stages = tuple(StageRun(name) for name in ("draft", "review", "sign-off"))
    runs = [
        Run(f"r{n:05}", "p", SERVER, "/", "{}" * 500, created=n + 1, stages=stages, state=RunState.SUCCEEDED)
        for n in range(10_000)
    ]
    live = replace(runs[0], state=RunState.RUNNING)
    await asyncio.gather(*(store.add_run(run, []) for run in (live, *runs[1:])))
    begun = time.perf_counter()
    assert len(await store.runs()) == 50
    assert [run.id for run in await store.runs(state={RunState.RUNNING})] == ["r00000"]
    assert [key.id for key in await store.live_runs(SERVER)] == ["r00000"]
    assert (await store.run("r07777")).id == "r07777"
    assert time.perf_counter() - begun < 1
    assert len(await store.runs(limit=10_000)) == 10_000


async def test_opening_a_store_that_is_there_is_quick(open_here: Callable[[Clock], Awaitable[Store]]) -> None:
    url = (await open_here(SystemClock())).url
    times: list[float] = []
    for _ in range(5):
        begun = time.perf_counter()
        store = await open_store(url, clock=SystemClock())
        times.append(time.perf_counter() - begun)
        await store.aclose()
    assert min(times) < 0.2


@pytest.mark.parametrize("open_here", ["threads"], indirect=True)
async def test_writes_that_wait_together_are_committed_together(
    open_here: Callable[[Clock], Awaitable[Store]],
) -> None:
    store = await open_here(SystemClock())
    begun = time.perf_counter()
    await asyncio.gather(*(store.add_run(Run(f"a{n}", "p", SERVER, "/", "{}"), []) for n in range(400)))
    together = time.perf_counter() - begun
    begun = time.perf_counter()
    for n in range(400):
        await store.add_run(Run(f"b{n}", "p", SERVER, "/", "{}"), [])
    assert together < time.perf_counter() - begun

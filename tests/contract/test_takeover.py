"""Who drives a server after its holder is gone, frozen, or alive after all: real processes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

import pytest

from opencode_reactor.clock import Clock, SystemClock
from opencode_reactor.errors import Fenced
from opencode_reactor.model.runs import Lease
from opencode_reactor.store import Store

# Who has no event loop shows no life: his leases are waited for until they run out.
pytestmark = pytest.mark.parametrize("open_here", ["threads"], indirect=True)

SERVER = "http://127.0.0.1:4096"

Open = Callable[[Clock], Awaitable[Store]]

# Holds the lease, and for every line it reads writes under it: "kept" or "Fenced".
HOLDER = """
import asyncio, sys
from dataclasses import replace
from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import Fenced
from opencode_reactor.model.runs import Run
from opencode_reactor.store import open_store

async def main():
    store = await open_store(sys.argv[1], clock=SystemClock())
    lease = await store.take_lease("http://127.0.0.1:4096", "holder", int(sys.argv[2]))
    run = await store.add_run(Run("r1", "p", "http://127.0.0.1:4096", "/", "{}"), [])
    print("held", lease.epoch, flush=True)
    for line in sys.stdin:
        try:
            run = await store.save_run(run, replace(run, detail=line.strip()), lease=lease)
            print("kept", flush=True)
        except Fenced:
            print("Fenced", flush=True)

asyncio.run(main())
"""


@contextmanager
def holder(url: str, ttl: int) -> Generator[subprocess.Popen[str]]:
    """A process that holds the lease when this is entered, and is no more when it is left."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, str(ttl)], stdin=pipe, stdout=pipe, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held 1\n"
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


async def taken(store: Store, owner: str, ttl: int, within: float) -> Lease:
    """The lease, tried for as a candidate does. Fails where it is not had in so many seconds."""
    until = monotonic() + within
    while (lease := await store.take_lease(SERVER, owner, ttl)) is None:
        assert monotonic() < until, "nobody let go"
        await asyncio.sleep(0.02)
    return lease


async def test_a_holder_killed_is_taken_over_at_once_though_its_lease_has_long_to_run(
    open_here: Open, url: str
) -> None:
    store = await open_here(SystemClock())
    with holder(url, 15_000) as process:
        assert await store.take_lease(SERVER, "next", 15_000) is None
        assert told(process, "alive") == "kept"
        process.kill()
        lease = await taken(store, "next", 15_000, within=1.0)
    assert (lease.owner, lease.epoch) == ("next", 2)
    run = await store.run("r1")
    assert (await store.save_run(run, replace(run, detail="next's"), lease=lease)).rev == run.rev + 1


async def test_a_frozen_holder_is_waited_for_until_its_lease_runs_out_and_is_fenced_when_it_thaws(
    open_here: Open, url: str
) -> None:
    store = await open_here(SystemClock())
    with holder(url, 600) as process:
        process.send_signal(signal.SIGSTOP)
        assert await store.take_lease(SERVER, "next", 15_000) is None
        lease = await taken(store, "next", 15_000, within=5.0)
        assert lease.epoch == 2
        process.send_signal(signal.SIGCONT)
        assert told(process, "a zombie's") == "Fenced"
    assert (await store.run("r1")).detail == ""


async def test_who_took_over_from_a_frozen_holder_is_not_taken_for_gone_when_that_one_dies(
    open_here: Open, url: str
) -> None:
    ours, theirs = await open_here(SystemClock()), await open_here(SystemClock())
    with holder(url, 300) as process:
        process.send_signal(signal.SIGSTOP)
        lease = await taken(ours, "next", 15_000, within=5.0)
        process.kill()
        process.wait()
        assert await theirs.take_lease(SERVER, "third", 15_000) is None
    assert await theirs.lease(SERVER) == replace(lease, expires=0.0)


async def test_of_many_that_see_a_holder_gone_one_takes_over(open_here: Open, url: str) -> None:
    stores = [await open_here(SystemClock()) for _ in range(6)]
    with holder(url, 15_000) as process:
        process.kill()
        process.wait()
        tries = (store.take_lease(SERVER, f"c{n}", 15_000) for n, store in enumerate(stores))
        had = [lease for lease in await asyncio.gather(*tries) if lease is not None]
    assert [lease.epoch for lease in had] == [2]


async def test_two_stores_of_one_process_are_two_holders(open_here: Open) -> None:
    ours, theirs = await open_here(SystemClock()), await open_here(SystemClock())
    lease = await ours.take_lease(SERVER, "ada", 15_000)
    assert lease is not None
    assert await theirs.take_lease(SERVER, "bob", 15_000) is None
    await ours.drop_lease(lease)
    assert await theirs.take_lease(SERVER, "bob", 15_000) is not None
    assert await ours.take_lease(SERVER, "ada", 15_000) is None


async def test_a_store_closed_with_its_lease_standing_is_taken_over_at_once(open_here: Open) -> None:
    ours, theirs = await open_here(SystemClock()), await open_here(SystemClock())
    assert await ours.take_lease(SERVER, "ada", 15_000) is not None
    await ours.aclose()
    lease = await theirs.take_lease(SERVER, "bob", 15_000)
    assert lease is not None
    assert lease.epoch == 2


async def test_one_owner_in_two_stores_is_still_had_once(open_here: Open) -> None:
    ours, theirs = await open_here(SystemClock()), await open_here(SystemClock())
    lease = await ours.take_lease(SERVER, "ada", 15_000)
    assert lease is not None
    assert await theirs.take_lease(SERVER, "ada", 15_000) is None
    assert (await ours.renew_lease(lease, 15_000)).epoch == 1


async def test_an_older_lease_of_the_same_owner_does_not_make_the_newer_look_gone(open_here: Open) -> None:
    ours, theirs = await open_here(SystemClock()), await open_here(SystemClock())
    old = await ours.take_lease(SERVER, "ada", 15_000)
    new = await ours.take_lease(SERVER, "ada", 15_000)
    assert old is not None
    assert new is not None
    with pytest.raises(Fenced):
        await ours.renew_lease(old, 15_000)
    await ours.drop_lease(old)
    assert await theirs.take_lease(SERVER, "bob", 15_000) is None
    await ours.drop_lease(new)
    assert await theirs.take_lease(SERVER, "bob", 15_000) is not None


async def test_a_candidate_cancelled_in_mid_air_keeps_nobody_waiting(open_here: Open) -> None:
    ours, theirs = await open_here(SystemClock()), await open_here(SystemClock())
    for _ in range(20):
        trying = asyncio.ensure_future(ours.take_lease(SERVER, "ada", 15_000))
        await asyncio.sleep(0.0005)
        trying.cancel()
        outcome = (await asyncio.gather(trying, return_exceptions=True))[0]
        if isinstance(outcome, Lease):
            await ours.drop_lease(outcome)
        lease = await taken(theirs, "bob", 15_000, within=1.0)
        await theirs.drop_lease(lease)

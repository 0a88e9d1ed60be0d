from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace

import pytest

from opencode_reactor.clock import Clock, SystemClock
from opencode_reactor.errors import Conflict
from opencode_reactor.model.runs import JournalEntry, JournalKind, Run
from opencode_reactor.store import Store, open_store

SERVER = "http://127.0.0.1:4096"

Open = Callable[[Clock], Awaitable[Store]]

OPENER = """
import asyncio, sys
from opencode_reactor.clock import SystemClock
from opencode_reactor.store import open_store

async def main():
    sys.stdin.readline()
    store = await open_store(sys.argv[1], clock=SystemClock())
    print(store.store_id, flush=True)
    await store.aclose()

asyncio.run(main())
"""

WRITER = """
import asyncio, sys
from dataclasses import replace
from opencode_reactor.clock import SystemClock
from opencode_reactor.model.runs import JournalEntry, JournalKind, Run
from opencode_reactor.store import open_store

SERVER = "http://127.0.0.1:4096"

async def follow(store, lease, name):
    run = await store.add_run(Run(name, "p", SERVER, "/", "{}"), [])
    while True:
        number = run.rev + 1
        entry = JournalEntry(JournalKind.DECIDED, f"to {number}", data={"pad": "x" * 500})
        run = await store.save_run(run, replace(run, detail=f"at {number}"), entries=[entry], lease=lease)
        print(name, run.rev, flush=True)

async def main():
    store = await open_store(sys.argv[1], clock=SystemClock())
    lease = await store.take_lease(SERVER, "writer", 60_000)
    async with asyncio.TaskGroup() as group:
        for n in range(20):
            group.create_task(follow(store, lease, f"r{n}"))

asyncio.run(main())
"""

BESIDE = """
import asyncio, sys
from opencode_reactor.clock import SystemClock
from opencode_reactor.model.runs import Run
from opencode_reactor.store import open_store

async def main():
    store = await open_store(sys.argv[1], clock=SystemClock())
    await asyncio.gather(*(store.add_run(Run(f"theirs{n}", "p", "s", "/", "{}"), []) for n in range(100)))
    await store.aclose()

asyncio.run(main())
"""


def python(script: str, *args: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", script, *args], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def sound(url: str) -> bool:
    """Whether the database itself finds no damage."""
    with closing(sqlite3.connect(url.removeprefix("sqlite://"))) as db:
        return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_processes_that_open_a_new_store_at_once_share_one_identity(url: str) -> None:
    openers = [python(OPENER, url) for _ in range(4)]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("\n")
        opener.stdin.flush()
    answers = [opener.communicate(timeout=60) for opener in openers]
    assert [error for _, error in answers] == [""] * 4
    assert len({identity for identity, _ in answers}) == 1
    assert answers[0][0].strip()


async def test_stores_opened_at_once_in_one_process_share_one_identity(open_here: Open) -> None:
    stores = await asyncio.gather(*(open_here(SystemClock()) for _ in range(8)))
    assert len({store.store_id for store in stores}) == 1


async def test_a_store_keeps_its_identity_and_its_url_opens_it_again(open_here: Open) -> None:
    first = await open_here(SystemClock())
    await first.add_run(Run("r1", "p", SERVER, "/", "{}"), [])
    await first.aclose()
    second = await open_store(first.url, clock=SystemClock())
    try:
        assert second.store_id == first.store_id
        assert (await second.run("r1")).rev == 1
    finally:
        await second.aclose()


async def test_what_one_store_acknowledged_the_other_sees_at_once(open_here: Open) -> None:
    ours, theirs = await open_here(SystemClock()), await open_here(SystemClock())
    for n in range(50):
        run = await ours.add_run(Run(f"r{n}", "p", SERVER, "/", "{}"), [])
        assert await theirs.run(f"r{n}") == run


async def test_two_stores_that_save_one_revision_have_one_winner(open_here: Open) -> None:
    ours, theirs = await open_here(SystemClock()), await open_here(SystemClock())
    run = await ours.add_run(Run("r1", "p", SERVER, "/", "{}"), [])
    lease = await ours.take_lease(SERVER, "ada", 60_000)
    assert lease is not None
    for _ in range(20):
        tries = (
            store.save_run(run, replace(run, detail=f"{n}"), lease=lease)
            for n in range(10)
            for store in (ours, theirs)
        )
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        (winner,) = [o for o in outcomes if isinstance(o, Run)]
        assert sum(isinstance(o, Conflict) for o in outcomes) == 19
        run = winner
    assert (await theirs.run("r1")).rev == 21


async def test_two_processes_write_side_by_side_and_lose_nothing(open_here: Open, url: str) -> None:
    store = await open_here(SystemClock())
    beside = python(BESIDE, url)
    entry = JournalEntry(JournalKind.SUBMITTED, "x")
    for n in range(100):
        await store.add_run(Run(f"ours{n}", "p", "s", "/", "{}"), [entry])
    _, errors = await asyncio.to_thread(beside.communicate, timeout=60)
    assert errors == ""
    assert len(await store.runs(limit=1000)) == 200


@pytest.mark.parametrize("lines", [1, 200, 1000])
async def test_kill_in_the_middle_of_writes_keeps_all_that_was_acknowledged(
    open_here: Open, url: str, lines: int
) -> None:
    writer = python(WRITER, url)
    assert writer.stdout is not None
    acknowledged: dict[str, int] = {}
    for _ in range(lines):
        name, rev = (await asyncio.to_thread(writer.stdout.readline)).split()
        acknowledged[name] = int(rev)
    writer.kill()
    # What was printed before the kill and not read yet was acknowledged as well. By the same reader:
    # `communicate` would begin behind what that one holds already, in the middle of a line.
    rest = await asyncio.to_thread(writer.stdout.read)
    await asyncio.to_thread(writer.communicate, timeout=60)
    for line in rest.splitlines()[:-1]:
        name, rev = line.split()
        acknowledged[name] = int(rev)
    store = await open_here(SystemClock())
    for name, rev in acknowledged.items():
        run = await store.run(name)
        assert run.rev >= rev
        assert run.rev == 1 or run.detail == f"at {run.rev}"
        told = [entry.what for entry in await store.journal(name)]
        assert told == [f"to {n}" for n in range(2, run.rev + 1)]
    again = await store.take_lease(SERVER, "writer", 1_000)
    assert again is not None
    assert again.epoch == 2
    assert sound(url)


async def test_a_store_opened_and_closed_beside_another_in_one_process_takes_nothing_from_it(
    open_here: Open, url: str
) -> None:
    # On SQLite a second opening may drop the process's locks; then another process that closes "as the last"
    # folds and deletes the log under us.
    ours = await open_here(SystemClock())
    await ours.add_run(Run("before", "p", SERVER, "/", "{}"), [])
    await (await open_here(SystemClock())).aclose()
    beside = python(BESIDE, url)
    _, errors = await asyncio.to_thread(beside.communicate, timeout=60)
    assert errors == ""
    await ours.add_run(Run("after", "p", SERVER, "/", "{}"), [])
    assert len(await ours.runs(limit=1000)) == 102
    another = await open_here(SystemClock())
    assert (await another.run("after")).rev == 1
    assert sound(url)

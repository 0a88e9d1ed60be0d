from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import Conflict, StoreError
from opencode_reactor.model.runs import (
    Attempt,
    AttemptState,
    JournalEntry,
    JournalKind,
    Run,
    StageRun,
    Turn,
    TurnKind,
)
from opencode_reactor.store import Store, open_store
from opencode_reactor.store.driver import Expect, Statement
from opencode_reactor.store.sqlite import SqliteDriver
from opencode_reactor.store.sqlite_open import Place

SERVER = "http://127.0.0.1:4096"

# No file may grow beyond a limit in the middle of what is written: a full disk, for one process.
FULL = """
import asyncio, resource, sqlite3, sys
from dataclasses import replace
from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import StoreError
from opencode_reactor.model.runs import JournalEntry, JournalKind, Run
from opencode_reactor.store import open_store

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main():
    store = await open_store(sys.argv[1], clock=SystemClock())
    lease = await store.take_lease("s", "ada", 60_000)
    run = await store.add_run(Run("r1", "p", "s", "/", "{}"), [])
    big = JournalEntry(JournalKind.DECIDED, "x" * 50_000)
    limit(600_000)
    while True:
        try:
            run = await store.save_run(run, replace(run, detail="kept"), entries=[big] * 3, lease=lease)
        except StoreError as error:
            print(error.message)
            break
    outcomes = await asyncio.gather(
        store.save_run(run, replace(run, detail="too big"), entries=[big] * 9, lease=lease),
        store.add_run(Run("r2", "p", "s", "/", "x" * 400_000), []),
        return_exceptions=True,
    )
    assert all(isinstance(o, StoreError) for o in outcomes), outcomes
    assert await store.run("r1") == run
    assert len(await store.journal("r1")) == 3 * (run.rev - 1)
    limit(resource.RLIM_INFINITY)
    run = await store.save_run(run, replace(run, detail="room again"), entries=[big], lease=lease)
    assert await store.run("r1") == run
    await store.aclose()

asyncio.run(main())
"""


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SqliteDriver]:
    opened = SqliteDriver(Place.at(str(tmp_path / "reactor.db"), 200), SystemClock())
    await opened.open()
    yield opened
    await opened.aclose()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(str(tmp_path / "reactor.db"), clock=SystemClock(), patience=200)
    yield opened
    await opened.aclose()


def lease_of(server: str) -> Statement:
    return Statement("take_lease", {"server": server, "owner": "ada", "ttl": 9_000})


def standing(server: str) -> Statement:
    return Statement("standing_lease", {"server": server})


async def test_a_unit_brings_the_rows_of_each_of_its_statements(driver: SqliteDriver) -> None:
    one, two, none = await driver.write((lease_of("s1"), lease_of("s2"), standing("s3")))
    assert (one[0]["server"], two[0]["server"], none) == ("s1", "s2", [])


async def test_a_unit_whose_expectation_fails_leaves_nothing_of_itself(driver: SqliteDriver) -> None:
    expect = Expect(1, Conflict, "nobody there", "look again")
    with pytest.raises(Conflict, match="nobody there") as caught:
        await driver.write((lease_of("s1"), standing("s2")._replace(expect=expect)))
    assert caught.value.remedy == "look again"
    assert await driver.read((standing("s1"),)) == [[]]


async def test_one_units_refusal_undoes_only_itself_within_a_group(driver: SqliteDriver) -> None:
    refused = Expect(7, Conflict, "no")
    group = [
        driver.write((lease_of(f"s{n}"), standing(f"s{n}")._replace(expect=refused if n % 3 == 0 else None)))
        for n in range(60)
    ]
    outcomes = await asyncio.gather(*group, return_exceptions=True)
    for n, outcome in enumerate(outcomes):
        rows = await driver.read((standing(f"s{n}"),))
        assert isinstance(outcome, Conflict) == (n % 3 == 0)
        assert bool(rows[0]) == (n % 3 != 0)


async def test_one_units_impossible_value_harms_no_other_of_its_group(driver: SqliteDriver) -> None:
    huge = Statement("take_lease", {"server": "huge", "owner": "ada", "ttl": 2**70})
    outcomes = await asyncio.gather(
        *(driver.write((huge if n == 5 else lease_of(f"s{n}"),)) for n in range(10)), return_exceptions=True
    )
    assert [n for n, o in enumerate(outcomes) if isinstance(o, Exception)] == [5]
    assert isinstance(outcomes[5], StoreError)
    assert (await driver.read((standing("s9"),)))[0]


async def test_a_mistake_of_ours_is_not_blamed_on_the_store_and_the_thread_lives_on(
    driver: SqliteDriver,
) -> None:
    with pytest.raises(KeyError, match="no_such_statement"):
        await driver.write((Statement("no_such_statement"),))
    with pytest.raises(KeyError, match="no_such_statement"):
        await driver.read((Statement("no_such_statement"),))
    with pytest.raises(StoreError):
        await driver.write((Statement("take_lease", {"server": "s"}),))
    assert (await driver.write((lease_of("s1"),)))[0]


async def test_a_read_cannot_write(driver: SqliteDriver) -> None:
    with pytest.raises(StoreError):
        await driver.read((lease_of("s1"),))
    assert await driver.read((standing("s1"),)) == [[]]


async def test_a_number_that_is_none_is_the_stores_error_and_no_conflict(store: Store) -> None:
    run = await store.add_run(Run("r1", "p", SERVER, "/", "{}", stages=(StageRun("a"),)), [])
    lease = await store.take_lease(SERVER, "ada", 9_000)
    assert lease is not None
    turn = Turn(1, TurnKind.FIRST, "", "m", "p")
    odd = Attempt("r1", "a", 1, AttemptState.PLANNED, turn, 0, cost=float("nan"))
    after = replace(run, stages=(replace(run.stages[0], attempts=(odd,)),))
    with pytest.raises(StoreError, match="NOT NULL"):
        await store.save_run(run, after, lease=lease)
    assert await store.run("r1") == run


async def test_a_lock_held_too_long_is_the_stores_error_and_the_next_write_goes_through(
    store: Store, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "reactor.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = asyncio.get_running_loop().time()
        tries = (store.add_run(Run(f"r{n}", "p", "s", "/", "{}"), []) for n in range(20))
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert all(isinstance(o, StoreError) and "locked" in o.message for o in outcomes)
        # Together, not one after another: the lock was waited for twice at most.
        assert asyncio.get_running_loop().time() - begun < 2
        assert await store.runs() == []
        other.execute("ROLLBACK")
    assert (await store.add_run(Run("r1", "p", "s", "/", "{}"), [])).rev == 1


async def test_a_write_waits_for_a_short_lock_without_holding_up_the_loop(
    store: Store, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "reactor.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(store.add_run(Run("r1", "p", "s", "/", "{}"), []))
        assert await store.runs() == []
        assert not writing.done()
        other.execute("ROLLBACK")
        assert (await writing).rev == 1


async def test_a_reader_holds_up_no_writer(store: Store, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "reactor.db", isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM run").fetchall()
        assert (await store.add_run(Run("r1", "p", "s", "/", "{}"), [])).rev == 1
        assert other.execute("SELECT * FROM run").fetchall() == []


async def test_a_cancelled_caller_leaves_the_unit_whole_or_absent_and_the_store_usable(store: Store) -> None:
    entry = JournalEntry(JournalKind.SUBMITTED, "x")
    for n in range(100):
        adding = asyncio.ensure_future(store.add_run(Run(f"r{n}", "p", "s", "/", "{}"), [entry, entry]))
        for _ in range(n % 5):
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.wait([adding])
    await store.add_run(Run("last", "p", "s", "/", "{}"), [])
    for run in await store.runs(limit=200):
        assert len(await store.journal(run.id)) == (0 if run.id == "last" else 2)


async def test_what_was_asked_before_closing_is_carried_out_and_nothing_after(tmp_path: Path) -> None:
    path = str(tmp_path / "reactor.db")
    before = set(threading.enumerate())
    store = await open_store(path, clock=SystemClock())
    adding = [asyncio.ensure_future(store.add_run(Run(f"r{n}", "p", "s", "/", "{}"), [])) for n in range(100)]
    await asyncio.sleep(0)
    await store.aclose()
    await store.aclose()
    assert len(await asyncio.gather(*adding)) == 100
    assert set(threading.enumerate()) == before
    for asking in (store.runs(), store.add_run(Run("late", "p", "s", "/", "{}"), [])):
        with pytest.raises(StoreError, match="closed"):
            await asking
    again = await open_store(path, clock=SystemClock())
    assert len(await again.runs(limit=200)) == 100
    await again.aclose()


async def test_two_stores_in_memory_have_nothing_in_common() -> None:
    one = await open_store("sqlite://:memory:", clock=SystemClock())
    two = await open_store("sqlite://:memory:", clock=SystemClock())
    await one.add_run(Run("r1", "p", "s", "/", "{}"), [])
    assert await two.runs() == []
    assert one.store_id != two.store_id
    await one.aclose()
    await two.aclose()


def test_a_full_disk_is_the_stores_error_and_nothing_is_half_written(tmp_path: Path) -> None:
    path = tmp_path / "reactor.db"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert "nothing was written" in done.stdout
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_process_that_forgets_to_close_ends_all_the_same(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from opencode_reactor.clock import SystemClock
from opencode_reactor.store import open_store

async def main():
    store = await open_store(sys.argv[1], clock=SystemClock())
    store.changed(lambda: None)
    print((await store.take_lease("s", "ada", 1000)).epoch)

asyncio.run(main())
"""
    path = str(tmp_path / "reactor.db")
    for epoch in ("1\n", "2\n"):
        done = subprocess.run(
            [sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, epoch, "")


def test_importing_the_store_brings_neither_pydantic_nor_httpx() -> None:
    heavy = {"pydantic", "httpx", "anyio", "importlib.resources"}
    script = f"import sys, opencode_reactor.store; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"

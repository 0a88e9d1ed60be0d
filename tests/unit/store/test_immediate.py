from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import Conflict, NotKnown, StoreError
from opencode_reactor.model.runs import Run
from opencode_reactor.store import Store
from opencode_reactor.store.immediate import at_once, open_immediate


def opened(path: Path | str) -> Store:
    return open_immediate(str(path), clock=SystemClock(), patience=200)


def run(name: str) -> Run:
    return Run(name, "p", "s", "/", "{}")


def test_a_store_is_used_without_an_event_loop_or_a_thread(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    store = opened(tmp_path / "reactor.db")

    async def work() -> list[Run]:
        await store.add_run(run("r1"))
        await store.add_run(run("r2"))
        return await store.runs()

    assert {found.id for found in at_once(work())} == {"r1", "r2"}
    assert set(threading.enumerate()) == threads
    at_once(store.aclose())


def test_what_the_work_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    store = opened(tmp_path / "reactor.db")
    at_once(store.add_run(run("r1")))
    with pytest.raises(Conflict, match="there already"):
        at_once(store.add_run(run("r1")))
    with pytest.raises(NotKnown, match="r9"):
        at_once(store.run("r9"))
    assert at_once(store.run("r1")).rev == 1
    at_once(store.aclose())


def test_work_that_waits_for_something_else_is_refused_and_cleaned_up() -> None:
    ended: list[bool] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append(True)

    with pytest.raises(RuntimeError, match="event loop"):
        at_once(waits())
    assert ended == [True]


def test_what_was_read_is_one_snapshot_and_a_read_leaves_nothing_behind(tmp_path: Path) -> None:
    store = opened(tmp_path / "reactor.db")
    with closing(sqlite3.connect(tmp_path / "reactor.db", isolation_level=None)) as other:
        assert at_once(store.runs()) == []
        # No transaction of ours is left open: another program may have the database for itself.
        other.execute("BEGIN EXCLUSIVE")
        other.execute("ROLLBACK")
    at_once(store.aclose())


def test_a_closed_store_answers_no_more_and_may_be_closed_again(tmp_path: Path) -> None:
    store = opened(tmp_path / "reactor.db")
    at_once(store.aclose())
    at_once(store.aclose())
    for asking in (store.runs(), store.add_run(run("late"))):
        with pytest.raises(StoreError, match="closed"):
            at_once(asking)
    assert [file.name for file in tmp_path.iterdir()] == ["reactor.db"]


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("no database " * 99)
    with pytest.raises(StoreError, match="no SQLite database"):
        opened(tmp_path / "notes.db")
    assert (tmp_path / "notes.db").read_text() == "no database " * 99
    with pytest.raises(StoreError, match="no store can be had"):
        opened("postgresql://ada:secret@db/reactor")


def test_a_lock_held_too_long_is_the_stores_error(tmp_path: Path) -> None:
    store = opened(tmp_path / "reactor.db")
    with closing(sqlite3.connect(tmp_path / "reactor.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            at_once(store.add_run(run("r1")))
        assert at_once(store.runs()) == []
        other.execute("ROLLBACK")
    assert at_once(store.add_run(run("r1"))).rev == 1
    at_once(store.aclose())


def test_memory_is_a_store_too() -> None:
    store = opened("sqlite://:memory:")
    at_once(store.add_run(run("r1")))
    assert at_once(store.run("r")).id == "r1"
    at_once(store.aclose())


def test_asyncio_is_not_imported() -> None:
    script = "import sys, opencode_reactor.store.immediate; print({'asyncio', 'ssl'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"

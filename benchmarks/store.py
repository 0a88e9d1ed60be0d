"""What a durable transition costs: the store beside plain sqlite3 called from the event loop.

A transition is what the engine does for every decision: a run's next version under its revision and the
lease, its attempt, one journal entry, on the disk when it returns. The yardstick is what one would write by
hand: a guarded UPDATE of the run as one JSON text, an INSERT into the journal, a COMMIT, equally durable.

    python benchmarks/store.py [--transitions 400] [--rounds 5] [--folder WHERE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from opencode_reactor.clock import SystemClock
from opencode_reactor.model.runs import (
    Attempt,
    AttemptState,
    JournalEntry,
    JournalKind,
    Lease,
    Run,
    RunState,
    StageRun,
    StageState,
    Turn,
    TurnKind,
)
from opencode_reactor.store import Store, open_store

SERVER = "http://127.0.0.1:4096"
TOGETHER = 200
STAGES = ("plan", "draft", "review", "publish")
PROMPT = "Draft the release notes. " * 20


def new_run(number: int) -> Run:
    """A run of four stages whose first is under way."""
    attempt = Attempt(
        run=f"r{number:05}",
        stage=STAGES[0],
        number=1,
        state=AttemptState.RUNNING,
        turn=Turn(1, TurnKind.FIRST, PROMPT, f"msg_{number}", f"prt_{number}"),
        created=1,
        session=f"ses_{number}",
    )
    first = StageRun(STAGES[0], state=StageState.RUNNING, attempts=(attempt,))
    stages = (first, *(StageRun(name) for name in STAGES[1:]))
    return Run(attempt.run, "notes", SERVER, "/work", "{}", state=RunState.RUNNING, stages=stages)


def moved(run: Run) -> Run:
    """The run with something new about its attempt."""
    stage = run.stages[0]
    attempt = stage.attempts[0]
    attempt = replace(attempt, detail=f"revision {run.rev}", cost=attempt.cost + 0.01)
    return replace(run, stages=(replace(stage, attempts=(attempt,)), *run.stages[1:]))


class OurStore:
    """Transitions through the store."""

    def __init__(self, store: Store, lease: Lease, runs: list[Run]) -> None:
        self._store = store
        self._lease = lease
        self._runs = runs

    async def move(self, number: int) -> None:
        """One run's next version."""
        before = self._runs[number]
        entry = JournalEntry(JournalKind.OBSERVED, "something new", STAGES[0], 1, at=self._store.now())
        self._runs[number] = await self._store.save_run(
            before, moved(before), entries=[entry], lease=self._lease
        )


class PlainSqlite:
    """Transitions by hand, each its own commit, blocking the event loop meanwhile."""

    def __init__(self, path: Path, runs: int) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE run (id INTEGER PRIMARY KEY, rev INTEGER NOT NULL, body TEXT NOT NULL);"
            "CREATE TABLE journal (seq INTEGER PRIMARY KEY, run INTEGER, at INTEGER, what TEXT);"
        )
        self._revs = [1] * runs
        self._body = {"pipeline": "notes", "prompt": PROMPT, "stages": STAGES}
        rows = ((number, 1, self._text(1)) for number in range(runs))
        self._db.executemany("INSERT INTO run VALUES (?, ?, ?)", rows)

    def _text(self, rev: int) -> str:
        return json.dumps({**self._body, "detail": f"revision {rev}"})

    async def move(self, number: int) -> None:
        """One run's next version."""
        rev = self._revs[number]
        self._db.execute("BEGIN IMMEDIATE")
        update = "UPDATE run SET rev = rev + 1, body = ? WHERE id = ? AND rev = ?"
        assert self._db.execute(update, (self._text(rev), number, rev)).rowcount == 1
        insert = "INSERT INTO journal (run, at, what) VALUES (?, ?, ?)"
        self._db.execute(insert, (number, time.time_ns() // 1_000_000, "something new"))
        self._db.execute("COMMIT")
        self._revs[number] = rev + 1

    def close(self) -> None:
        """Close the file."""
        self._db.close()


Move = Callable[[int], Awaitable[None]]


async def alone(move: Move, transitions: int) -> None:
    """One after the other, as one run's hand does."""
    for number in range(transitions):
        await move(number % TOGETHER)


async def together(move: Move, transitions: int) -> None:
    """200 runs at once, and again."""
    for _ in range(max(1, transitions // TOGETHER)):
        await asyncio.gather(*(move(number) for number in range(TOGETHER)))


@dataclass(slots=True)
class Figures:
    """Milliseconds a transition, of each round."""

    wall: list[float] = field(default_factory=list[float])
    processor: list[float] = field(default_factory=list[float])


MANNERS = {"alone": alone, f"{TOGETHER} at once": together}


async def measure(folder: Path, transitions: int, rounds: int) -> dict[tuple[str, str], Figures]:
    """Both, in both manners, by turns."""
    runs = [new_run(number) for number in range(TOGETHER)]
    store = await open_store(str(folder / "ours.db"), clock=SystemClock())
    try:
        lease = await store.take_lease(SERVER, "benchmark", 3_600_000)
        assert lease is not None
        ours = OurStore(store, lease, [await store.add_run(run) for run in runs])
        with closing(PlainSqlite(folder / "plain.db", TOGETHER)) as plain:
            moves: dict[str, Move] = {"sqlite3 by hand": plain.move, "the store": ours.move}
            figures = {(name, manner): Figures() for manner in MANNERS for name in moves}
            for _ in range(rounds):
                for (name, manner), found in figures.items():
                    wall, processor = time.perf_counter(), time.process_time()
                    await MANNERS[manner](moves[name], transitions)
                    found.wall.append((time.perf_counter() - wall) * 1000 / transitions)
                    found.processor.append((time.process_time() - processor) * 1000 / transitions)
            return figures
    finally:
        await store.aclose()


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description="Milliseconds a durable transition.")
    parser.add_argument("--transitions", type=int, default=400, help=f"a round; a multiple of {TOGETHER}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to measure (a temporary folder)")
    chosen = parser.parse_args()
    if chosen.transitions < TOGETHER or chosen.transitions % TOGETHER or chosen.rounds < 1:
        parser.error(f"transitions: a multiple of {TOGETHER}; rounds: at least 1")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=chosen.folder) as name:
        figures = asyncio.run(measure(Path(name), chosen.transitions, chosen.rounds))
    print(f"\n{chosen.rounds} rounds of {chosen.transitions} transitions by turns, ms each")
    print(f"{'':34}{'wall':>8}{'worst':>8}{'processor':>11}{'ratio':>8}")
    for (name, manner), found in figures.items():
        median = statistics.median(found.wall)
        base = statistics.median(figures["sqlite3 by hand", manner].wall)
        print(f"{f'{name}, {manner}':34}{median:>8.3f}{max(found.wall):>8.3f}", end="")
        print(f"{statistics.median(found.processor):>11.3f}{median / base:>8.2f}")


if __name__ == "__main__":
    main()

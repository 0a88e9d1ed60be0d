from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.model.ask_ids import ask_id
from opencode_reactor.model.asks import Ask, AskKind
from opencode_reactor.model.runs import (
    Attempt,
    AttemptState,
    Evidence,
    Failure,
    JournalEntry,
    JournalKind,
    Run,
    RunState,
    StageRun,
    StageState,
    Turn,
    TurnKind,
    WaitingOn,
)
from opencode_reactor.model.sessions import ModelRef, Option, Question, Tokens
from opencode_reactor.store import Store, open_store

T = TypeVar("T")
SERVER = "http://127.0.0.1:4096"
NOW = 1_760_000_000_000


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs real `reactor` processes in a folder and a home of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "state" / "opencode-reactor" / "reactor.db"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "LANG": "C.UTF-8",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        }

    def __call__(self, *arguments: str, **environ: str) -> Finished:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "opencode_reactor", *arguments],
            cwd=self.folder,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def stored(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Do something with the store the processes use."""

        async def session() -> T:
            store = await open_store(str(self.database), clock=SystemClock())
            try:
                return await work(store)
            finally:
                await store.aclose()

        return asyncio.run(session())


@pytest.fixture
def reactor(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


class Given:
    """What a store may hold: each with the changes a test wants."""

    server = SERVER
    now = NOW

    def attempt(self, stage: str, number: int = 1, **changes: Any) -> Attempt:
        base = Attempt(
            run="r1abc",
            stage=stage,
            number=number,
            state=AttemptState.SUCCEEDED,
            turn=Turn(1, TurnKind.FIRST, "Do it", f"msg_{stage}{number}", f"prt_{stage}{number}"),
            created=NOW,
            model=ModelRef("test", "small"),
            session=f"ses_{stage}{number}",
            started=NOW + 1000,
            ended=NOW + 5000,
            tokens=Tokens(1000, 200, 0, 50, 0),
            cost=0.25,
            evidence=(
                Evidence("idle", holds=True, fact="absent from the status map", at=NOW + 4000),
                Evidence("contract", holds=True, fact="19 characters", at=NOW + 4001),
            ),
        )
        return replace(base, **changes)

    def waiting_run(self, **changes: Any) -> Run:
        """One stage succeeded at the second try, one waits for a permission, one is to come."""
        draft = StageRun(
            "draft",
            StageState.SUCCEEDED,
            output={"title": "Öl & [bold]"},
            text='{"title": "Öl & [bold]"}',
            summary="Öl & [bold]x[/bold] \x1b[31mred\x1b[0m",
            started=NOW + 1000,
            ended=NOW + 5000,
            attempts=(
                self.attempt(
                    "draft",
                    1,
                    state=AttemptState.FAILED,
                    failure=Failure.OUTPUT_NOT_JSON,
                    detail="no JSON in it",
                ),
                self.attempt("draft", 2),
            ),
        )
        lacking = Evidence("idle", holds=False, fact="the session is busy", at=NOW + 7000)
        review = StageRun(
            "review",
            StageState.RUNNING,
            started=NOW + 6000,
            attempts=(
                self.attempt(
                    "review",
                    1,
                    state=AttemptState.RUNNING,
                    waiting_on=WaitingOn.PENDING_PERMISSION,
                    ended=None,
                    evidence=(lacking,),
                ),
            ),
        )
        base = Run(
            id="r1abc",
            pipeline="release-notes",
            server=SERVER,
            directory="/srv/app",
            spec="{}",
            inputs={"tag": "v1"},
            state=RunState.WAITING,
            waiting_on=WaitingOn.PENDING_PERMISSION,
            created=NOW,
            updated=NOW,
            wake_at=NOW + 60_000,
            stages=(draft, review, StageRun("publish")),
        )
        return replace(base, **changes)

    def history(self) -> list[JournalEntry]:
        proof = [{"check": "contract", "holds": False, "fact": "no JSON in it", "at": NOW + 2000}]
        return [
            JournalEntry(JournalKind.SUBMITTED, "submitted", at=NOW),
            JournalEntry(JournalKind.DECIDED, "attempt 1", "draft", 1, NOW + 1000),
            JournalEntry(
                JournalKind.DECIDED, "not JSON: no JSON in it", "draft", 1, NOW + 2000, {"evidence": proof}
            ),
            JournalEntry(JournalKind.EFFECT, "session ses_review1", "review", 1, NOW + 6000),
        ]

    def permission(self, **changes: Any) -> Ask:
        base = Ask(
            id=ask_id(SERVER, "per_1"),
            kind=AskKind.PERMISSION,
            server=SERVER,
            request="per_1",
            directory="/srv/app",
            session="ses_review1",
            root="ses_review1",
            run="r1abc",
            stage="review",
            attempt=1,
            title="bash",
            detail="git push \x1b]0;owned\x07--force\n[red]now[/red]",
            permission="bash",
            patterns=("git push --force",),
            opened=NOW + 7000,
        )
        return replace(base, **changes)

    def question(self, *questions: Question, **changes: Any) -> Ask:
        asked = questions or (
            Question("Which database?", "db", (Option("SQLite"), Option("PostgreSQL")), custom=False),
        )
        base = Ask(
            id=ask_id(SERVER, "que_1"),
            kind=AskKind.QUESTION,
            server=SERVER,
            request="que_1",
            session="ses_loose",
            root="ses_loose",
            questions=asked,
            opened=NOW,
            expires=NOW + 3_600_000,
        )
        return replace(base, **changes)


@pytest.fixture
def given() -> Given:
    return Given()

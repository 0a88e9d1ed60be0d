from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from opencode_reactor.cli.live import LiveProgress
from opencode_reactor.cli.output import Format, Output
from opencode_reactor.cli.progress import JsonProgress, LineProgress, progress
from opencode_reactor.model.asks import AskState
from opencode_reactor.model.runs import (
    AttemptState,
    Failure,
    JournalEntry,
    JournalKind,
    Run,
    RunState,
    StageRun,
    StageState,
    WaitingOn,
)
from opencode_reactor.model.sessions import Tokens


class Still:
    """A clock that stands."""

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return 0.0


def story(given: Any) -> list[Run]:
    """One run in five snapshots: queued, planned, running, more tokens, over."""
    queued = given.waiting_run(state=RunState.QUEUED, waiting_on=None, stages=(StageRun("draft"),))

    def at(state: RunState, stage: StageState, attempt: Any) -> Run:
        stages = (StageRun("draft", stage, started=given.now, attempts=(attempt,)),)
        return replace(queued, state=state, stages=stages)

    planned = given.attempt("draft", state=AttemptState.PLANNED, session=None, ended=None, tokens=Tokens())
    running = replace(planned, state=AttemptState.RUNNING, session="ses_1")
    over = replace(running, state=AttemptState.SUCCEEDED, tokens=Tokens(10))
    return [
        queued,
        at(RunState.RUNNING, StageState.RUNNING, planned),
        at(RunState.RUNNING, StageState.RUNNING, running),
        at(RunState.RUNNING, StageState.RUNNING, replace(running, tokens=Tokens(10))),
        at(RunState.SUCCEEDED, StageState.SUCCEEDED, over),
    ]


def told(shown: Any, capsys: pytest.CaptureFixture[str], runs: list[Run]) -> list[dict[str, Any]]:
    for run in runs:
        shown.update(run)
    shown.ended(runs[-1])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_lines_tell_each_change_once_and_end_with_the_whole_run(
    given: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = story(given)
    lines = told(JsonProgress(Output(Format.JSON)), capsys, [run for run in runs for _ in range(2)])
    assert [line["type"] for line in lines] == [
        "run.started",
        "run.changed",
        "stage.changed",
        "attempt.changed",
        "attempt.changed",
        "attempt.changed",
        "run.changed",
        "stage.changed",
        "attempt.changed",
        "run.finished",
    ]
    assert all(line["time"].endswith("Z") for line in lines)
    assert [line["tokens"]["total"] for line in lines if line["type"] == "attempt.changed"] == [0, 0, 10, 10]
    run = lines[-1]["run"]
    assert {"id", "pipeline", "state", "waiting_on", "failure", "stages"} <= run.keys()
    stage = run["stages"]["draft"]
    assert {"state", "failure", "output", "text", "summary", "attempts"} <= stage.keys()
    (attempt,) = stage["attempts"]
    keys = {"number", "session", "message", "model", "state", "failure", "tokens", "cost"}
    assert keys <= attempt.keys()
    assert (attempt["session"], attempt["message"]) == ("ses_1", "msg_draft1")


def test_json_lines_tell_of_asks_that_open_and_go(given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shown, run, ask = JsonProgress(Output(Format.JSON)), given.waiting_run(), given.permission()
    shown.update(run, [ask])
    shown.update(run, [ask])
    shown.update(run, [])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    opened = [line for line in lines if line["type"] == "ask.opened"]
    closed = [line for line in lines if line["type"] == "ask.closed"]
    assert [line["ask"]["id"] for line in opened] == [ask.id]
    assert [line["ask"] for line in closed] == [ask.id]


def plain(given: Any, *, verbose: bool = False) -> tuple[LineProgress, list[str]]:
    lines: list[str] = []
    return LineProgress(lines.append, Still(given.now), verbose=verbose), lines


def test_plain_lines_tell_the_steps_that_last_and_what_became_of_a_stage(given: Any) -> None:
    shown, lines = plain(given)
    for run in story(given):
        shown.update(run)
    assert [line.split("  ", 1)[1] for line in lines] == [
        "run r1abc of release-notes on http://127.0.0.1:4096",
        "draft: attempt 1 on test/small starts",
        "draft: attempt 1 on test/small works",
        "draft: succeeded",
    ]


def test_plain_lines_say_how_an_ask_is_answered_and_carry_no_control_sequence(given: Any) -> None:
    shown, lines = plain(given)
    ask = given.permission()
    shown.update(given.waiting_run(), [ask])
    shown.update(given.waiting_run(), [ask])
    assert sum(f"reactor reply {ask.id} once|always|reject" in line for line in lines) == 1
    assert not any("\x1b" in line or "\x07" in line or "\n" in line for line in lines)


def test_a_backoff_is_told_with_its_end(given: Any) -> None:
    shown, lines = plain(given)
    later = given.attempt(
        "draft",
        state=AttemptState.PLANNED,
        not_before=given.now + 30_000,
        waiting_on=WaitingOn.PROVIDER,
        ended=None,
    )
    shown.update(given.waiting_run(stages=(StageRun("draft", StageState.WAITING, attempts=(later,)),)))
    assert any("waits for the provider, until" in line and "(in 30 s)" in line for line in lines)


def test_an_escalation_says_why(given: Any) -> None:
    shown, lines = plain(given)
    stuck = StageRun(
        "draft", StageState.WAITING, WaitingOn.PERSON, failure=Failure.AUTH_FAILED, detail="401 \x1b[1mno"
    )
    shown.update(given.waiting_run(stages=(stuck,)))
    assert lines[-1].endswith("draft: waits for a person: auth_failed: 401 no")


def test_the_journal_is_told_with_v_only(given: Any) -> None:
    entry = JournalEntry(JournalKind.DECIDED, "attempt 1", "draft", 1)
    for verbose in (False, True):
        shown, lines = plain(given, verbose=verbose)
        shown.note(entry)
        assert len(lines) == verbose


def drawn(given: Any, run: Run, *asks: Any, width: int = 100) -> str:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None)
    live = LiveProgress(Still(given.now + 10_000), console)
    live.update(run, asks)
    console.print(live.draw())
    return screen.getvalue()


def test_the_live_view_shows_stage_model_tokens_cost_time_and_how_to_answer(given: Any) -> None:
    ask = given.permission()
    view = drawn(given, given.waiting_run(), ask)
    assert "release-notes  r1abc  10 s  3.8k tokens  $0.75" in view
    draft, review, publish = (
        next(line for line in view.splitlines() if name in line) for name in ("draft", "review", "publish")
    )
    assert draft.split()[:4] == ["✓", "draft", "(2)", "test/small"]
    assert "Öl & [bold]x[/bold] red" in draft
    assert "waits for a permission" in review
    assert publish.split() == ["·", "publish"]
    assert f"permission {ask.id}: bash: git push --force [red]now[/red]" in view
    assert f"reactor reply {ask.id}" in view


def test_a_narrow_terminal_breaks_no_line_of_the_table(given: Any) -> None:
    view = drawn(given, given.waiting_run(), width=40)
    assert all(len(line) <= 40 for line in view.splitlines())
    assert sum("draft" in line for line in view.splitlines()) == 1


def test_the_live_view_gives_the_terminal_back_also_after_an_error(given: Any) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=80, force_terminal=True)

    def fail() -> None:
        with LiveProgress(Still(given.now), console) as live:
            live.update(given.waiting_run())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert screen.getvalue().rfind("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l")


def test_the_way_of_following_fits_where_the_output_goes(
    capsys: pytest.CaptureFixture[str], given: Any
) -> None:
    assert isinstance(progress(Output(Format.JSON)), JsonProgress)
    quiet = progress(Output(Format.DEFAULT, quiet=True))
    quiet.update(given.waiting_run(), [given.permission(state=AskState.OPEN)])
    assert capsys.readouterr() == ("", "")
    shown = progress(Output(Format.DEFAULT))
    shown.update(given.waiting_run())
    out, err = capsys.readouterr()
    assert out == ""
    assert "run r1abc of release-notes" in err

"""Reactors killed, stopped, or two at once: each prompt is sent once, and every run comes to its end."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from opencode_reactor.model.runs import JournalKind, Run
from opencode_reactor.store import Store
from opencode_reactor.testing import Says, Stalls


def two_stages(terminal: Any) -> str:
    path: str = terminal.pipeline({"name": "one", "prompt": "alpha"}, {"name": "two", "prompt": "beta"})
    return path


def finished_by_the_daemon(terminal: Any, run: str) -> Run:
    """The run, driven to its end by a new `reactor serve`, which then stops as it should."""
    serving = terminal.start("serve")
    serving.says("listening")
    last: Run = terminal.succeeded(run)
    assert serving.stop().code == 0
    return last


# Milliseconds after the reactor begins to act: from before the first session to behind the first prompt.
@pytest.mark.parametrize("later", [0, 20, 50, 90, 150])
def test_a_run_that_was_killed_at_any_step_is_finished_by_the_daemon(terminal: Any, later: int) -> None:
    terminal.live.model.on("alpha", Stalls("the first ", for_=1, then="stage"))
    running = terminal.start("run", two_stages(terminal), "--format", "json", "-v")
    run = running.emits("run.started")["run"]["id"]
    running.says("listening")
    time.sleep(later / 1000)  # the instant is what is tried
    assert running.stop(signal.SIGKILL).code == -signal.SIGKILL
    last = finished_by_the_daemon(terminal, run)
    assert [(s.text, len(s.attempts)) for s in last.stages] == [("the first stage", 1), ("Done.", 1)]
    assert (terminal.prompted("alpha"), terminal.prompted("beta")) == (1, 1)


def test_a_run_that_was_killed_in_mid_turn_is_finished_by_the_daemon(terminal: Any) -> None:
    terminal.live.model.on("alpha", Says("one two three four five six", chunks=6, delay=0.5))
    running = terminal.start("run", two_stages(terminal), "--format", "json")
    terminal.asked("alpha")
    running.stop(signal.SIGKILL)
    last = finished_by_the_daemon(terminal, terminal.only_run().id)
    assert last.stage("one").text == "one two three four five six"
    assert (terminal.prompted("alpha"), terminal.prompted("beta")) == (1, 1)


def test_a_run_whose_turn_ended_while_nobody_lived_is_finished_by_the_daemon(terminal: Any) -> None:
    terminal.live.model.on("alpha", Says("one two three", chunks=3, delay=0.3))
    running = terminal.start("run", two_stages(terminal), "--format", "json")
    terminal.asked("alpha")
    running.stop(signal.SIGKILL)
    terminal.until(lambda: terminal.http("GET", "/session/status") == {})
    last = finished_by_the_daemon(terminal, terminal.only_run().id)
    assert last.stage("one").text == "one two three"
    assert (terminal.prompted("alpha"), terminal.prompted("beta")) == (1, 1)


def test_a_run_that_was_killed_between_its_stages_is_finished_by_the_daemon(terminal: Any) -> None:
    terminal.live.model.on("beta", Stalls("the second ", for_=1, then="stage"))
    running = terminal.start("run", two_stages(terminal), "--format", "json")
    stage = running.emits("stage.changed", stage="one", state="succeeded")
    running.stop(signal.SIGKILL)
    last = finished_by_the_daemon(terminal, stage["run"])
    assert [(s.text, len(s.attempts)) for s in last.stages] == [("Done.", 1), ("the second stage", 1)]
    assert (terminal.prompted("alpha"), terminal.prompted("beta")) == (1, 1)


def test_an_interrupted_run_says_how_it_goes_on_and_does(terminal: Any) -> None:
    terminal.live.model.on("alpha", Stalls("half ", for_=2, then="and half"))
    running = terminal.start("run", two_stages(terminal))
    terminal.asked("alpha")
    stopped = running.stop(signal.SIGINT)
    run = terminal.only_run().id
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err.endswith(
        f"reactor: interrupted; run {run} stays where it is: `reactor serve` goes on with it\n"
    )
    assert stopped.took < 5
    assert finished_by_the_daemon(terminal, run).stage("one").text == "half and half"
    assert (terminal.prompted("alpha"), terminal.prompted("beta")) == (1, 1)


def test_a_daemon_that_was_killed_is_followed_by_another(terminal: Any) -> None:
    terminal.live.model.on("alpha", Stalls("half ", for_=2, then="and half"))
    run = terminal("submit", two_stages(terminal)).out.strip()
    serving = terminal.start("serve")
    terminal.asked("alpha")
    waiting = terminal.start("serve")
    waiting.says("another reactor serves it")
    serving.stop(signal.SIGKILL)
    assert terminal.succeeded(run).stage("one").text == "half and half"
    assert waiting.stop().code == 0
    assert (terminal.prompted("alpha"), terminal.prompted("beta")) == (1, 1)


def test_two_runs_at_once_on_one_store_and_server_do_not_disturb_each_other(terminal: Any) -> None:
    paths = [terminal.pipeline({"name": "one", "prompt": text}) for text in ("alpha", "beta")]
    both = [terminal.start("run", path, "--format", "json") for path in paths]
    ends = [running.end() for running in both]
    assert [end.code for end in ends] == [0, 0]
    assert [end.lines[-1]["run"]["state"] for end in ends] == ["succeeded", "succeeded"]
    assert (terminal.prompted("alpha"), terminal.prompted("beta")) == (1, 1)


def test_a_run_beside_the_daemon_follows_what_the_daemon_does(terminal: Any) -> None:
    serving = terminal.start("serve")
    serving.says("listening")
    done = terminal("run", two_stages(terminal), "--format", "json")
    run = done.lines[-1]["run"]
    assert (done.code, run["state"]) == (0, "succeeded")
    assert serving.stop().code == 0
    assert (terminal.prompted("alpha"), terminal.prompted("beta")) == (1, 1)

    async def epochs(store: Store) -> set[int]:
        journal = await store.journal(run["id"])
        return {entry.epoch for entry in journal if entry.kind is not JournalKind.SUBMITTED}

    assert len(terminal.stored(epochs)) == 1  # one reactor, not two in turns
    assert done.lines[0]["type"] == "run.started"


def test_a_run_goes_on_by_itself_when_the_daemon_that_drove_it_goes(terminal: Any) -> None:
    terminal.live.model.on("alpha", Stalls("half ", for_=2, then="and half"))
    serving = terminal.start("serve")
    serving.says("listening")
    running = terminal.start("run", two_stages(terminal), "--format", "json")
    terminal.asked("alpha")
    serving.stop()
    done = running.end()
    assert (done.code, done.lines[-1]["run"]["stages"]["one"]["text"]) == (0, "half and half")
    assert (terminal.prompted("alpha"), terminal.prompted("beta")) == (1, 1)

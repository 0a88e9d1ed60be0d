"""Real commands in a real folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskGroup

from opencode_reactor.clock import SystemClock
from opencode_reactor.model.runs import Attempt, AttemptState, Run, StageRun, StageState, Turn, TurnKind
from opencode_reactor.pipeline.facts import CheckRan, ChecksRan, RunChecks
from opencode_reactor.reactor.checks import OUTPUT_LIMIT, Checks, run_checks

ATTEMPT = Attempt(
    "r1", "one", 1, AttemptState.CHECKING, Turn(1, TurnKind.FIRST, "Do it.", "msg_1", "prt_1"), 0
)


async def ran(command: str, folder: Path, seconds: float = 20.0) -> CheckRan:
    (check,) = (await run_checks((command,), str(folder), seconds)).checks
    return check


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells of; fail after 5 s."""
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def gone(pid: int) -> None:
    """Wait until a process is no more."""
    await until(lambda: not alive(pid))


def said(file: Path) -> bool:
    return file.exists() and bool(file.read_text(encoding="utf-8"))


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_a_command_runs_in_the_project_directory_through_the_shell(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    check = await ran('test -f "a file" && pwd', tmp_path)
    assert check == CheckRan('test -f "a file" && pwd', 0, f"{tmp_path}\n")


@pytest.mark.parametrize("code", [1, 2, 77, 255])
async def test_its_exit_code_is_told(tmp_path: Path, code: int) -> None:
    assert (await ran(f"exit {code}", tmp_path)).code == code


async def test_a_command_that_dies_of_a_signal_did_not_exit_0(tmp_path: Path) -> None:
    assert (await ran("kill -9 $$", tmp_path)).code == -9


async def test_what_it_says_on_either_channel_is_kept_in_order(tmp_path: Path) -> None:
    assert (await ran("echo one; echo two >&2; echo three", tmp_path)).output == "one\ntwo\nthree\n"


async def test_of_a_long_output_the_end_is_kept(tmp_path: Path) -> None:
    script = "for n in range(200_000): print('line', n)"
    check = await ran(f'{sys.executable} -c "{script}"', tmp_path)
    assert check.code == 0
    assert len(check.output) == OUTPUT_LIMIT
    assert check.output.endswith("line 199998\nline 199999\n")


async def test_an_output_that_is_no_text_is_told_all_the_same(tmp_path: Path) -> None:
    check = await ran(r"printf 'caf\351 \000 \360\237\230'", tmp_path)
    assert check.output == "caf\ufffd \0 \ufffd"


async def test_it_has_nothing_to_read_and_does_not_wait_for_input(tmp_path: Path) -> None:
    assert (await ran("read line || echo nothing", tmp_path)).output == "nothing\n"


async def test_commands_run_one_after_the_other_up_to_the_first_that_fails(tmp_path: Path) -> None:
    commands = ("echo 1 > log", "exit 3", "echo 3 >> log")
    result = await run_checks(commands, str(tmp_path), 20)
    assert [(c.command, c.code) for c in result.checks] == [("echo 1 > log", 0), ("exit 3", 3)]
    assert (tmp_path / "log").read_text(encoding="utf-8") == "1\n"


async def test_no_commands_hold_at_once(tmp_path: Path) -> None:
    assert await run_checks((), str(tmp_path), 1) == ChecksRan(())


async def test_at_the_deadline_a_command_is_killed_with_all_it_started(tmp_path: Path) -> None:
    began = anyio.current_time()
    check = await ran("echo begun; sh -c 'echo $$ > child; sleep 60'; echo never", tmp_path, 0.5)
    assert anyio.current_time() - began < 5
    assert (check.code, check.output) == (None, "begun\n")
    await gone(int((tmp_path / "child").read_text(encoding="utf-8")))


async def test_all_commands_share_the_deadline(tmp_path: Path) -> None:
    result = await run_checks(("sleep 0.3", "sleep 60"), str(tmp_path), 0.6)
    assert [c.code for c in result.checks] == [0, None]


async def test_a_deadline_that_is_over_ends_a_command_at_once(tmp_path: Path) -> None:
    began = anyio.current_time()
    assert (await ran("sleep 60", tmp_path, -1.0)).code is None
    assert anyio.current_time() - began < 5


async def test_what_was_left_in_the_background_does_not_hold_up_the_check_and_is_killed(
    tmp_path: Path,
) -> None:
    began = anyio.current_time()
    check = await ran("sleep 60 & echo $! > child; echo done", tmp_path)
    assert anyio.current_time() - began < 5
    assert (check.code, check.output) == (0, "done\n")
    await gone(int((tmp_path / "child").read_text(encoding="utf-8")))


async def test_one_that_left_the_group_with_our_pipe_in_hand_is_not_waited_for(tmp_path: Path) -> None:
    began = anyio.current_time()
    check = await ran("setsid sh -c 'echo $$ > child; exec sleep 60' & sleep 0.3; echo done", tmp_path)
    assert anyio.current_time() - began < 5
    assert (check.code, check.output) == (0, "done\n")
    os.kill(int((tmp_path / "child").read_text(encoding="utf-8")), 9)


async def test_a_missing_directory_is_a_failed_check(tmp_path: Path) -> None:
    check = await ran("true", tmp_path / "none")
    assert check.code == 127
    assert "none" in check.output
    assert "No such file" in check.output


async def test_a_missing_program_is_a_failed_check(tmp_path: Path) -> None:
    check = await ran("no-such-program --at all", tmp_path)
    assert check.code == 127
    assert "no-such-program" in check.output


async def test_cancelled_it_leaves_nothing_behind(tmp_path: Path) -> None:
    files = open_files()
    child = tmp_path / "child"
    with anyio.move_on_after(5) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(ran, "echo $$ > child; sleep 60", tmp_path)
            await until(lambda: said(child))
            group.cancel_scope.cancel()
    assert not scope.cancelled_caught
    await gone(int(child.read_text(encoding="utf-8")))
    await anyio.sleep(0.01)  # the pipe is closed in the loop's next turn
    assert open_files() == files


# Beside the queue


class Beside:
    """Checks with a run that waits for them, and the ids of the runs that were told of."""

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        self.checks = Checks(SystemClock().now, self.told.append)
        stage = StageRun("one", StageState.RUNNING, attempts=(ATTEMPT,))
        self.run = Run("r1", "p", "http://s", str(folder), "{}", stages=(stage,))

    def start(self, group: TaskGroup, *commands: str) -> None:
        deadline = SystemClock().now() + 20_000
        self.checks.start(self.run, RunChecks(ATTEMPT.id, commands, deadline), group)

    async def end(self) -> None:
        await until(lambda: bool(self.told))


async def test_the_result_is_told_of_and_kept_until_it_was_decided_on(tmp_path: Path) -> None:
    beside = Beside(tmp_path)
    passed = {ATTEMPT.id: ChecksRan((CheckRan("echo 1 >> log", 0, ""),))}
    async with anyio.create_task_group() as group:
        beside.start(group, "echo 1 >> log")
        beside.start(group, "echo 1 >> log")
        assert beside.checks.results(beside.run) == {}
        await beside.end()
        assert beside.checks.results(beside.run) == passed
        beside.start(group, "echo 1 >> log")
    assert beside.told == ["r1"]
    assert beside.checks.results(beside.run) == passed
    beside.checks.forget(passed)
    assert beside.checks.results(beside.run) == {}
    assert (tmp_path / "log").read_text(encoding="utf-8") == "1\n"


async def test_checks_of_an_attempt_that_ended_meanwhile_are_stopped(tmp_path: Path) -> None:
    beside = Beside(tmp_path)
    over = replace(ATTEMPT, state=AttemptState.CANCELLED)
    cancelled = replace(beside.run, stages=(StageRun("one", attempts=(over,)),))
    async with anyio.create_task_group() as group:
        beside.start(group, "echo $$ > child; sleep 60")
        child = tmp_path / "child"
        await until(lambda: said(child))
        assert beside.checks.results(cancelled) == {}
        await gone(int(child.read_text(encoding="utf-8")))
    assert beside.checks.results(cancelled) == {}


async def test_what_came_for_an_attempt_that_has_ended_is_forgotten(tmp_path: Path) -> None:
    beside = Beside(tmp_path)
    over = replace(ATTEMPT, state=AttemptState.CANCELLED)
    async with anyio.create_task_group() as group:
        beside.start(group, "true")
    assert beside.checks.results(replace(beside.run, stages=(StageRun("one", attempts=(over,)),))) == {}
    assert beside.checks.results(beside.run) == {}

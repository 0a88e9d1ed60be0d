from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from opencode_reactor.cli import fence
from opencode_reactor.errors import ConfigError, Unreachable

LATE = ("httpx", "opencode_reactor.store", "pydantic", "rich", "typer", "asyncio", "opencode_reactor.app")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["--version"]])
def test_help_and_version_import_nothing_that_takes_time(arguments: list[str]) -> None:
    code = (
        "import sys; from opencode_reactor.cli.fence import run; code = run(sys.argv[1:]); "
        f"print([m for m in {LATE!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0
    assert done.stderr == "[]\n"
    assert "reactor" in done.stdout


def test_commands_of_the_store_import_neither_httpx_nor_pydantic_nor_rich(reactor: Any) -> None:
    code = (
        "import sys; from opencode_reactor.cli.fence import run; code = run(sys.argv[1:]); "
        "print([m for m in ('httpx', 'pydantic', 'rich.table') if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "runs"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=reactor.folder,
        env=reactor.environ,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_every_listed_command_has_help_with_its_common_options(reactor: Any) -> None:
    overview = reactor("--help").out
    names = [line.split()[0] for line in overview.splitlines() if line.startswith("  ")]
    assert {"run", "prompt", "serve", "submit", "runs", "explain", "inbox", "doctor", "schema"} <= set(names)
    for name in names:
        done = reactor(name, "--help")
        assert done.code == 0, done.err
        assert done.out.startswith(f"usage: reactor {name} ")
        assert "--format" in done.out


def test_common_options_may_stand_before_the_command(reactor: Any) -> None:
    before, behind = reactor("--format", "json", "-q", "schema"), reactor("schema", "--format", "json", "-q")
    assert (before.code, before.out[:16]) == (behind.code, behind.out[:16]) == (0, '{"type":"schema"')


def test_help_of_a_command_is_asked_for_in_two_ways(reactor: Any) -> None:
    assert reactor("help", "runs") == reactor("runs", "--help")


def test_an_unknown_command_names_the_nearest_one(reactor: Any) -> None:
    done = reactor("rnus")
    assert (done.code, done.out) == (2, "")
    assert done.err == "reactor: error: there is no command 'rnus'\n  did you mean runs?\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs", "--fromat", "json"], "--fromat means nothing here: did you mean --format?"),
        (["runs", "--format", "xml"], "invalid choice: 'xml'"),
        (["show"], "required: RUN"),
        (["-v", "--store", "x"], "-v --store x: no command is named"),
        (["--stor", "runs"], "--stor means nothing here"),
        (["reply", "a1"], "required: once|always|reject"),
        (["runs", "--server", "http://me:hidden@host"], "holds a user name or password"),
        (["runs", "--config", "gone.toml"], "--config names a file that does not exist"),
        (["runs", "--store", "postgresql://me:hidden@host/db"], "no store can be had by postgresql://"),
    ],
)
def test_wrong_usage_is_one_message_on_stderr_and_exit_code_2(
    reactor: Any, arguments: list[str], said: str
) -> None:
    done = reactor(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("reactor: error: ")
    assert said in done.err
    assert "Traceback" not in done.err
    assert "hidden" not in done.err


def test_a_wrong_configuration_names_file_and_line(reactor: Any) -> None:
    (reactor.folder / "reactor.toml").write_text('concurrency = 2\nstroe = "x"\n')
    done = reactor("runs")
    assert done.code == 2
    assert done.err == (
        f"reactor: error: {reactor.folder / 'reactor.toml'}:2: unknown key stroe\n  did you mean store?\n"
    )


def test_a_reader_that_goes_away_is_no_error(reactor: Any) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m opencode_reactor schema config | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=reactor.folder,
        env=reactor.environ,
    )
    assert done.stderr == ""
    assert done.stdout in {"0\n", f"{fence.BROKEN_PIPE}\n"}


def test_ctrl_c_ends_with_130_and_no_traceback(reactor: Any) -> None:
    """The database is held by another process, so that the command waits."""
    process = subprocess.Popen(
        [sys.executable, "-m", "opencode_reactor", "events", "--follow", "--server", "http://127.0.0.1:9"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=reactor.folder,
        env=reactor.environ,
    )
    assert process.stderr is not None
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode in {130, -signal.SIGINT}
    assert "opencode_reactor" not in err or process.returncode == -signal.SIGINT


def answered(
    error: BaseException, capsys: pytest.CaptureFixture[str], *, verbose: int = 0
) -> tuple[int, str]:
    code = fence.answer(error, verbose=verbose)
    return code, capsys.readouterr().err


def test_errors_of_a_task_group_are_told_one_by_one_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    away = Unreachable("no answer", place="http://a", remedy="start it")
    group = ExceptionGroup(
        "", [away, ExceptionGroup("", [Unreachable("no answer", place="http://a", remedy="start it")])]
    )
    assert answered(group, capsys) == (4, "reactor: error: http://a: no answer\n  start it\n")


def test_an_unexpected_error_is_one_line_that_says_how_to_learn_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, err = answered(ValueError("two\nlines \x1b[31m"), capsys)
    assert code == 1
    assert err.startswith("reactor: error: unexpected ValueError: two lines")
    assert "-v" in err
    assert "\x1b" not in err


def test_with_v_the_traceback_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="deep") as caught:
        int("deep")
    code, err = answered(caught.value, capsys, verbose=1)
    assert code == 1
    assert "Traceback" in err
    assert "test_fence.py" in err


def test_the_traceback_of_an_expected_error_takes_two_vs(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ConfigError: wrong key" not in answered(ConfigError("wrong key"), capsys, verbose=1)[1]
    assert "ConfigError: wrong key" in answered(ConfigError("wrong key"), capsys, verbose=2)[1]


def test_an_expected_error_beside_an_unexpected_one_hides_neither(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = answered(ExceptionGroup("", [ConfigError("wrong key"), KeyError("x")]), capsys)
    assert code == 1
    assert "wrong key" in err
    assert "unexpected KeyError" in err


def test_an_interrupt_within_a_group_is_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    group = BaseExceptionGroup("", [KeyboardInterrupt(), ValueError("on the way out")])
    assert answered(group, capsys) == (130, "")

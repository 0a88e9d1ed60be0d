from __future__ import annotations

import json
import os
import pty
import sys
from typing import Any

import pytest

from opencode_reactor.model.runs import JournalEntry, Run, RunState, StageState
from opencode_reactor.store import Store

PIPELINE = """\
name: notes
inputs: {tag: {description: The tag}}
stages:
  - name: draft
    prompt: Draft {{ inputs.tag }}
  - name: review
    prompt: "Review {{ stages.draft.summary }}"
"""
HANDLER = '''\
"""Log it."""
from opencode_reactor import Context, SessionIdle, on

@on(SessionIdle, retries=2)
async def note(event: SessionIdle, ctx: Context) -> None:
    """Say that it is done."""
    ctx.log.info("done")
'''


@pytest.fixture
def project(reactor: Any) -> Any:
    (reactor.folder / "flow.yaml").write_text(PIPELINE)
    (reactor.folder / "handlers").mkdir()
    (reactor.folder / "handlers" / "note.py").write_text(HANDLER)
    return reactor


# submit


def test_submit_stores_a_queued_run_with_everything_it_needs_and_prints_its_id(project: Any) -> None:
    done = project("submit", "flow.yaml", "-i", "tag=v1=2", "--dir", ".")
    assert done.code == 0
    run_id = done.out.strip()
    assert "`reactor serve`" in done.err

    async def read(store: Store) -> tuple[Run, list[JournalEntry]]:
        return await store.run(run_id), await store.journal(run_id)

    run, (entry,) = project.stored(read)
    assert (run.id, run.state, run.pipeline) == (run_id, RunState.QUEUED, "notes")
    assert run.inputs == {"tag": "v1=2"}
    assert (run.server, run.directory) == ("http://127.0.0.1:4096", str(project.folder.resolve()))
    assert [stage.state for stage in run.stages] == [StageState.PENDING] * 2
    assert entry.what.startswith("submitted by person: ")
    assert entry.at > 0


def test_submit_as_json_is_one_line(project: Any) -> None:
    (line,) = project("submit", "flow.yaml", "-i", "tag=v1", "--format", "json").lines
    assert (line["type"], line["run"]["state"], line["served"]) == ("run.submitted", "queued", False)


def test_a_link_and_its_target_are_one_project(project: Any) -> None:
    (project.folder / "real").mkdir()
    (project.folder / "link").symlink_to("real")
    ids = [project("submit", "flow.yaml", "-i", "tag=v", "--dir", d).out.strip() for d in ("real/", "link")]

    async def directories(store: Store) -> set[str]:
        return {(await store.run(run)).directory for run in ids}

    assert project.stored(directories) == {str((project.folder / "real").resolve())}


def test_an_input_may_be_read_from_a_file(project: Any) -> None:
    (project.folder / "tag.txt").write_text("v9")
    run_id = project("submit", "flow.yaml", "-i", "tag=@tag.txt").out.strip()

    async def read(store: Store) -> Run:
        return await store.run(run_id)

    assert project.stored(read).inputs == {"tag": "v9"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.yaml"], "gone.yaml: there is no such pipeline file"),
        (["flow.yaml"], "input 'tag' is missing"),
        (["flow.yaml", "-i", "tga=1"], "did you mean 'tag'?"),
        (["flow.yaml", "-i", "tag"], "write -i KEY=VALUE"),
        (["flow.yaml", "-i", "tag=1", "-i", "tag=2"], "given twice"),
        (["flow.yaml", "-i", "tag=@gone"], "gone cannot be read: No such file"),
        (["flow.yaml", "-i", "tag=1", "--dir", "gone"], "there is no such folder"),
        (["flow.yaml", "-i", "tag=1", "--server", "work"], "no server is named 'work'"),
    ],
)
def test_what_cannot_be_submitted_is_refused_and_nothing_is_stored(
    project: Any, arguments: list[str], said: str
) -> None:
    done = project("submit", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "Traceback" not in done.err
    assert project("runs", "--format", "json").out == ""


# check, handlers, schema


def test_check_without_a_path_looks_at_everything_that_is_configured(project: Any) -> None:
    (project.folder / "pipelines").mkdir()
    (project.folder / "pipelines" / "flow.yaml").write_text(PIPELINE)
    done = project("check")
    assert (done.code, done.err) == (0, "")
    configuration, handler, pipeline = done.out.splitlines()
    assert configuration.startswith("ok  the configuration: servers default")
    assert "handler note on session.idle" in handler
    assert pipeline == "ok  pipelines/flow.yaml: pipeline notes: draft, review"


def test_check_names_every_problem_with_file_and_line(project: Any) -> None:
    folder = project.folder
    (folder / "reactor.toml").write_text('[permissions]\nread = "perhaps"\n')
    (folder / "handlers" / "bad.py").write_text("def broken(:\n")
    (folder / "bad.yaml").write_text(PIPELINE.replace("prompt: Draft", "promt: Draft"))
    (folder / "empty.py").write_text("x = 1\n")
    (folder / "none").mkdir()
    done = project("check", "handlers", "bad.yaml", "empty.py", "none", "gone.yaml")
    assert done.code == 2
    assert "perhaps" in done.err
    assert str(folder / "reactor.toml") in done.err
    assert "bad.py:1: is not valid Python" in done.err
    assert "bad.yaml:5: unknown key 'promt' in a stage; did you mean 'prompt'?" in done.err
    assert "empty.py:1: holds no handler and no pipeline" in done.err
    assert "none: holds no pipeline and no handler" in done.err
    assert "gone.yaml: there is no such pipeline file" in done.err
    assert "handler note" in done.out
    assert "Traceback" not in done.err


def test_check_takes_pipelines_written_in_python(project: Any) -> None:
    (project.folder / "flow.py").write_text(
        "from opencode_reactor import Pipeline, Stage\n"
        'flow = Pipeline(name="py", stages=[Stage(name="one", prompt="Hi")])\n'
    )
    done = project("check", "flow.py", "--format", "json")
    assert done.code == 0
    assert done.lines[-1]["fact"] == "pipeline py: one"
    assert done.lines[-1]["ok"] is True


def test_handlers_are_listed_one_json_object_a_line(project: Any) -> None:
    (line,) = project("handlers", "--format", "json").lines
    assert (line["type"], line["name"], line["events"]) == ("handler", "note", ["session.idle"])
    assert (line["live"], line["retries"], line["summary"]) == (False, 2, "Say that it is done.")
    assert line["place"].endswith("note.py:4")
    assert "session.idle" in project("handlers").out


def test_a_broken_handler_is_named_and_the_others_are_still_listed(project: Any) -> None:
    (project.folder / "handlers" / "bad.py").write_text("import nowhere_to_be_found\n")
    done = project("handlers")
    assert done.code == 2
    assert "note" in done.out
    assert "bad.py:1" in done.err


@pytest.mark.parametrize("kind", ["pipeline", "config"])
def test_schemas_are_json_schemas_by_themselves(reactor: Any, kind: str) -> None:
    done = reactor("schema", kind)
    assert done.code == 0
    assert json.loads(done.out)["properties"]


# doctor


def test_doctor_without_a_server_says_what_works_and_what_to_mend(project: Any) -> None:
    done = project("doctor", "--server", "http://127.0.0.1:9", "--format", "json")
    assert done.code == 4
    found = {line["name"]: line for line in done.lines}
    assert [name for name, line in found.items() if not line["ok"]] == ["default: server"]
    assert "1 loaded" in found["handlers"]["fact"]
    assert found["default: server"]["mend"]


def test_doctor_says_a_wrong_configuration_first(project: Any) -> None:
    (project.folder / "reactor.toml").write_text('stor = "x"\n')
    done = project("doctor")
    assert done.code == 2
    assert "reactor.toml:1: unknown key stor" in done.out
    assert "-> did you mean store?" in done.out


@pytest.mark.parametrize("command", [["run", "flow.yaml", "-i", "tag=v1"], ["prompt", "hello"], ["events"]])
def test_a_server_that_is_not_there_is_exit_code_4_with_a_remedy(project: Any, command: list[str]) -> None:
    done = project(*command, "--server", "http://127.0.0.1:9")
    assert (done.code, done.out) == (4, "")
    assert "no connection to http://127.0.0.1:9" in done.err
    assert "Traceback" not in done.err
    assert project("runs", "--format", "json").out == ""


# a terminal


def test_on_a_terminal_a_table_keeps_to_its_width_and_shows_states_in_colour(
    reactor: Any, given: Any
) -> None:
    async def add(store: Store) -> None:
        await store.add_run(given.waiting_run(detail="word " * 60), ())

    reactor.stored(add)
    shown = on_a_terminal(reactor, "runs", columns=110)
    assert "\x1b[33mwaiting: pending_permission" in shown
    assert "…" in shown
    assert max(len(line) for line in without_colour(shown).splitlines()) <= 110
    assert len(without_colour(shown).splitlines()) == 2


def on_a_terminal(reactor: Any, *arguments: str, columns: int) -> str:
    """What a command writes where stdout is a terminal."""
    command = [sys.executable, "-m", "opencode_reactor", *arguments]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(reactor.folder)
        os.execve(sys.executable, command, {**reactor.environ, "COLUMNS": str(columns), "TERM": "xterm"})
    pieces: list[bytes] = []
    try:
        while piece := os.read(terminal, 65536):
            pieces.append(piece)
    except OSError:
        pass  # Linux says so when the other end is closed
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return b"".join(pieces).decode().replace("\r\n", "\n")


def without_colour(text: str) -> str:
    return "".join(part.partition("m")[2] if i else part for i, part in enumerate(text.split("\x1b[")))

"""The command line as people and programs use it: real `reactor` processes against real OpenCode servers."""

from __future__ import annotations

import http.server
import json
import re
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from opencode_reactor.model.asks import Ask, AskState, Closed, Reply
from opencode_reactor.opencode.binary import NEWEST
from opencode_reactor.store import Store
from opencode_reactor.testing import Calls, Empty, Fails, Says, SaysJson, Stalls, bash, question

OK = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "integer"}}}
ASKS = {"bash": "ask"}
RUN_KEYS = {"id", "pipeline", "state", "failure", "stages"}
RUN_LINE_KEYS = {"id", "pipeline", "state", "waiting_on", "created"}
STAGE_KEYS = {"state", "failure", "output", "text", "summary", "attempts"}
ATTEMPT_KEYS = {"number", "session", "message", "model", "state", "failure", "tokens", "cost"}
ASK_KEYS = {
    *("id", "kind", "server", "session", "run", "stage"),
    *("title", "detail", "options", "opened", "expires"),
}


def two_stages(terminal: Any) -> str:
    """A pipeline whose first stage answers JSON for the topic it is given, and whose second reads of it."""
    path: str = terminal.pipeline(
        {"name": "one", "prompt": "alpha {{ inputs.topic }}", "output": OK, "summary": "ok {{ output.ok }}"},
        {"name": "two", "prompt": "beta: {{ stages.one.summary }}"},
        inputs={"topic": {}},
    )
    return path


# run


def test_a_run_says_what_it_does_in_plain_lines_and_what_came_of_it(terminal: Any) -> None:
    model = terminal.live.model
    model.on("alpha", SaysJson({"ok": 7}))
    model.on("beta", Says("all is well"))
    done = terminal("run", two_stages(terminal), "-i", "topic=trees")
    assert (done.code, "\x1b" in done.out + done.err) == (0, False)
    stages = [line.split()[:2] for line in done.out.splitlines()]
    assert stages == [["STAGE", "STATE"], ["one", "succeeded"], ["two", "succeeded"], ["total", "2"]]
    assert re.search(r"run r\w+: succeeded", done.err)
    assert [r.prompt.split("\n")[0] for r in model.prompts] == ["alpha trees", "beta: ok 7"]


def test_a_runs_lines_tell_the_stages_in_the_order_of_what_happened(terminal: Any) -> None:
    done = terminal("run", terminal.pipeline({"name": "one", "prompt": "a"}, {"name": "two", "prompt": "b"}))
    told = [line.split("  ", 1)[1] for line in done.err.splitlines() if "  " in line]
    about = [line for line in told if line.startswith(("one: ", "two: "))]
    assert about.index("one: succeeded: Done.") == sum(line.startswith("one: ") for line in about) - 1
    assert about[-1] == "two: succeeded: Done."


def test_a_run_as_json_lines_ends_with_the_whole_run(terminal: Any) -> None:
    terminal.live.model.on("alpha", SaysJson({"ok": 7}))
    done = terminal("run", two_stages(terminal), "-i", "topic=trees", "--format", "json")
    assert (done.code, done.err) == (0, "")
    assert all({"type", "time"} <= line.keys() for line in done.lines)
    assert done.lines[0]["type"] == "run.started"
    last = done.lines[-1]
    run = last["run"]
    one, two = run["stages"]["one"], run["stages"]["two"]
    assert (last["type"], run["state"], run["failure"]) == ("run.finished", "succeeded", None)
    assert run.keys() >= RUN_KEYS
    assert one.keys() >= STAGE_KEYS
    assert (one["state"], one["output"], one["summary"]) == ("succeeded", {"ok": 7}, "ok 7")
    assert (two["text"], two["output"], two["failure"]) == ("Done.", None, None)
    (attempt,) = one["attempts"]
    assert attempt.keys() >= ATTEMPT_KEYS
    assert (attempt["number"], attempt["state"], attempt["model"]) == (1, "succeeded", "scripted/standard")
    assert attempt["session"].startswith("ses_")
    assert attempt["message"].startswith("msg_")
    assert attempt["tokens"]["total"] > 0
    assert attempt["cost"] > 0


def test_a_finished_run_is_listed_shown_and_explained(terminal: Any) -> None:
    terminal.live.model.on("alpha", SaysJson({"ok": 7}))
    terminal("run", two_stages(terminal), "-i", "topic=trees")
    run = terminal.only_run().id
    (listed,) = terminal("runs", "--format", "json").lines
    assert listed.keys() >= RUN_LINE_KEYS
    assert (listed["id"], listed["pipeline"], listed["state"]) == (run, "flow0", "succeeded")
    (shown,) = terminal("show", run[:-2], "--format", "json").lines
    assert shown["run"]["stages"]["one"]["output"] == {"ok": 7} if "run" in shown else shown["stages"]
    told = terminal("explain", run)
    assert told.code == 0
    assert "nothing: the run is over" in told.out
    assert len(re.findall(r"holds +completed", told.out)) == 2
    assert "Done." in terminal("show", run, "-v").out


# prompt


def test_prompt_prints_the_answer_and_nothing_else_on_stdout(terminal: Any) -> None:
    terminal.live.model.on("What is {{ 1 }}", Says("It is\ntwo lines."))
    done = terminal("prompt", "What", "is", "{{ 1 }}?")
    assert (done.code, done.out) == (0, "It is\ntwo lines.\n")


def test_prompt_with_a_schema_prints_valid_json(terminal: Any) -> None:
    terminal.live.model.on("alpha", Says('Sure:\n```json\n{"ok": 3}\n```'))
    done = terminal("prompt", "alpha", "--output", terminal.file("schema.json", OK))
    assert (done.code, json.loads(done.out)) == (0, {"ok": 3})


@pytest.mark.parametrize("reply", [Empty(), Says("  \n"), Says("no JSON here")])
def test_prompt_is_no_success_without_an_answer_of_the_right_shape(terminal: Any, reply: Any) -> None:
    terminal.live.model.default(reply)
    schema = ["--output", terminal.file("schema.json", OK)] if "JSON" in getattr(reply, "text", "") else []
    done = terminal("prompt", "alpha", *schema)
    assert (done.code in {1, 3}, done.out) == (True, "")
    assert "assistant_output" in done.err


def test_prompt_is_no_success_where_a_rule_refused_a_tool_call(terminal: Any) -> None:
    terminal.configure('permissions = {bash = {"*" = "ask", "rm *" = "deny"}, task = "allow"}')
    terminal.live.model.on("alpha", Calls(bash("rm -rf build")), Says("I was not allowed to."))
    done = terminal("prompt", "alpha")
    assert (done.code, done.out) == (1, "")
    assert "refused: bash: rm -rf build (by a rule)" in done.err
    run = re.findall(r"`reactor show -v (\w+)`", done.err)[0]
    assert "I was not allowed to." in terminal("show", "-v", run).out


# asks


def test_an_ask_is_in_the_inbox_and_answering_it_lets_the_run_go_on_at_once(terminal: Any) -> None:
    terminal.live.configure(permission=ASKS)
    terminal.live.model.on("alpha", Calls(bash("echo hi")), Says("said hi"))
    running = terminal.start("run", terminal.pipeline({"name": "one", "prompt": "alpha"}))
    told = running.says("->  reactor reply")
    (ask,) = terminal("inbox", "--format", "json").lines
    assert ask.keys() >= ASK_KEYS
    assert (ask["kind"], ask["stage"], ask["title"]) == ("permission", "one", "bash: echo hi")
    assert ask["run"] == terminal.only_run().id
    assert ask["id"] in told
    answered = terminal("reply", ask["id"], "once")
    assert (answered.code, answered.out) == (0, f"{ask['id']} answered: once\n")
    assert running.end().code == 0
    late = terminal("reply", ask["id"], "reject")
    assert late.code == 2
    assert "person" in late.err
    assert "once" in late.err
    assert terminal("inbox").err == "nothing waits for a person\n"


def test_a_question_is_answered_by_its_label(terminal: Any) -> None:
    terminal.live.model.on("alpha", Calls(question("Which way?", "Left", "Right")), Says("going right"))
    running = terminal.start("prompt", "alpha", "--format", "json")
    ask = running.emits("ask.opened")["ask"]
    assert (ask["kind"], ask["options"]) == ("question", ["Left", "Right"])
    wrong = terminal("reply", ask["id"], "once")
    assert (wrong.code, "reactor answer" in wrong.err) == (2, True)
    assert terminal("answer", ask["id"], "right").code == 0
    done = running.end()
    assert (done.code, done.lines[-1]["run"]["stages"]["prompt"]["text"]) == (0, "going right")
    assert "Right" in str(terminal.live.model.prompts[-1].messages[-1])


def test_a_refusal_by_a_person_is_told_to_the_model_and_the_prompt_is_no_success(terminal: Any) -> None:
    terminal.live.configure(permission=ASKS)
    terminal.live.model.on("alpha", Calls(bash("rm -rf build")), Says("as you wish"))
    running = terminal.start("prompt", "alpha", "--format", "json")
    ask = running.emits("ask.opened")["ask"]["id"]
    assert terminal("reply", ask, "reject", "-m", "keep the build").code == 0
    assert running.end().code == 1
    assert "keep the build" in str(terminal.live.model.prompts[-1].messages)


def test_no_wait_ends_at_the_ask_and_serve_finishes_the_run_once_it_is_answered(terminal: Any) -> None:
    terminal.live.configure(permission=ASKS)
    terminal.live.model.on("alpha", Calls(bash("echo hi")), Says("said hi"))
    path = terminal.pipeline({"name": "one", "prompt": "alpha"})
    done = terminal("run", path, "--no-wait", "--format", "json")
    last = done.lines[-1]
    assert (done.code, last["type"]) == (3, "run.finished")
    assert (last["run"]["state"], last["run"]["waiting_on"]) == ("waiting", "pending_permission")
    (ask,) = terminal("inbox", "--format", "json").lines
    answered = terminal("reply", ask["id"], "once")
    assert (answered.code, "reactor serve" in answered.err) == (0, True)
    serving = terminal.start("serve")
    assert terminal.succeeded(last["run"]["id"]).stage("one").text == "said hi"
    assert serving.stop().code == 0
    assert terminal.prompted("alpha") == 1


@pytest.mark.parametrize(("word", "code", "state"), [("once", 0, "succeeded"), ("reject", 1, "failed")])
def test_an_approval_is_given_or_refused(terminal: Any, word: str, code: int, state: str) -> None:
    path = terminal.pipeline({"name": "one", "prompt": "alpha"}, {"name": "ok", "approve": "Publish it?"})
    running = terminal.start("run", path, "--format", "json")
    ask = running.emits("ask.opened")["ask"]
    assert (ask["kind"], ask["title"], ask["options"]) == ("approval", "Publish it?", ["once", "reject"])
    assert "given once" in terminal("reply", ask["id"], "always").err
    assert terminal("reply", ask["id"], word).code == 0
    done = running.end()
    assert (done.code, done.lines[-1]["run"]["stages"]["ok"]["state"]) == (code, state)


def test_an_escalated_run_ends_with_3_off_a_terminal(terminal: Any) -> None:
    terminal.live.model.default(Fails(401))
    done = terminal("run", terminal.pipeline({"name": "one", "prompt": "alpha"}), "--format", "json")
    last = done.lines[-1]
    assert (done.code, last["type"]) == (3, "run.finished")
    run = last["run"]
    assert (run["state"], run["waiting_on"], run["failure"]) == ("waiting", "person", "auth_failed")
    assert terminal.prompted("alpha") == 1


def test_commands_that_are_shown_name_the_store_and_the_server_that_were_named(terminal: Any) -> None:
    terminal.live.model.default(Fails(401))
    terminal.config.unlink()
    store = str(terminal.home / "my runs.db")
    done = terminal("prompt", "alpha", "--store", store, "--server", terminal.live.url)
    run = re.findall(r"run (\w+): waiting", done.err)[0]
    assert (done.code, f"`reactor retry {run} --store '{store}'`" in done.err) == (3, True)
    assert f"`reactor serve --server {terminal.live.url} --store '{store}'`" in done.err
    assert terminal("explain", run, "--store", store).code == 0


def test_an_escalated_run_is_waited_for_if_told_so_and_goes_on_when_retried(terminal: Any) -> None:
    terminal.live.model.on("alpha", Fails(401), Says("with the new key"))
    path = terminal.pipeline({"name": "one", "prompt": "alpha"})
    running = terminal.start("run", path, "--wait", "--format", "json")
    run = running.emits("stage.changed", waiting_on="person")["run"]
    assert not running.over
    stopped = running.stop()
    assert (stopped.code, run in stopped.err, "reactor serve" in stopped.err) == (130, True, True)
    (kept,) = terminal("runs", "--state", "waiting", "--format", "json").lines
    assert (kept["id"], kept["waiting_on"]) == (run, "person")
    assert terminal("retry", run).code == 0
    serving = terminal.start("serve")
    assert terminal.succeeded(run).stage("one").text == "with the new key"
    assert serving.stop().code == 0


def test_a_retry_reaches_a_run_that_waits_for_it(terminal: Any) -> None:
    terminal.live.model.on("alpha", Fails(401), Says("with the new key"))
    running = terminal.start("prompt", "alpha", "--wait")
    running.says("auth_failed")
    assert terminal("retry", terminal.only_run().id).code == 0
    done = running.end()
    assert (done.code, done.out) == (0, "with the new key\n")


# submit, serve, cancel, retry


def test_a_submitted_run_is_done_by_the_daemon_which_stops_when_told(terminal: Any) -> None:
    submitted = terminal("submit", terminal.pipeline({"name": "one", "prompt": "alpha"}))
    run = submitted.out.strip()
    assert (submitted.code, run) == (0, terminal.only_run().id)
    assert "reactor serve" in submitted.err
    assert terminal.live.model.requests == ()
    serving = terminal.start("serve")
    assert terminal.succeeded(run).stage("one").text == "Done."
    again = terminal("submit", terminal.pipeline({"name": "one", "prompt": "beta"}))
    assert (again.code, again.err) == (0, "")
    assert terminal.succeeded(again.out.strip()).stage("one").text == "Done."
    stopped = serving.stop()
    assert stopped.code == 0
    assert stopped.took < 10
    assert "Traceback" not in stopped.err


def test_a_cancelled_runs_session_is_aborted_on_the_server(terminal: Any) -> None:
    terminal.live.model.on("alpha", Stalls("half a"))
    path = terminal.pipeline({"name": "one", "prompt": "alpha"})
    running = terminal.start("run", path, "--format", "json")
    terminal.asked("alpha")
    told = terminal("cancel", terminal.only_run().id)
    assert (told.code, "obeyed at once" in told.out) == (0, True)
    done = running.end()
    run = done.lines[-1]["run"]
    assert (done.code, run["state"], run["stages"]["one"]["state"]) == (1, "cancelled", "cancelled")
    assert terminal.http("GET", "/session/status") == {}
    session = run["stages"]["one"]["attempts"][0]["session"]
    messages = terminal.http("GET", f"/session/{session}/message")
    assert messages[-1]["info"]["error"]["name"] == "MessageAbortedError"
    assert terminal("cancel", run["id"]).code == 2


def test_a_failed_run_goes_on_where_it_stopped_when_retried(terminal: Any) -> None:
    terminal.live.model.on("beta", Stalls(), Says("quicker"))
    path = terminal.pipeline(
        {"name": "one", "prompt": "alpha"},
        {"name": "two", "prompt": "beta", "timeout": "1s", "attempts": 1},
    )
    failed = terminal("run", path)
    assert (failed.code, "timeout" in failed.err) == (1, True)
    run = terminal.only_run().id
    assert f"reactor retry {run}" in failed.err
    retried = terminal("retry", run)
    assert (retried.code, "reactor serve" in retried.err) == (0, True)
    serving = terminal.start("serve")
    assert terminal.succeeded(run).stage("two").text == "quicker"
    assert serving.stop().code == 0
    assert terminal.prompted("alpha") == 1
    assert "has succeeded" in terminal("retry", run).err


# handlers

NOTES = """
from pathlib import Path
from opencode_reactor import Context, SessionIdle, on

@on(SessionIdle, where=lambda event: event.directory == {directory!r})
async def note(event: SessionIdle, ctx: Context) -> None:
    with Path({notes!r}).open("a") as notes:
        notes.write(f"{{event.session}}\\n")
"""
ALLOWS = """
from opencode_reactor import Context, PermissionAsked, on

@on(PermissionAsked, where=lambda event: event.permission == "bash")
async def allow(event: PermissionAsked, ctx: Context) -> None:
    await ctx.reply(event, "once")
"""


def put_handler(terminal: Any, content: str) -> None:
    folder = terminal.live.directory / "handlers"
    folder.mkdir()
    (folder / "mine.py").write_text(content)


def talk(terminal: Any, text: str) -> str:
    """A session of somebody's own, by plain HTTP: prompted and answered; returns its id."""
    session: str = terminal.http("POST", "/session", {"title": "mine"})["id"]
    body = {"parts": [{"type": "text", "text": text}]}
    answer = terminal.http("POST", f"/session/{session}/message", body)
    assert answer["info"]["time"]["completed"]
    return session


def test_a_handler_runs_once_for_a_session_of_somebody_elses(terminal: Any) -> None:
    notes = terminal.home / "notes"
    put_handler(terminal, NOTES.format(directory=str(terminal.live.directory), notes=str(notes)))
    (listed,) = terminal("handlers", "--format", "json").lines
    assert (listed["name"], listed["events"]) == ("note", ["session.idle"])
    serving = terminal.start("serve", "--dir", str(terminal.live.directory), "-v")
    serving.says("listening")
    first = talk(terminal, "alpha")
    second = talk(terminal, "beta")
    terminal.until(lambda: notes.exists() and len(notes.read_text().split()) == 2)
    assert serving.stop().code == 0
    assert notes.read_text().split() == [first, second]
    assert terminal("dead").err == "no dead deliveries\n"


def test_a_handler_answers_the_ask_of_a_session_nobody_owns(terminal: Any) -> None:
    terminal.live.configure(permission=ASKS)
    put_handler(terminal, ALLOWS)
    terminal.live.model.on("alpha", Calls(bash("echo hi")), Says("said hi"))
    serving = terminal.start("serve", "--dir", str(terminal.live.directory), "-v")
    serving.says("listening")
    session = talk(terminal, "alpha")
    assert serving.stop().code == 0

    async def every(store: Store) -> list[Ask]:
        return await store.asks(states=tuple(AskState))

    (ask,) = terminal.stored(every)
    assert (ask.session, ask.run, ask.reply) == (session, "", Reply.ONCE)
    assert (ask.answered_by, ask.closed_as) == ("handler: allow", Closed.DELIVERED)


# looking

GOOD = "name: good\nstages:\n  - {name: one, prompt: alpha}\n"


def test_the_doctor_finds_everything_well(terminal: Any) -> None:
    done = terminal("doctor")
    assert (done.code, done.err) == (0, "")
    assert all(line.startswith("ok ") for line in done.out.splitlines())
    assert f" {terminal.live.version}: " in done.out
    assert "default scripted/standard" in done.out


def test_the_doctor_names_the_mend_for_a_wrong_password(terminal: Any) -> None:
    done = terminal("doctor", OPENCODE_SERVER_PASSWORD="wrong")
    assert done.code == 4
    assert re.search(r"FAIL +live: server .*\n +-> .*OPENCODE_SERVER_PASSWORD", done.out)


def test_events_are_printed_as_they_come(terminal: Any) -> None:
    project = str(terminal.live.directory)
    tail = terminal.start("events", "--limit", "3", "--for", "1m", "--dir", project, "--format", "json")
    tail.says("listening")
    talk(terminal, "alpha")
    done = tail.end()
    assert (done.code, len(done.lines)) == (0, 3)
    assert {line["type"] for line in done.lines} == {"event"}
    assert {line["directory"] for line in done.lines} <= {project, ""}
    assert all(line["event"]["type"] == line["name"] for line in done.lines)


def test_events_are_listened_to_only_so_long(terminal: Any) -> None:
    done = terminal("events", "--for", "1s", "--type", "no.such")
    assert (done.code, done.out) == (0, "")


def test_check_tells_good_files_from_bad_ones(terminal: Any) -> None:
    good = terminal.file("good.yaml", GOOD)
    done = terminal("check", good)
    assert (done.code, f"ok  {good}: pipeline good: one" in done.out) == (0, True)
    bad = terminal.file("bad.yaml", GOOD.replace("prompt", "promt"))
    done = terminal("check", good, bad)
    assert (done.code, f"{bad}:3" in done.err, "prompt" in done.err) == (2, True, True)


# bad input

one_version = pytest.mark.parametrize("version", [NEWEST], indirect=True)
"""For what ends before any server is asked."""


def refused(terminal: Any, code: int, *arguments: str, **environ: str) -> str:
    """What a command says that ends with that code: one clear message; nothing was sent, nothing kept."""
    done = terminal(*arguments, **environ)
    assert (done.code, done.out) == (code, ""), done
    assert done.err.startswith("reactor: error: ")
    assert "Traceback" not in done.err
    assert "defect" not in done.err
    assert terminal.live.model.requests == ()
    return done.err


def one_stage(**keys: Any) -> dict[str, Any]:
    return {"name": "flow", "stages": [{"name": "one", "prompt": "alpha", **keys}]}


BAD_PIPELINES = {
    "an unknown key": (GOOD.replace("prompt", "promt"), ":3", "prompt"),
    "a cycle": (
        "name: a\nstages:\n  - {name: one, prompt: a, needs: [two]}\n  - {name: two, prompt: b}\n",
        ":3",
        "one",
    ),
    "an unknown stage": (
        "name: a\nstages:\n  - {name: one, prompt: a}\n  - {name: two, prompt: b, needs: [on]}\n",
        ":4",
        "did you mean 'one'",
    ),
    "an undefined name": ("name: a\nstages:\n  - name: one\n    prompt: say {{ inputs.x }}\n", ":4", "x"),
    "no schema": ("name: a\nstages:\n  - {name: one, prompt: a, output: {type: objekt}}\n", ":3", "objekt"),
    "no YAML": ("name: [a\nstages: }\n", ":", "flow.yaml"),
}


@one_version
@pytest.mark.parametrize("command", ["run", "submit"])
def test_a_bad_pipeline_is_refused_with_its_place(terminal: Any, command: str) -> None:
    for content, line, words in BAD_PIPELINES.values():
        path = terminal.file("flow.yaml", content)
        said = refused(terminal, 2, command, path)
        assert path + line in said
        assert words in said
    assert terminal("runs").err == "no runs\n"


@one_version
def test_a_pipeline_that_is_not_there_and_wrong_inputs_are_refused(terminal: Any) -> None:
    path = terminal.pipeline({"name": "one", "prompt": "{{ inputs.topic }}"}, inputs={"topic": {}})
    assert "nowhere.yaml" in refused(terminal, 2, "run", "nowhere.yaml")
    assert "topic" in refused(terminal, 2, "run", path)
    said = refused(terminal, 2, "run", path, "-i", "topic=x", "-i", "topik=y")
    assert "topik" in said
    assert "did you mean 'topic'" in said
    assert "topic" in refused(terminal, 2, "submit", path)
    assert "-i" in refused(terminal, 2, "run", path, "-i", "topic")
    assert terminal("runs").err == "no runs\n"


def test_a_server_that_cannot_be_had_is_named_with_what_to_do(terminal: Any) -> None:
    path = terminal.file("good.yaml", GOOD)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nowhere = f"http://127.0.0.1:{gone.getsockname()[1]}"
    for command in (("run", path), ("prompt", "alpha"), ("events",)):
        said = refused(terminal, 4, *command, "--server", nowhere)
        assert nowhere in said
        assert "opencode serve" in said
        said = refused(terminal, 4, *command, OPENCODE_SERVER_PASSWORD="wrong")
        assert terminal.live.url in said
        assert "PASSWORD" in said
    serving = terminal("serve", OPENCODE_SERVER_PASSWORD="wrong")
    assert (serving.code, "PASSWORD" in serving.err, "Traceback" in serving.err) == (4, True, False)
    assert terminal("runs").err == "no runs\n"


class Website(http.server.BaseHTTPRequestHandler):
    """Answers everything with a page, as a router's or a proxy's start page does."""

    def do_GET(self) -> None:
        page = b"<!doctype html><title>Welcome</title>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Not to the test's output."""


def test_something_that_is_not_opencode_is_recognised(terminal: Any) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Website) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{site.server_port}"
            said = refused(terminal, 4, "run", terminal.file("good.yaml", GOOD), "--server", url)
        finally:
            site.shutdown()
            thread.join()
    assert url in said
    assert "OpenCode" in said


@one_version
def test_a_store_that_is_none_is_refused_and_left_as_it_was(terminal: Any) -> None:
    path = terminal.file("good.yaml", GOOD)
    text = terminal.file("notes.txt", "not a database, but dear to somebody\n")
    for store in (text, f"{text}/below.db", str(terminal.home)):
        for command in (("run", path), ("submit", path), ("runs",), ("serve",)):
            said = refused_store(terminal, *command, "--store", store)
            assert store.removesuffix("/below.db") in said
    assert Path(text).read_text() == "not a database, but dear to somebody\n"


def refused_store(terminal: Any, *arguments: str) -> str:
    done = terminal(*arguments)
    assert (done.code, done.out, "Traceback" in done.err) == (2, "", False)
    assert "reactor: error: " in done.err
    assert terminal.live.model.requests == ()
    said: str = done.err
    return said


@one_version
def test_a_handler_that_cannot_be_loaded_stops_the_daemon_with_its_line(terminal: Any) -> None:
    put_handler(terminal, "from opencode_reactor import on\n\n@on('session.idle'\n")
    for command in (("serve",), ("run", terminal.file("good.yaml", GOOD)), ("handlers",), ("check",)):
        done = terminal(*command)
        assert (done.code, "Traceback" in done.err) == (2, False), done
        assert f"{terminal.live.directory}/handlers/mine.py:3" in done.err
    assert terminal.live.model.requests == ()


@one_version
def test_names_nobody_knows_are_refused(terminal: Any) -> None:
    for command in (("show", "r1nope"), ("explain", "r1nope"), ("cancel", "r1nope"), ("retry", "r1nope")):
        assert "r1nope" in refused(terminal, 2, *command)
    assert "a1nope" in refused(terminal, 2, "reply", "a1nope", "once")
    assert "a1nope" in refused(terminal, 2, "answer", "a1nope", "yes")
    assert "live" in refused(terminal, 2, "prompt", "alpha", "--server", "life")
    assert "did you mean runs" in refused(terminal, 2, "rums")
    assert "--format" in refused(terminal, 2, "runs", "--formt", "json")
    assert "/no/such" in refused(terminal, 2, "prompt", "alpha", "--dir", "/no/such")
    assert "empty" in refused(terminal, 2, "prompt", " ")


@one_version
def test_an_interrupt_before_anything_was_started_says_so(terminal: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        running = terminal.start("prompt", "alpha", "--server", url)
        connection, _ = deaf.accept()
        with connection:
            done = running.stop(signal.SIGINT)
    assert (done.code, done.out) == (130, "")
    assert done.err == "reactor: interrupted, nothing was started\n"
    assert done.took < 5

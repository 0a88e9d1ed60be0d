from __future__ import annotations

from typing import Any

import pytest

from opencode_reactor.model.ask_ids import ask_id
from opencode_reactor.model.asks import Ask, AskKind, AskState, Closed, Reply
from opencode_reactor.model.deliveries import Delivery
from opencode_reactor.model.runs import Command, CommandKind, Failure, Run, RunState, StageRun, StageState
from opencode_reactor.model.sessions import Option, Question
from opencode_reactor.store import Store

MODELS_WORDS = ("\x1b", "\x07", "owned")


@pytest.fixture
def kept(reactor: Any, given: Any) -> Any:
    """A store with one waiting run, its history and its ask; the processes see it."""

    async def fill(store: Store) -> None:
        await store.add_run(given.waiting_run(), given.history())
        await store.add_ask(given.permission())

    reactor.stored(fill)
    return reactor


def ask_of(reactor: Any, ask: str) -> Ask:
    async def read(store: Store) -> Ask:
        return await store.ask(ask)

    found: Ask = reactor.stored(read)
    return found


def keep(reactor: Any, *things: Run | Ask | Delivery) -> None:
    async def add(store: Store) -> None:
        for thing in things:
            if isinstance(thing, Run):
                await store.add_run(thing, ())
            elif isinstance(thing, Ask):
                await store.add_ask(thing)
            else:
                await store.add_deliveries([thing])

    reactor.stored(add)


def serve(reactor: Any, server: str) -> None:
    async def take(store: Store) -> None:
        assert await store.take_lease(server, "elsewhere:1", 60_000)

    reactor.stored(take)


def commands_of(reactor: Any, run: str) -> list[Command]:
    async def read(store: Store) -> list[Command]:
        return await store.commands(run)

    found: list[Command] = reactor.stored(read)
    return found


# runs and show


def test_an_empty_store_is_no_error_and_prints_nothing_on_stdout(reactor: Any) -> None:
    done = reactor("runs")
    assert (done.code, done.out, done.err) == (0, "", "no runs\n")


def test_runs_are_listed_as_aligned_text_where_no_terminal_is(kept: Any) -> None:
    done = kept("runs")
    head, row = done.out.splitlines()
    assert done.code == 0
    assert head.split() == ["ID", "PIPELINE", "STATE", "CREATED", "TOOK", "TOKENS", "COST", "DETAIL"]
    assert row.startswith("r1abc  release-notes  waiting: pending_permission")
    assert row.index("release-notes") == head.index("PIPELINE")


def test_a_run_is_one_json_object_a_line(kept: Any, given: Any) -> None:
    (line,) = kept("runs", "--format", "json").lines
    assert line["type"] == "run"
    assert line["time"].endswith("Z")
    assert {k: line[k] for k in ("id", "pipeline", "state", "waiting_on", "failure", "created")} == {
        "id": "r1abc",
        "pipeline": "release-notes",
        "state": "waiting",
        "waiting_on": "pending_permission",
        "failure": None,
        "created": "2025-10-09T08:53:20.000Z",
    }
    assert line["tokens"] == {
        "input": 3000,
        "output": 600,
        "reasoning": 0,
        "cache_read": 150,
        "cache_write": 0,
        "total": 3750,
    }
    assert line["server"] == given.server


def test_runs_are_chosen_by_state_server_and_number(kept: Any, given: Any) -> None:
    keep(
        kept, given.waiting_run(id="r2", state=RunState.QUEUED, waiting_on=None, server="http://b", stages=())
    )

    def ids(*arguments: str) -> list[str]:
        return [line["id"] for line in kept("runs", "--format", "json", *arguments).lines]

    assert set(ids()) == {"r1abc", "r2"}
    assert ids("--state", "queued") == ["r2"]
    assert set(ids("--state", "queued", "--state", "waiting")) == {"r1abc", "r2"}
    assert ids("--server", "http://B/") == ["r2"]
    assert len(ids("--limit", "1")) == 1


def test_show_prints_stages_with_what_they_cost_and_said(kept: Any) -> None:
    done = kept("show", "r1")
    assert done.code == 0
    draft = next(line for line in done.out.splitlines() if line.startswith("draft"))
    assert draft.split()[:6] == ["draft", "succeeded", "2", "test/small", "2.5k", "$0.50"]
    assert "Öl & [bold]x[/bold]" in draft
    assert any(line.split() == ["publish", "pending"] for line in done.out.splitlines())


def test_show_as_json_has_every_attempt(kept: Any) -> None:
    (line,) = kept("show", "r1abc", "--format", "json").lines
    draft = line["stages"]["draft"]
    assert draft["state"] == "succeeded"
    assert draft["output"] == {"title": "Öl & [bold]"}
    first, second = draft["attempts"]
    assert (first["number"], first["state"], first["failure"]) == (1, "failed", "assistant_output_not_json")
    assert (second["session"], second["message"], second["model"]) == (
        "ses_draft2",
        "msg_draft2",
        "test/small",
    )
    assert second["tokens"]["total"] == 1250
    assert line["inputs"] == {"tag": "v1"}


@pytest.mark.parametrize("command", ["runs", "show", "explain", "inbox"])
def test_nothing_a_model_wrote_reaches_the_terminal_as_a_control_sequence(kept: Any, command: str) -> None:
    done = kept(command, *([] if command in {"runs", "inbox"} else ["r1abc"]), "-v")
    assert done.code == 0
    assert not any(word in done.out + done.err for word in MODELS_WORDS)


def test_a_run_nobody_knows_is_a_usage_error_that_names_the_listing(kept: Any) -> None:
    for command in ("show", "explain", "cancel", "retry"):
        done = kept(command, "r9zzz")
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("reactor: error: no run is called 'r9zzz'")
        assert "`reactor runs`" in done.err


def test_an_ambiguous_beginning_is_refused_with_the_candidates(kept: Any, given: Any) -> None:
    keep(kept, given.waiting_run(id="r1xyz", stages=()))
    done = kept("show", "r1")
    assert done.code == 2
    assert "r1abc" in done.err
    assert "r1xyz" in done.err


# explain


def test_explain_tells_the_story_the_gap_and_what_comes_next(kept: Any) -> None:
    done = kept("explain", "r1abc")
    assert done.code == 0
    told = done.out
    assert "decided    not JSON: no JSON in it" in told
    assert "FAILED   contract: no JSON in it" in told
    assert "missing now:\n  review, attempt 1: idle: the session is busy" in told
    ask = ask_id("http://127.0.0.1:4096", "per_1")
    assert f"    reactor reply {ask} once|always|reject [-m TEXT]" in told
    assert "looked at again at the latest, " in told
    assert "then: publish" in told
    assert "nobody serves http://127.0.0.1:4096 now" in told
    assert "reactor serve" in told


def test_explain_tells_who_answered_what_was_asked_and_why(kept: Any) -> None:
    ask = ask_id("http://127.0.0.1:4096", "per_1")
    assert kept("reply", ask, "reject", "-m", "not on Fridays").code == 0
    told = kept("explain", "r1abc").out
    assert f"observed   permission {ask}: bash: git push --force [red]now[/red]" in told
    assert f"{ask} answered by person: " in told
    assert ": reject (not on Fridays)\n" in told


def test_explain_names_who_serves_and_what_is_stored_for_it(kept: Any, given: Any) -> None:
    serve(kept, given.server)
    assert kept("cancel", "r1abc").code == 0
    told = kept("explain", "r1abc").out
    assert "elsewhere:1 serves http://127.0.0.1:4096" in told
    assert "cancel by person: " in told


def test_explain_as_json_is_one_object(kept: Any) -> None:
    (line,) = kept("explain", "r1abc", "--format", "json").lines
    assert line["type"] == "explanation"
    assert [e["holds"] for e in line["evidence"]["draft.2"]] == [True, True]
    assert line["missing"] == ["review, attempt 1: idle: the session is busy"]
    assert any(step["command"] and step["command"].startswith("reactor reply") for step in line["next"])
    assert [entry["kind"] for entry in line["journal"]] == ["submitted", "decided", "decided", "effect"]
    assert line["lease"] is None


def test_a_run_that_is_over_has_nothing_before_it(reactor: Any, given: Any) -> None:
    over = given.waiting_run(state=RunState.SUCCEEDED, waiting_on=None, stages=())
    keep(reactor, over, given.waiting_run(id="r2", state=RunState.FAILED, waiting_on=None, stages=()))
    assert "nothing: the run is over" in reactor("explain", "r1abc").out
    assert "reactor retry r2" in reactor("explain", "r2").out


# cancel and retry


def test_cancel_is_stored_and_says_what_to_start_where_nobody_serves(kept: Any) -> None:
    done = kept("cancel", "r1abc")
    assert done.code == 0
    assert "`reactor serve`" in done.err
    (command,) = commands_of(kept, "r1abc")
    assert (command.kind, command.stage) == (CommandKind.CANCEL, "")
    assert command.by.startswith("person: ")


def test_cancel_where_somebody_serves_needs_nothing_more(kept: Any, given: Any) -> None:
    serve(kept, given.server)
    done = kept("cancel", "r1abc")
    assert (done.code, done.err) == (0, "")
    assert "obeyed at once" in done.out


def test_a_run_that_is_over_cannot_be_cancelled(reactor: Any, given: Any) -> None:
    keep(reactor, given.waiting_run(state=RunState.FAILED, stages=()))
    done = reactor("cancel", "r1abc")
    assert done.code == 2
    assert "is over: failed" in done.err
    assert commands_of(reactor, "r1abc") == []


def test_retry_is_stored_for_a_stage_that_failed(reactor: Any, given: Any) -> None:
    run = given.waiting_run()
    failed = StageRun("publish", StageState.FAILED, failure=Failure.TIMEOUT)
    keep(reactor, given.waiting_run(state=RunState.FAILED, waiting_on=None, stages=(run.stages[0], failed)))
    done = reactor("retry", "r1abc", "--stage", "publish", "--format", "json")
    assert done.code == 0
    (line,) = done.lines
    assert (line["type"], line["kind"], line["stage"], line["served"]) == (
        "command",
        "retry",
        "publish",
        False,
    )
    assert [c.kind for c in commands_of(reactor, "r1abc")] == [CommandKind.RETRY]


def test_retry_refuses_what_has_not_stopped_and_what_is_no_stage(kept: Any) -> None:
    done = kept("retry", "r1abc")
    assert done.code == 2
    assert "has not stopped" in done.err
    done = kept("retry", "r1abc", "--stage", "drafd")
    assert done.code == 2
    assert "its stages: draft, review, publish" in done.err
    assert commands_of(kept, "r1abc") == []


# inbox, reply, answer


def test_the_inbox_lists_what_waits_and_how_to_answer(kept: Any, given: Any) -> None:
    keep(kept, given.question())
    done = kept("inbox")
    assert done.code == 0
    assert "r1abc/review" in done.out
    assert "bash: git push --force [red]now[/red]" in done.out
    assert "Which database? [SQLite | PostgreSQL]" in done.out
    assert "reactor answer ID LABEL" in done.err


def test_the_inbox_as_json_has_what_others_rely_on(kept: Any, given: Any) -> None:
    keep(kept, given.question())
    question, ask = kept("inbox", "--format", "json").lines
    keys = {"id", "kind", "server", "session", "run", "stage", "title", "detail", "opened", "expires"}
    assert keys <= ask.keys()
    assert (ask["type"], ask["kind"], ask["run"], ask["stage"]) == ("ask", "permission", "r1abc", "review")
    assert ask["options"] == ["once", "always", "reject"]
    assert ask["expires"] is None
    assert question["options"] == ["SQLite", "PostgreSQL"]
    assert question["run"] is None
    assert question["expires"] == "2025-10-09T09:53:20.000Z"


def test_a_permission_is_answered_once_and_by_name(kept: Any, given: Any) -> None:
    ask = given.permission()
    done = kept("reply", ask.id[:5], "once", "-m", "go on")
    assert done.code == 0
    told = ask_of(kept, ask.id)
    assert (told.state, told.reply, told.message) == (AskState.ANSWERED, Reply.ONCE, "go on")
    assert told.answered_by.startswith("person: ")
    again = kept("reply", ask.id, "reject")
    assert again.code == 2
    assert f"ask {ask.id} was answered by person: " in again.err
    assert ask_of(kept, ask.id).reply is Reply.ONCE


def test_opencodes_own_id_of_an_ask_is_taken_too(kept: Any, given: Any) -> None:
    assert kept("reply", "per_1", "reject").code == 0
    assert ask_of(kept, given.permission().id).reply is Reply.REJECT


def test_an_ask_that_was_answered_elsewhere_says_so(kept: Any, given: Any) -> None:
    async def close(store: Store) -> None:
        await store.close_ask(given.permission(), Closed.ELSEWHERE)

    kept.stored(close)
    done = kept("reply", "per_1", "once")
    assert done.code == 2
    assert "elsewhere" in done.err


def test_an_approval_is_given_once_or_refused(reactor: Any, given: Any) -> None:
    keep(reactor, given.permission(kind=AskKind.APPROVAL, request="r1abc.publish.0", title="Publish?"))
    assert reactor("reply", "r1abc.publish.0", "always").code == 2
    assert reactor("answer", "r1abc.publish.0", "yes").code == 2
    assert reactor("reply", "r1abc.publish.0", "once").code == 0
    assert ask_of(reactor, "r1abc.publish.0").reply is Reply.ONCE


def test_a_question_is_answered_by_label_and_nothing_else_where_only_labels_count(
    reactor: Any, given: Any
) -> None:
    keep(reactor, given.question())
    wrong = reactor("answer", "que_1", "Postgres")
    assert wrong.code == 2
    assert "did you mean 'PostgreSQL'?" in wrong.err
    assert "[SQLite | PostgreSQL]" in wrong.err
    assert ask_of(reactor, "que_1").state is AskState.OPEN
    done = reactor("answer", "que_1", "postgresql", "--format", "json")
    assert done.code == 0
    assert done.lines[0]["answers"] == [["PostgreSQL"]]
    assert reactor("answer", "que_1", "SQLite").code == 2
    assert ask_of(reactor, "que_1").answers == (("PostgreSQL",),)


def test_a_question_may_be_dismissed_but_not_allowed(reactor: Any, given: Any) -> None:
    keep(reactor, given.question())
    assert reactor("reply", "que_1", "once").code == 2
    assert reactor("reply", "que_1", "reject").code == 0
    assert ask_of(reactor, "que_1").reply is Reply.REJECT


def test_several_questions_take_one_argument_each(reactor: Any, given: Any) -> None:
    first = Question("Which?", "", (Option("A, or B"), Option("C")), multiple=True, custom=False)
    keep(reactor, given.question(first, Question("Why?")))
    assert reactor("answer", "que_1", "C").code == 2
    assert reactor("answer", "que_1", "C", "own words").code == 0
    assert ask_of(reactor, "que_1").answers == (("C",), ("own words",))


# dead


def test_dead_deliveries_are_listed_retried_and_dropped(reactor: Any, given: Any) -> None:
    def delivery(event: str) -> Delivery:
        return Delivery(0, "notes", given.server, event, "session.idle", "ses_1", "/srv/app", "{}")

    async def bury(store: Store) -> None:
        for kept in await store.add_deliveries([delivery("evt_1"), delivery("evt_2")]):
            await store.bury_delivery(kept.id, tries=4, error="ValueError: \x1b[31mno")

    reactor.stored(bury)
    first, second = reactor("dead", "--format", "json").lines
    assert (first["handler"], first["name"], first["session"], first["tries"]) == (
        "notes",
        "session.idle",
        "ses_1",
        4,
    )
    assert "ValueError: no" in reactor("dead").out
    assert reactor("dead", "retry", str(first["id"])).code == 0
    assert reactor("dead", "drop", str(second["id"])).code == 0
    assert reactor("dead", "--format", "json").lines == []
    assert reactor("dead", "drop", str(second["id"])).code == 2
    assert reactor("dead", "drop").code == 2


# the store


def test_a_store_that_is_no_database_is_refused_with_its_place(reactor: Any) -> None:
    (reactor.folder / "notes.txt").write_text("no database at all, but long enough to look like one" * 30)
    done = reactor("runs", "--store", "notes.txt")
    assert done.code == 2
    assert done.out == ""
    assert str(reactor.folder / "notes.txt") in done.err
    assert "Traceback" not in done.err


def test_a_store_named_in_the_configuration_is_used(reactor: Any, given: Any) -> None:
    (reactor.folder / "reactor.toml").write_text('store = "state/opencode-reactor/reactor.db"')
    keep(reactor, given.waiting_run())
    assert [line["id"] for line in reactor("runs", "--format", "json").lines] == ["r1abc"]

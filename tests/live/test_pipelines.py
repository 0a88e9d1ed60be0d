"""Pipelines on real servers: each failure of the taxonomy as the server itself shows it, and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from opencode_reactor.app import Reactor, Until
from opencode_reactor.clock import SystemClock
from opencode_reactor.model.asks import Ask, AskState, Closed, Reply
from opencode_reactor.model.runs import Failure, Run, RunState, WaitingOn
from opencode_reactor.model.sessions import Tokens
from opencode_reactor.pipeline.definition import Pipeline
from opencode_reactor.settings import Secret, ServerSettings, Settings
from opencode_reactor.store import open_store
from opencode_reactor.testing import (
    CONTINUATION,
    Call,
    Calls,
    Empty,
    Fails,
    LiveServer,
    Overflow,
    Says,
    SaysJson,
    Side,
    Stalls,
    bash,
    question,
    task,
)
from opencode_reactor.testing.proxy import FaultProxy

OK = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "integer"}}}
Answerer = Callable[["Outside", Ask], Awaitable[object]]


class Outside:
    """A person at another terminal: a store of their own on the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def answer_first(self, answerer: Answerer) -> Ask:
        """Wait for the first open ask and let `answerer` answer it; returns the ask as it was found."""
        self.store = store = await open_store(str(self.path), clock=SystemClock())
        changed = anyio.Event()

        def stir() -> None:
            changed.set()

        unregister = store.changed(stir)
        try:
            while not (asks := await store.asks()):
                await changed.wait()
                changed = anyio.Event()
            await answerer(self, asks[0])
            return asks[0]
        finally:
            unregister()
            await store.aclose()

    async def asks(self) -> list[Ask]:
        """Every ask there ever was."""
        store = await open_store(str(self.path), clock=SystemClock())
        try:
            return await store.asks(states=tuple(AskState))
        finally:
            await store.aclose()


class Bench:
    """One live server, one store, and pipelines run on them."""

    def __init__(self, live: LiveServer, folder: Path) -> None:
        self.live = live
        self.path = folder / "store.db"
        self.outside = Outside(self.path)

    def settings(self, url: str | None = None) -> Settings:
        login = self.live.login
        server = ServerSettings("live", url or self.live.url, login.username, Secret(login.password))
        return Settings(servers=(server,), store=str(self.path))

    async def run(
        self,
        pipeline: Pipeline,
        inputs: dict[str, str] | None = None,
        *,
        until: Until | None = None,
        url: str | None = None,
        meanwhile: Callable[[], Awaitable[object]] | None = None,
        within: float = 60,
    ) -> Run:
        reactor = Reactor(self.settings(url), handlers=())
        result: list[Run] = []

        async def run() -> None:
            directory = str(self.live.directory)
            result.append(await reactor.run(pipeline, inputs, directory=directory, until=until))

        with anyio.fail_after(within):
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                if meanwhile is not None:
                    await meanwhile()
        return result[0]

    def times(self, text: str) -> int:
        """How often the model was asked with this as the last user text, after no tool's result."""
        return sum(r.messages[-1].get("role") == "user" for r in self.live.model.asked(text))


@pytest.fixture
def bench(live: LiveServer, tmp_path: Path) -> Bench:
    return Bench(live, tmp_path)


def pipeline(*stages: dict[str, object], **keys: object) -> Pipeline:
    return Pipeline.model_validate({"name": "live", "stages": list(stages), **keys})


def stage(name: str = "one", prompt: str = "alpha", **keys: object) -> dict[str, object]:
    return {"name": name, "prompt": prompt, **keys}


async def test_four_stages_two_side_by_side_reach_a_proved_end(bench: Bench) -> None:
    model = bench.live.model
    model.on("alpha", SaysJson({"ok": 1}))
    model.on("beta saw 1", Says("left"))
    model.on("gamma saw 1", Says("right"))
    model.on("omega", Says("the end"))
    run = await bench.run(
        pipeline(
            stage("a", "alpha {{ inputs.word }}", output=OK, summary="{{ output.ok }}"),
            stage("b", "beta saw {{ stages.a.summary }}", needs=["a"]),
            stage("c", "gamma saw {{ stages.a.output.ok }}", needs=["a"]),
            stage("d", "omega {{ stages.b.summary }} {{ stages.c.summary }}", needs=["b", "c"]),
            inputs={"word": {}},
        ),
        {"word": "hello"},
    )
    assert run.state is RunState.SUCCEEDED
    assert run.stage("d").text == "the end"
    assert bench.times("alpha hello") == bench.times("omega left right") == 1
    sessions = {a.session for s in run.stages for a in s.attempts}
    assert len(sessions) == 4
    for one in run.stages:
        evidence = one.attempts[-1].evidence
        assert [e.check for e in evidence][:4] == ["sent", "idle", "no open ask", "answered"]
        assert all(e.holds for e in evidence)


async def test_bad_json_is_repaired_in_the_same_session(bench: Bench) -> None:
    bench.live.model.on("alpha", Says("Sure! Here it is."))
    bench.live.model.on("JSON", SaysJson({"ok": 2}))
    run = await bench.run(pipeline(stage(output=OK)))
    assert run.state is RunState.SUCCEEDED
    (attempt,) = run.stage("one").attempts
    assert (attempt.turn.number, attempt.repairs) == (2, (Failure.OUTPUT_NOT_JSON,))
    assert len(bench.live.model.prompts) == 2


async def test_a_missing_text_is_asked_for_once_then_left_to_a_person(bench: Bench) -> None:
    bench.live.model.default(Empty())
    run = await bench.run(pipeline(stage()), until=Until(escalated=True))
    assert (run.state, run.waiting_on) == (RunState.WAITING, WaitingOn.PERSON)
    assert run.failure is Failure.OUTPUT_MISSING_TEXT
    assert len(bench.live.model.prompts) == 2


async def test_a_turn_compacted_in_the_middle_is_read_behind_the_compaction(bench: Bench) -> None:
    model = bench.live.model
    model.on("alpha", Calls(bash("true"), tokens=Tokens(input=15_500, output=20)))
    model.on(CONTINUATION, SaysJson({"ok": 3}))
    run = await bench.run(pipeline(stage(output=OK, model="scripted/tiny")))
    assert run.state is RunState.SUCCEEDED
    assert run.stage("one").output == {"ok": 3}
    assert any(r.side is Side.COMPACTION for r in model.requests)
    assert len(run.stage("one").attempts) == 1


async def test_a_good_answer_counts_though_a_compaction_puts_prose_behind_it(bench: Bench) -> None:
    model = bench.live.model
    model.on("alpha", SaysJson({"ok": 4}, tokens=Tokens(input=15_500, output=20)))
    model.on(CONTINUATION, Says("I have nothing more to do."))
    run = await bench.run(pipeline(stage(output=OK, model="scripted/tiny")))
    assert run.state is RunState.SUCCEEDED
    assert run.stage("one").output == {"ok": 4}
    assert any(r.side is Side.COMPACTION for r in model.requests)
    assert len(run.stage("one").attempts) == 1


async def test_a_permission_is_allowed_by_policy_and_on_record(bench: Bench) -> None:
    bench.live.model.on("alpha", Calls(bash("echo hi")), Says("done"))
    run = await bench.run(pipeline(stage(), permissions={"bash": {"echo *": "allow"}}))
    assert run.stage("one").text == "done"
    (ask,) = await bench.outside.asks()
    assert (ask.reply, ask.closed_as, ask.stage) == (Reply.ONCE, Closed.DELIVERED, "one")
    assert ask.answered_by == "policy: bash echo *: allow"


async def test_a_permission_that_the_server_cannot_list_is_answered_all_the_same(bench: Bench) -> None:
    # 1.18.33: while a `glob` without `path` waits, GET /permission answers 400.
    glob = Calls(Call("glob", {"pattern": "*"}))
    bench.live.model.on("alpha", glob, Says("listed"))
    run = await bench.run(pipeline(stage(), permissions={"glob": "allow"}))
    assert run.stage("one").text == "listed"
    (ask,) = await bench.outside.asks()
    assert (ask.permission, ask.reply, ask.closed_as) == ("glob", Reply.ONCE, Closed.DELIVERED)


async def test_to_hand_work_to_a_subagent_is_asked_where_rules_would_not_reach_it(bench: Bench) -> None:
    bench.live.model.on("alpha", Calls(task("kappa please")), Says("I did it myself"))

    async def refuse(outside: Outside, ask: Ask) -> None:
        assert ask.permission == "task"
        await outside.store.answer_ask(ask, reply=Reply.REJECT, by="person: test")

    run = await bench.run(
        pipeline(stage(), permissions={"bash": "ask"}), meanwhile=lambda: bench.outside.answer_first(refuse)
    )
    assert run.stage("one").text == "I did it myself"
    assert bench.times("kappa") == 0


async def test_a_permission_refused_by_policy_leaves_the_turn_to_go_on(bench: Bench) -> None:
    bench.live.configure(permission={"bash": "ask"})
    bench.live.model.on("alpha", Calls(bash("rm -rf x")), Says("then not"))
    rules = {"bash": {"*": "ask", "rm *": "deny"}}
    run = await bench.run(pipeline(stage(), permissions=rules))
    assert (run.state, run.stage("one").text) == (RunState.SUCCEEDED, "then not")


async def test_a_permission_is_answered_from_another_terminal_while_the_run_waits(bench: Bench) -> None:
    bench.live.model.on("alpha", Calls(bash("echo hi")), Says("done"))

    async def allow(outside: Outside, ask: Ask) -> None:
        run = await outside.store.run(ask.run)
        while run.waiting_on is not WaitingOn.PENDING_PERMISSION:
            await anyio.sleep(0.01)
            run = await outside.store.run(ask.run)
        await outside.store.answer_ask(ask, reply=Reply.ONCE, by="person: test")

    run = await bench.run(
        pipeline(stage(), permissions={"*": "ask"}), meanwhile=lambda: bench.outside.answer_first(allow)
    )
    assert run.stage("one").text == "done"
    (ask,) = await bench.outside.asks()
    assert (ask.answered_by, ask.closed_as, ask.title) == ("person: test", Closed.DELIVERED, "bash: echo hi")


async def test_a_refusal_from_another_terminal_reaches_the_model_as_words(bench: Bench) -> None:
    bench.live.model.on("alpha", Calls(bash("echo hi")), Says("I was told not to"))

    async def refuse(outside: Outside, ask: Ask) -> None:
        await outside.store.answer_ask(
            ask, reply=Reply.REJECT, message="use printf instead", by="person: test"
        )

    run = await bench.run(
        pipeline(stage(), permissions={"bash": "ask"}), meanwhile=lambda: bench.outside.answer_first(refuse)
    )
    assert run.stage("one").text == "I was told not to"
    assert "use printf instead" in str(bench.live.model.prompts[-1].messages)


async def test_a_question_is_answered_from_another_terminal(bench: Bench) -> None:
    bench.live.model.on("alpha", Calls(question("Which way?", "left", "right")), Says("going left"))

    async def left(outside: Outside, ask: Ask) -> None:
        assert ask.options == ("left", "right")
        await outside.store.answer_ask(ask, answers=(("left",),), by="person: test")

    run = await bench.run(pipeline(stage()), meanwhile=lambda: bench.outside.answer_first(left))
    assert run.stage("one").text == "going left"
    assert "left" in str(bench.live.model.prompts[-1].messages[-1])


async def test_questions_can_be_kept_away_altogether(bench: Bench) -> None:
    bench.live.model.on("alpha", Says("no question"))
    run = await bench.run(pipeline(stage(questions="reject")))
    assert run.state is RunState.SUCCEEDED
    assert "question" not in bench.live.model.prompts[0].tools


async def test_a_child_sessions_permission_is_answered_by_the_stages_policy(bench: Bench) -> None:
    bench.live.configure(permission={"bash": "ask"})
    model = bench.live.model
    model.on("alpha", Calls(task("kappa please")), Says("my child is done"))
    model.on("kappa", Calls(bash("echo child")), Says("child here"))
    run = await bench.run(pipeline(stage(), permissions={"bash": {"echo *": "allow"}, "task": "allow"}))
    assert run.stage("one").text == "my child is done"
    asks = {a.permission: a for a in await bench.outside.asks()}
    child = asks["bash"]
    assert child.session != child.root == run.stage("one").attempts[0].session
    assert (child.reply, child.closed_as) == (Reply.ONCE, Closed.DELIVERED)


async def test_a_refused_login_stops_at_once_and_waits_for_a_person(bench: Bench) -> None:
    bench.live.model.default(Fails(401))
    run = await bench.run(pipeline(stage()), until=Until(escalated=True))
    assert (run.waiting_on, run.failure) == (WaitingOn.PERSON, Failure.AUTH_FAILED)
    assert len(bench.live.model.prompts) == 1


async def test_a_rate_limit_is_waited_out(bench: Bench) -> None:
    bench.live.model.on("alpha", Fails(429, headers={"retry-after": "1"}), Says("after a while"))
    run = await bench.run(pipeline(stage()))
    assert run.stage("one").text == "after a while"
    first, second = bench.live.model.prompts
    assert second.at - first.at >= 1000


async def test_an_unavailable_provider_gives_way_to_the_fallback_model(bench: Bench) -> None:
    bench.live.model.on("alpha", Fails(503), model="standard")
    bench.live.model.on("alpha", Says("spare to the rescue"), model="spare")
    run = await bench.run(
        pipeline(stage(model="scripted/standard", fallback_models=["scripted/spare"], patience="1s"))
    )
    assert run.stage("one").text == "spare to the rescue"
    first, second = run.stage("one").attempts
    assert (first.failure, str(second.model)) == (Failure.PROVIDER_UNAVAILABLE, "scripted/spare")


async def test_an_overflow_is_tried_afresh_and_then_on_a_larger_window(bench: Bench) -> None:
    bench.live.configure(compaction=False)
    bench.live.model.on("alpha", Overflow(), model="standard")
    bench.live.model.on("alpha", Says("fits"), model="large")
    run = await bench.run(pipeline(stage(model="scripted/standard", fallback_models=["scripted/large"])))
    attempts = run.stage("one").attempts
    assert [a.failure for a in attempts] == [Failure.CONTEXT_OVERFLOW, Failure.CONTEXT_OVERFLOW, None]
    assert str(attempts[-1].model) == "scripted/large"


async def test_a_timeout_is_aborted_and_tried_in_a_fresh_session(bench: Bench) -> None:
    bench.live.model.on("alpha", Stalls(), Says("quicker"))
    run = await bench.run(pipeline(stage(timeout="2s")))
    first, second = run.stage("one").attempts
    assert (first.failure, second.failure) == (Failure.TIMEOUT, None)
    assert first.session != second.session
    assert run.stage("one").text == "quicker"


async def test_an_unknown_model_or_agent_is_refused_before_anything_is_sent(bench: Bench) -> None:
    run = await bench.run(pipeline(stage(model="scripted/standart")))
    assert (run.state, run.failure) == (RunState.FAILED, Failure.INVALID_REQUEST)
    assert "did you mean scripted/standard?" in run.detail
    run = await bench.run(pipeline(stage(agent="bild")))
    assert (run.state, run.failure) == (RunState.FAILED, Failure.INVALID_REQUEST)
    assert bench.live.model.requests == ()


async def test_checks_decide_and_a_failed_one_is_told_to_the_model(bench: Bench) -> None:
    bench.live.model.on("alpha", Says("written"))
    bench.live.model.on("test -e done", Calls(bash("touch done")), Says("now it is there"))
    run = await bench.run(pipeline(stage(check="test -e done")))
    assert run.state is RunState.SUCCEEDED
    (attempt,) = run.stage("one").attempts
    assert attempt.repairs == (Failure.CHECK_FAILED,)
    assert attempt.evidence[-1].fact == "test -e done: exit 0"


async def test_a_stream_cut_in_mid_turn_changes_nothing_in_the_end(bench: Bench) -> None:
    bench.live.model.on("alpha", Says("one two three four five six", chunks=6, delay=0.2))
    async with FaultProxy(bench.live.url) as proxy:

        async def cut() -> None:
            await bench.live.model.wait_for("alpha")
            for _ in range(3):
                await anyio.sleep(0.2)
                proxy.cut()

        run = await bench.run(pipeline(stage()), url=proxy.url, meanwhile=cut)
        assert proxy.cuts > 0
    assert run.state is RunState.SUCCEEDED
    assert run.stage("one").text == "one two three four five six"
    assert bench.times("alpha") == 1

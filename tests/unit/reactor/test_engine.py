"""The engine on a real store and the real client: what becomes a key, and that no key is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import anyio
import httpx
import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.model import events as e
from opencode_reactor.model.asks import AskState, Closed, Reply
from opencode_reactor.model.runs import (
    AttemptState,
    CommandKind,
    Failure,
    JournalKind,
    Run,
    RunState,
    WaitingOn,
)
from opencode_reactor.model.sessions import PermissionRequest, Session
from opencode_reactor.opencode import Client
from opencode_reactor.pipeline.definition import Pipeline
from opencode_reactor.reactor.asks import AskKeeper, AskPolicy
from opencode_reactor.reactor.engine import WANTED, Engine, RunKey, Surroundings
from opencode_reactor.reactor.lease import LeaseKeeper
from opencode_reactor.reactor.submission import make_run
from opencode_reactor.reactor.tree import SessionTree
from opencode_reactor.store import Store

Held = Callable[..., AbstractAsyncContextManager[LeaseKeeper]]
Condition = Callable[[Run], bool]

ONE = {"name": "p", "stages": [{"name": "one", "prompt": "Do it."}]}


class Driving:
    """An engine, and what a test does to it and sees of it."""

    def __init__(self, server: Any, store: Store, client: Client, lease: LeaseKeeper) -> None:
        self.server = server
        self.store = store
        self.client = client
        self.lease = lease
        self.policy = AskPolicy()
        self.concurrency = 8
        self.directory = "/p"
        self.watched: list[str] = []
        self.unwatched: list[str] = []
        self.engine = self.anew()

    def anew(self) -> Engine:
        """An engine that knows nothing but the store, as after a restart."""
        clock, random = SystemClock(), Random(1)
        tree = SessionTree(self.client)
        asks = AskKeeper(self.client, self.store, self.lease, tree, self.policy)
        around = Surroundings(self.client, self.store, self.lease, tree, asks, clock, random)
        self.engine = Engine(around, self.concurrency)
        self.engine.watch = self.watched.append
        self.engine.unwatch = self.unwatched.append
        return self.engine

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The engine runs within, and its first sweep is over."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.engine.run)
            await anyio.sleep(0.05)
            yield
            group.cancel_scope.cancel()

    async def submit(self, pipeline: dict[str, Any] = ONE, seed: int = 1) -> Run:
        made = make_run(
            Pipeline.model_validate(pipeline),
            {},
            server=self.client.url,
            directory=self.directory,
            clock=SystemClock(),
            random=Random(seed),
        )
        return await self.store.add_run(made)

    async def until(self, run: Run, condition: Condition, within: float = 8.0) -> Run:
        """The run as soon as that holds of it. A sweep, every 15 s, is no help within so short a time."""
        stirred = asyncio.Event()
        stop = self.store.changed(stirred.set)
        try:
            with anyio.fail_after(within):
                while not condition(now := await self.store.run(run.id)):
                    await stirred.wait()
                    stirred.clear()
            return now
        finally:
            stop()

    async def ended(self, run: Run) -> Run:
        return await self.until(run, lambda now: now.state.final)

    async def prompted(self, run: Run) -> str:
        """The session of the run's first attempt, as soon as its message was seen there."""

        def seen(now: Run) -> bool:
            return any(a.turn.seen is not None for s in now.stages for a in s.attempts)

        session = (await self.until(run, seen)).stages[0].attempts[-1].session
        assert session is not None
        return session

    def idle(self, session: str) -> None:
        self.engine.hint(e.SessionIdle(session=session, directory=self.directory))

    def finish(self, session: str, text: str = "done") -> None:
        """The session's turn ends, and its event is heard."""
        self.server.answer(session, text)
        self.idle(session)


@pytest.fixture
def driving(
    server: Any, client: Client, store: Store, held: Held
) -> Callable[..., AbstractAsyncContextManager[Driving]]:
    @asynccontextmanager
    async def entered(ttl: int = 15_000) -> AsyncGenerator[Driving]:
        async with held(ttl) as lease:
            yield Driving(server, store, client, lease)

    return entered


Begin = Callable[..., AbstractAsyncContextManager[Driving]]


# From the store to a proved end


async def test_a_run_that_waited_in_the_store_is_driven_to_its_proved_end(driving: Begin) -> None:
    async with driving() as d:
        run = await d.submit()
        d.server.answers = ["done"]
        async with d.running():
            over = await d.ended(run)
        assert over.state is RunState.SUCCEEDED
        (attempt,) = over.stage("one").attempts
        assert (attempt.state, attempt.text) == (AttemptState.SUCCEEDED, "done")
        assert attempt.evidence
        assert all(found.holds for found in attempt.evidence)
        assert len(d.server.sent("prompt_async")) == 1
        kinds = [entry.kind for entry in await d.store.journal(run.id)]
        assert kinds[-1] is JournalKind.FINISHED


async def test_a_run_submitted_by_another_hand_is_found_at_once(driving: Begin) -> None:
    async with driving() as d, d.running():
        d.server.answers = ["done"]
        assert (await d.ended(await d.submit())).state is RunState.SUCCEEDED


async def test_what_is_decided_is_stored_before_it_is_done(driving: Begin) -> None:
    async with driving() as d:
        run = await d.submit()
        stood: list[tuple[str, AttemptState, str | None]] = []

        async def during(request: httpx.Request) -> None:
            if request.method == "POST":
                (attempt,) = (await d.store.run(run.id)).stage("one").attempts
                stood.append((request.url.path.rpartition("/")[2], attempt.state, attempt.session))

        d.server.during = during
        d.server.answers = ["done"]
        async with d.running():
            await d.ended(run)
        assert stood == [
            ("session", AttemptState.PLANNED, None),
            ("prompt_async", AttemptState.CREATED, "ses_1"),
        ]


async def test_an_engine_that_died_after_the_prompt_does_not_send_it_again(driving: Begin) -> None:
    async with driving() as d:
        run = await d.submit()
        async with d.running():
            session = await d.prompted(run)
        d.server.answer(session, "done")
        d.anew()
        async with d.running():
            assert (await d.ended(run)).state is RunState.SUCCEEDED
        assert len(d.server.sent("prompt_async")) == 1
        assert len(d.server.sessions) == 1


async def test_an_engine_that_died_before_the_answer_to_its_prompt_looks_first(driving: Begin) -> None:
    async with driving() as d:
        run = await d.submit()
        arrived = anyio.Event()

        async def during(request: httpx.Request) -> None:
            if request.url.path.endswith("prompt_async"):
                (prompt,) = d.server.sent("prompt_async")
                d.server._prompt(prompt[0].split("/")[2], prompt[1])
                arrived.set()
                await anyio.sleep_forever()

        d.server.during = during
        async with d.running():
            await arrived.wait()
        d.server.during = None
        d.anew()
        async with d.running():
            d.finish(await d.prompted(run))
            assert (await d.ended(run)).state is RunState.SUCCEEDED
        assert len(d.server.sent("prompt_async")) == 1


# Hints


async def test_an_event_of_a_runs_session_is_a_reason_to_look(driving: Begin) -> None:
    async with driving() as d, d.running():
        run = await d.submit()
        session = await d.prompted(run)
        d.server.answer(session, "done")
        began = anyio.current_time()
        d.idle(session)
        await d.ended(run)
        assert anyio.current_time() - began < 0.9, "the next look of its own is a second away"


async def test_an_event_of_a_subagents_session_is_one_of_its_runs(driving: Begin) -> None:
    async with driving() as d, d.running():
        run = await d.submit()
        session = await d.prompted(run)
        child = Session("ses_child", "/p", "child", 1, 1, parent=session)
        d.engine.hint(e.SessionCreated(session="ses_child", info=child, directory="/p"))
        event = e.SessionIdle(session="ses_child", directory="/p")
        assert d.engine.run_of(event) == run.id
        d.server.answer(session, "done")
        d.engine.hint(event)
        assert (await d.ended(run)).state is RunState.SUCCEEDED


async def test_events_of_strangers_cost_the_server_nothing(driving: Begin) -> None:
    async with driving() as d, d.running():
        run = await d.submit()
        await d.prompted(run)
        await anyio.sleep(0.3)
        d.server.reads.clear()
        for number in range(50):
            d.idle(f"ses_stranger{number}")
            d.engine.hint(e.SessionError(session=None, directory="/p"))
        await anyio.sleep(0.2)
        assert d.server.reads == []
        assert d.engine.run_of(e.SessionIdle(session="ses_stranger1")) is None


async def test_many_hints_at_once_are_one_look(driving: Begin) -> None:
    async with driving() as d, d.running():
        run = await d.submit()
        session = await d.prompted(run)
        await anyio.sleep(0.3)
        d.server.reads.clear()
        for _ in range(100):
            d.idle(session)
        await anyio.sleep(0.3)
        assert 1 <= d.server.reads.count(f"/session/{session}/message") <= 2


def test_the_engine_wants_what_it_takes_as_a_hint_and_no_deltas() -> None:
    assert {"session.idle", "session.error", "permission.asked", "message.updated"} <= WANTED
    assert not {"message.part.delta", "server.heartbeat", "file.edited"} & WANTED


# Nothing is forgotten


async def test_a_server_that_fails_for_a_while_is_asked_again(driving: Begin) -> None:
    async with driving() as d:
        left = ["/session/status"] * 2 + ["/session"] + ["/prompt_async"]

        def before(request: httpx.Request) -> httpx.Response | None:
            if left and request.url.path.endswith(left[0]):
                left.pop(0)
                raise httpx.ConnectError("lost", request=request)
            return None

        d.server.before = before
        d.server.answers = ["done"]
        run = await d.submit()
        async with d.running():
            assert (await d.ended(run)).state is RunState.SUCCEEDED
        assert len({body["messageID"] for _, body in d.server.sent("prompt_async")}) == 1


async def test_a_defect_of_ours_puts_the_key_back_and_touches_no_other_run(driving: Begin) -> None:
    async with driving() as d:
        broken = 1

        def before(request: httpx.Request) -> httpx.Response | None:
            nonlocal broken
            if request.url.path == "/session/ses_1/message" and broken:
                broken -= 1
                raise RuntimeError("a defect")
            return None

        d.server.before = before
        d.server.answers = ["first", "second"]
        runs = [await d.submit(seed=n) for n in (1, 2)]
        async with d.running():
            over = [await d.ended(run) for run in runs]
        assert [run.state for run in over] == [RunState.SUCCEEDED] * 2
        assert broken == 0


async def test_a_run_that_another_hand_changed_meanwhile_is_looked_at_again(driving: Begin) -> None:
    async with driving() as d, d.running():
        run = await d.submit()
        session = await d.prompted(run)
        touched: list[int] = []

        async def during(request: httpx.Request) -> None:
            if request.url.path.endswith("/message") and not touched:
                now = await d.store.run(run.id)
                saved = await d.store.save_run(now, replace(now, detail="touched"), lease=d.lease.lease)
                touched.append(saved.rev)

        d.server.during = during
        d.finish(session)
        over = await d.ended(run)
        assert over.state is RunState.SUCCEEDED
        assert touched
        assert over.rev > touched[0]


async def test_a_look_that_finds_nothing_new_writes_nothing(driving: Begin) -> None:
    async with driving() as d, d.running():
        run = await d.submit()
        session = await d.prompted(run)
        await anyio.sleep(0.3)
        before = await d.store.run(run.id)
        for _ in range(5):
            d.idle(session)
            await anyio.sleep(0.03)
        assert await d.store.run(run.id) == before


async def test_on_a_short_lease_nothing_is_sent_and_the_run_stays(driving: Begin) -> None:
    async with driving(ttl=1_300) as d:
        run = await d.submit()
        async with d.running():
            await anyio.sleep(0.3)
        assert d.server.calls == []
        assert not (await d.store.run(run.id)).state.final


# People


async def test_a_command_wakes_the_engine(driving: Begin) -> None:
    async with driving() as d, d.running():
        run = await d.submit()
        session = await d.prompted(run)
        await d.store.add_command(run.id, CommandKind.CANCEL, by="person: x")
        await d.until(run, lambda now: bool(now.open_attempts[0].aborted))
        d.finish(session, "as far as it came")
        over = await d.ended(run)
        assert over.state is RunState.CANCELLED
        assert [path for path, _ in d.server.sent("abort")] == [f"/session/{session}/abort"]
        assert await d.store.commands(run.id) == []


async def test_a_run_that_failed_is_begun_again_on_command(driving: Begin) -> None:
    async with driving() as d:
        pipeline = {
            "name": "p",
            "stages": [{"name": "one", "prompt": "Do it.", "check": ["false"], "attempts": 1}],
        }
        d.directory = "/"
        run = await d.submit(pipeline)
        d.server.answers = ["first", "second", "third", "fourth"]
        async with d.running():
            stuck = await d.until(run, lambda now: now.state.final or now.waiting_on is WaitingOn.PERSON)
            assert stuck.failure is Failure.CHECK_FAILED
            tries = len(stuck.stage("one").attempts)
            await d.store.add_command(run.id, CommandKind.RETRY, by="person: x")
            again = await d.until(run, lambda now: len(now.stage("one").attempts) > tries)
            assert again.stage("one").attempts[-1].number == tries + 1


async def test_a_command_that_was_given_while_nobody_listened_is_found_by_looking(driving: Begin) -> None:
    async with driving() as d:
        run = await d.submit()
        await d.store.add_command(run.id, CommandKind.CANCEL, by="person: x")
        async with d.running():
            assert (await d.ended(run)).state is RunState.CANCELLED
        await d.store.add_command(run.id, CommandKind.RETRY, by="person: x")
        await d.anew().look_at_everything()
        with anyio.fail_after(1):
            key = await d.engine._queue.get()  # pyright: ignore[reportPrivateUsage]
        assert key == RunKey(run.id)


async def test_an_ask_makes_the_run_wait_and_its_answer_makes_it_go_on(driving: Begin) -> None:
    async with driving() as d, d.running():
        run = await d.submit()
        session = await d.prompted(run)
        d.server.ask("per_1", session, "bash", "ls")
        request = PermissionRequest("per_1", session, "bash", ("ls",))
        d.engine.hint(e.PermissionAsked(session=session, request=request, directory="/p"))
        waiting = await d.until(run, lambda now: now.state is RunState.WAITING)
        assert waiting.waiting_on is WaitingOn.PENDING_PERMISSION
        (ask,) = await d.store.asks(run=run.id)
        await d.store.answer_ask(ask, reply=Reply.ONCE, by="person: x")
        await d.until(run, lambda now: now.state is RunState.RUNNING)
        assert [path for path, _ in d.server.sent("/reply")] == ["/permission/per_1/reply"]
        d.finish(session)
        assert (await d.ended(run)).state is RunState.SUCCEEDED
        (ask,) = await d.store.asks(run=run.id, states=(AskState.CLOSED,))
        assert ask.closed_as is Closed.DELIVERED


async def test_an_ask_nobody_answers_is_refused_when_its_time_has_come(driving: Begin) -> None:
    async with driving() as d:
        d.policy = AskPolicy(expiry=400)
        d.anew()
        async with d.running():
            run = await d.submit()
            session = await d.prompted(run)
            d.server.ask("per_1", session, "bash", "ls")
            d.engine.look_at_asks("/p")
            await d.until(run, lambda now: now.state is RunState.WAITING)
            await d.until(run, lambda now: now.state is RunState.RUNNING)
        ((_, body),) = d.server.sent("/reply")
        assert body == {"reply": "reject", "message": "Nobody answered in time."}


async def test_an_approval_given_makes_the_run_go_on(driving: Begin) -> None:
    async with driving() as d, d.running():
        run = await d.submit({"name": "p", "stages": [{"name": "gate", "approve": "Go?"}]})
        await d.until(run, lambda now: now.waiting_on is WaitingOn.APPROVAL)
        (ask,) = await d.store.asks(run=run.id)
        await d.store.answer_ask(ask, reply=Reply.ONCE, by="person: x")
        assert (await d.ended(run)).state is RunState.SUCCEEDED
        (ask,) = await d.store.asks(run=run.id, states=tuple(AskState))
        assert ask.reply is Reply.ONCE


# Around a run


async def test_a_directory_is_listened_to_for_as_long_as_it_has_live_runs(driving: Begin) -> None:
    async with driving() as d, d.running():
        runs = [await d.submit(seed=n) for n in (1, 2)]
        sessions = [await d.prompted(run) for run in runs]
        assert d.watched == ["/p"]
        d.finish(sessions[0])
        await d.ended(runs[0])
        assert d.unwatched == []
        d.finish(sessions[1])
        await d.ended(runs[1])
        with anyio.fail_after(2):
            while not d.unwatched:  # noqa: ASYNC110  told by a plain call
                await anyio.sleep(0.01)
        assert (d.watched, d.unwatched) == (["/p"], ["/p"])


async def test_with_one_place_runs_go_one_after_the_other_and_none_waits_for_the_sweep(
    driving: Begin,
) -> None:
    async with driving() as d:
        d.concurrency = 1
        d.anew()
        runs = [await d.submit(seed=n) for n in (1, 2, 3)]
        beside: list[int] = []

        async def during(request: httpx.Request) -> None:
            if request.url.path.endswith("prompt_async"):
                beside.append(len(d.server.statuses))

        d.server.during = during
        async with d.running():
            for _ in runs:
                with anyio.fail_after(8):
                    while not d.server.statuses:  # noqa: ASYNC110  the server's, nobody tells
                        await anyio.sleep(0.01)
                (session,) = d.server.statuses
                await anyio.sleep(0.1)
                d.finish(session)
            over = [await d.ended(run) for run in runs]
        assert [run.state for run in over] == [RunState.SUCCEEDED] * 3
        assert beside == [0, 0, 0]


async def test_a_failed_check_is_told_in_the_same_session_and_a_mended_one_passes(
    driving: Begin, tmp_path: Path
) -> None:
    stage = {"name": "one", "prompt": "Do it.", "check": ["echo looked >> log; test -f mended"]}
    async with driving() as d:
        d.directory = str(tmp_path)
        d.server.answers = ["done"]
        run = await d.submit({"name": "p", "stages": [stage]})
        async with d.running():
            repaired = await d.until(run, lambda now: [len(a.repairs) for a in now.open_attempts] == [1])
            assert repaired.stage("one").attempts[-1].repairs == (Failure.CHECK_FAILED,)
            (tmp_path / "mended").touch()
            await d.until(run, lambda now: now.stage("one").attempts[-1].turn.seen is not None)
            session = repaired.stage("one").attempts[-1].session
            assert session is not None
            d.finish(session, "mended")
            over = await d.ended(run)
        assert over.state is RunState.SUCCEEDED
        prompts = [body["parts"][0]["text"] for _, body in d.server.sent("prompt_async")]
        assert len(prompts) == 2
        assert "exit code 1" in prompts[1]
        assert (tmp_path / "log").read_text(encoding="utf-8") == "looked\n" * 2

"""Looking: what is asked of the server for one decision, and what is not asked twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import httpx
import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.model.runs import Attempt, AttemptState, Run, RunState, StageRun, Turn, TurnKind
from opencode_reactor.opencode import Client
from opencode_reactor.pipeline.facts import PromptTaken, SessionMade
from opencode_reactor.reactor.look import CATALOG_AGE, Lookout
from opencode_reactor.store import Store, open_store

MESSAGES = "/session/ses_one/message"


class Server:
    """Answers every question with nothing in it, and counts them."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.on_catalog: Callable[[], None] = lambda: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked[path] += 1
        if path == "/config":
            self.on_catalog()
        empty: dict[str, object] = {
            "/session/status": {},
            "/agent": [],
            "/config/providers": {"providers": [], "default": {}},
            "/config": {"model": "scripted/standard"},
        }
        return httpx.Response(200, json=empty.get(path, []))


class SetClock(SystemClock):
    """A clock that a test moves ahead."""

    ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(str(tmp_path / "reactor.db"), clock=SystemClock())
    yield opened
    await opened.aclose()


def attempt(stage: str, state: AttemptState, session: str | None) -> Attempt:
    turn = Turn(1, TurnKind.FIRST, "Do it.", f"msg_{stage}", f"prt_{stage}")
    return Attempt(
        run="r1", stage=stage, number=1, state=state, turn=turn, created=1, session=session, deadline=2
    )


def run_of(*attempts: Attempt) -> Run:
    stages = tuple(StageRun(a.stage, attempts=(a,)) for a in attempts)
    return Run("r1", "p", "http://server", "/p", "{}", state=RunState.RUNNING, stages=stages)


async def test_a_later_pass_of_the_same_drive_asks_nothing_again(store: Store) -> None:
    server = Server()
    run = run_of(attempt("one", AttemptState.RUNNING, "ses_one"), attempt("two", AttemptState.PLANNED, None))
    async with Client("http://server", transport=httpx.MockTransport(server)) as client:
        lookout = Lookout(client, store, SystemClock(), Random(1))
        first = await lookout.look(run, {})
        assert (server.asked["/session/status"], server.asked[MESSAGES]) == (1, 1)
        asked = server.asked.copy()
        second = await lookout.look(run, {"r1.two.1": SessionMade("ses_two", fresh=True)}, first)
        assert server.asked == asked
    assert second.seen["r1.one.1"] is first.seen["r1.one.1"]
    assert second.seen["r1.two.1"].messages == ()
    assert second.catalog is first.catalog is not None


async def test_what_was_seen_before_a_prompt_says_nothing_once_it_is_sent(store: Store) -> None:
    run = run_of(attempt("one", AttemptState.CREATED, "ses_one"))
    async with Client("http://server", transport=httpx.MockTransport(Server())) as client:
        lookout = Lookout(client, store, SystemClock(), Random(1))
        first = await lookout.look(run, {})
        assert "r1.one.1" in first.seen
        second = await lookout.look(run, {"r1.one.1": PromptTaken(1)}, first)
    assert second.seen == {}


async def test_a_session_that_was_found_and_not_made_is_looked_at_before_anything_is_sent(
    store: Store,
) -> None:
    run = run_of(attempt("one", AttemptState.PLANNED, None))
    found = {"r1.one.1": SessionMade("ses_one", fresh=False)}
    async with Client("http://server", transport=httpx.MockTransport(Server())) as client:
        lookout = Lookout(client, store, SystemClock(), Random(1))
        first = await lookout.look(run, {})
        assert (await lookout.look(run, found, first)).seen == {}
        created = run_of(attempt("one", AttemptState.CREATED, "ses_one"))
        assert (await lookout.look(created, {})).seen["r1.one.1"].messages == ()


async def test_a_catalog_is_read_again_beside_the_stages_and_no_look_waits_for_it(store: Store) -> None:
    server, clock = Server(), SetClock()
    run = run_of(attempt("one", AttemptState.PLANNED, None))
    async with Client("http://server", transport=httpx.MockTransport(server)) as client:
        lookout = Lookout(client, store, clock, Random(1))
        await lookout.look(run, {})
        clock.ahead = CATALOG_AGE - 10_000
        await lookout.freshen_catalogs({"/p"})
        assert server.asked["/agent"] == 2
        clock.ahead += CATALOG_AGE - 10_000
        await lookout.look(run, {})
        assert server.asked["/agent"] == 2
        clock.ahead += CATALOG_AGE
        await lookout.look(run, {})
        assert server.asked["/agent"] == 3


async def test_a_catalog_that_nobody_needs_or_that_was_forgotten_meanwhile_is_not_kept(store: Store) -> None:
    server = Server()
    run = run_of(attempt("one", AttemptState.PLANNED, None))
    async with Client("http://server", transport=httpx.MockTransport(server)) as client:
        lookout = Lookout(client, store, SystemClock(), Random(1))
        await lookout.look(run, {})
        await lookout.freshen_catalogs(())
        await lookout.freshen_catalogs({"/p"})
        assert server.asked["/agent"] == 1
        await lookout.look(run, {})
        server.on_catalog = lookout.forget_catalogs
        await lookout.freshen_catalogs({"/p"})
        await lookout.look(run, {})
        assert server.asked["/agent"] == 4

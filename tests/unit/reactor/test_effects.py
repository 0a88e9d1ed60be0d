"""Effects on a server that may refuse, lose or have done them before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from opencode_reactor.errors import Fenced, Refused, Unreachable
from opencode_reactor.model.runs import Attempt, AttemptState, Run, StageRun, Turn, TurnKind
from opencode_reactor.model.sessions import ModelRef, PermissionRule
from opencode_reactor.opencode import Client
from opencode_reactor.pipeline.facts import (
    Abort,
    CallRefused,
    CreateSession,
    PromptTaken,
    SendPrompt,
    SessionMade,
)
from opencode_reactor.pipeline.plan import Action, Questions, Rule, StagePlan
from opencode_reactor.reactor.effects import PATIENCE, Hands
from opencode_reactor.reactor.lease import LeaseKeeper

Held = Callable[..., AbstractAsyncContextManager[LeaseKeeper]]

TURN = Turn(1, TurnKind.FIRST, "Do it.", "msg_000000000000a", "prt_000000000000a")
ATTEMPT = Attempt("r1", "one", 1, AttemptState.PLANNED, TURN, 0, model=ModelRef("local", "m"))
RUN = Run("r1", "p", "http://opencode.test", "/p", "{}", stages=(StageRun("one", attempts=(ATTEMPT,)),))
CREATE = CreateSession(ATTEMPT.id, "p · one · 1 · r1", (PermissionRule("bash", "*", "ask"),), {"run": "r1"})
STAGE = StagePlan("one", prompt="Do it.", agent="build", variant="high")


def hands(client: Client, lease: LeaseKeeper) -> Hands:
    return Hands(client, lease, lambda: 77)


def lose(what: str) -> Callable[[httpx.Request], httpx.Response | None]:
    """The first request whose path ends so is lost on its way."""
    left = [1]

    def before(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST" and request.url.path.endswith(what) and left:
            left.pop()
            raise httpx.ConnectError("lost", request=request)
        return None

    return before


def refuse(status: int) -> Callable[[httpx.Request], httpx.Response | None]:
    """Every call is refused."""
    answer = httpx.Response(status, json={"name": "Oops", "data": {"message": "no"}})
    return lambda request: answer if request.method == "POST" else None


# Sessions


async def test_a_session_planned_here_is_made_without_looking_for_it(
    server: Any, client: Client, held: Held
) -> None:
    async with held() as lease:
        ours = hands(client, lease)
        ours.planned_here(ATTEMPT)
        assert await ours.create(RUN, CREATE) == SessionMade("ses_1", fresh=True)
    assert server.reads == []
    ((path, body),) = server.sent("/session")
    assert (path, body["title"], body["metadata"]) == ("/session", CREATE.title, {"run": "r1"})
    assert body["permission"] == [{"permission": "bash", "pattern": "*", "action": "ask"}]


async def test_after_any_doubt_the_session_of_that_title_is_looked_for_and_adopted(
    server: Any, client: Client, held: Held
) -> None:
    server.session(f"{CREATE.title}2")
    made = server.session(CREATE.title)
    async with held() as lease:
        assert await hands(client, lease).create(RUN, CREATE) == SessionMade(made["id"], fresh=False)
    assert server.calls == []


async def test_a_title_that_only_begins_so_is_another_attempts(
    server: Any, client: Client, held: Held
) -> None:
    other = server.session(f"{CREATE.title}2")
    async with held() as lease:
        made = await hands(client, lease).create(RUN, CREATE)
    assert isinstance(made, SessionMade)
    assert made.fresh
    assert made.session != other["id"]


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_call_whose_answer_was_lost_is_looked_for_before_it_is_repeated(
    server: Any, client: Client, held: Held, arrived: bool
) -> None:
    server.before = lose("/session")
    async with held() as lease:
        ours = hands(client, lease)
        ours.planned_here(ATTEMPT)
        with pytest.raises(Unreachable):
            await ours.create(RUN, CREATE)
        if arrived:
            server.session(CREATE.title)
        assert await ours.create(RUN, CREATE) == SessionMade("ses_1", fresh=not arrived)
    assert len(server.sessions) == 1
    assert "/session" in server.reads


# Prompts


async def test_a_prompt_goes_out_with_its_own_ids_and_all_that_the_stage_says(
    server: Any, client: Client, held: Held
) -> None:
    session = server.session("one")["id"]
    async with held() as lease:
        taken = await hands(client, lease).send(RUN, STAGE, ATTEMPT, SendPrompt(ATTEMPT.id, session, TURN))
    assert taken == PromptTaken(77)
    ((path, body),) = server.sent("prompt_async")
    assert path == f"/session/{session}/prompt_async"
    assert body == {
        "messageID": TURN.message,
        "parts": [{"id": TURN.part, "type": "text", "text": "Do it."}],
        "model": {"providerID": "local", "modelID": "m"},
        "agent": "build",
        "variant": "high",
    }


@pytest.mark.parametrize(
    ("version", "rules", "tools"),
    [
        ("1.1.65", (), {"question": False}),
        # There a prompt's `tools` would take the place of the session's rules.
        ("1.1.65", (Rule("bash", "*", Action.DENY),), None),
        # A session rule does it.
        ("1.18.33", (), None),
    ],
)
async def test_the_question_tool_is_taken_away_where_only_a_prompt_can(
    server: Any, client: Client, held: Held, version: str, rules: tuple[Rule, ...], tools: object
) -> None:
    server.version = version
    await client.connect()
    session = server.session("one")["id"]
    stage = StagePlan("one", prompt="Do it.", questions=Questions.REJECT, permissions=rules)
    async with held() as lease:
        await hands(client, lease).send(RUN, stage, ATTEMPT, SendPrompt(ATTEMPT.id, session, TURN))
    ((_, body),) = server.sent("prompt_async")
    assert body.get("tools") == tools


# Aborts


async def test_an_abort_stops_the_session_and_one_that_is_gone_needs_none(
    server: Any, client: Client, held: Held
) -> None:
    session = server.session("one")["id"]
    async with held() as lease:
        ours = hands(client, lease)
        await ours.abort(RUN, Abort(ATTEMPT.id, session))
        await ours.abort(RUN, Abort(ATTEMPT.id, "ses_99"))
    assert [path for path, _ in server.sent("abort")] == [
        f"/session/{session}/abort",
        "/session/ses_99/abort",
    ]


# Refusals


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
async def test_a_refusal_for_good_is_a_result_in_the_servers_words(
    server: Any, client: Client, held: Held, status: int
) -> None:
    server.before = refuse(status)
    async with held() as lease:
        ours = hands(client, lease)
        ours.planned_here(ATTEMPT)
        for result in (
            await ours.create(RUN, CREATE),
            await ours.send(RUN, STAGE, ATTEMPT, SendPrompt(ATTEMPT.id, "ses_1", TURN)),
        ):
            assert isinstance(result, CallRefused)
            assert str(status) in result.reason or "no" in result.reason


async def test_a_server_that_answers_500_leaves_doubt_until_patience_is_over(
    server: Any, client: Client, held: Held
) -> None:
    server.before = refuse(500)
    async with held() as lease:
        ours = hands(client, lease)
        for _ in range(PATIENCE - 1):
            with pytest.raises(Refused):
                await ours.send(RUN, STAGE, ATTEMPT, SendPrompt(ATTEMPT.id, "ses_1", TURN))
        last = await ours.send(RUN, STAGE, ATTEMPT, SendPrompt(ATTEMPT.id, "ses_1", TURN))
    assert isinstance(last, CallRefused)


async def test_no_connection_is_no_result(server: Any, client: Client, held: Held) -> None:
    server.before = lose("prompt_async")
    async with held() as lease:
        with pytest.raises(Unreachable):
            await hands(client, lease).send(RUN, STAGE, ATTEMPT, SendPrompt(ATTEMPT.id, "ses_1", TURN))


# The lease


async def test_on_a_lease_shorter_than_a_call_nothing_goes_out(
    server: Any, client: Client, held: Held
) -> None:
    session = server.session("one")["id"]
    async with held(ttl=1_400) as lease:  # the client's deadline is 1 s, the margin half of one
        ours = hands(client, lease)
        ours.planned_here(ATTEMPT)
        with pytest.raises(Fenced):
            await ours.create(RUN, CREATE)
        with pytest.raises(Fenced):
            await ours.send(RUN, STAGE, ATTEMPT, SendPrompt(ATTEMPT.id, session, TURN))
        with pytest.raises(Fenced):
            await ours.abort(RUN, Abort(ATTEMPT.id, session))
    assert server.calls == []


async def test_without_the_lease_nothing_goes_out(server: Any, client: Client, held: Held) -> None:
    async with held() as lease:
        ours = hands(client, lease)
    with pytest.raises(Fenced):
        await ours.abort(RUN, Abort(ATTEMPT.id, "ses_1"))
    assert server.calls == []

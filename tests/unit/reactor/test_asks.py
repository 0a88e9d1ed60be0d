"""Asks between a server's lists and the store: policy first, then people; expiry; whatever became of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from opencode_reactor.errors import Conflict, Fenced, Unreachable
from opencode_reactor.model.ask_ids import ask_id
from opencode_reactor.model.asks import Ask, AskKind, AskState, Closed, Reply
from opencode_reactor.model.events import PermissionAsked, PermissionReplied
from opencode_reactor.model.sessions import PermissionRequest
from opencode_reactor.opencode import Client
from opencode_reactor.pipeline.plan import Action, Plan, Questions, Rule, StagePlan
from opencode_reactor.reactor.asks import AskKeeper, AskPolicy, Owner, Reconciled
from opencode_reactor.reactor.lease import LeaseKeeper
from opencode_reactor.reactor.tree import SessionTree
from opencode_reactor.store import Store

Held = Callable[..., AbstractAsyncContextManager[LeaseKeeper]]
URL = "http://opencode.test"


class Asking:
    """A keeper of asks, and a pipeline that owns one session and all below it."""

    def __init__(self, server: Any, client: Client, store: Store, lease: LeaseKeeper) -> None:
        self.server = server
        self.store = store
        self.client = client
        self.lease = lease
        self.tree = SessionTree(client)
        self.policy = AskPolicy()
        self.stage = StagePlan("one", prompt="Do it.")
        self.session: str = server.session("p · one · 1 · r1")["id"]

    @property
    def keeper(self) -> AskKeeper:
        return AskKeeper(self.client, self.store, self.lease, self.tree, self.policy)

    async def owner_of(self, root: str) -> Owner | None:
        plan = self.policy.below(Plan("p", (self.stage,)))
        return Owner("r1", 1, plan.stage("one")) if root == self.session else None

    async def look(self, directory: str = "/p") -> Reconciled:
        return await self.keeper.reconcile(directory, self.owner_of)

    async def stored(self) -> Ask:
        """The one ask there is, whatever its state."""
        (ask,) = await self.store.asks(states=tuple(AskState))
        return ask

    async def reply(self, reply: Reply, message: str = "", by: str = "person: x") -> Ask:
        return await self.store.answer_ask(await self.stored(), reply=reply, message=message, by=by)

    def allow(self, *rules: tuple[str, str, Action]) -> None:
        self.stage = replace(self.stage, permissions=tuple(Rule(*rule) for rule in rules))


@pytest.fixture
def asking(
    server: Any, client: Client, store: Store, held: Held
) -> Callable[..., AbstractAsyncContextManager[Asking]]:
    @asynccontextmanager
    async def entered(ttl: int = 15_000) -> AsyncGenerator[Asking]:
        async with held(ttl) as lease:
            yield Asking(server, client, store, lease)

    return entered


Begin = Callable[..., AbstractAsyncContextManager[Asking]]


# Found


async def test_a_permission_of_a_pipelines_session_waits_for_a_person(asking: Begin) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session, "bash", "git push", "git tag")
        done = await a.look()
        assert (done.runs, done.open, done.next_expiry) == (frozenset({"r1"}), 1, None)
        ask = await a.stored()
        assert (ask.id, ask.request, ask.server) == (ask_id(URL, "per_1"), "per_1", URL)
        assert (ask.run, ask.stage, ask.attempt, ask.root) == ("r1", "one", 1, a.session)
        assert (ask.kind, ask.title, ask.detail) == (
            AskKind.PERMISSION,
            "bash: git push, git tag",
            "git push\ngit tag",
        )
        assert ask.state is AskState.OPEN
        again = await a.look()
        assert (again.runs, again.open) == (frozenset(), 1)
        assert a.server.calls == []


async def test_a_question_shows_its_text_and_its_labels(asking: Begin) -> None:
    async with asking() as a:
        a.server.question("que_1", a.session, "red", "blue")
        await a.look()
        ask = await a.stored()
        assert (ask.kind, ask.title, ask.options) == (AskKind.QUESTION, "Which?", ("red", "blue"))


async def test_a_subagents_ask_belongs_to_the_stage_at_the_top_of_its_tree(asking: Begin) -> None:
    async with asking() as a:
        child = a.server.session("child", parent=a.session)["id"]
        grandchild = a.server.session("grandchild", parent=child)["id"]
        a.allow(("bash", "*", Action.ALLOW))
        a.server.ask("per_1", grandchild, "bash", "ls")
        assert (await a.look()).runs == {"r1"}
        ask = await a.stored()
        assert (ask.session, ask.root, ask.run) == (grandchild, a.session, "r1")
        assert ask.closed_as is Closed.DELIVERED


async def test_asks_of_peoples_own_sessions_are_kept_and_no_rule_answers_them(asking: Begin) -> None:
    async with asking() as a:
        a.policy = AskPolicy(rules=(Rule("*", "*", Action.ALLOW),), questions=Questions.REJECT)
        own = a.server.session("a person's own")["id"]
        a.server.ask("per_1", own, "bash", "ls")
        a.server.question("que_1", own, "yes")
        done = await a.look()
        assert (done.runs, done.open) == (frozenset(), 2)
        assert {ask.run for ask in await a.store.asks()} == {""}
        assert a.server.calls == []


async def test_each_directory_is_looked_at_by_itself(asking: Begin) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session, "bash", "ls")
        a.server.directories["per_1"] = "/p"
        await a.look("/p")
        assert (await a.look("/elsewhere")).open == 0
        assert (await a.stored()).state is AskState.OPEN


async def test_an_ask_that_an_aborted_turn_left_in_the_list_is_no_ask(asking: Begin) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session)
        del a.server.statuses[a.session]
        assert (await a.look()).open == 0
        assert await a.store.asks(states=tuple(AskState)) == []


# By policy


@pytest.mark.parametrize(
    ("action", "reply"),
    [(Action.ALLOW, "once"), (Action.ALWAYS, "always"), (Action.DENY, "reject")],
)
async def test_a_rule_answers_at_once_and_on_record(asking: Begin, action: Action, reply: str) -> None:
    async with asking() as a:
        a.allow(("bash", "git *", action))
        a.server.ask("per_1", a.session, "bash", "git status")
        done = await a.look()
        assert (done.runs, done.open) == (frozenset({"r1"}), 0)
        ask = await a.stored()
        assert (ask.reply, ask.closed_as) == (Reply(reply), Closed.DELIVERED)
        assert ask.answered_by == f"policy: bash git *: {action}"
        ((path, body),) = a.server.sent("/reply")
        assert (path, body["reply"]) == ("/permission/per_1/reply", reply)
        assert body.get("message", "") == (
            f"Refused by policy (bash git *: {action})." if reply == "reject" else ""
        )


async def test_the_stages_rules_go_before_the_configurations(asking: Begin) -> None:
    async with asking() as a:
        a.policy = AskPolicy(rules=(Rule("bash", "*", Action.DENY), Rule("read", "*", Action.ALLOW)))
        a.allow(("bash", "ls", Action.ALLOW))
        a.server.ask("per_1", a.session, "bash", "ls")
        a.server.ask("per_2", a.session, "bash", "rm")
        a.server.ask("per_3", a.session, "read", "a.py")
        a.server.ask("per_4", a.session, "edit", "a.py")
        assert (await a.look()).open == 1
        replies = {ask.request: ask.reply for ask in await a.store.asks(states=tuple(AskState))}
        assert replies == {
            "per_1": Reply.ONCE,
            "per_2": Reply.REJECT,
            "per_3": Reply.ONCE,
            "per_4": None,
        }


@pytest.mark.parametrize("whose", ["stage", "configuration"])
async def test_questions_are_refused_where_the_stage_or_the_configuration_says_so(
    asking: Begin, whose: str
) -> None:
    async with asking() as a:
        if whose == "stage":
            a.stage = replace(a.stage, questions=Questions.REJECT)
        else:
            a.policy = AskPolicy(questions=Questions.REJECT)
        a.server.question("que_1", a.session, "yes")
        assert (await a.look()).open == 0
        assert [path for path, _ in a.server.sent("/reject")] == ["/question/que_1/reject"]
        assert (await a.stored()).answered_by == "policy: questions: reject"


async def test_a_handler_that_is_first_to_see_an_ask_is_answered_for_by_policy(asking: Begin) -> None:
    async with asking() as a:
        a.allow(("bash", "*", Action.DENY))
        request = PermissionRequest("per_1", a.session, "bash", ("ls",))
        ask = await a.keeper.admit(request, "/p", a.owner_of)
        assert (ask.state, ask.reply) == (AskState.ANSWERED, Reply.REJECT)
        with pytest.raises(Conflict, match="policy"):
            await a.store.answer_ask(ask, reply=Reply.ONCE, by="handler: x")
        a.server.ask("per_1", a.session, "bash", "ls")
        await a.look()
        assert [body["reply"] for _, body in a.server.sent("/reply")] == ["reject"]


# By people


async def test_an_answer_is_delivered_once_and_the_ask_closed(asking: Begin) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session)
        await a.look()
        await a.reply(Reply.ONCE)
        done = await a.look()
        assert (done.runs, done.open) == (frozenset({"r1"}), 0)
        ask = await a.stored()
        assert (ask.closed_as, ask.answered_by) == (Closed.DELIVERED, "person: x")
        await a.look()
        assert len(a.server.sent("/reply")) == 1


@pytest.mark.parametrize(
    ("message", "told"), [("not on a Friday", "not on a Friday"), ("", "Refused by person: x.")]
)
async def test_a_refusal_always_carries_a_message(asking: Begin, message: str, told: str) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session)
        await a.look()
        await a.reply(Reply.REJECT, message)
        await a.look()
        ((_, body),) = a.server.sent("/reply")
        assert body == {"reply": "reject", "message": told}


async def test_the_labels_of_an_answer_reach_the_question(asking: Begin) -> None:
    async with asking() as a:
        a.server.question("que_1", a.session, "red", "blue")
        await a.look()
        await a.store.answer_ask(await a.stored(), answers=[["blue"]], by="person: x")
        await a.look()
        assert a.server.sent("/reply") == [("/question/que_1/reply", {"answers": [["blue"]]})]


async def test_who_answers_second_is_told_who_was_first(asking: Begin) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session)
        await a.look()
        ask = await a.stored()
        await a.reply(Reply.ONCE, by="handler: allow_reads")
        with pytest.raises(Conflict, match="handler: allow_reads"):
            await a.store.answer_ask(ask, reply=Reply.REJECT, by="person: x")
        await a.look()
        assert [body["reply"] for _, body in a.server.sent("/reply")] == ["once"]


async def test_an_answer_given_while_the_server_is_away_is_delivered_when_it_is_back(asking: Begin) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session)
        await a.look()
        await a.reply(Reply.ONCE)

        lost = {"GET", "POST"}

        def away(request: httpx.Request) -> httpx.Response | None:
            if request.method in lost:
                raise httpx.ConnectError("away", request=request)
            return None

        a.server.before = away
        with pytest.raises(Unreachable):
            await a.look()
        lost.remove("GET")
        with pytest.raises(Unreachable):
            await a.look()
        assert (await a.stored()).state is AskState.ANSWERED
        lost.clear()
        await a.look()
        assert (await a.stored()).closed_as is Closed.DELIVERED


async def test_on_a_short_lease_an_answer_stays_in_the_store(
    asking: Begin, server: Any, client: Client, store: Store
) -> None:
    async with asking(ttl=1_200) as a:
        a.server.ask("per_1", a.session)
        await a.look()
        await a.reply(Reply.ONCE)
        with pytest.raises(Fenced):
            await a.look()
        assert (await a.stored()).state is AskState.ANSWERED
    assert server.calls == []
    async with asking() as a:
        await a.look()
        assert [path for path, _ in server.sent("/reply")] == ["/permission/per_1/reply"]
    assert client.url == URL
    assert await store.asks() == []


# What became of them


async def test_what_vanished_from_a_turn_that_works_was_answered_elsewhere(asking: Begin, clock: Any) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session)
        await a.look()
        clock.ahead += 1
        a.server.permissions.clear()
        assert (await a.look()).runs == {"r1"}
        assert (await a.stored()).closed_as is Closed.ELSEWHERE


@pytest.mark.parametrize("lingers", [True, False])
async def test_what_its_turn_no_longer_waits_for_is_forgotten(
    asking: Begin, clock: Any, lingers: bool
) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session)
        await a.look()
        clock.ahead += 1
        a.server.statuses.clear()
        if not lingers:
            a.server.permissions.clear()
        assert (await a.look()).runs == {"r1"}
        assert (await a.stored()).closed_as is Closed.FORGOTTEN


async def test_an_answer_whose_delivery_was_not_recorded_was_delivered_all_the_same(
    asking: Begin, clock: Any
) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session)
        await a.look()
        clock.ahead += 1
        await a.reply(Reply.ONCE)
        a.server.permissions.clear()  # the server took it; we died before we wrote that down
        await a.look()
        assert (await a.stored()).closed_as is Closed.DELIVERED
        assert a.server.calls == []


async def test_an_answer_nobody_waits_for_any_more_is_forgotten(asking: Begin) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session)
        await a.look()
        await a.reply(Reply.ONCE)

        def gone(request: httpx.Request) -> httpx.Response | None:
            return httpx.Response(404, json={}) if request.method == "POST" else None

        a.server.before = gone
        await a.look()
        assert (await a.stored()).closed_as is Closed.FORGOTTEN


async def test_an_ask_newer_than_the_look_is_left_alone(asking: Begin) -> None:
    async with asking() as a:
        keeper = a.keeper
        seen: list[Ask] = []

        async def late(root: str) -> Owner | None:
            # While this look is under way a handler hears of another ask, which its lists do not know yet.
            if not seen:
                request = PermissionRequest("per_2", a.session, "bash", ("ls",))
                seen.append(await keeper.admit(request, "/p", a.owner_of))
            return await a.owner_of(root)

        a.server.ask("per_1", a.session)
        await keeper.reconcile("/p", late)
        a.server.ask("per_2", a.session, "bash", "ls")
        assert (await a.look()).open == 2
        assert await a.store.ask(seen[0].id) == seen[0]


# Expiry


async def test_an_ask_nobody_answers_in_time_is_refused_with_a_word(asking: Begin) -> None:
    async with asking() as a:
        a.policy = AskPolicy(expiry=0)
        a.server.ask("per_1", a.session)
        done = await a.look()
        assert (done.runs, done.open) == (frozenset({"r1"}), 0)
        ask = await a.stored()
        assert (ask.answered_by, ask.closed_as) == ("expiry", Closed.DELIVERED)
        ((_, body),) = a.server.sent("/reply")
        assert body == {"reply": "reject", "message": "Nobody answered in time."}


async def test_until_then_the_look_says_when_to_look_again(asking: Begin) -> None:
    async with asking() as a:
        a.policy = AskPolicy(expiry=60_000)
        a.server.ask("per_1", a.session)
        first = await a.look()
        a.policy = AskPolicy(expiry=30_000)
        a.server.ask("per_2", a.session)
        second = await a.look()
        assert first.next_expiry is not None
        assert second.next_expiry is not None
        assert second.next_expiry < first.next_expiry
        assert first.next_expiry - (await a.store.ask("per_1")).opened == 60_000


async def test_a_question_nobody_answers_in_time_is_dismissed(asking: Begin) -> None:
    async with asking() as a:
        a.policy = AskPolicy(expiry=0)
        a.server.question("que_1", a.session, "yes")
        await a.look()
        assert [path for path, _ in a.server.sent("/reject")] == ["/question/que_1/reject"]


# Trouble


@pytest.mark.parametrize("path", ["/session/status", "/permission", "/question"])
async def test_a_list_that_cannot_be_had_closes_nothing_and_is_the_servers_error(
    asking: Begin, path: str
) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session)
        await a.look()

        def lost(request: httpx.Request) -> httpx.Response | None:
            if request.url.path == path:
                raise httpx.ConnectError("lost", request=request)
            return None

        a.server.before = lost
        a.server.permissions.clear()
        with pytest.raises(Unreachable):
            await a.look()
        assert (await a.stored()).state is AskState.OPEN


# Where the server cannot list its permissions


def unlistable(request: httpx.Request) -> httpx.Response | None:
    return httpx.Response(400, json={}) if request.url.path == "/permission" else None


async def test_what_was_heard_stands_in_for_a_list_the_server_refuses(asking: Begin) -> None:
    async with asking() as a:
        a.server.ask("per_1", a.session, "glob", "*")
        keeper = a.keeper
        a.server.before = unlistable
        assert (await keeper.reconcile("/p", a.owner_of)).open == 0
        request = PermissionRequest("per_1", a.session, "glob", ("*",))
        keeper.hearing.note(PermissionAsked(session=a.session, directory="/p", request=request))
        assert (await keeper.reconcile("/p", a.owner_of)).open == 1
        deaf = a.keeper  # a reactor that was started later: what is stored stands
        assert (await deaf.reconcile("/p", a.owner_of)).open == 1
        await a.reply(Reply.ONCE)
        await deaf.reconcile("/p", a.owner_of)
        assert (await a.stored()).closed_as is Closed.DELIVERED
        assert a.server.permissions == {}


async def test_an_answer_that_was_heard_or_a_turn_that_ended_closes_what_cannot_be_listed(
    asking: Begin, clock: Any
) -> None:
    async with asking() as a:
        keeper = a.keeper
        a.server.before = unlistable
        for name in ("per_1", "per_2"):
            a.server.ask(name, a.session, "glob", "*")
            request = PermissionRequest(name, a.session, "glob", ("*",))
            keeper.hearing.note(PermissionAsked(session=a.session, directory="/p", request=request))
        await keeper.reconcile("/p", a.owner_of)
        clock.ahead += 1
        keeper.hearing.note(PermissionReplied(session=a.session, request="per_1", reply="once"))
        await keeper.reconcile("/p", a.owner_of)
        a.server.statuses.clear()
        await keeper.reconcile("/p", a.owner_of)
        closed = {ask.request: ask.closed_as for ask in await a.store.asks(states=tuple(AskState))}
        assert closed == {"per_1": Closed.ELSEWHERE, "per_2": Closed.FORGOTTEN}

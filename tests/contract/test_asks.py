from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from opencode_reactor.errors import Conflict, NotKnown
from opencode_reactor.model.ask_ids import ask_id
from opencode_reactor.model.asks import Ask, AskKind, AskState, Closed, Reply
from opencode_reactor.model.sessions import Option, Question
from opencode_reactor.store import Store

SERVER = "http://127.0.0.1:4096"


def permission(request: str = "per_1") -> Ask:
    return Ask(ask_id(SERVER, request), AskKind.PERMISSION, SERVER, request, session="ses_1", title="bash")


def question() -> Ask:
    asked = Question("Which?", "Choice", (Option("a", "the first"), Option("b")), multiple=True, custom=False)
    return Ask(
        id=ask_id(SERVER, "que_1"),
        kind=AskKind.QUESTION,
        server=SERVER,
        request="que_1",
        directory="/work",
        session="ses_2",
        root="ses_1",
        run="r1",
        stage="draft",
        attempt=2,
        title="Which?",
        detail="more",
        patterns=("git *", "ls"),
        questions=(asked, Question("Why?")),
        opened=7,
        expires=99,
    )


async def test_an_ask_is_kept_once_and_the_first_stands(store: Store) -> None:
    first = await store.add_ask(permission())
    assert first == replace(permission(), opened=first.opened, rev=1)
    assert 0 < first.opened <= store.now()
    assert await store.add_ask(replace(permission(), detail="found again")) == first
    assert await store.asks() == [first]


async def test_every_part_of_an_ask_comes_back(store: Store) -> None:
    kept = await store.add_ask(question())
    assert kept == replace(question(), rev=1)
    assert await store.ask(kept.id) == kept


async def test_an_ask_is_found_by_its_id_its_beginning_or_the_servers_own_id(store: Store) -> None:
    kept = await store.add_ask(permission())
    other = await store.add_ask(question())
    assert await store.ask(kept.id) == kept
    assert await store.ask(kept.id[:6]) == kept
    assert await store.ask("que_1") == other
    with pytest.raises(NotKnown, match="several asks"):
        await store.ask("a")
    for name in ("", "per_2", "zz"):
        with pytest.raises(NotKnown, match="no ask is called"):
            await store.ask(name)


async def test_one_request_id_on_two_servers_is_ambiguous(store: Store) -> None:
    await store.add_ask(permission())
    await store.add_ask(replace(permission(), id=ask_id("http://other", "per_1"), server="http://other"))
    with pytest.raises(NotKnown, match="several asks"):
        await store.ask("per_1")


async def test_an_answer_is_kept_with_who_and_when(store: Store) -> None:
    ask = await store.add_ask(permission())
    answered = await store.answer_ask(ask, reply=Reply.ONCE, message="go on", by="person: ada")
    assert (answered.state, answered.reply, answered.message) == (AskState.ANSWERED, Reply.ONCE, "go on")
    assert (answered.answered_by, answered.rev) == ("person: ada", 2)
    assert answered.answered is not None
    assert await store.ask(ask.id) == answered
    assert await store.asks() == []
    assert await store.asks(states=[AskState.ANSWERED]) == [answered]


async def test_a_question_is_answered_by_labels(store: Store) -> None:
    ask = await store.add_ask(question())
    answered = await store.answer_ask(ask, answers=[["a", "b"], ["because"]], by="handler: x")
    assert answered.answers == (("a", "b"), ("because",))
    assert await store.ask(ask.id) == answered


async def test_a_second_answer_is_a_conflict_that_names_the_first(store: Store) -> None:
    ask = await store.add_ask(permission())
    first = await store.answer_ask(ask, reply=Reply.ONCE, by="policy: bash git *")
    with pytest.raises(Conflict, match=r"answered by policy: bash git \* at 20.* UTC: once"):
        await store.answer_ask(ask, reply=Reply.REJECT, by="person: ada")
    assert await store.ask(ask.id) == first


async def test_of_many_answers_at_once_one_stands(store: Store) -> None:
    ask = await store.add_ask(permission())
    tries = (store.answer_ask(ask, reply=Reply.ONCE, by=f"person: {n}") for n in range(50))
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    (winner,) = [o for o in outcomes if isinstance(o, Ask)]
    losers = [o for o in outcomes if isinstance(o, Conflict)]
    assert len(losers) == 49
    assert all(winner.answered_by in str(o) for o in losers)


async def test_a_closed_ask_stays_as_it_was_closed_and_takes_no_answer(store: Store) -> None:
    ask = await store.add_ask(permission())
    closed = await store.close_ask(ask, Closed.ELSEWHERE)
    assert (closed.state, closed.closed_as, closed.rev) == (AskState.CLOSED, Closed.ELSEWHERE, 2)
    assert await store.close_ask(ask, Closed.FORGOTTEN) == closed
    with pytest.raises(Conflict, match=r"was closed at .*\(elsewhere\)"):
        await store.answer_ask(ask, reply=Reply.ONCE, by="person: ada")


async def test_an_answered_ask_can_be_closed(store: Store) -> None:
    ask = await store.add_ask(permission())
    answered = await store.answer_ask(ask, reply=Reply.ONCE, by="person: ada")
    closed = await store.close_ask(answered, Closed.DELIVERED)
    assert (closed.state, closed.reply, closed.rev) == (AskState.CLOSED, Reply.ONCE, 3)
    with pytest.raises(Conflict, match="answered by person: ada"):
        await store.answer_ask(ask, reply=Reply.REJECT, by="person: bob")


async def test_asks_that_were_never_added_are_not_known(store: Store) -> None:
    with pytest.raises(NotKnown):
        await store.answer_ask(permission(), reply=Reply.ONCE, by="person: ada")
    with pytest.raises(NotKnown, match="no ask"):
        await store.close_ask(permission(), Closed.CANCELLED)


async def test_asks_are_listed_oldest_first_by_server_run_and_state(store: Store) -> None:
    asks = [
        await store.add_ask(replace(permission(f"per_{n}"), opened=100 - n, run="r1" if n % 2 else ""))
        for n in range(4)
    ]
    await store.close_ask(asks[0], Closed.FORGOTTEN)
    assert [a.request for a in await store.asks()] == ["per_3", "per_2", "per_1"]
    assert [a.request for a in await store.asks(run="r1")] == ["per_3", "per_1"]
    assert await store.asks(server="http://other") == []
    assert [a.request for a in await store.asks(server=SERVER, states=[AskState.CLOSED])] == ["per_0"]
    assert len(await store.asks(states=tuple(AskState))) == 4

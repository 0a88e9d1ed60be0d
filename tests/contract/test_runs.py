from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from opencode_reactor.errors import Conflict, Fenced, NotKnown
from opencode_reactor.model.ask_ids import ask_id
from opencode_reactor.model.asks import Ask, AskKind
from opencode_reactor.model.runs import (
    Attempt,
    AttemptState,
    CommandKind,
    Evidence,
    Failure,
    JournalEntry,
    JournalKind,
    Lease,
    Run,
    RunKey,
    RunState,
    StageRun,
    StageState,
    Turn,
    TurnKind,
    WaitingOn,
)
from opencode_reactor.model.sessions import ModelRef, Tokens
from opencode_reactor.store import Store

SERVER = "http://127.0.0.1:4096"


def a_run(name: str = "r1", *stages: str) -> Run:
    return Run(
        name, "notes", SERVER, "/work", "{}", {"tag": "v1"}, stages=tuple(map(StageRun, stages or ["draft"]))
    )


def an_attempt(run: Run, number: int = 1, state: AttemptState = AttemptState.PLANNED) -> Attempt:
    return Attempt(run.id, "draft", number, state, Turn(1, TurnKind.FIRST, "Draft it.", "msg_0", "prt_0"), 5)


def trying(run: Run, *attempts: Attempt) -> Run:
    stage = replace(run.stages[0], state=StageState.RUNNING, attempts=attempts)
    return replace(run, state=RunState.RUNNING, stages=(stage, *run.stages[1:]))


def decided(what: str, stage: str = "", attempt: int = 0) -> JournalEntry:
    return JournalEntry(JournalKind.DECIDED, what, stage, attempt, data={"why": what})


async def owned(store: Store, server: str = SERVER) -> Lease:
    lease = await store.take_lease(server, "tests", 60_000)
    assert lease is not None
    return lease


async def test_a_new_run_is_revision_1_and_stamped_by_the_stores_clock(store: Store) -> None:
    before = store.now()
    run = await store.add_run(a_run(), [JournalEntry(JournalKind.SUBMITTED, "by hand")])
    assert run.rev == 1
    assert before <= run.created <= run.updated <= store.now()
    assert await store.run("r1") == run


async def test_a_run_keeps_the_time_it_was_created_by_the_caller(store: Store) -> None:
    run = await store.add_run(replace(a_run(), created=77), [])
    assert run.created == 77
    assert (await store.run("r1")).created == 77


async def test_an_id_that_is_taken_is_a_conflict_and_changes_nothing(store: Store) -> None:
    first = await store.add_run(a_run(), [])
    with pytest.raises(Conflict, match="a run r1 is there already"):
        await store.add_run(replace(a_run(), pipeline="other"), [decided("no")])
    assert await store.run("r1") == first
    assert await store.journal("r1") == []


async def test_every_part_of_a_run_comes_back_as_it_was_saved(store: Store) -> None:
    run = await store.add_run(a_run("r1", "draft", "review"), [])
    attempt = Attempt(
        run="r1",
        stage="draft",
        number=1,
        state=AttemptState.ABORTING,
        turn=Turn(2, TurnKind.REPAIR, "Mend it: \N{SNOWMAN}", "msg_1", "prt_1", sent=8, seen=9, sends=2),
        created=5,
        model=ModelRef("openai", "gpt/5"),
        session="ses_1",
        not_before=6,
        started=7,
        ended=None,
        deadline=10,
        waiting_on=WaitingOn.PENDING_QUESTION,
        waiting_since=11,
        aborted=12,
        quiet_since=13,
        retrying_since=14,
        failure=Failure.TIMEOUT,
        detail="took too long",
        repairs=(Failure.OUTPUT_NOT_JSON, Failure.CHECK_FAILED),
        text="an answer\0with a nul and \U0001f600",
        output={"title": "x", "notes": [1, 2.5, None, True]},
        tokens=Tokens(1, 2, 3, 4, 5),
        cost=0.125,
        evidence=(Evidence("idle", True, "absent from the map", 15), Evidence("text", False, "none", 16)),
    )
    draft = StageRun(
        "draft",
        StageState.WAITING,
        WaitingOn.APPROVAL,
        Failure.UNKNOWN,
        "detail",
        ["out"],
        "text",
        "summary",
        1,
        2,
        3,
        (attempt,),
    )
    after = replace(
        run,
        state=RunState.WAITING,
        waiting_on=WaitingOn.PERSON,
        failure=Failure.RATE_LIMITED,
        detail="waits",
        ended=20,
        wake_at=21,
        stages=(draft, run.stages[1]),
    )
    saved = await store.save_run(run, after, lease=await owned(store))
    assert saved == replace(after, rev=2, updated=saved.updated)
    assert await store.run("r1") == saved


async def test_half_a_surrogate_pair_in_a_models_words_is_kept_as_a_replacement(store: Store) -> None:
    run = await store.add_run(a_run(), [])
    torn = replace(an_attempt(run), text="cut \ud83d", output={"title": "cut \ud83d"})
    await store.save_run(run, trying(run, torn), lease=await owned(store))
    kept = (await store.run("r1")).stages[0].attempts[0]
    assert kept.text == "cut ?"
    assert kept.output == {"title": "cut \ud83d"}


async def test_a_save_on_an_old_revision_is_a_conflict_and_leaves_no_trace(store: Store) -> None:
    run = await store.add_run(a_run(), [])
    lease = await owned(store)
    saved = await store.save_run(run, replace(run, detail="first"), lease=lease)
    late = trying(replace(run, detail="second"), an_attempt(run))
    with pytest.raises(Conflict, match="revision 1"):
        await store.save_run(run, late, lease=lease, entries=[decided("late")])
    assert await store.run("r1") == saved
    assert await store.journal("r1") == []


async def test_of_200_saves_of_one_revision_exactly_one_wins(store: Store) -> None:
    run = await store.add_run(a_run(), [])
    lease = await owned(store)
    tries = (
        store.save_run(run, replace(run, detail=str(n)), lease=lease, entries=[decided(str(n))])
        for n in range(200)
    )
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    (winner,) = [o for o in outcomes if isinstance(o, Run)]
    assert sum(isinstance(o, Conflict) for o in outcomes) == 199
    assert await store.run("r1") == winner
    assert [entry.what for entry in await store.journal("r1")] == [winner.detail]


async def test_200_runs_saved_at_once_are_all_saved(store: Store) -> None:
    runs = await asyncio.gather(*(store.add_run(a_run(f"r{n:03}"), []) for n in range(200)))
    lease = await owned(store)
    saved = await asyncio.gather(
        *(store.save_run(r, trying(r, an_attempt(r)), lease=lease, entries=[decided("go")]) for r in runs)
    )
    assert await asyncio.gather(*(store.run(r.id) for r in runs)) == saved
    assert {r.rev for r in saved} == {2}


async def test_without_the_lease_on_the_runs_own_server_nothing_is_saved(store: Store) -> None:
    run = await store.add_run(a_run(), [])
    lease = await owned(store)
    elsewhere = await owned(store, "http://other")
    for wrong in (
        replace(lease, epoch=9),
        replace(lease, owner="x"),
        elsewhere,
        replace(elsewhere, epoch=lease.epoch),
    ):
        with pytest.raises(Fenced):
            await store.save_run(run, replace(run, detail="no"), lease=wrong, entries=[decided("no")])
    assert await store.run("r1") == run
    assert await store.journal("r1") == []


async def test_a_stage_has_one_open_attempt_whatever_the_code_does(store: Store) -> None:
    run = await store.add_run(a_run(), [])
    with pytest.raises(Conflict):
        await store.save_run(
            run, trying(run, an_attempt(run, 1), an_attempt(run, 2)), lease=await owned(store)
        )
    assert await store.run("r1") == run


async def test_one_save_may_end_an_attempt_and_open_the_next(store: Store) -> None:
    run = await store.add_run(a_run(), [])
    lease = await owned(store)
    one = await store.save_run(run, trying(run, an_attempt(run, 1)), lease=lease)
    over = an_attempt(run, 1, AttemptState.FAILED)
    two = await store.save_run(one, trying(one, over, an_attempt(run, 2)), lease=lease)
    assert await store.run("r1") == two
    assert [a.number for a in two.open_attempts] == [2]


async def test_a_save_of_something_that_is_no_later_version_is_refused(store: Store) -> None:
    run = await store.add_run(a_run("r1", "draft", "review"), [])
    lease = await owned(store)
    with pytest.raises(ValueError, match="spec never changes"):
        await store.save_run(run, replace(run, spec="{1}"), lease=lease)
    with pytest.raises(ValueError, match="never taken away"):
        await store.save_run(run, replace(run, stages=run.stages[:1]), lease=lease)
    assert await store.run("r1") == run


async def test_a_save_brings_its_asks_its_history_and_its_commands_or_none_of_them(store: Store) -> None:
    run = await store.add_run(a_run(), [])
    lease = await owned(store)
    command = await store.add_command("r1", CommandKind.RETRY, stage="draft", by="ada")
    ask = Ask(ask_id(SERVER, "r1.draft"), AskKind.APPROVAL, SERVER, "r1.draft", run="r1", stage="draft")
    saved = await store.save_run(
        run,
        replace(run, detail="x"),
        lease=lease,
        entries=[decided("go", "draft", 1)],
        asks=[ask],
        commands=[command.id],
    )
    assert [a.id for a in await store.asks(run="r1")] == [ask.id]
    assert await store.commands("r1") == []
    with pytest.raises(Conflict, match="taken already"):
        await store.save_run(saved, replace(saved, detail="y"), lease=lease, commands=[command.id])
    assert await store.run("r1") == saved


async def test_the_journal_is_in_order_and_bears_time_and_epoch(store: Store) -> None:
    run = await store.add_run(
        a_run("r1", "a", "b"), [JournalEntry(JournalKind.SUBMITTED, "by hand", data={"n": [1]})]
    )
    lease = await owned(store)
    entries = [decided("one", "a", 1), replace(decided("two", "a", 2), at=42), decided("three", "b", 1)]
    await store.save_run(run, replace(run, detail="x"), lease=lease, entries=entries)
    journal = await store.journal("r1")
    assert [e.what for e in journal] == ["by hand", "one", "two", "three"]
    assert [e.epoch for e in journal] == [0, lease.epoch, lease.epoch, lease.epoch]
    assert journal[2].at == 42
    assert 0 < journal[1].at <= store.now()
    assert journal[0].data == {"n": [1]}
    assert [e.what for e in await store.journal("r1", stage="a")] == ["one", "two"]
    assert [e.what for e in await store.journal("r1", stage="a", attempt=2)] == ["two"]
    assert [e.what for e in await store.journal("r1", after=journal[2].seq)] == ["three"]


async def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    runs = {name: await store.add_run(a_run(name), []) for name in ("abc1", "abd2", "abd22", "x%y", "x_z")}
    assert await store.run("abc") == runs["abc1"]
    assert await store.run("abd2") == runs["abd2"]
    assert await store.run("x%") == runs["x%y"]
    with pytest.raises(NotKnown, match="beginning of several runs: abc1, abd2, abd22"):
        await store.run("ab")


@pytest.mark.parametrize(
    "name", ["", "r2", "%", "_", "'; DROP TABLE run; --", "r1" + "x" * 5000, "\ud800", "r1\0"]
)
async def test_a_name_that_leads_nowhere_is_not_known(store: Store, name: str) -> None:
    await store.add_run(a_run("r1"), [])
    with pytest.raises(NotKnown, match="no run is called"):
        await store.run(name)


async def test_a_mistyped_id_is_answered_with_the_near_ones(store: Store) -> None:
    await store.add_run(a_run("amber-fox-17"), [])
    with pytest.raises(NotKnown) as caught:
        await store.run("amber-fix-17")
    assert "amber-fox-17" in caught.value.remedy


async def test_runs_come_newest_first_by_state_and_whole(store: Store) -> None:
    for n in range(5):
        run = await store.add_run(replace(a_run(f"r{n}"), created=100 + n), [])
        if n % 2:
            await store.save_run(run, trying(run, an_attempt(run)), lease=await owned(store))
    assert [r.id for r in await store.runs()] == ["r4", "r3", "r2", "r1", "r0"]
    assert [r.id for r in await store.runs(limit=2)] == ["r4", "r3"]
    running = await store.runs(state={RunState.RUNNING})
    assert running == [await store.run("r3"), await store.run("r1")]
    assert await store.runs(state=[]) == []
    assert await store.runs(state={RunState.RUNNING, RunState.QUEUED}, limit=3) == (await store.runs())[:3]


async def test_heads_are_runs_without_their_stages_and_what_all_attempts_used(store: Store) -> None:
    first, second = await store.add_run(a_run("r1", "draft", "review")), await store.add_run(a_run("r2"))
    used = Tokens(1, 2, 3, 4, 5)
    tries = [
        replace(an_attempt(first, 1, AttemptState.FAILED), tokens=used, cost=0.5),
        replace(an_attempt(first, 2), tokens=used, cost=0.25),
    ]
    lease = await owned(store)
    first = await store.save_run(first, trying(first, *tries), lease=lease)
    assert (first.tokens, first.cost) == (used + used, 0.75)
    heads = {run.id: (run, tokens, cost) for run, tokens, cost in await store.heads()}
    assert heads["r1"] == (replace(first, stages=()), used + used, 0.75)
    assert heads["r2"] == (replace(second, stages=()), Tokens(), 0.0)


async def test_heads_are_listed_newest_first_by_state_server_and_directory(store: Store) -> None:
    for n in range(6):
        there = replace(a_run(f"r{n}"), created=n + 1, server=f"s{n % 2}", directory=f"/d{n % 3}")
        await store.add_run(replace(there, state=RunState.RUNNING if n == 3 else RunState.QUEUED))

    async def ids(**chosen: Any) -> list[str]:
        return [run.id for run, _, _ in await store.heads(**chosen)]

    assert await ids() == [run.id for run in await store.runs()] == ["r5", "r4", "r3", "r2", "r1", "r0"]
    assert await ids(limit=4) == ["r5", "r4", "r3", "r2"]
    assert await ids(server="s1", limit=2) == ["r5", "r3"]
    assert await ids(directory="/d0") == ["r3", "r0"]
    assert await ids(server="s0", directory="/d0") == ["r0"]
    assert await ids(state={RunState.RUNNING}) == ["r3"]
    assert await ids(state=[]) == await ids(server="s9") == []


async def test_live_runs_are_those_of_the_server_that_are_not_over(store: Store) -> None:
    lease = await owned(store)
    for n, state in enumerate(RunState):
        run = await store.add_run(replace(a_run(f"r{n}"), created=n + 1), [])
        await store.save_run(run, replace(run, state=state, wake_at=n), lease=lease)
    await store.add_run(replace(a_run("elsewhere"), server="http://other"), [])
    assert await store.live_runs(SERVER) == [RunKey("r0", 0), RunKey("r1", 1), RunKey("r2", 2)]


async def test_a_session_leads_to_the_attempt_that_owns_it(store: Store) -> None:
    run = await store.add_run(a_run(), [])
    await store.save_run(
        run, trying(run, replace(an_attempt(run), session="ses_1")), lease=await owned(store)
    )
    assert await store.owner_of(SERVER, "ses_1") == ("r1", "draft", 1)
    assert await store.owner_of("http://other", "ses_1") is None
    assert await store.owner_of(SERVER, "ses_2") is None


async def test_what_is_read_is_a_snapshot_of_ones_own(store: Store) -> None:
    await store.add_run(a_run(), [])
    one, two = await store.run("r1"), await store.run("r1")
    assert one == two
    assert one.inputs is not two.inputs

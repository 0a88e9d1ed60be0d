"""Stages and the run around them: what may start, what templates see, what a person's word changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from opencode_reactor.errors import PipelineError
from opencode_reactor.model.asks import Ask, AskKind, AskState, Reply
from opencode_reactor.model.runs import (
    Attempt,
    AttemptState,
    Command,
    CommandKind,
    Evidence,
    Failure,
    Run,
    RunState,
    StageRun,
    StageState,
    Turn,
    TurnKind,
    WaitingOn,
)
from opencode_reactor.model.sessions import Json, ModelRef
from opencode_reactor.pipeline.draft import Draft
from opencode_reactor.pipeline.facts import Abort, CloseApproval, Facts
from opencode_reactor.pipeline.plan import Plan, StagePlan
from opencode_reactor.pipeline.stages import (
    SUMMARY_LIMIT,
    compose_prompt,
    context,
    obey,
    plan_attempt,
    roll_up,
    start_ready,
    succeed,
)

NOW = 1_000_000
S = StageState


def draft(
    *plans: StagePlan,
    stages: Mapping[str, StageRun] | None = None,
    approvals: Mapping[str, Ask] | None = None,
) -> Draft:
    known = stages or {}
    run = Run(
        "r1",
        "p",
        "http://s",
        "/p",
        "{}",
        inputs={"tag": "v1"},
        stages=tuple(known.get(plan.name, StageRun(plan.name)) for plan in plans),
    )
    return Draft(run, Plan("p", plans), Facts(NOW, "store", approvals=approvals or {}))


def attempt(stage: str, state: AttemptState, number: int = 1, session: str | None = "ses_1") -> Attempt:
    turn = Turn(1, TurnKind.FIRST, "Do it.", f"msg_{stage}{number}", f"prt_{stage}{number}")
    return Attempt("r1", stage, number, state, turn, 0, session=session)


def states(of: Draft) -> list[StageState]:
    return [stage.state for stage in of.run.stages]


# What templates see


def test_a_prompt_sees_inputs_the_run_and_what_other_stages_told() -> None:
    told = StageRun("a", S.SUCCEEDED, output={"title": "T"}, text="all of it", summary="in short")
    plans = (
        StagePlan("a", prompt="A"),
        StagePlan(
            "b",
            prompt="{{ inputs.tag }} {{ run.id }} {{ run.pipeline }} {{ run.directory }} "
            "{{ stages.a.summary }} {{ stages.a.output.title }} {{ stages.a.text }} {{ stages.b.state }}",
        ),
    )
    made = compose_prompt(draft(*plans, stages={"a": told}), plans[1])
    assert made == "v1 r1 p /p in short T all of it pending"


def test_a_contract_is_spelled_out_behind_the_prompt() -> None:
    schema: dict[str, Json] = {"type": "object", "required": ["ok"]}
    plan = StagePlan("a", prompt="Do it.", output=schema)
    made = compose_prompt(draft(plan), plan)
    assert made.startswith("Do it.\n\n")
    assert '"required"' in made
    assert compose_prompt(draft(plan), replace(plan, output=None)) == "Do it."


def test_a_word_no_template_knows_is_an_error_and_not_silence() -> None:
    plan = StagePlan("a", prompt="{{ inputs.tagg }}")
    with pytest.raises(PipelineError):
        compose_prompt(draft(plan), plan)


def test_a_run_cannot_be_changed_through_what_a_template_sees() -> None:
    seen = context(draft(StagePlan("a", prompt="A")))
    assert isinstance(seen["inputs"], dict)
    seen["inputs"]["tag"] = "other"
    assert context(draft(StagePlan("a", prompt="A")))["inputs"] == {"tag": "v1"}


# What may start


def test_stages_without_needs_start_at_once_and_others_wait_for_theirs() -> None:
    d = draft(
        StagePlan("a", prompt="A"),
        StagePlan("b", prompt="B"),
        StagePlan("c", prompt="C", needs=("a", "b")),
    )
    assert [plan.name for plan in start_ready(d)] == ["a", "b"]
    assert states(d) == [S.RUNNING, S.RUNNING, S.PENDING]
    assert start_ready(d) == [], "what runs is not started again"


def test_the_next_attempt_counts_on_and_takes_its_model_and_its_ids() -> None:
    plan = StagePlan("a", prompt="A")
    d = draft(plan, stages={"a": StageRun("a", attempts=(attempt("a", AttemptState.FAILED),))})
    planned = plan_attempt(d, plan, "Do it.", ModelRef("local", "m"), not_before=NOW + 5)
    assert (planned.number, planned.id, planned.created) == (2, "r1.a.2", NOW)
    assert (planned.model, planned.not_before, planned.session) == (ModelRef("local", "m"), NOW + 5, None)
    assert d.stage("a").attempts[1] == planned
    assert planned.turn.message.startswith("msg_000000000000")


def test_a_template_that_fails_on_real_values_fails_its_stage_and_nothing_is_sent() -> None:
    d = draft(
        StagePlan("a", prompt="A"),
        StagePlan("b", prompt="{{ stages.a.output.title }}", needs=("a",)),
        stages={"a": StageRun("a", S.SUCCEEDED, output=None)},
    )
    assert start_ready(d) == []
    b = d.stage("b")
    assert (b.state, b.failure, b.attempts) == (S.FAILED, Failure.INVALID_REQUEST, ())
    assert b.detail


@pytest.mark.parametrize("state", [S.FAILED, S.CANCELLED])
def test_what_needs_a_stage_that_did_not_succeed_is_skipped_and_so_is_what_needs_that(
    state: StageState,
) -> None:
    d = draft(
        StagePlan("a", prompt="A"),
        StagePlan("b", prompt="B", needs=("a",)),
        StagePlan("c", prompt="C", needs=("b",)),
        stages={"a": StageRun("a", state)},
    )
    assert start_ready(d) == []
    roll_up(d)
    assert states(d) == [state, S.SKIPPED, S.SKIPPED]


def test_when_one_branch_failed_nothing_new_is_begun_in_another() -> None:
    d = draft(
        StagePlan("a", prompt="A"),
        StagePlan("b", prompt="B"),
        StagePlan("c", prompt="C", needs=("b",)),
        stages={"a": StageRun("a", S.FAILED), "b": StageRun("b", S.SUCCEEDED)},
    )
    assert start_ready(d) == []
    assert d.stage("c").state is S.PENDING
    roll_up(d)
    assert (d.run.state, d.stage("c").state) == (RunState.FAILED, S.SKIPPED)


def test_what_runs_in_another_branch_may_finish_first() -> None:
    running = StageRun("b", S.RUNNING, attempts=(attempt("b", AttemptState.RUNNING),))
    d = draft(
        StagePlan("a", prompt="A"),
        StagePlan("b", prompt="B"),
        stages={"a": StageRun("a", S.FAILED), "b": running},
    )
    roll_up(d)
    assert d.run.state is RunState.RUNNING


@pytest.mark.parametrize(
    ("when", "state"), [("inputs.tag == 'v1'", S.RUNNING), ("inputs.tag == 'v2'", S.SKIPPED)]
)
def test_when_decides_whether_a_stage_runs(when: str, state: StageState) -> None:
    d = draft(StagePlan("a", prompt="A", when=when))
    start_ready(d)
    assert d.stage("a").state is state


def test_one_of_two_needs_that_ran_is_enough_where_the_other_was_skipped() -> None:
    plans = (
        StagePlan("a", prompt="A"),
        StagePlan("b", prompt="B"),
        StagePlan("c", prompt="C", needs=("a", "b")),
    )
    one = draft(*plans, stages={"a": StageRun("a", S.SKIPPED), "b": StageRun("b", S.SUCCEEDED)})
    assert [plan.name for plan in start_ready(one)] == ["c"]
    none = draft(*plans, stages={"a": StageRun("a", S.SKIPPED), "b": StageRun("b", S.SKIPPED)})
    start_ready(none)
    assert none.stage("c").state is S.SKIPPED


# Approvals


def approved(reply: Reply, message: str = "") -> Mapping[str, Ask]:
    given = Ask("a1", AskKind.APPROVAL, "http://s", "r1.gate.0", state=AskState.ANSWERED, reply=reply)
    return {"gate": replace(given, message=message, answered_by="person: x")}


def test_an_approval_is_asked_with_its_words_rendered() -> None:
    d = draft(StagePlan("gate", approve="Publish {{ inputs.tag }}?"))
    start_ready(d)
    (ask,) = d.decision().asks
    assert (ask.title, ask.request, ask.run, ask.stage) == ("Publish v1?", "r1.gate.0", "r1", "gate")
    assert (d.stage("gate").state, d.stage("gate").waiting_on) == (S.WAITING, WaitingOn.APPROVAL)


def test_asked_again_after_a_retry_it_is_another_ask() -> None:
    first = draft(StagePlan("gate", approve="Go?"))
    again = draft(StagePlan("gate", approve="Go?"), stages={"gate": StageRun("gate", extra_attempts=1)})
    for d in (first, again):
        start_ready(d)
    assert first.decision().asks[0].id != again.decision().asks[0].id


@pytest.mark.parametrize(("reply", "state"), [(Reply.ONCE, S.SUCCEEDED), (Reply.REJECT, S.FAILED)])
def test_the_answer_ends_the_stage_and_its_words_are_kept(reply: Reply, state: StageState) -> None:
    waiting = StageRun("gate", S.WAITING, WaitingOn.APPROVAL)
    d = draft(StagePlan("gate", approve="Go?"), stages={"gate": waiting}, approvals=approved(reply, "gently"))
    start_ready(d)
    gate = d.stage("gate")
    assert (gate.state, gate.text, gate.waiting_on) == (state, "gently", None)
    assert "person: x" in gate.detail
    assert d.decision().effects == (CloseApproval("a1"),)


def test_an_answer_to_a_stage_that_does_not_wait_for_it_changes_nothing() -> None:
    d = draft(
        StagePlan("gate", approve="Go?"),
        stages={"gate": StageRun("gate", S.SUCCEEDED, text="before")},
        approvals=approved(Reply.REJECT),
    )
    start_ready(d)
    assert d.stage("gate").text == "before"
    assert d.decision().effects == ()


# Success


def passed(text: str, output: Json = None) -> Attempt:
    proof = (Evidence("sent", holds=True, fact="our message", at=1),)
    return replace(attempt("a", AttemptState.RUNNING), text=text, output=output, evidence=proof)


def test_a_proved_answer_ends_attempt_and_stage_and_is_told_in_short() -> None:
    plan = StagePlan("a", prompt="A", summary="{{ output.title }} of {{ text | length }}")
    answer = passed("12345", {"title": "T"})
    d = draft(plan, stages={"a": StageRun("a", S.RUNNING, attempts=(answer,))})
    succeed(d, plan, answer)
    stage = d.stage("a")
    assert (stage.state, stage.summary, stage.output, stage.ended) == (
        S.SUCCEEDED,
        "T of 5",
        {"title": "T"},
        NOW,
    )
    assert stage.attempts[-1].state is AttemptState.SUCCEEDED
    (entry,) = d.decision().entries
    assert entry.data["evidence"] == [{"check": "sent", "holds": True, "fact": "our message", "at": 1}]


def test_without_a_summary_of_its_own_the_beginning_of_the_text_stands_for_it() -> None:
    plan = StagePlan("a", prompt="A")
    answer = passed("x" * (SUMMARY_LIMIT + 1))
    d = draft(plan, stages={"a": StageRun("a", S.RUNNING, attempts=(answer,))})
    succeed(d, plan, answer)
    assert len(d.stage("a").summary) == SUMMARY_LIMIT
    assert len(d.stage("a").text) == SUMMARY_LIMIT + 1


def test_a_summary_that_cannot_be_rendered_fails_the_stage_and_keeps_the_answer() -> None:
    plan = StagePlan("a", prompt="A", summary="{{ output.nothing.at_all }}")
    answer = passed("done")
    d = draft(plan, stages={"a": StageRun("a", S.RUNNING, attempts=(answer,))})
    succeed(d, plan, answer)
    stage = d.stage("a")
    assert (stage.state, stage.failure) == (S.FAILED, Failure.INVALID_REQUEST)
    assert stage.attempts[-1].text == "done"


# A person's word


def told(d: Draft, kind: CommandKind, stage: str = "") -> None:
    obey(d, Command(7, "r1", kind, stage=stage, by="person: x"))


def test_a_cancel_stops_what_runs_and_ends_what_does_not() -> None:
    d = draft(
        StagePlan("a", prompt="A"),
        StagePlan("b", prompt="B"),
        StagePlan("c", prompt="C"),
        stages={
            "a": StageRun("a", S.RUNNING, attempts=(attempt("a", AttemptState.RUNNING),)),
            "b": StageRun("b", S.RUNNING, attempts=(attempt("b", AttemptState.PLANNED, session=None),)),
            "c": StageRun("c", S.SUCCEEDED),
        },
    )
    told(d, CommandKind.CANCEL)
    assert states(d) == [S.CANCELLED, S.CANCELLED, S.SUCCEEDED]
    assert [s.attempts[-1].state for s in d.run.stages[:2]] == [AttemptState.ABORTING, AttemptState.CANCELLED]
    assert d.decision().effects == (Abort("r1.a.1", "ses_1"),)
    assert d.decision().commands == (7,)


def test_a_retry_of_what_is_still_being_stopped_waits_until_it_has_stopped() -> None:
    stopping = StageRun("a", S.CANCELLED, attempts=(attempt("a", AttemptState.ABORTING),))
    d = draft(StagePlan("a", prompt="A"), stages={"a": stopping})
    told(d, CommandKind.RETRY)
    assert d.decision().commands == ()
    over = replace(stopping, attempts=(attempt("a", AttemptState.CANCELLED),))
    d = draft(StagePlan("a", prompt="A"), stages={"a": over})
    told(d, CommandKind.RETRY)
    assert d.decision().commands == (7,)
    assert d.stage("a").state is S.PENDING


def test_a_retry_by_name_begins_that_stage_and_all_that_need_it_anew() -> None:
    done = {
        name: StageRun(name, S.SUCCEEDED, text="old", attempts=(attempt(name, AttemptState.SUCCEEDED),))
        for name in ("a", "b", "c", "d")
    }
    d = draft(
        StagePlan("a", prompt="A"),
        StagePlan("b", prompt="B", needs=("a",)),
        StagePlan("c", prompt="C", needs=("b",)),
        StagePlan("d", prompt="D", needs=("a",)),
        stages=done,
    )
    told(d, CommandKind.RETRY, "b")
    assert states(d) == [S.SUCCEEDED, S.PENDING, S.PENDING, S.SUCCEEDED]
    assert (d.stage("b").text, len(d.stage("b").attempts), d.stage("b").extra_attempts) == ("", 1, 1)
    assert d.run.state is RunState.RUNNING


def test_a_retry_of_a_stage_nobody_knows_is_taken_and_changes_nothing() -> None:
    d = draft(StagePlan("a", prompt="A"), stages={"a": StageRun("a", S.FAILED)})
    told(d, CommandKind.RETRY, "zzz")
    assert d.stage("a").state is S.FAILED
    assert d.decision().commands == (7,)


# Where the run stands


@pytest.mark.parametrize(
    ("waits", "shown"),
    [
        ((WaitingOn.BACKOFF, WaitingOn.PENDING_QUESTION), WaitingOn.PENDING_QUESTION),
        ((WaitingOn.PROVIDER, WaitingOn.PERSON), WaitingOn.PERSON),
        ((WaitingOn.APPROVAL, WaitingOn.PENDING_PERMISSION), WaitingOn.PENDING_PERMISSION),
        ((WaitingOn.BACKOFF, WaitingOn.PROVIDER), WaitingOn.PROVIDER),
    ],
)
def test_of_several_waits_the_one_a_person_can_end_is_shown(
    waits: tuple[WaitingOn, WaitingOn], shown: WaitingOn
) -> None:
    plans = tuple(StagePlan(name, prompt="P") for name in "ab")
    stages = {
        plan.name: StageRun(plan.name, S.WAITING, wait) for plan, wait in zip(plans, waits, strict=True)
    }
    d = draft(*plans, stages=stages)
    roll_up(d)
    assert (d.run.state, d.run.waiting_on) == (RunState.WAITING, shown)


def test_a_run_with_a_stage_that_works_is_running_whatever_waits_beside_it() -> None:
    d = draft(
        StagePlan("a", prompt="A"),
        StagePlan("b", prompt="B"),
        stages={
            "a": StageRun("a", S.WAITING, WaitingOn.APPROVAL),
            "b": StageRun("b", S.RUNNING, attempts=(attempt("b", AttemptState.RUNNING),)),
        },
    )
    roll_up(d)
    assert (d.run.state, d.run.waiting_on) == (RunState.RUNNING, None)


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        ((S.SUCCEEDED, S.SUCCEEDED), RunState.SUCCEEDED),
        ((S.SUCCEEDED, S.SKIPPED), RunState.SUCCEEDED),
        ((S.SKIPPED, S.SKIPPED), RunState.SUCCEEDED),
        ((S.SUCCEEDED, S.FAILED), RunState.FAILED),
        ((S.CANCELLED, S.FAILED), RunState.FAILED),
        ((S.SUCCEEDED, S.CANCELLED), RunState.CANCELLED),
    ],
)
def test_a_run_ends_as_its_stages_did(ends: tuple[StageState, StageState], state: RunState) -> None:
    plans = tuple(StagePlan(name, prompt="P") for name in "ab")
    stages = {
        plan.name: StageRun(
            plan.name, end, failure=Failure.TIMEOUT if end is S.FAILED else None, detail="why"
        )
        for plan, end in zip(plans, ends, strict=True)
    }
    d = draft(*plans, stages=stages)
    roll_up(d)
    assert (d.run.state, d.run.ended) == (state, NOW)
    assert d.run.failure is (Failure.TIMEOUT if state is RunState.FAILED else None)
    assert ("why" in d.run.detail) == (state is RunState.FAILED)

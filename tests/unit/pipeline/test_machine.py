"""The machine's table: what is found, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from opencode_reactor.model.asks import Ask, AskKind, AskState, Reply
from opencode_reactor.model.runs import (
    Attempt,
    AttemptState,
    Command,
    CommandKind,
    Failure,
    Run,
    RunState,
    StageRun,
    StageState,
    WaitingOn,
)
from opencode_reactor.model.sessions import (
    Agent,
    AssistantMessage,
    Busy,
    Catalog,
    Message,
    MessageError,
    Model,
    ModelRef,
    Retrying,
    Status,
    StepFinishPart,
    StepStartPart,
    TextPart,
    Tokens,
    UserMessage,
)
from opencode_reactor.pipeline.facts import (
    Abort,
    CallRefused,
    CheckRan,
    ChecksRan,
    CloseApproval,
    CreateSession,
    Decision,
    Effect,
    Facts,
    PromptTaken,
    Result,
    RunChecks,
    Seen,
    SendPrompt,
    SessionMade,
)
from opencode_reactor.pipeline.machine import ABORT_GRACE, EDGES, PEEK, PROMPT_GRACE, QUIET_GRACE, SENDS, step
from opencode_reactor.pipeline.plan import Answer, Budget, Plan, StagePlan

CONTRACT = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "integer"}}}
LOCAL = ModelRef("local", "m")
SPARE = ModelRef("local", "spare")


@dataclass
class World:
    """Drives the machine by hand, with a session that holds what a test puts in."""

    plan: Plan
    now: int = 1_000_000
    run: Run = field(init=False)
    effects: tuple[Effect, ...] = ()
    decision: Decision | None = None
    catalog: Catalog | None = None

    def __post_init__(self) -> None:
        stages = tuple(StageRun(s.name) for s in self.plan.stages)
        self.run = Run("r1", self.plan.name, "http://s", "/p", "{}", stages=stages)

    def step(
        self,
        *,
        results: dict[str, Result] | None = None,
        seen: dict[str, Seen] | None = None,
        commands: tuple[Command, ...] = (),
        approvals: dict[str, Ask] | None = None,
    ) -> tuple[Effect, ...]:
        facts = Facts(
            now=self.now,
            store_id="store",
            seen=seen or {},
            results=results or {},
            commands=commands,
            approvals=approvals or {},
            catalog=self.catalog,
        )
        before = {a.id: a.state for s in self.run.stages for a in s.attempts}
        self.decision = step(self.run, self.plan, facts)
        self.run = self.decision.run
        self.effects = self.decision.effects
        for stage in self.run.stages:
            for attempt in stage.attempts:
                assert_reachable(before.get(attempt.id, AttemptState.PLANNED), attempt.state)
        return self.effects

    def attempt(self, stage: str = "one") -> Attempt:
        return self.run.stage(stage).attempts[-1]

    def begin(self, stage: str = "one") -> None:
        """Up to the prompt's 204."""
        if self.run.state is RunState.QUEUED:
            self.step()
        attempt = self.attempt(stage)
        if attempt.state is AttemptState.PLANNED:
            session = f"ses_{stage}{attempt.number}"
            self.step(
                results={attempt.id: SessionMade(session, fresh=True)}, seen={attempt.id: Seen(self.now)}
            )
        self.step(results={attempt.id: PromptTaken(self.now)})

    def look(self, *messages: Message, status: Status | None = None, stage: str = "one") -> None:
        """One look at the stage's session: our message, then these."""
        attempt = self.attempt(stage)
        self.step(seen={attempt.id: Seen(self.now, status, (ours(attempt), *messages))})

    def answer(self, text: str, stage: str = "one", *, finish: str = "stop") -> None:
        self.look(said(self.attempt(stage), text, finish=finish), stage=stage)


def assert_reachable(before: AttemptState, after: AttemptState) -> None:
    """One step may take several edges, never one that is not in the table."""
    reached, fresh = {before}, {before}
    while fresh:
        fresh = {t for s in fresh for t in EDGES[s]} - reached
        reached |= fresh
    assert after in reached, f"{before} -> {after}"


def ours(attempt: Attempt) -> UserMessage:
    turn = attempt.turn
    part = TextPart(turn.part, attempt.session or "", turn.message, turn.prompt)
    return UserMessage(turn.message, attempt.session or "", 1, parts=(part,))


def said(
    attempt: Attempt,
    text: str,
    *,
    finish: str | None = "stop",
    completed: bool = True,
    error: MessageError | None = None,
    tokens: int = 10,
) -> AssistantMessage:
    session, message = attempt.session or "", f"msg_a{attempt.turn.number}"
    parts = (
        StepStartPart("p1", session, message),
        *([TextPart("p2", session, message, text)] if text else []),
        StepFinishPart("p3", session, message, finish or "", Tokens(input=tokens), 0.5),
    )
    return AssistantMessage(
        message,
        session,
        attempt.turn.message,
        2,
        completed=3 if completed else None,
        finish=finish,
        error=error,
        parts=parts,
    )


def one(**keys: object) -> Plan:
    return Plan("p", (StagePlan("one", prompt="Do it.", model=LOCAL, **keys),))  # type: ignore[arg-type]


def kinds(effects: Sequence[Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


# From nothing to a proved end


def test_a_first_step_plans_the_attempt_with_its_ids_and_asks_for_a_session() -> None:
    world = World(one())
    (effect,) = world.step()
    assert isinstance(effect, CreateSession)
    assert effect.title == "p · one · 1 · r1"
    attempt = world.attempt()
    assert attempt.state is AttemptState.PLANNED
    assert attempt.turn.message.startswith("msg_000000000000")
    assert attempt.turn.part[4:] == attempt.turn.message[4:]
    assert world.run.state is RunState.RUNNING


def test_the_prompt_goes_out_only_into_a_session_that_was_looked_at() -> None:
    world = World(one())
    world.step()
    attempt = world.attempt()
    assert world.step(results={attempt.id: SessionMade("ses_1", fresh=False)}) == ()
    assert world.run.wake_at == world.now
    (effect,) = world.step(seen={attempt.id: Seen(world.now)})
    assert effect == SendPrompt(attempt.id, "ses_1", attempt.turn)


def test_a_204_is_not_believed_until_our_message_is_seen_with_its_part() -> None:
    world = World(one())
    world.begin()
    attempt = world.attempt()
    assert attempt.state is AttemptState.SENT
    bare = replace(ours(attempt), parts=())
    assert world.step(seen={attempt.id: Seen(world.now, None, (bare,))}) == ()
    assert world.attempt().state is AttemptState.SENT
    world.look(status=Busy())
    assert world.attempt().state is AttemptState.RUNNING


def test_an_answer_that_passes_ends_the_run_with_evidence() -> None:
    world = World(one(output=CONTRACT, summary="ok is {{ output.ok }}"))
    world.begin()
    world.answer('{"ok": 1}')
    attempt, stage = world.attempt(), world.run.stage("one")
    assert world.run.state is RunState.SUCCEEDED
    assert (stage.output, stage.text, stage.summary) == ({"ok": 1}, '{"ok": 1}', "ok is 1")
    assert [e.check for e in attempt.evidence if e.holds] == [
        "sent",
        "idle",
        "no open ask",
        "answered",
        "completed",
        "contract",
    ]
    assert (attempt.tokens.total, attempt.cost) == (10, 0.5)


def test_a_busy_session_advances_nothing_however_good_its_last_message_looks() -> None:
    world = World(one())
    world.begin()
    world.look(said(world.attempt(), "done"), status=Busy())
    assert world.attempt().state is AttemptState.RUNNING


def test_a_finished_answer_in_a_busy_session_is_looked_at_again_soon_without_a_further_event() -> None:
    world = World(one())
    world.begin()
    world.look(status=Busy())
    assert world.run.wake_at == world.attempt().deadline
    world.look(said(world.attempt(), "done"), status=Busy())
    assert world.run.wake_at == world.now + PEEK
    world.answer("done")
    assert world.run.state is RunState.SUCCEEDED


def test_a_step_that_asked_for_tools_is_no_answer() -> None:
    world = World(one())
    world.begin()
    world.answer("I shall look.", finish="tool-calls")
    assert world.run.stage("one").state is not StageState.SUCCEEDED


def test_two_stages_start_side_by_side_and_the_third_waits_for_both() -> None:
    plan = Plan(
        "p",
        (
            StagePlan("a", prompt="A"),
            StagePlan("b", prompt="B"),
            StagePlan("c", prompt="{{ stages.a.summary }}+{{ stages.b.summary }}", needs=("a", "b")),
        ),
    )
    world = World(plan)
    assert kinds(world.step()) == ["CreateSession", "CreateSession"]
    world.begin("a")
    world.begin("b")
    world.answer("left", "a")
    assert world.run.stage("c").state is StageState.PENDING
    world.answer("right", "b")
    assert world.attempt("c").turn.prompt == "left+right"
    assert kinds(world.effects) == ["CreateSession"]


# Prompts that get lost


def test_a_prompt_proved_absent_is_sent_again_with_the_same_ids_and_then_given_up() -> None:
    world = World(one(playbook={Failure.PROMPT_LOST: (Answer.STOP,)}))
    world.begin()
    turn = world.attempt().turn
    for sends in range(2, SENDS + 1):
        world.now += PROMPT_GRACE
        (effect,) = world.step(seen={world.attempt().id: Seen(world.now)})
        assert isinstance(effect, SendPrompt)
        assert (effect.turn.message, effect.turn.part) == (turn.message, turn.part)
        assert effect.turn.sends == sends
    world.now += PROMPT_GRACE
    world.step(seen={world.attempt().id: Seen(world.now)})
    assert world.run.failure is Failure.PROMPT_LOST


def test_a_prompt_refused_when_it_is_sent_again_stops_the_stage() -> None:
    world = World(one())
    world.begin()
    world.now += PROMPT_GRACE
    world.step(seen={world.attempt().id: Seen(world.now)})
    world.step(results={world.attempt().id: CallRefused("too large")})
    assert (world.run.state, world.run.failure) == (RunState.FAILED, Failure.INVALID_REQUEST)


def test_after_a_restart_a_message_that_is_there_is_adopted_not_sent() -> None:
    world = World(one())
    world.step()
    attempt = world.attempt()
    made: dict[str, Result] = {attempt.id: SessionMade("ses_1", fresh=False)}
    world.step(results=made)
    world.look(status=Busy())
    assert world.effects == ()
    assert world.attempt().state is AttemptState.RUNNING


def test_a_session_the_server_forgot_is_a_lost_server_and_gets_a_fresh_attempt() -> None:
    world = World(one())
    world.begin()
    world.step(seen={world.attempt().id: Seen(world.now, exists=False)})
    assert [a.failure for a in world.run.stage("one").attempts] == [Failure.SERVER_LOST, None]
    assert kinds(world.effects) == ["CreateSession"]


def test_a_turn_that_never_completes_is_a_lost_server_after_its_grace() -> None:
    world = World(one())
    world.begin()
    zombie = said(world.attempt(), "half", finish=None, completed=False)
    world.look(zombie)
    assert world.attempt().number == 1
    world.now += QUIET_GRACE
    world.look(zombie)
    assert world.run.stage("one").attempts[0].failure is Failure.SERVER_LOST
    assert world.attempt().number == 2


# The playbook


def test_bad_json_is_repaired_once_in_the_same_session_and_the_repair_is_told_what_is_wrong() -> None:
    world = World(one(output=CONTRACT))
    world.begin()
    first = world.attempt().turn
    world.answer('{"ok": "no"}')
    attempt = world.attempt()
    assert (attempt.number, attempt.state) == (1, AttemptState.CREATED)
    assert attempt.turn.number == 2
    assert attempt.turn.message != first.message
    assert "ok" in attempt.turn.prompt
    assert kinds(world.effects) == ["SendPrompt"]
    world.begin()
    world.answer('{"ok": 2}')
    assert world.run.state is RunState.SUCCEEDED


def test_bad_json_twice_in_one_session_gets_a_fresh_attempt_with_the_first_prompt() -> None:
    world = World(one(output=CONTRACT))
    world.begin()
    prompt = world.attempt().turn.prompt
    world.answer("first prose")
    world.begin()
    world.answer("second prose")
    assert [a.failure for a in world.run.stage("one").attempts] == [Failure.OUTPUT_NOT_JSON, None]
    assert world.attempt().turn.prompt == prompt


def test_the_same_refused_answer_again_is_stuck_and_left_to_a_person() -> None:
    world = World(one(output=CONTRACT))
    world.begin()
    world.answer("no json")
    world.begin()
    world.answer("no json")
    assert (world.run.state, world.run.waiting_on) == (RunState.WAITING, WaitingOn.PERSON)
    assert world.run.failure is Failure.OUTPUT_NOT_JSON
    assert world.effects == ()


def test_missing_text_is_asked_for_once_then_escalated() -> None:
    world = World(one())
    world.begin()
    world.answer("")
    assert world.attempt().turn.number == 2
    world.begin()
    world.answer("")
    assert world.run.waiting_on is WaitingOn.PERSON
    assert world.run.failure is Failure.OUTPUT_MISSING_TEXT


def test_a_timeout_is_aborted_settled_and_tried_afresh() -> None:
    world = World(one(timeout=1000))
    world.begin()
    world.now += 999
    world.look(status=Busy())
    assert world.attempt().state is AttemptState.RUNNING
    world.now += 1
    world.look(status=Busy())
    assert world.attempt().state is AttemptState.ABORTING
    assert kinds(world.effects) == ["Abort"]
    aborted = said(world.attempt(), "", finish=None, error=MessageError("MessageAbortedError"))
    world.look(aborted)
    stage = world.run.stage("one")
    assert [a.failure for a in stage.attempts] == [Failure.TIMEOUT, None]
    assert kinds(world.effects) == ["CreateSession"]


def test_an_answer_that_was_finished_before_the_abort_counts() -> None:
    world = World(one(timeout=1000))
    world.begin()
    world.now += 1000
    world.look(status=Busy())
    world.answer("just in time")
    assert world.run.state is RunState.SUCCEEDED


def test_three_timeouts_in_a_row_are_left_to_a_person() -> None:
    world = World(one(timeout=1000, attempts=9))
    for _ in range(3):
        world.begin()
        world.now += 1000
        world.look(status=Busy())
        world.look(said(world.attempt(), "", finish=None, error=MessageError("MessageAbortedError")))
    assert world.run.waiting_on is WaitingOn.PERSON
    assert len(world.run.stage("one").attempts) == 3


def test_used_up_attempts_fail_the_run() -> None:
    world = World(one(timeout=1000, attempts=1))
    world.begin()
    world.now += 1000
    world.look(status=Busy())
    world.look(said(world.attempt(), "", finish=None, error=MessageError("MessageAbortedError")))
    assert (world.run.state, world.run.failure) == (RunState.FAILED, Failure.TIMEOUT)


def test_a_refused_login_stops_at_once() -> None:
    world = World(one())
    world.begin()
    world.look(said(world.attempt(), "", finish=None, error=MessageError("APIError", status=401)))
    assert (world.run.waiting_on, world.run.failure) == (WaitingOn.PERSON, Failure.AUTH_FAILED)
    assert len(world.run.stage("one").attempts) == 1


def test_a_429_waits_as_long_as_the_provider_says() -> None:
    world = World(one())
    world.begin()
    error = MessageError("APIError", status=429, retryable=True, headers={"retry-after": "7"})
    world.look(said(world.attempt(), "", finish=None, error=error))
    attempt = world.attempt()
    assert (attempt.number, attempt.not_before) == (2, world.now + 7000)
    assert (world.run.state, world.run.waiting_on) == (RunState.WAITING, WaitingOn.PROVIDER)
    assert world.run.wake_at == attempt.not_before
    assert world.effects == ()
    world.now += 7000
    assert kinds(world.step()) == ["CreateSession"]


def test_a_provider_that_asks_for_more_than_our_patience_gives_way_to_the_fallback_at_once() -> None:
    world = World(one(fallback_models=(SPARE,), patience=5000))
    world.begin()
    error = MessageError("APIError", status=429, retryable=True, headers={"retry-after": "60"})
    world.look(said(world.attempt(), "", finish=None, error=error))
    assert (world.attempt().model, world.attempt().not_before) == (SPARE, 0)
    assert kinds(world.effects) == ["CreateSession"]


def test_a_server_that_retries_longer_than_our_patience_is_aborted() -> None:
    world = World(one(fallback_models=(SPARE,), patience=5000))
    world.begin()
    world.look(status=Retrying(1, "Service Unavailable", world.now + 2000))
    assert world.attempt().waiting_on is WaitingOn.PROVIDER
    assert world.run.waiting_on is WaitingOn.PROVIDER
    world.now += 2000
    world.look(status=Retrying(2, "Service Unavailable", world.now + 4000))
    assert world.attempt().state is AttemptState.ABORTING
    assert world.attempt().failure is Failure.PROVIDER_UNAVAILABLE
    world.look(said(world.attempt(), "", finish=None))
    assert world.attempt().model == SPARE


def test_an_overflow_is_tried_afresh_then_on_a_larger_window_then_left_to_a_person() -> None:
    world = World(one(fallback_models=(SPARE,), attempts=5))
    world.catalog = Catalog(models=(Model(LOCAL, context=1000), Model(SPARE, context=9000)))
    for expected in (LOCAL, SPARE):
        world.begin()
        world.look(said(world.attempt(), "", finish=None, error=MessageError("ContextOverflowError")))
        assert world.attempt().model == expected
    world.begin()
    world.look(said(world.attempt(), "", finish=None, error=MessageError("ContextOverflowError")))
    assert world.run.waiting_on is WaitingOn.PERSON


def test_an_unknown_model_or_agent_is_refused_before_anything_is_sent() -> None:
    world = World(one(agent="bild"))
    world.catalog = Catalog((Agent("build"),), (Model(LOCAL),))
    assert world.step() == ()
    assert (world.run.state, world.run.failure) == (RunState.FAILED, Failure.INVALID_REQUEST)
    assert "did you mean build?" in world.run.detail


def test_a_call_refused_for_good_stops_the_stage() -> None:
    world = World(one())
    world.step()
    world.step(results={world.attempt().id: CallRefused("no such thing")})
    assert (world.run.state, world.run.failure) == (RunState.FAILED, Failure.INVALID_REQUEST)


def test_a_budget_overspent_in_mid_turn_aborts_and_keeps_what_was_written() -> None:
    world = World(one(budget=Budget(tokens=50)))
    world.begin()
    world.look(said(world.attempt(), "so far", finish="tool-calls", tokens=51), status=Busy())
    assert kinds(world.effects) == ["Abort"]
    world.look(said(world.attempt(), "so far", finish=None, error=MessageError("MessageAbortedError")))
    assert (world.run.state, world.run.failure) == (RunState.FAILED, Failure.BUDGET_EXCEEDED)


def test_the_budget_of_the_run_counts_every_stage() -> None:
    plan = Plan("p", (StagePlan("a", prompt="A"), StagePlan("b", prompt="B", needs=("a",))), Budget(cost=0.9))
    world = World(plan)
    world.begin("a")
    world.answer("fine", "a")
    world.begin("b")
    world.look(said(world.attempt("b"), "more", finish="tool-calls"), status=Busy(), stage="b")
    assert world.attempt("b").failure is Failure.BUDGET_EXCEEDED


# Checks


def test_an_answer_counts_only_once_its_checks_pass() -> None:
    world = World(one(checks=("true",)))
    world.begin()
    world.answer("done")
    (effect,) = world.effects
    assert isinstance(effect, RunChecks)
    assert world.attempt().state is AttemptState.CHECKING
    world.step(results={world.attempt().id: ChecksRan((CheckRan("true", 0, ""),))})
    assert world.run.state is RunState.SUCCEEDED
    assert world.attempt().evidence[-1].fact == "true: exit 0"


def test_a_failed_check_is_told_to_the_model_in_the_same_session() -> None:
    world = World(one(checks=("make test",)))
    world.begin()
    world.answer("done")
    attempt = world.attempt()
    failed = ChecksRan((CheckRan("make test", 2, "1 failed"),))
    seen = Seen(world.now, None, (ours(attempt), said(attempt, "done")))
    world.step(results={attempt.id: failed}, seen={attempt.id: seen})
    assert world.attempt().turn.number == 2
    assert "1 failed" in world.attempt().turn.prompt
    assert kinds(world.effects) == ["SendPrompt"]


# People


def permission(world: World, opened: int) -> Ask:
    attempt = world.attempt()
    return Ask(
        "a1", AskKind.PERMISSION, "http://s", "per_1", stage="one", attempt=attempt.number, opened=opened
    )


def test_an_open_ask_makes_the_run_wait_and_its_time_is_not_the_attempts() -> None:
    world = World(one(timeout=10_000))
    world.begin()
    attempt = world.attempt()
    asked = Seen(world.now, Busy(), (ours(attempt),), (permission(world, world.now),))
    world.step(seen={attempt.id: asked})
    assert (world.run.state, world.run.waiting_on) == (RunState.WAITING, WaitingOn.PENDING_PERMISSION)
    world.now += 60_000
    world.step(seen={attempt.id: replace(asked, at=world.now)})
    assert world.attempt().state is AttemptState.RUNNING
    world.look(status=Busy())
    assert world.run.state is RunState.RUNNING
    assert world.attempt().deadline == 1_000_000 + 10_000 + 60_000


def test_an_approval_opens_an_ask_and_its_comment_is_read_by_later_stages() -> None:
    plan = Plan(
        "p",
        (
            StagePlan("gate", approve="Go?"),
            StagePlan("after", prompt="They said {{ stages.gate.comment }}", needs=("gate",)),
        ),
    )
    world = World(plan)
    world.step()
    assert world.decision is not None
    (ask,) = world.decision.asks
    assert (ask.kind, ask.title, ask.stage) == (AskKind.APPROVAL, "Go?", "gate")
    assert world.run.waiting_on is WaitingOn.APPROVAL
    given = replace(ask, state=AskState.ANSWERED, reply=Reply.ONCE, message="gently", answered_by="person: x")
    effects = world.step(approvals={"gate": given})
    assert CloseApproval(ask.id) in effects
    assert world.attempt("after").turn.prompt == "They said gently"


def test_a_refused_approval_fails_the_run_and_skips_what_needs_it() -> None:
    plan = Plan("p", (StagePlan("gate", approve="Go?"), StagePlan("after", prompt="A", needs=("gate",))))
    world = World(plan)
    world.step()
    assert world.decision is not None
    (ask,) = world.decision.asks
    world.step(approvals={"gate": replace(ask, state=AskState.ANSWERED, reply=Reply.REJECT)})
    assert world.run.state is RunState.FAILED
    assert world.run.stage("after").state is StageState.SKIPPED


def test_cancel_aborts_what_runs_and_ends_when_it_has_settled() -> None:
    world = World(one())
    world.begin()
    world.look(status=Busy())
    attempt = world.attempt()
    command = Command(7, "r1", CommandKind.CANCEL, by="person: x")
    seen = {attempt.id: Seen(world.now, Busy(), (ours(attempt),))}
    assert Abort(attempt.id, "ses_one1") in world.step(commands=(command,), seen=seen)
    assert world.decision is not None
    assert world.decision.commands == (7,)
    world.look(said(world.attempt(), "", finish=None, error=MessageError("MessageAbortedError")))
    assert world.run.state is RunState.CANCELLED
    assert world.attempt().state is AttemptState.CANCELLED


def test_a_prompt_that_was_on_its_way_when_its_run_was_cancelled_is_stopped_when_it_comes() -> None:
    world = World(one())
    world.begin()
    absent = Seen(world.now)
    world.step(
        commands=(Command(7, "r1", CommandKind.CANCEL),),
        seen={world.attempt().id: absent},
    )
    world.now += 1000
    assert world.step(seen={world.attempt().id: absent}) == ()
    assert world.attempt().state is AttemptState.ABORTING
    world.now += ABORT_GRACE
    world.look(status=Busy())
    assert kinds(world.effects) == ["Abort"]
    world.look(said(world.attempt(), "", finish=None, error=MessageError("MessageAbortedError")))
    assert world.run.state is RunState.CANCELLED


def test_a_prompt_that_never_came_does_not_hold_up_a_cancelled_run() -> None:
    world = World(one())
    world.begin()
    absent = {world.attempt().id: Seen(world.now)}
    world.step(commands=(Command(7, "r1", CommandKind.CANCEL),), seen=absent)
    world.now += ABORT_GRACE
    world.step(seen=absent)
    assert world.run.state is RunState.CANCELLED


def test_retry_begins_what_failed_anew_and_what_needs_it_and_keeps_the_record() -> None:
    plan = Plan(
        "p",
        (
            StagePlan("a", prompt="A"),
            StagePlan("b", prompt="B", needs=("a",), attempts=1, timeout=1000),
            StagePlan("c", prompt="C", needs=("b",)),
        ),
    )
    world = World(plan)
    world.begin("a")
    world.answer("fine", "a")
    world.begin("b")
    world.now += 1000
    world.look(status=Busy(), stage="b")
    aborted = said(world.attempt("b"), "", finish=None, error=MessageError("MessageAbortedError"))
    world.look(aborted, stage="b")
    assert world.run.state is RunState.FAILED
    assert world.run.stage("c").state is StageState.SKIPPED
    effects = world.step(commands=(Command(1, "r1", CommandKind.RETRY),))
    assert kinds(effects) == ["CreateSession"]
    assert [a.number for a in world.run.stage("b").attempts] == [1, 2]
    assert world.run.stage("a").state is StageState.SUCCEEDED
    assert world.run.stage("c").state is StageState.PENDING
    world.begin("b")
    world.answer("fine", "b")
    world.begin("c")
    world.answer("fine", "c")
    assert world.run.state is RunState.SUCCEEDED


def test_a_false_when_skips_its_stage_and_those_that_need_only_it() -> None:
    plan = Plan(
        "p",
        (
            StagePlan("a", prompt="A", when="inputs.go"),
            StagePlan("b", prompt="B", needs=("a",)),
        ),
    )
    world = World(plan)
    world.run = replace(world.run, inputs={"go": False})
    world.step()
    assert {s.state for s in world.run.stages} == {StageState.SKIPPED}
    assert world.run.state is RunState.SUCCEEDED


def test_no_place_left_means_waiting_not_sending() -> None:
    world = World(one())
    decision = step(world.run, world.plan, Facts(now=1, store_id="s", room=0))
    assert decision.effects == ()
    assert decision.run.waiting_on is WaitingOn.BACKOFF


def test_an_attempt_keeps_its_place_until_its_session_is_known_to_be_there() -> None:
    world = World(one())
    (asked,) = world.step()
    again = step(world.run, world.plan, Facts(now=1, store_id="s", room=0))
    assert again.effects == (asked,)


@pytest.mark.parametrize("state", AttemptState)
def test_every_state_has_its_row_and_final_ones_have_no_way_out(state: AttemptState) -> None:
    assert (EDGES[state] == frozenset()) == state.final

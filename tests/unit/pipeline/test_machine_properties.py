"""What holds of the machine whatever it is told, in whatever order, however often, and what it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

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
    AssistantMessage,
    Busy,
    Message,
    MessageError,
    ModelRef,
    Retrying,
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
from opencode_reactor.pipeline.gate import Passed, judge
from opencode_reactor.pipeline.machine import EDGES, step
from opencode_reactor.pipeline.plan import Answer, Budget, Plan, StagePlan

A = AttemptState
CONTRACT = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "integer"}}}
LOCAL, SPARE = ModelRef("local", "m"), ModelRef("local", "spare")
LOOKED_AT = {A.CREATED, A.SENT, A.RUNNING, A.CHECKING, A.ABORTING}


# Pipelines


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    stages: list[StagePlan] = []
    for name in ("one", "two", "three")[: draw(st.integers(1, 3))]:
        earlier = [s.name for s in stages]
        needs = tuple(draw(st.sets(st.sampled_from(earlier)))) if earlier else ()
        if draw(st.integers(0, 5)) == 0:
            stages.append(StagePlan(name, needs=needs, approve="Go?"))
            continue
        stages.append(
            StagePlan(
                name,
                needs=needs,
                prompt=f"Do {name}.",
                model=draw(st.sampled_from([None, LOCAL])),
                fallback_models=draw(st.sampled_from([(), (SPARE,)])),
                attempts=draw(st.integers(1, 4)),
                timeout=draw(st.sampled_from([1_000, 20_000, 1_200_000])),
                patience=draw(st.sampled_from([1_000, 60_000])),
                output=draw(st.sampled_from([None, CONTRACT])),
                checks=draw(st.sampled_from([(), ("make test",)])),
                budget=draw(st.sampled_from([Budget(), Budget(tokens=100)])),
                playbook=draw(
                    st.sampled_from(
                        [{}, {Failure.UNKNOWN: (Answer.REPAIR,)}, {Failure.OUTPUT_NOT_JSON: (Answer.FRESH,)}]
                    )
                ),
            )
        )
    return Plan("p", tuple(stages))


# Anything may be told. A seed is shorter to print than what it brings, and spreads it more evenly.


TEXTS = ("", "prose", "other prose", '{"ok": 1}', '{"ok": 1}', '{"ok": 2}', '{"ok": "no"}')
ERRORS = (
    MessageError("MessageAbortedError"),
    MessageError("APIError", status=401),
    MessageError("APIError", status=429, headers={"retry-after": "3"}),
    MessageError("APIError", status=500, retryable=True),
    MessageError("ContextOverflowError"),
    MessageError("UnknownError", "what?"),
)
PASSED = ChecksRan((CheckRan("make test", 0, ""),))


class Rumour:
    """What an engine may be told about a run, at random; nothing of it need fit what was told before."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def now_and_then(self, one_in: int) -> bool:
        return self.random.randrange(one_in) == 0

    def facts(self, run: Run, now: int, number: int) -> Facts:
        told: dict[str, Result] = {}
        seen: dict[str, Seen] = {}
        for attempt in run.open_attempts:
            result = self.result(attempt, now)
            if result is not None:
                told[attempt.id] = result
            if isinstance(result, SessionMade) and result.fresh:
                seen[attempt.id] = Seen(now)
            elif (result is None or isinstance(result, ChecksRan)) and attempt.state in LOOKED_AT:
                seen[attempt.id] = self.session(attempt, now)
        return Facts(
            now=now,
            store_id="store",
            seen=seen,
            results=told,
            commands=self.commands(run, number),
            approvals=self.approvals(run),
            spread=self.random.random(),
            room=self.random.choice([0, 1, 100, 100, 100, 100]),
        )

    def session(self, attempt: Attempt, now: int) -> Seen:
        if self.now_and_then(40):
            return Seen(now, exists=False)
        turn, session = attempt.turn, attempt.session or ""
        messages: list[Message] = []
        if not self.now_and_then(4):
            part = TextPart(turn.part, session, turn.message, turn.prompt)
            parts = () if self.now_and_then(20) else (part,)
            messages.append(UserMessage(turn.message, session, 1, parts=parts))
            ids = [f"msg_ffff{turn.number}{n}" for n in range(self.random.randrange(3))]
            messages += [self.answer(turn.message, session, message) for message in ids]
        retrying = Retrying(2, "Service Unavailable", now + 30_000)
        status = self.random.choice([None, None, None, Busy(), Busy(), retrying])
        asks: tuple[Ask, ...] = ()
        if self.now_and_then(10):
            kind = self.random.choice([AskKind.PERMISSION, AskKind.QUESTION])
            asks = (Ask("a1", kind, "http://s", "per_1", stage=attempt.stage, attempt=attempt.number),)
        return Seen(now, status, tuple(messages), asks)

    def answer(self, parent: str, session: str, message: str) -> AssistantMessage:
        finish = self.random.choice([None, "stop", "stop", "stop", "stop", "tool-calls", "length"])
        used = Tokens(input=self.random.choice([1, 1, 1, 60]))
        parts = (
            StepStartPart(f"{message}a", session, message),
            TextPart(f"{message}b", session, message, self.random.choice(TEXTS)),
            StepFinishPart(f"{message}c", session, message, finish or "", used, 0.1),
        )
        return AssistantMessage(
            message,
            session,
            parent,
            2,
            completed=self.random.choice([None, 3, 3, 3]),
            finish=finish,
            error=self.random.choice(ERRORS) if self.now_and_then(6) else None,
            parts=parts,
        )

    def result(self, attempt: Attempt, now: int) -> Result | None:
        """What came of an effect that fits the attempt's state, or nothing."""
        if self.now_and_then(3):
            return None
        failed = [ChecksRan((CheckRan("make test", code, "1 failed"),)) for code in (2, None)]
        refused = CallRefused("no such thing")
        made = [SessionMade(f"ses_{attempt.id}", fresh=fresh) for fresh in (True, False)]
        choices: Mapping[AttemptState, list[Result | None]] = {
            A.PLANNED: [*made * 12, refused],
            A.CREATED: [*[PromptTaken(now)] * 24, refused],
            A.SENT: [*[None] * 12, PromptTaken(now), refused],
            A.CHECKING: [PASSED, PASSED, *failed],
        }
        return self.random.choice(choices.get(attempt.state, [None]))

    def commands(self, run: Run, number: int) -> tuple[Command, ...]:
        if not self.now_and_then(25):
            return ()
        name = self.random.choice(["", *(s.name for s in run.stages)])
        return (Command(number, run.id, self.random.choice(list(CommandKind)), stage=name),)

    def approvals(self, run: Run) -> dict[str, Ask]:
        given = Ask("a2", AskKind.APPROVAL, "http://s", "x", state=AskState.ANSWERED)
        replies = [Reply.ONCE] * 4 + [Reply.REJECT]
        return {
            s.name: replace(given, reply=self.random.choice(replies))
            for s in run.stages
            if s.waiting_on is WaitingOn.APPROVAL and self.now_and_then(2)
        }

    def pause(self) -> int:
        return self.random.choice([0, 1, 1, 300, 300, 300, 1_000, 5_000, 10_000, 60_000, 2_000_000])


def fresh_run(plan: Plan) -> Run:
    return Run("r1", plan.name, "http://s", "/p", "{}", stages=tuple(StageRun(s.name) for s in plan.stages))


@dataclass
class Witness:
    """Remembers what was decided, and asserts what must hold of every decision."""

    plan: Plan
    ids: dict[tuple[str, int], tuple[str, str]] = field(
        default_factory=dict[tuple[str, int], tuple[str, str]]
    )
    ended: dict[str, Attempt] = field(default_factory=dict[str, Attempt])
    obeyed: set[int] = field(default_factory=set[int])

    def look(self, before: Run, facts: Facts, decision: Decision) -> None:
        self._attempts(before, decision.run)
        self._successes(before, facts, decision.run)
        self._effects(facts, decision)
        for stage in decision.run.stages:
            self._stage(stage)
        self._commands(facts, decision)
        if decision.run.state.final:
            assert not decision.run.open_attempts
            assert all(s.state.final for s in decision.run.stages)
            assert decision.run.ended is not None

    def _attempts(self, before: Run, after: Run) -> None:
        stood = {a.id: a.state for s in before.stages for a in s.attempts}
        for stage in after.stages:
            assert [a.number for a in stage.attempts] == list(range(1, len(stage.attempts) + 1))
            assert all(a.state.final for a in stage.attempts[:-1]), "at most one attempt is open"
            for attempt in stage.attempts:
                assert_reachable(stood.get(attempt.id, A.PLANNED), attempt.state)
                assert self.ended.get(attempt.id, attempt) == attempt, "what ended is not touched again"
                if attempt.state.final:
                    self.ended[attempt.id] = attempt
                ids = attempt.turn.message, attempt.turn.part
                assert self.ids.setdefault((attempt.id, attempt.turn.number), ids) == ids
        assert len(set(self.ids.values())) == len(self.ids), "no id names two turns"

    def _successes(self, before: Run, facts: Facts, after: Run) -> None:
        stood = {a.id: a for s in before.stages for a in s.attempts}
        for stage in after.stages:
            for attempt in stage.attempts:
                old = stood.get(attempt.id)
                if attempt.state is not A.SUCCEEDED or (old is not None and old.state is A.SUCCEEDED):
                    continue
                assert old is not None
                plan = self.plan.stage(stage.name)
                ran = facts.results.get(attempt.id)
                if plan.checks:
                    assert isinstance(ran, ChecksRan)
                    assert all(c.code == 0 for c in ran.checks)
                else:
                    verdict = judge(attempt.turn, facts.seen[attempt.id], plan.output).verdict
                    assert isinstance(verdict, Passed)
                    assert (attempt.text, attempt.output) == (verdict.text, verdict.output)
                assert attempt.evidence
                assert all(e.holds for e in attempt.evidence)

    def _effects(self, facts: Facts, decision: Decision) -> None:
        states = {a.id: a for a in decision.run.open_attempts}
        for effect in decision.effects:
            match effect:
                case SendPrompt(attempt, session, turn):
                    assert states[attempt].state in {A.CREATED, A.SENT}
                    assert session == states[attempt].session
                    assert turn == states[attempt].turn
                    assert attempt in facts.seen, "nothing is sent unseen"
                case CreateSession(attempt):
                    assert states[attempt].state is A.PLANNED
                case RunChecks(attempt):
                    assert states[attempt].state is A.CHECKING
                case Abort(attempt):
                    # A cancelled one may be found settled in the very same step.
                    assert attempt in self.ended or states[attempt].state is A.ABORTING
                case CloseApproval():
                    pass

    def _stage(self, stage: StageRun) -> None:
        plan = self.plan.stage(stage.name)
        assert len(stage.attempts) - stage.extra_attempts <= plan.attempts
        if stage.state is StageState.SUCCEEDED and not plan.approve:
            assert stage.attempts[-1].state is A.SUCCEEDED
            assert (stage.text, stage.output) == (stage.attempts[-1].text, stage.attempts[-1].output)
        if stage.state.final and stage.state is not StageState.CANCELLED:
            assert stage.open_attempt is None

    def _commands(self, facts: Facts, decision: Decision) -> None:
        # A retry may be left for later; a cancel never is.
        assert {c.id for c in facts.commands if c.kind is CommandKind.CANCEL} <= set(decision.commands)
        assert set(decision.commands) <= {c.id for c in facts.commands}
        assert not self.obeyed.intersection(decision.commands)
        self.obeyed.update(decision.commands)


def assert_reachable(before: AttemptState, after: AttemptState) -> None:
    reached, fresh = {before}, {before}
    while fresh:
        fresh = {t for s in fresh for t in EDGES[s]} - reached
        reached |= fresh
    assert after in reached, f"{before} -> {after}"


def idle(run: Run, effects: tuple[Effect, ...]) -> bool:
    """Whether nothing brings this run on but a person or a free place."""
    return not effects and run.wake_at is None


SEEDS = st.integers(0, 2**32)


@settings(max_examples=300, deadline=None)
@given(plans(), SEEDS, st.integers(5, 40))
def test_whatever_is_told_the_machine_keeps_its_word(plan: Plan, seed: int, rounds: int) -> None:
    run, now, witness, rumour = fresh_run(plan), 1_000_000, Witness(plan), Rumour(seed)
    for number in range(rounds):
        facts = rumour.facts(run, now, number)
        decision = step(run, plan, facts)
        assert step(run, plan, facts) == decision, "nothing but what it is told decides"
        witness.look(run, facts, decision)
        assert_never_stuck(facts, decision)
        run = decision.run
        now += rumour.pause()


def assert_never_stuck(facts: Facts, decision: Decision) -> None:
    """A run that is not over has an effect to come, a time to wake, or somebody it waits for."""
    run = decision.run
    if run.state.final or not idle(run, decision.effects) or facts.room < 100:
        return
    for stage in run.stages:
        attempt = stage.open_attempt
        if attempt is None:
            waits = {WaitingOn.APPROVAL, WaitingOn.PERSON}
            assert stage.state.final or stage.state is StageState.PENDING or stage.waiting_on in waits
        else:
            asked = {WaitingOn.PENDING_PERMISSION, WaitingOn.PENDING_QUESTION}
            assert attempt.waiting_on in asked, f"nobody will look at {attempt}"


@settings(max_examples=120, deadline=None)
@given(plans(), SEEDS, st.integers(1, 20))
def test_the_same_facts_again_change_nothing_more(plan: Plan, seed: int, rounds: int) -> None:
    """A level-triggered machine: what was decided on is decided, however often it is looked at."""
    run, now, rumour = fresh_run(plan), 1_000_000, Rumour(seed)
    for number in range(rounds):
        facts = rumour.facts(run, now, number)
        run = step(run, plan, facts).run
        again = replace(facts, results={}, commands=(), approvals={})
        for _ in range(8):
            decision = step(run, plan, again)
            if replace(decision.run, wake_at=run.wake_at) == run and not decision.entries:
                break
            run = decision.run
        else:
            raise AssertionError("the same facts bring something new each time")
        now += rumour.pause()


# A world that means well


@dataclass
class _Turn:
    message: str
    part: str
    text: str
    until: int
    answered: str | None
    error: MessageError | None = None


class World:
    """A server that does what it is told, and a line to it that may lose the call or its answer.

    `rough` is how likely each call, answer and turn goes wrong.
    """

    def __init__(self, random: Random, rough: float) -> None:
        self.random = random
        self.rough = rough
        self.now = 1_000_000
        self.titles: dict[str, str] = {}
        self.turns: dict[str, list[_Turn]] = {}
        self.prompted: list[tuple[str, str]] = []
        """Every (session, message) that began a turn."""

    def bad(self) -> bool:
        return self.random.random() < self.rough

    def carry_out(self, effects: tuple[Effect, ...]) -> dict[str, Result]:
        told: dict[str, Result] = {}
        for effect in effects:
            if self.bad():
                continue  # lost on its way
            result = self._carry_out(effect)
            if result is not None and not self.bad():  # or its answer
                told[getattr(effect, "attempt", "")] = result
        return told

    def _carry_out(self, effect: Effect) -> Result | None:
        match effect:
            case CreateSession(_, title):
                known = title in self.titles
                session = self.titles.setdefault(title, f"ses_{len(self.titles)}")
                self.turns.setdefault(session, [])
                return SessionMade(session, fresh=not known)
            case SendPrompt(_, session, turn):
                if not any(t.message == turn.message for t in self.turns[session]) and not self.bad():
                    self.turns[session].append(self._begin(turn.message, turn.part, turn.prompt))
                    self.prompted.append((session, turn.message))
                return PromptTaken(self.now)
            case Abort(_, session):
                for running in self.turns[session]:
                    if running.until > self.now:
                        running.until = self.now
                        running.error = MessageError("MessageAbortedError")
                return None
            case RunChecks():
                code = 2 if self.bad() else 0
                return ChecksRan((CheckRan("make test", code, f"{self.random.random()}"),))
            case CloseApproval():
                return None

    def _begin(self, message: str, part: str, text: str) -> _Turn:
        answered: str | None = f'{{"ok": {len(self.prompted)}}}'
        until, error = self.now + self.random.randrange(200, 5_000), None
        if self.bad():
            answered = self.random.choice([f"prose {len(self.prompted)}", "", None])
        elif self.bad():
            error = self.random.choice(ERRORS[1:])
        elif self.bad():
            until = self.now + 10_000_000
        return _Turn(message, part, text, until, answered, error)

    def look(self, session: str) -> Seen:
        turns = self.turns[session]
        messages: list[Message] = []
        for number, turn in enumerate(turns):
            part = TextPart(turn.part, session, turn.message, turn.text)
            messages.append(UserMessage(turn.message, session, number, parts=(part,)))
            if turn.until <= self.now and turn.answered is not None:
                messages.append(self._answer(turn, session, number))
        busy = any(t.until > self.now for t in turns)
        return Seen(self.now, Busy() if busy else None, tuple(messages))

    def _answer(self, turn: _Turn, session: str, number: int) -> AssistantMessage:
        message = f"msg_{number + 1:012x}answer"
        parts = (
            StepStartPart("p1", session, message),
            TextPart("p2", session, message, turn.answered or ""),
            StepFinishPart("p3", session, message, "stop", Tokens(input=5), 0.1),
        )
        finish = None if turn.error else "stop"
        return AssistantMessage(
            message,
            session,
            turn.message,
            number,
            completed=turn.until,
            finish=finish,
            error=turn.error,
            parts=parts,
        )

    def facts(self, run: Run, told: Mapping[str, Result]) -> Facts:
        seen = {
            a.id: Seen(self.now) if isinstance(told.get(a.id), SessionMade) else self.look(a.session)
            for a in run.open_attempts
            if a.session and a.state in LOOKED_AT and not isinstance(told.get(a.id), PromptTaken)
        }
        fresh = {a: Seen(self.now) for a, r in told.items() if isinstance(r, SessionMade) and r.fresh}
        approvals = {
            s.name: Ask("a", AskKind.APPROVAL, "http://s", "x", state=AskState.ANSWERED, reply=Reply.ONCE)
            for s in run.stages
            if s.waiting_on is WaitingOn.APPROVAL and not self.bad()
        }
        return Facts(self.now, "store", seen | fresh, told, approvals=approvals, spread=self.random.random())


def drive(plan: Plan, world: World, rounds: int) -> tuple[Run, Witness]:
    """As the engine does, for so many decisions or until the run is over or left to a person."""
    run, witness, told = fresh_run(plan), Witness(plan), dict[str, Result]()
    for _ in range(rounds):
        facts = world.facts(run, told)
        decision = step(run, plan, facts)
        witness.look(run, facts, decision)
        run = decision.run
        if run.state.final or run.waiting_on is WaitingOn.PERSON:
            break
        told = world.carry_out(decision.effects)
        if not told:
            # Woken by its own appointment at the latest, by an event before that.
            soon = world.now + world.random.randrange(1, 3_000)
            world.now = soon if run.wake_at is None else max(world.now + 1, min(run.wake_at, soon))
    return run, witness


@settings(max_examples=120, deadline=None)
@given(plans(), SEEDS, st.sampled_from([0.0, 0.02, 0.1, 0.3]))
def test_in_a_world_that_means_well_every_run_comes_to_an_end(plan: Plan, seed: int, rough: float) -> None:
    world = World(Random(seed), rough)
    run, _ = drive(plan, world, rounds=3_000)
    assert run.state.final or run.waiting_on is WaitingOn.PERSON, f"still {run.state} at {world.now}"
    assert len(set(world.prompted)) == len(world.prompted), "no prompt ran twice"
    attempts = [a for s in run.stages for a in s.attempts]
    owned = {a.session for a in attempts if a.session}
    assert {session for session, _ in world.prompted} <= owned
    assert len(owned) == len([a for a in attempts if a.session]), "each attempt has a session of its own"


@settings(max_examples=40, deadline=None)
@given(plans(), SEEDS)
def test_where_nothing_goes_wrong_every_run_succeeds(plan: Plan, seed: int) -> None:
    patient = Plan(plan.name, tuple(replace(s, timeout=1_200_000, budget=Budget()) for s in plan.stages))
    world = World(Random(seed), 0.0)
    run, _ = drive(patient, world, rounds=500)
    assert run.state is RunState.SUCCEEDED
    assert all(len(s.attempts) <= 1 for s in run.stages)
    assert len(world.prompted) == len([s for s in plan.stages if not s.approve])

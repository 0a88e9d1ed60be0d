"""The machine: what to do about a run, given what was found. Pure; its table is the test.

Rules:
- `step` sees a run, its plan and facts; it answers with a new run, effects and journal entries. No clock, no
  I/O, no memory but the run itself.
- An effect follows from the stored state: after a crash the next step asks for it again, and looking first
  finds out whether it was already done.
- An attempt goes only along `EDGES`; a stage advances only on a `Passed` verdict; an ended attempt is never
  touched again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..model.runs import (
    Attempt,
    AttemptState,
    Evidence,
    Failure,
    JournalKind,
    Run,
    StageState,
    WaitingOn,
)
from ..model.sessions import AssistantMessage, ModelRef, PermissionRule, Retrying
from .draft import Draft
from .facts import (
    Abort,
    CallRefused,
    ChecksRan,
    CreateSession,
    Decision,
    Facts,
    PromptTaken,
    RunChecks,
    Seen,
    SendPrompt,
    SessionMade,
)
from .failures import recognise_retry
from .gate import Asking, Judgement, Passed, Quiet, Refuted, Unsent, Whole, Working, find_turn, judge
from .plan import Action, Plan, Questions, StagePlan
from .playing import answer_failure, over_budget, unknown_words
from .policy import session_rules
from .stages import obey, roll_up, start_ready, succeed

A = AttemptState
EDGES: Mapping[AttemptState, frozenset[AttemptState]] = {
    A.PLANNED: frozenset({A.CREATED, A.FAILED, A.CANCELLED}),
    A.CREATED: frozenset({A.SENT, A.RUNNING, A.ABORTING, A.FAILED, A.CANCELLED}),
    A.SENT: frozenset({A.RUNNING, A.ABORTING, A.FAILED, A.CANCELLED}),
    A.RUNNING: frozenset({A.CREATED, A.CHECKING, A.ABORTING, A.SUCCEEDED, A.FAILED, A.CANCELLED}),
    A.CHECKING: frozenset({A.CREATED, A.SUCCEEDED, A.FAILED, A.CANCELLED}),
    A.ABORTING: frozenset({A.CHECKING, A.SUCCEEDED, A.FAILED, A.CANCELLED}),
    A.SUCCEEDED: frozenset(),
    A.FAILED: frozenset(),
    A.CANCELLED: frozenset(),
}
"""Where an attempt may go from where. `created` comes again with every follow-up in the same session."""

PROMPT_GRACE = 10_000
"""ms after a 204 within which our message may still be stored: up to 1 s was measured on a cold instance."""
QUIET_GRACE = 5_000
"""ms an idle session without a finished answer may stay so: after an abort or error the answer is completed
20 to 300 ms after the first idle; a server that died never completes it."""
ABORT_GRACE = 5_000
"""ms after which an abort that shows no effect is sent again, or its session taken for settled."""
SENDS = 3
"""How often one message goes out, each time proved absent before."""
PEEK = 1_000
"""ms until a look of our own where an event is expected any moment."""


def step(run: Run, plan: Plan, facts: Facts) -> Decision:
    """Decide what the facts call for. The same run, plan and facts always give the same decision."""
    draft = Draft(run, plan, facts)
    for command in facts.commands:
        obey(draft, command)
    if not draft.run.state.final:
        for stage in plan.stages:
            _advance(draft, stage)
        for stage in start_ready(draft):
            _advance(draft, stage)
        roll_up(draft)
    return draft.decision()


def _advance(draft: Draft, stage: StagePlan) -> None:
    """Take the stage's open attempt, and the one that may follow it, as far as the facts carry them."""
    stood = None
    while (attempt := draft.open_attempt(stage.name)) is not None:
        stands = attempt.number, attempt.state, attempt.turn
        if stands == stood:
            return
        stood = stands
        _move(draft, stage, attempt)


def _move(draft: Draft, stage: StagePlan, attempt: Attempt) -> None:
    match attempt.state:
        case A.PLANNED:
            _planned(draft, stage, attempt)
        case A.CREATED:
            _created(draft, stage, attempt)
        case A.SENT:
            _sent(draft, stage, attempt)
        case A.RUNNING:
            _running(draft, stage, attempt)
        case A.CHECKING:
            _checking(draft, stage, attempt)
        case A.ABORTING:
            _aborting(draft, stage, attempt)
        case A.SUCCEEDED | A.FAILED | A.CANCELLED:
            raise AssertionError(attempt.state)


def _planned(draft: Draft, stage: StagePlan, attempt: Attempt) -> None:
    result = draft.facts.results.get(attempt.id)
    if isinstance(result, SessionMade):
        draft.put(replace(attempt, state=A.CREATED, session=result.session))
        draft.note(JournalKind.EFFECT, f"session {result.session}", attempt)
    elif isinstance(result, CallRefused):
        _fail(draft, stage, attempt, Refuted(Failure.INVALID_REQUEST, result.reason))
    elif draft.facts.now < attempt.not_before:
        draft.wake(attempt.not_before)
    elif (wrong := unknown_words(stage, attempt, draft.facts.catalog)) is not None:
        _fail(draft, stage, attempt, Refuted(Failure.INVALID_REQUEST, wrong))
    elif not draft.take_room(attempt):
        draft.put(replace(attempt, waiting_on=WaitingOn.BACKOFF))
    else:
        draft.put(replace(attempt, waiting_on=None, waiting_since=None))
        metadata = {"run": attempt.run, "stage": attempt.stage, "attempt": str(attempt.number)}
        title = f"{draft.run.pipeline} · {attempt.stage} · {attempt.number} · {attempt.run}"
        draft.effect(CreateSession(attempt.id, title, _rules(stage), metadata))


def _rules(stage: StagePlan) -> tuple[PermissionRule, ...]:
    """What the stage's session is made with; the last match wins there too."""
    rules = session_rules(stage.permissions)
    if any(rule.action in {Action.ASK, Action.DENY} for rule in stage.permissions):
        # A subagent's session is made by the server and does not inherit what is to be asked (1.1.65 and
        # 1.18.33): unless the author speaks of `task`, to hand work down is to be asked too.
        rules = (PermissionRule("task", "*", "ask"), *rules)
    if stage.questions is Questions.REJECT:
        rules = (*rules, PermissionRule("question", "*", "deny"))
    return rules


def _created(draft: Draft, stage: StagePlan, attempt: Attempt) -> None:
    result = draft.facts.results.get(attempt.id)
    assert attempt.session is not None
    if isinstance(result, PromptTaken):
        turn = replace(attempt.turn, sent=result.at, sends=attempt.turn.sends + 1)
        started = attempt.started or result.at
        deadline = attempt.deadline or result.at + stage.timeout
        draft.put(replace(attempt, state=A.SENT, turn=turn, started=started, deadline=deadline))
        draft.note(JournalKind.EFFECT, f"prompt sent as {turn.message}", attempt)
        draft.wake(draft.facts.now + PEEK)
    elif isinstance(result, CallRefused):
        _fail(draft, stage, attempt, Refuted(Failure.INVALID_REQUEST, result.reason))
    elif attempt.id not in draft.facts.seen:
        draft.wake(draft.facts.now)  # nothing is sent unseen: look first, at once
    elif (seen := _look(draft, stage, attempt)) is not None:
        if find_turn(attempt.turn, seen.messages) is Whole.WHOLE:
            _adopt(draft, stage, attempt, seen)
        else:
            draft.effect(SendPrompt(attempt.id, attempt.session, attempt.turn))


def _sent(draft: Draft, stage: StagePlan, attempt: Attempt) -> None:
    result = draft.facts.results.get(attempt.id)
    if isinstance(result, CallRefused):
        _fail(draft, stage, attempt, Refuted(Failure.INVALID_REQUEST, result.reason))
        return
    if isinstance(result, PromptTaken):
        draft.wake(draft.facts.now + PEEK)  # what was seen before it was sent says nothing about it
        return
    if (seen := _look(draft, stage, attempt)) is None:
        return
    turn = attempt.turn
    assert turn.sent is not None
    assert attempt.session is not None
    if find_turn(turn, seen.messages) is Whole.WHOLE:
        _adopt(draft, stage, attempt, seen)
    elif draft.facts.now - turn.sent < PROMPT_GRACE:
        draft.wake(min(draft.facts.now + PEEK, turn.sent + PROMPT_GRACE))
    elif turn.sends >= SENDS:
        lost = Refuted(Failure.PROMPT_LOST, f"sent {turn.sends} times and never seen in the session")
        _fail(draft, stage, attempt, lost)
    else:
        again = replace(turn, sent=draft.facts.now, sends=turn.sends + 1)
        draft.put(replace(attempt, turn=again))
        draft.note(JournalKind.DECIDED, "the prompt is not there: send it again, same ids", attempt)
        draft.effect(SendPrompt(attempt.id, attempt.session, again))
        draft.wake(draft.facts.now + PEEK)


def _adopt(draft: Draft, stage: StagePlan, attempt: Attempt, seen: Seen) -> None:
    turn = replace(attempt.turn, seen=seen.at, sent=attempt.turn.sent or seen.at)
    draft.put(
        replace(
            attempt,
            state=A.RUNNING,
            turn=turn,
            started=attempt.started or seen.at,
            deadline=attempt.deadline or seen.at + stage.timeout,
        )
    )
    draft.note(JournalKind.OBSERVED, f"our message {turn.message} is in the session", attempt)


def _look(draft: Draft, stage: StagePlan, attempt: Attempt) -> Seen | None:
    """What this pass saw of the attempt; None where it did not look, or where that ended the attempt."""
    seen = draft.facts.seen.get(attempt.id)
    if seen is not None and not seen.exists:
        gone = Refuted(Failure.SERVER_LOST, f"the server does not know session {attempt.session} any more")
        _fail(draft, stage, attempt, gone)
        return None
    return seen


def _running(draft: Draft, stage: StagePlan, attempt: Attempt) -> None:
    if (seen := _look(draft, stage, attempt)) is None:
        return
    judgement = judge(attempt.turn, seen, stage.output)
    attempt = _measured(attempt, judgement, seen)
    match judgement.verdict:
        case Unsent(partial):
            what = "without its part" if partial else "not at all"
            lost = f"our message was seen and is now there {what}"
            _fail(draft, stage, attempt, Refuted(Failure.SERVER_LOST, lost))
        case Asking(waiting_on):
            _asking(draft, attempt, waiting_on)
        case Working(status, answered):
            if answered:
                draft.wake(
                    draft.facts.now + PEEK
                )  # should its idle have come before the status map knew of it
            attempt = _resumed(attempt, draft.facts.now)
            retrying = attempt.retrying_since if isinstance(status, Retrying) else None
            attempt = replace(attempt, quiet_since=None, retrying_since=retrying)
            _working(draft, stage, attempt, status if isinstance(status, Retrying) else None)
        case Quiet(fact):
            _quiet(draft, stage, _resumed(attempt, draft.facts.now), fact)
        case Passed() as passed:
            _passed(draft, stage, _resumed(attempt, draft.facts.now), passed)
        case Refuted() as refuted:
            _fail(draft, stage, _resumed(attempt, draft.facts.now), refuted)


def _measured(attempt: Attempt, judgement: Judgement, seen: Seen) -> Attempt:
    """What a look tells beside its verdict: what was used, on which evidence, by which model."""
    return replace(
        attempt,
        model=attempt.model or _model_of(seen),
        tokens=judgement.tokens,
        cost=judgement.cost,
        evidence=_unchanged_since(attempt.evidence, judgement.evidence),
    )


def _model_of(seen: Seen) -> ModelRef | None:
    """The model that answers where none was named: the server's default."""
    models = (m.model for m in seen.messages if isinstance(m, AssistantMessage) and not m.summary)
    return next((model for model in models if model is not None), None)


def _unchanged_since(old: tuple[Evidence, ...], new: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    """Evidence that says the same keeps its first time: a look that finds nothing new changes nothing."""
    known = {(e.check, e.holds, e.fact): e for e in old}
    return tuple(known.get((e.check, e.holds, e.fact), e) for e in new)


def _asking(draft: Draft, attempt: Attempt, waiting_on: WaitingOn) -> None:
    """A person's time is not the attempt's: the deadline stands still meanwhile."""
    if attempt.waiting_on is not waiting_on:
        draft.note(JournalKind.OBSERVED, f"waits: {waiting_on}", attempt)
        since = attempt.waiting_since or draft.facts.now
        attempt = replace(attempt, waiting_on=waiting_on, waiting_since=since)
    draft.put(replace(attempt, quiet_since=None))


def _resumed(attempt: Attempt, now: int) -> Attempt:
    """The attempt no longer waits for a person; the time it did is added to its deadline."""
    if attempt.waiting_since is None:
        return attempt
    asked = attempt.waiting_on in {WaitingOn.PENDING_PERMISSION, WaitingOn.PENDING_QUESTION}
    waited = now - attempt.waiting_since if asked else 0
    deadline = None if attempt.deadline is None else attempt.deadline + waited
    return replace(attempt, waiting_on=None, waiting_since=None, deadline=deadline)


def _working(draft: Draft, stage: StagePlan, attempt: Attempt, retry: Retrying | None) -> None:
    now = draft.facts.now
    if retry is not None:
        if attempt.retrying_since is None:
            draft.note(JournalKind.OBSERVED, f"waits: provider, {retry.message}", attempt)
        attempt = replace(
            attempt,
            retrying_since=attempt.retrying_since or now,
            waiting_on=WaitingOn.PROVIDER,
            waiting_since=attempt.retrying_since or now,
        )
    draft.put(attempt)
    if (spent := over_budget(draft.plan, stage, draft.run, attempt)) is not None:
        _stop(draft, attempt, Failure.BUDGET_EXCEEDED, spent)
    elif attempt.deadline is not None and now >= attempt.deadline:
        seconds = stage.timeout / 1000
        _stop(draft, attempt, Failure.TIMEOUT, f"no answer within {seconds:g} s")
    elif retry is not None and _too_long(stage, attempt, retry):
        failure, detail = recognise_retry(retry)
        _stop(draft, attempt, failure, f"{detail} (longer than the patience of {stage.patience / 1000:g} s)")
    elif attempt.deadline is not None:
        draft.wake(attempt.deadline)


def _too_long(stage: StagePlan, attempt: Attempt, retry: Retrying) -> bool:
    """Whether the server's own retries outlast our patience; it is decided as soon as that is certain."""
    assert attempt.retrying_since is not None
    return retry.next - attempt.retrying_since > stage.patience


def _stop(draft: Draft, attempt: Attempt, failure: Failure | None, detail: str) -> None:
    """End a turn that runs. The reason is stored before the abort is sent: what follows belongs to it."""
    assert attempt.session is not None
    now = draft.facts.now
    draft.put(replace(attempt, state=A.ABORTING, failure=failure, detail=detail, aborted=now))
    draft.note(JournalKind.DECIDED, f"abort: {failure or 'cancelled'}, {detail}", attempt)
    draft.effect(Abort(attempt.id, attempt.session))
    draft.wake(now + PEEK)


def _quiet(draft: Draft, stage: StagePlan, attempt: Attempt, fact: str) -> None:
    now = draft.facts.now
    since = attempt.quiet_since or now
    draft.put(replace(attempt, quiet_since=since, retrying_since=None))
    if now - since < QUIET_GRACE:
        draft.wake(min(now + PEEK, since + QUIET_GRACE))
        return
    lost = f"idle for {QUIET_GRACE / 1000:g} s and {fact}: the turn's process is gone"
    _fail(draft, stage, replace(attempt, quiet_since=since), Refuted(Failure.SERVER_LOST, lost))


def _passed(draft: Draft, stage: StagePlan, attempt: Attempt, passed: Passed) -> None:
    attempt = replace(
        attempt, text=passed.text, output=passed.output, failure=None, detail="", quiet_since=None
    )
    if not stage.checks:
        succeed(draft, stage, attempt)
        return
    draft.put(replace(attempt, state=A.CHECKING))
    draft.note(JournalKind.DECIDED, "the answer stands; its checks are run", attempt)


def _checking(draft: Draft, stage: StagePlan, attempt: Attempt) -> None:
    result = draft.facts.results.get(attempt.id)
    if not isinstance(result, ChecksRan):
        deadline = attempt.deadline or draft.facts.now + stage.timeout
        draft.effect(RunChecks(attempt.id, stage.checks, max(deadline, draft.facts.now + PEEK)))
        return
    evidence = attempt.evidence + tuple(
        Evidence("check", c.code == 0, f"{c.command}: exit {c.code}", draft.facts.now) for c in result.checks
    )
    attempt = replace(attempt, evidence=evidence)
    failed = next((c for c in result.checks if c.code != 0), None)
    if failed is None:
        succeed(draft, stage, attempt)
        return
    how = "was stopped at the deadline" if failed.code is None else f"ended with exit code {failed.code}"
    complaint = (
        f"The check `{failed.command}` {how}. Its output:\n\n{failed.output}\n\nMend that, then answer again."
    )
    refuted = Refuted(Failure.CHECK_FAILED, f"`{failed.command}` {how}", attempt.text, complaint)
    _fail(draft, stage, attempt, refuted)


def _aborting(draft: Draft, stage: StagePlan, attempt: Attempt) -> None:
    """Wait for the turn to settle, then end the attempt; an answer that was finished first still counts."""
    assert attempt.session is not None
    assert attempt.aborted is not None
    now = draft.facts.now
    seen = draft.facts.seen.get(attempt.id)
    if seen is None:
        draft.effect(Abort(attempt.id, attempt.session))
        return
    judgement, aborted, session = judge(attempt.turn, seen, stage.output), attempt.aborted, attempt.session
    attempt = replace(attempt, tokens=judgement.tokens, cost=judgement.cost)
    # Not settled by our message's absence: one that was on its way may yet come, and would run unheeded.
    settled = not seen.exists or isinstance(judgement.verdict, Passed | Refuted)
    if isinstance(judgement.verdict, Passed) and attempt.failure is Failure.TIMEOUT:
        _passed(draft, stage, _measured(attempt, judgement, seen), judgement.verdict)
    elif settled or (seen.status is None and now - aborted >= ABORT_GRACE):
        _settle(draft, stage, attempt)
    elif now - aborted >= ABORT_GRACE:
        draft.put(replace(attempt, aborted=now))
        draft.note(JournalKind.DECIDED, "the abort showed no effect: again", attempt)
        draft.effect(Abort(attempt.id, session))
        draft.wake(now + PEEK)
    else:
        draft.wake(now + PEEK // 4)


def _settle(draft: Draft, stage: StagePlan, attempt: Attempt) -> None:
    if attempt.failure is None:
        draft.put(replace(attempt, state=A.CANCELLED, ended=draft.facts.now))
        draft.note(JournalKind.DECIDED, "cancelled", attempt)
        return
    _fail(draft, stage, attempt, Refuted(attempt.failure, attempt.detail))


def _fail(draft: Draft, stage: StagePlan, attempt: Attempt, refuted: Refuted) -> None:
    """Hand the failure to the playbook. An attempt that was being cancelled stays cancelled."""
    if draft.run.stage(stage.name).state is StageState.CANCELLED:
        draft.put(replace(attempt, state=A.CANCELLED, ended=draft.facts.now))
        return
    answer_failure(draft, stage, attempt, refuted)

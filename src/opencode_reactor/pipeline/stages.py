"""Stages and the run around them: what may start, what a person's word changes, where the run stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import PipelineError
from ..model.ask_ids import ask_id
from ..model.asks import Ask, AskKind, Reply
from ..model.runs import (
    Attempt,
    AttemptState,
    Command,
    CommandKind,
    Failure,
    JournalKind,
    RunState,
    StageRun,
    StageState,
    Turn,
    TurnKind,
    WaitingOn,
)
from ..model.sessions import Json, ModelRef
from .contract import instructions
from .draft import Draft
from .facts import Abort, CloseApproval
from .ids import first_ids
from .plan import StagePlan
from .template import render, truthy

SUMMARY_LIMIT = 2_000
"""Characters of an answer that stand for it where a stage has no `summary` of its own."""

_URGENCY = (
    WaitingOn.PENDING_PERMISSION,
    WaitingOn.PENDING_QUESTION,
    WaitingOn.APPROVAL,
    WaitingOn.PERSON,
    WaitingOn.PROVIDER,
    WaitingOn.BACKOFF,
)
"""Which wait a run shows where its stages wait for several things: what a person can end goes first."""


def context(draft: Draft) -> dict[str, Json]:
    """What templates see: inputs, the run, and of other stages what they chose to tell."""
    stages: dict[str, Json] = {
        s.name: {
            "state": str(s.state),
            "summary": s.summary,
            "output": s.output,
            "text": s.text,
            "comment": s.text,
        }
        for s in draft.run.stages
    }
    run: dict[str, Json] = {
        "id": draft.run.id,
        "pipeline": draft.run.pipeline,
        "directory": draft.run.directory,
    }
    return {"inputs": dict(draft.run.inputs), "run": run, "stages": stages}


def compose_prompt(draft: Draft, stage: StagePlan) -> str:
    """The stage's prompt with its contract spelled out. Raises PipelineError where its template fails."""
    prompt = render(stage.prompt, context(draft))
    return prompt if stage.output is None else f"{prompt}\n\n{instructions(stage.output)}"


def plan_attempt(
    draft: Draft, stage: StagePlan, prompt: str, model: ModelRef | None, not_before: int = 0
) -> Attempt:
    """The next attempt of a stage, with its ids: stored before anything is sent."""
    number = len(draft.stage(stage.name).attempts) + 1
    attempt_id = f"{draft.run.id}.{stage.name}.{number}"
    message, part = first_ids(draft.facts.store_id, attempt_id)
    attempt = Attempt(
        run=draft.run.id,
        stage=stage.name,
        number=number,
        state=AttemptState.PLANNED,
        turn=Turn(1, TurnKind.FIRST, prompt, message, part),
        created=draft.facts.now,
        model=model,
        not_before=not_before,
    )
    draft.put(attempt)
    which = f" on {model}" if model else ""
    draft.note(JournalKind.DECIDED, f"attempt {number}{which}", attempt, facts={"message": message})
    return attempt


def start_ready(draft: Draft) -> list[StagePlan]:
    """Start every stage whose needs are met, and return those; skip what cannot start any more."""
    started: list[StagePlan] = []
    for stage in draft.plan.stages:  # in topological order: one pass settles chains of skipped stages
        if stage.approve:
            _take_approval(draft, stage)
        if draft.stage(stage.name).state is StageState.PENDING:
            _try_start(draft, stage)
            if draft.open_attempt(stage.name) is not None:
                started.append(stage)
    return started


def _try_start(draft: Draft, stage: StagePlan) -> None:
    needs = [draft.stage(name).state for name in stage.needs]
    if any(state in {StageState.FAILED, StageState.CANCELLED} for state in needs):
        _end(draft, stage, StageState.SKIPPED, "a stage it needs did not succeed")
    elif all(state.final for state in needs):
        if _stopping(draft):
            return  # another branch failed: nothing new is begun, what runs may finish
        try:
            _start(draft, stage)
        except PipelineError as error:
            # A template that fails on real values is the pipeline's fault; nothing was sent.
            _end(draft, stage, StageState.FAILED, str(error), Failure.INVALID_REQUEST)


def _stopping(draft: Draft) -> bool:
    return any(s.state in {StageState.FAILED, StageState.CANCELLED} for s in draft.run.stages)


def _start(draft: Draft, stage: StagePlan) -> None:
    values = context(draft)
    skipped = [n for n in stage.needs if draft.stage(n).state is StageState.SKIPPED]
    if skipped and len(skipped) == len(stage.needs):
        _end(draft, stage, StageState.SKIPPED, f"{', '.join(skipped)} was skipped")
    elif stage.when and not truthy(stage.when, values):
        _end(draft, stage, StageState.SKIPPED, f"when: {stage.when}")
    elif stage.approve:
        _ask_approval(draft, stage, render(stage.approve, values))
    else:
        prompt = compose_prompt(draft, stage)
        now = draft.facts.now
        draft.put_stage(replace(draft.stage(stage.name), state=StageState.RUNNING, started=now))
        plan_attempt(draft, stage, prompt, stage.model)


def _ask_approval(draft: Draft, stage: StagePlan, title: str) -> None:
    run, now = draft.run, draft.facts.now
    # A stage asked again after `retry` is another ask: the first one's answer must not count for it.
    request = f"{run.id}.{stage.name}.{run.stage(stage.name).extra_attempts}"
    draft.open_ask(
        Ask(
            id=ask_id(run.server, request),
            kind=AskKind.APPROVAL,
            server=run.server,
            request=request,
            directory=run.directory,
            run=run.id,
            stage=stage.name,
            title=title,
            opened=now,
        )
    )
    waiting = replace(
        run.stage(stage.name), state=StageState.WAITING, waiting_on=WaitingOn.APPROVAL, started=now
    )
    draft.put_stage(waiting)
    draft.note(JournalKind.DECIDED, "asks for an approval", stage=stage.name)


def _take_approval(draft: Draft, stage: StagePlan) -> None:
    ask = draft.facts.approvals.get(stage.name)
    if ask is None or draft.stage(stage.name).waiting_on is not WaitingOn.APPROVAL:
        return
    draft.put_stage(replace(draft.stage(stage.name), text=ask.message))
    if ask.reply is Reply.REJECT:
        _end(draft, stage, StageState.FAILED, f"refused by {ask.answered_by}: {ask.message}".rstrip(": "))
    else:
        draft.put_stage(replace(draft.stage(stage.name), summary=ask.message))
        _end(draft, stage, StageState.SUCCEEDED, f"approved by {ask.answered_by}")
    draft.effect(CloseApproval(ask.id))


def _end(
    draft: Draft, stage: StagePlan, state: StageState, detail: str, failure: Failure | None = None
) -> None:
    now = draft.facts.now
    over = replace(
        draft.stage(stage.name), state=state, detail=detail, failure=failure, waiting_on=None, ended=now
    )
    draft.put_stage(over)
    draft.note(JournalKind.DECIDED, f"{state}: {detail}", stage=stage.name)


def succeed(draft: Draft, stage: StagePlan, attempt: Attempt) -> None:
    """The attempt's answer is proved: end it and its stage, in the step that plans what comes next."""
    now = draft.facts.now
    draft.put(replace(attempt, state=AttemptState.SUCCEEDED, ended=now))
    proof: list[Json] = [
        {"check": e.check, "holds": e.holds, "fact": e.fact, "at": e.at} for e in attempt.evidence
    ]
    draft.note(JournalKind.DECIDED, "succeeded", attempt, facts={"evidence": proof})
    summary = attempt.text[:SUMMARY_LIMIT]
    try:
        if stage.summary:
            summary = render(
                stage.summary, {**context(draft), "output": attempt.output, "text": attempt.text}
            )
    except PipelineError as error:
        fail_stage(draft, stage.name, Failure.INVALID_REQUEST, f"its summary: {error}")
        return
    draft.put_stage(
        replace(
            draft.stage(stage.name),
            state=StageState.SUCCEEDED,
            waiting_on=None,
            failure=None,
            detail="",
            output=attempt.output,
            text=attempt.text,
            summary=summary,
            ended=now,
        )
    )


def fail_stage(draft: Draft, name: str, failure: Failure, detail: str) -> None:
    """End a stage as failed."""
    stage = draft.stage(name)
    over = replace(
        stage,
        state=StageState.FAILED,
        waiting_on=None,
        failure=failure,
        detail=detail,
        ended=draft.facts.now,
    )
    draft.put_stage(over)
    draft.note(JournalKind.DECIDED, f"the stage failed: {failure}, {detail}", stage=name)


def escalate(draft: Draft, name: str, failure: Failure, detail: str) -> None:
    """Leave a stage to a person: `reactor retry` or `reactor cancel`."""
    stage = draft.stage(name)
    waiting = replace(
        stage, state=StageState.WAITING, waiting_on=WaitingOn.PERSON, failure=failure, detail=detail
    )
    draft.put_stage(waiting)
    draft.note(JournalKind.DECIDED, f"escalated: {failure}, {detail}", stage=name)


def obey(draft: Draft, command: Command) -> None:
    """Carry out a person's command; one that no longer makes sense is noted and taken.

    A retry of what is still being stopped is left until it has stopped: that brings the next look.
    """
    if command.kind is CommandKind.RETRY and _still_stopping(draft, command.stage):
        return
    draft.obeyed(command.id)
    draft.note(JournalKind.COMMAND, f"{command.kind} by {command.by or 'a person'}", stage=command.stage)
    if command.kind is CommandKind.CANCEL:
        _cancel(draft)
    else:
        _retry(draft, command.stage)


def _still_stopping(draft: Draft, name: str) -> bool:
    return any(
        s.state is StageState.CANCELLED and s.open_attempt is not None and name in {"", s.name}
        for s in draft.run.stages
    )


def _cancel(draft: Draft) -> None:
    now = draft.facts.now
    if draft.run.state.final:
        return
    for stage in draft.run.stages:
        if stage.state.final:
            continue
        draft.put_stage(
            replace(stage, state=StageState.CANCELLED, waiting_on=None, detail="cancelled", ended=now)
        )
        attempt = stage.open_attempt
        if attempt is None:
            continue
        if attempt.session is None or attempt.state is AttemptState.CHECKING:
            draft.put(replace(attempt, state=AttemptState.CANCELLED, ended=now))
        else:
            # `failure` is cleared: an attempt that was being aborted for one is now simply cancelled.
            stopping = replace(attempt, state=AttemptState.ABORTING, failure=None, aborted=now)
            draft.put(stopping)
            draft.effect(Abort(attempt.id, attempt.session))


def _retry(draft: Draft, name: str) -> None:
    """Begin a stage anew, and with it everything that needs it; without a name: whatever did not succeed."""
    again = {
        s.name
        for s in draft.run.stages
        if (s.name == name if name else _unsuccessful(s)) and s.open_attempt is None
    }
    for stage in draft.plan.stages:
        if again.intersection(stage.needs) and draft.stage(stage.name).open_attempt is None:
            again.add(stage.name)
    for stage in draft.run.stages:
        if stage.name in again:
            # Attempts stay in the record; the count that bounds them begins again behind them.
            extra = max(len(stage.attempts), stage.extra_attempts + 1)
            draft.put_stage(StageRun(stage.name, attempts=stage.attempts, extra_attempts=extra))
    if again:
        draft.run = replace(
            draft.run, state=RunState.RUNNING, waiting_on=None, failure=None, detail="", ended=None
        )


def _unsuccessful(stage: StageRun) -> bool:
    return stage.state in {StageState.FAILED, StageState.CANCELLED, StageState.SKIPPED} or (
        stage.waiting_on is WaitingOn.PERSON
    )


def roll_up(draft: Draft) -> None:
    """Derive the run's state from its stages'."""
    for stage in draft.run.stages:
        _roll_up_stage(draft, stage)
    stages = draft.run.stages
    if any(not s.state.final or s.open_attempt for s in stages):
        if _stopping(draft) and not _busy(draft):
            _close_rest(draft)
            roll_up(draft)
            return
        _unfinished(draft)
        return
    worst = next((s for s in stages if s.state is StageState.FAILED), None)
    if worst is not None:
        _finish(draft, RunState.FAILED, worst)
    elif any(s.state is StageState.CANCELLED for s in stages):
        _finish(draft, RunState.CANCELLED, None)
    else:
        _finish(draft, RunState.SUCCEEDED, None)


def _roll_up_stage(draft: Draft, stage: StageRun) -> None:
    attempt = stage.open_attempt
    if attempt is None or stage.state.final:
        return
    waiting_on = attempt.waiting_on
    if attempt.state is AttemptState.PLANNED and draft.facts.now < attempt.not_before:
        waiting_on = waiting_on or WaitingOn.BACKOFF
    state = StageState.WAITING if waiting_on else StageState.RUNNING
    draft.put_stage(replace(stage, state=state, waiting_on=waiting_on))


def _busy(draft: Draft) -> bool:
    """Whether anything still goes on that was begun before another stage failed."""
    return any(
        s.open_attempt is not None or (s.state is StageState.WAITING and s.waiting_on is not None)
        for s in draft.run.stages
    )


def _close_rest(draft: Draft) -> None:
    for stage in draft.run.stages:
        if not stage.state.final:
            over = replace(
                stage, state=StageState.SKIPPED, detail="another stage failed", ended=draft.facts.now
            )
            draft.put_stage(over)


def _unfinished(draft: Draft) -> None:
    going = [s for s in draft.run.stages if not s.state.final or s.open_attempt]
    active = [s for s in going if s.state in {StageState.RUNNING, StageState.CANCELLED}]
    waits = {s.waiting_on for s in going if s.waiting_on}
    state = RunState.RUNNING if active or not waits else RunState.WAITING
    shown = next((w for w in _URGENCY if w in waits), None) if state is RunState.WAITING else None
    person = next((s for s in going if s.waiting_on is WaitingOn.PERSON), None)
    draft.run = replace(
        draft.run,
        state=state,
        waiting_on=shown,
        failure=person.failure if person else None,
        detail=person.detail if person else "",
    )


def _finish(draft: Draft, state: RunState, worst: StageRun | None) -> None:
    failure: Failure | None = worst.failure if worst else None
    detail = f"{worst.name}: {worst.detail}" if worst else ""
    draft.run = replace(
        draft.run,
        state=state,
        waiting_on=None,
        failure=failure,
        detail=detail,
        ended=draft.facts.now,
        wake_at=None,
    )
    facts: Mapping[str, Json] = {"tokens": draft.run.tokens.total, "cost": draft.run.cost}
    draft.note(JournalKind.FINISHED, f"{state}{': ' + detail if detail else ''}", facts=facts)

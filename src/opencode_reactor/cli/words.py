"""What a run does and waits for, in sentences: for the live view and for `reactor explain`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..model.asks import Ask, AskKind, AskState
from ..model.runs import Attempt, AttemptState, Command, Lease, Run, RunState, StageRun, StageState, WaitingOn
from .text import clock_time, one_line, span

WAITS = {
    WaitingOn.PENDING_PERMISSION: "waits for a permission",
    WaitingOn.PENDING_QUESTION: "waits for an answer",
    WaitingOn.APPROVAL: "waits for an approval",
    WaitingOn.PROVIDER: "waits for the provider",
    WaitingOn.BACKOFF: "waits before the next try",
    WaitingOn.PERSON: "waits for a person",
}
_PHASES = {
    AttemptState.PLANNED: "starts",
    AttemptState.CREATED: "has a session, the prompt goes out",
    AttemptState.SENT: "prompt sent, not yet seen in the session",
    AttemptState.RUNNING: "works",
    AttemptState.CHECKING: "answered, its checks run",
    AttemptState.ABORTING: "is being aborted",
    AttemptState.SUCCEEDED: "succeeded",
    AttemptState.FAILED: "failed",
    AttemptState.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class Prospect:
    """Something that is to happen. `at` is epoch ms, None where no time is set; `command` is what to type."""

    what: str
    at: int | None = None
    command: str = ""


def how_to_answer(ask: Ask, name: str | None = None) -> str:
    """The command line that answers an ask."""
    called = name or ask.id
    match ask.kind:
        case AskKind.PERMISSION:
            return f"reactor reply {called} once|always|reject [-m TEXT]"
        case AskKind.APPROVAL:
            return f"reactor reply {called} once|reject [-m TEXT]"
        case AskKind.QUESTION:
            return f"reactor answer {called} LABEL…"


def subject(ask: Ask) -> str:
    """What is asked, on one line: hostile text made harmless."""
    if ask.kind is not AskKind.QUESTION:
        told = one_line(ask.title)
        detail = one_line(ask.detail)
        return told if detail in told else f"{told}: {detail}" if told else detail
    texts: list[str] = []
    for question in ask.questions:
        offered = " | ".join(option.label for option in question.options)
        own = " | …" if question.custom and offered else ""
        texts.append(f"{question.question} [{offered}{own}]" if offered else question.question)
    return one_line("; ".join(texts))


def doing(stage: StageRun, now: int) -> str:
    """What a stage that is not over does now, or what became of it."""
    if stage.failure is not None and stage.state.final:
        return one_line(": ".join(filter(None, (stage.failure, stage.detail))))
    if stage.state.final:
        return one_line(stage.summary or stage.text or stage.detail)
    if stage.waiting_on is WaitingOn.PERSON:
        return one_line(": ".join(filter(None, (WAITS[WaitingOn.PERSON], stage.failure, stage.detail))))
    if stage.waiting_on is WaitingOn.APPROVAL:
        return WAITS[WaitingOn.APPROVAL]
    attempt = stage.open_attempt
    return phase(attempt, now) if attempt is not None else ""


def phase(attempt: Attempt, now: int) -> str:
    """What an attempt does now."""
    if attempt.state is AttemptState.PLANNED and attempt.not_before > now:
        why = WAITS[attempt.waiting_on] if attempt.waiting_on else "starts"
        return f"{why}, until {clock_time(attempt.not_before)} (in {span(attempt.not_before - now)})"
    if attempt.waiting_on is not None and not attempt.state.final:
        return WAITS[attempt.waiting_on]
    if attempt.failure is not None:
        return one_line(f"{_PHASES[attempt.state]}: {attempt.failure}")
    return _PHASES[attempt.state]


def missing(run: Run) -> Iterator[str]:
    """What each attempt under way still lacks to be done: the conditions of the gate that did not hold."""
    for attempt in run.open_attempts:
        where = f"{attempt.stage}, attempt {attempt.number}"
        lacking = [e for e in attempt.evidence if not e.holds]
        for evidence in lacking:
            yield f"{where}: {evidence.check}: {one_line(evidence.fact)}"
        if not lacking:
            yield f"{where}: {_PHASES[attempt.state]}"


def prospects(run: Run, asks: Sequence[Ask], commands: Sequence[Command], now: int) -> Iterator[Prospect]:
    """What happens next and when, the soonest reasons first."""
    for command in commands:
        yield Prospect(
            f"{command.kind} by {command.by or 'a person'} is stored and not yet obeyed", command.at
        )
    if run.state is RunState.SUCCEEDED:
        yield Prospect("nothing: the run is over")
        return
    if run.state.final:
        yield Prospect("nothing by itself: the run is over", command=f"reactor retry {run.id}")
        return
    yield from _ask_prospects(asks)
    for stage in run.stages:
        yield from _stage_prospects(run, stage, now)
    if run.wake_at is not None:
        yield Prospect("looked at again at the latest", run.wake_at)
    waiting = [stage.name for stage in run.stages if stage.state is StageState.PENDING]
    if waiting:
        yield Prospect(f"then: {', '.join(waiting)}")


def _ask_prospects(asks: Sequence[Ask]) -> Iterator[Prospect]:
    for ask in asks:
        if ask.state is AskState.ANSWERED:
            said = ask.reply or "; ".join(", ".join(labels) for labels in ask.answers)
            yield Prospect(f"the answer of {ask.answered_by} to {ask.id} is delivered: {one_line(said)}")
            continue
        yield Prospect(f"{ask.kind} {ask.id} is answered: {subject(ask)}", command=how_to_answer(ask))
        if ask.expires is not None:
            yield Prospect(f"{ask.kind} {ask.id} expires", ask.expires)


def _stage_prospects(run: Run, stage: StageRun, now: int) -> Iterator[Prospect]:
    if stage.waiting_on is WaitingOn.PERSON:
        why = one_line(": ".join(filter(None, (stage.failure, stage.detail))))
        command = f"reactor retry {run.id} --stage {stage.name}, or reactor cancel {run.id}"
        yield Prospect(f"{stage.name} was escalated to a person: {why}", command=command)
    attempt = stage.open_attempt
    if attempt is None:
        return
    name = f"{stage.name}, attempt {attempt.number}"
    if attempt.state is AttemptState.PLANNED:
        yield Prospect(f"{name} gets its session", attempt.not_before if attempt.not_before > now else None)
    if attempt.deadline is not None and attempt.state is not AttemptState.ABORTING:
        yield Prospect(f"{name} is aborted if it is not done", attempt.deadline)


def keeper(run: Run, lease: Lease | None) -> Prospect:
    """Who drives the run now."""
    if lease is None:
        return Prospect(f"nobody serves {run.server} now", command="reactor serve")
    return Prospect(f"{lease.owner} serves {run.server}, its lease renewed as it goes", lease.until)

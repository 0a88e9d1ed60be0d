"""The JSON lines of `--format json`: the one place that knows their shapes. Others rely on them.

Every line is an object with `type` and `time`; times are ISO 8601 in UTC with milliseconds, durations
milliseconds, costs US dollars. A field that does not apply is null, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from ..model.asks import Ask, AskKind
from ..model.deliveries import Delivery
from ..model.runs import Attempt, Command, Evidence, JournalEntry, Lease, Run, StageRun
from ..model.shared import Question, Tokens
from .text import iso

Shape: TypeAlias = "dict[str, Any]"


def run_line(run: Run) -> Shape:
    """One run in a line."""
    return run_head(run, run.tokens, run.cost)


def run_head(run: Run, used: Tokens, cost: float) -> Shape:
    """One run in a list, of which the stages are not known, but what they used."""
    return {
        "id": run.id,
        "pipeline": run.pipeline,
        "state": run.state,
        "waiting_on": run.waiting_on,
        "failure": run.failure,
        "detail": run.detail,
        "server": run.server,
        "directory": run.directory,
        "created": iso(run.created),
        "updated": iso(run.updated),
        "ended": iso(run.ended),
        "tokens": tokens(used),
        "cost": cost,
    }


def whole_run(run: Run) -> Shape:
    """One run with its inputs, stages and attempts."""
    return {
        **run_line(run),
        "inputs": plain(run.inputs),
        "stages": {s.name: stage(s) for s in run.stages},
    }


def stage(stage: StageRun) -> Shape:
    """One stage with its attempts."""
    return {
        "state": stage.state,
        "waiting_on": stage.waiting_on,
        "failure": stage.failure,
        "detail": stage.detail,
        "output": plain(stage.output),
        "text": stage.text,
        "summary": stage.summary,
        "started": iso(stage.started),
        "ended": iso(stage.ended),
        "attempts": [attempt(a) for a in stage.attempts],
    }


def attempt(attempt: Attempt) -> Shape:
    """One attempt. `message` is the id of the last message sent."""
    return {
        "number": attempt.number,
        "session": attempt.session,
        "message": attempt.turn.message,
        "model": None if attempt.model is None else str(attempt.model),
        "state": attempt.state,
        "waiting_on": attempt.waiting_on,
        "failure": attempt.failure,
        "detail": attempt.detail,
        "started": iso(attempt.started),
        "ended": iso(attempt.ended),
        "tokens": tokens(attempt.tokens),
        "cost": attempt.cost,
    }


def tokens(tokens: Tokens) -> Shape:
    """Token counts; `total` includes the cached ones."""
    return {
        "input": tokens.input,
        "output": tokens.output,
        "reasoning": tokens.reasoning,
        "cache_read": tokens.cache_read,
        "cache_write": tokens.cache_write,
        "total": tokens.total,
    }


def evidence(evidence: Evidence) -> Shape:
    """One condition of the completion gate as it was found."""
    return {
        "check": evidence.check,
        "holds": evidence.holds,
        "fact": evidence.fact,
        "at": iso(evidence.at),
    }


def journal(entry: JournalEntry) -> Shape:
    """One line of a run's history."""
    return {
        "seq": entry.seq,
        "at": iso(entry.at),
        "kind": entry.kind,
        "stage": entry.stage or None,
        "attempt": entry.attempt or None,
        "what": entry.what,
        "data": plain(entry.data),
    }


def ask(ask: Ask) -> Shape:
    """One ask. `options` are the words `reactor reply` or `reactor answer` takes."""
    return {
        "id": ask.id,
        "kind": ask.kind,
        "state": ask.state,
        "server": ask.server,
        "directory": ask.directory,
        "request": ask.request,
        "session": ask.session or None,
        "run": ask.run or None,
        "stage": ask.stage or None,
        "attempt": ask.attempt or None,
        "title": ask.title,
        "detail": ask.detail,
        "permission": ask.permission if ask.kind is AskKind.PERMISSION else None,
        "patterns": list(ask.patterns),
        "questions": [question(q) for q in ask.questions],
        "options": list(ask.options),
        "reply": ask.reply,
        "answers": [list(labels) for labels in ask.answers],
        "message": ask.message,
        "answered_by": ask.answered_by or None,
        "opened": iso(ask.opened),
        "answered": iso(ask.answered),
        "expires": iso(ask.expires),
        "closed": iso(ask.closed),
        "closed_as": ask.closed_as,
    }


def question(question: Question) -> Shape:
    """One question of an ask."""
    return {
        "question": question.question,
        "header": question.header,
        "multiple": question.multiple,
        "custom": question.custom,
        "options": [{"label": o.label, "description": o.description} for o in question.options],
    }


def command(command: Command) -> Shape:
    """A person's word to a run, not yet taken."""
    return {
        "id": command.id,
        "run": command.run,
        "kind": command.kind,
        "stage": command.stage or None,
        "by": command.by,
        "at": iso(command.at),
    }


def delivery(delivery: Delivery) -> Shape:
    """A delivery that was given up."""
    return {
        "id": delivery.id,
        "handler": delivery.handler,
        "server": delivery.server,
        "event": delivery.event,
        "name": delivery.name,
        "session": delivery.lane or None,
        "directory": delivery.directory,
        "tries": delivery.tries,
        "error": delivery.error,
        "created": iso(delivery.created),
    }


def lease(lease: Lease | None) -> Shape | None:
    """Who serves a server now."""
    if lease is None:
        return None
    return {"owner": lease.owner, "epoch": lease.epoch, "until": iso(lease.until)}


def plain(value: object) -> Any:
    """Stored JSON as the standard library's encoder takes it: any mapping a dict, any sequence a list."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in cast("list[object]", value)]
    return value

"""Rows and nouns of runs: stages, attempts, journal, commands, leases. Pure; what is read is made anew.

The readers raise ValueError, KeyError or TypeError on a row that no reactor wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..model.runs import (
    Attempt,
    AttemptState,
    Command,
    CommandKind,
    Evidence,
    Failure,
    Head,
    JournalEntry,
    JournalKind,
    Lease,
    Run,
    RunState,
    StageRun,
    StageState,
    Turn,
    TurnKind,
    WaitingOn,
)
from ..model.shared import ModelRef, Tokens
from .columns import dump, load, read, word
from .driver import Params, Row


def run_params(run: Run) -> Params:
    """The row of a run, without its stages."""
    return {
        "id": run.id,
        "pipeline": run.pipeline,
        "server": run.server,
        "directory": run.directory,
        "spec": run.spec,
        "inputs": dump(run.inputs),
        "state": run.state.value,
        "waiting_on": word(run.waiting_on),
        "failure": word(run.failure),
        "detail": run.detail,
        "created": run.created,
        "updated": run.updated,
        "ended": run.ended,
        "rev": run.rev,
        "wake_at": run.wake_at,
    }


def read_run(row: Row, stages: Iterable[StageRun]) -> Run:
    """A run from its row and its stages, in order."""
    return Run(
        id=row["id"],
        pipeline=row["pipeline"],
        server=row["server"],
        directory=row["directory"],
        spec=row["spec"],
        inputs=load(row["inputs"]),
        state=RunState(row["state"]),
        waiting_on=read(WaitingOn, row["waiting_on"]),
        failure=read(Failure, row["failure"]),
        detail=row["detail"],
        created=row["created"],
        updated=row["updated"],
        ended=row["ended"],
        rev=row["rev"],
        wake_at=row["wake_at"],
        stages=tuple(stages),
    )


def read_head(row: Row) -> Head:
    """A run without its stages, with what its attempts used."""
    return read_run(row, ()), _read_tokens(row), row["cost"]


def read_runs(runs: Iterable[Row], stages: Iterable[Row], attempts: Iterable[Row]) -> list[Run]:
    """Runs in the order of their rows, with the stages and attempts that are theirs, each in their order."""
    tries: dict[tuple[str, str], list[Row]] = {}
    for row in attempts:
        tries.setdefault((row["run"], row["stage"]), []).append(row)
    parts: dict[str, list[Row]] = {}
    for row in stages:
        parts.setdefault(row["run"], []).append(row)

    def stage(row: Row) -> StageRun:
        return read_stage(row, map(read_attempt, tries.get((row["run"], row["name"]), ())))

    return [read_run(row, map(stage, parts.get(row["id"], ()))) for row in runs]


def stage_params(run: str, position: int, stage: StageRun) -> Params:
    """The row of a stage, without its attempts; `position` is its place in the run."""
    return {
        "run": run,
        "name": stage.name,
        "position": position,
        "state": stage.state.value,
        "waiting_on": word(stage.waiting_on),
        "failure": word(stage.failure),
        "detail": stage.detail,
        "output": dump(stage.output),
        "text": stage.text,
        "summary": stage.summary,
        "started": stage.started,
        "ended": stage.ended,
        "extra_attempts": stage.extra_attempts,
    }


def read_stage(row: Row, attempts: Iterable[Attempt]) -> StageRun:
    """A stage from its row and its attempts, in order."""
    return StageRun(
        name=row["name"],
        state=StageState(row["state"]),
        waiting_on=read(WaitingOn, row["waiting_on"]),
        failure=read(Failure, row["failure"]),
        detail=row["detail"],
        output=load(row["output"]),
        text=row["text"],
        summary=row["summary"],
        started=row["started"],
        ended=row["ended"],
        extra_attempts=row["extra_attempts"],
        attempts=tuple(attempts),
    )


def attempt_params(server: str, attempt: Attempt) -> Params:
    """The row of an attempt; `server` is its run's, repeated there for the index by session."""
    model, tokens = attempt.model, attempt.tokens
    return {
        "run": attempt.run,
        "stage": attempt.stage,
        "number": attempt.number,
        "server": server,
        "state": attempt.state.value,
        "turn": _dump_turn(attempt.turn),
        "created": attempt.created,
        "provider": None if model is None else model.provider,
        "model": None if model is None else model.model,
        "session": attempt.session,
        "not_before": attempt.not_before,
        "started": attempt.started,
        "ended": attempt.ended,
        "deadline": attempt.deadline,
        "waiting_on": word(attempt.waiting_on),
        "waiting_since": attempt.waiting_since,
        "aborted": attempt.aborted,
        "quiet_since": attempt.quiet_since,
        "retrying_since": attempt.retrying_since,
        "failure": word(attempt.failure),
        "detail": attempt.detail,
        "repairs": dump([f.value for f in attempt.repairs]),
        "text": attempt.text,
        "output": dump(attempt.output),
        "tokens_input": tokens.input,
        "tokens_output": tokens.output,
        "tokens_reasoning": tokens.reasoning,
        "tokens_cache_read": tokens.cache_read,
        "tokens_cache_write": tokens.cache_write,
        "cost": attempt.cost,
        "evidence": dump([[e.check, e.holds, e.fact, e.at] for e in attempt.evidence]),
    }


def read_attempt(row: Row) -> Attempt:
    """An attempt from its row."""
    provider = row["provider"]
    return Attempt(
        run=row["run"],
        stage=row["stage"],
        number=row["number"],
        state=AttemptState(row["state"]),
        turn=_read_turn(load(row["turn"])),
        created=row["created"],
        model=None if provider is None else ModelRef(provider, row["model"]),
        session=row["session"],
        not_before=row["not_before"],
        started=row["started"],
        ended=row["ended"],
        deadline=row["deadline"],
        waiting_on=read(WaitingOn, row["waiting_on"]),
        waiting_since=row["waiting_since"],
        aborted=row["aborted"],
        quiet_since=row["quiet_since"],
        retrying_since=row["retrying_since"],
        failure=read(Failure, row["failure"]),
        detail=row["detail"],
        repairs=tuple(Failure(f) for f in load(row["repairs"])),
        text=row["text"],
        output=load(row["output"]),
        tokens=_read_tokens(row),
        cost=row["cost"],
        evidence=tuple(Evidence(*e) for e in load(row["evidence"])),
    )


def _read_tokens(row: Row) -> Tokens:
    return Tokens(
        row["tokens_input"],
        row["tokens_output"],
        row["tokens_reasoning"],
        row["tokens_cache_read"],
        row["tokens_cache_write"],
    )


def _dump_turn(turn: Turn) -> str:
    return dump(
        {
            "number": turn.number,
            "kind": turn.kind.value,
            "prompt": turn.prompt,
            "message": turn.message,
            "part": turn.part,
            "sent": turn.sent,
            "seen": turn.seen,
            "sends": turn.sends,
        }
    )


def _read_turn(turn: dict[str, Any]) -> Turn:
    return Turn(
        number=turn["number"],
        kind=TurnKind(turn["kind"]),
        prompt=turn["prompt"],
        message=turn["message"],
        part=turn["part"],
        sent=turn["sent"],
        seen=turn["seen"],
        sends=turn["sends"],
    )


def entry_params(run: str, epoch: int, entry: JournalEntry) -> Params:
    """The row of a journal entry of a run, written under an epoch (0: by whoever submitted it)."""
    return {
        "run": run,
        "stage": entry.stage,
        "attempt": entry.attempt,
        "epoch": epoch,
        "at": entry.at,
        "kind": entry.kind.value,
        "what": entry.what,
        "facts": dump(entry.data),
    }


def read_entry(row: Row) -> JournalEntry:
    """A journal entry from its row."""
    return JournalEntry(
        kind=JournalKind(row["kind"]),
        what=row["what"],
        stage=row["stage"],
        attempt=row["attempt"],
        at=row["at"],
        data=load(row["facts"]),
        seq=row["seq"],
        epoch=row["epoch"],
    )


def read_command(row: Row) -> Command:
    """A command from its row."""
    return Command(
        id=row["id"],
        run=row["run"],
        kind=CommandKind(row["kind"]),
        stage=row["stage"],
        by=row["issuer"],
        at=row["at"],
    )


def read_lease(row: Row, expires: float) -> Lease:
    """A lease from its row; `expires` by the holder's monotonic clock, 0.0 for anybody else."""
    return Lease(row["server"], row["owner"], row["epoch"], row["until"], expires)

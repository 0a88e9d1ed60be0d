"""What each write of the store consists of, as data. Pure: nouns in, a unit out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..errors import Conflict, Fenced, NotKnown
from ..model.asks import Ask
from ..model.runs import CommandKind, JournalEntry, Lease, Run, StageRun
from .ask_rows import ask_params
from .driver import Expect, Statement, Unit
from .run_rows import attempt_params, entry_params, run_params, stage_params


def fence(lease: Lease, server: str) -> Statement:
    """Goes first in an owner's unit: nothing stands if the lease on that server does not."""
    params = {"server": server, "owner": lease.owner, "epoch": lease.epoch}
    if lease.server != server:
        params["epoch"] = -1  # a lease on another server gives no right here
    message = f"the lease on {server} (epoch {lease.epoch}) is over: another reactor owns this server now"
    return Statement("fence", params, Expect(1, Fenced, message))


def fenced(lease: Lease | None, *statements: Statement) -> Unit:
    """The statements, behind the fence if there is a lease."""
    return statements if lease is None else (fence(lease, lease.server), *statements)


def adding(run: Run, entries: Sequence[JournalEntry]) -> Unit:
    """A new run with its stages and attempts."""
    fresh = Expect(1, Conflict, f"a run {run.id} is there already")
    return (
        Statement("add_run", run_params(run), fresh),
        *_stages(run, known={}),
        *(Statement("add_entry", entry_params(run.id, 0, entry)) for entry in entries),
    )


def saving(before: Run, after: Run, lease: Lease) -> Unit:
    """The next version of a run: fence, guarded row, and what differs of its stages and attempts.

    Raises ValueError where `after` is no later version of `before`: what identifies a run never changes, and
    no stage or attempt is ever taken away.
    """
    _check_same(before, after)
    guard = Expect(1, Conflict, f"run {before.id} is not at revision {before.rev} any more: read it again")
    known = {stage.name: stage for stage in before.stages}
    return (
        fence(lease, before.server),
        Statement("save_run", {**run_params(after), "rev": before.rev}, guard),
        *_stages(after, known),
    )


def beside(
    run: Run, lease: Lease, entries: Sequence[JournalEntry], asks: Sequence[Ask], commands: Sequence[int]
) -> Unit:
    """What goes into the transaction of a run's new version: history, asks for people, obeyed commands."""
    gone = Expect(1, Conflict, f"a command to run {run.id} was taken already: read it again")
    return (
        *(Statement("add_entry", entry_params(run.id, lease.epoch, entry)) for entry in entries),
        *(Statement("add_ask", ask_params(ask)) for ask in asks),
        *(Statement("take_command", {"id": number, "run": run.id}, gone) for number in commands),
    )


def commanding(run: str, kind: CommandKind, stage: str, by: str) -> Unit:
    """A person's word to a run."""
    params = {"run": run, "kind": kind.value, "stage": stage, "issuer": by}
    return (Statement("add_command", params, Expect(1, NotKnown, f"no run {run} in the store")),)


def _stages(run: Run, known: dict[str, StageRun]) -> Iterator[Statement]:
    for position, stage in enumerate(run.stages):
        old = known.get(stage.name)
        if old is stage:
            continue
        if old is None or replace(old, attempts=()) != replace(stage, attempts=()):
            yield Statement("put_stage", stage_params(run.id, position, stage))
        tries = {attempt.number: attempt for attempt in old.attempts} if old is not None else {}
        # In their order: an attempt that ends makes room for the next in the same transaction.
        for attempt in stage.attempts:
            if tries.get(attempt.number) != attempt:
                yield Statement("put_attempt", attempt_params(run.server, attempt))


def _check_same(before: Run, after: Run) -> None:
    for name in ("id", "pipeline", "server", "directory", "spec", "inputs", "created"):
        if getattr(before, name) != getattr(after, name):
            msg = f"a run's {name} never changes"
            raise ValueError(msg)
    lost = _parts(before) - _parts(after)
    if lost:
        msg = f"stages and attempts are never taken away: {sorted(lost)}"
        raise ValueError(msg)


def _parts(run: Run) -> set[tuple[str, int]]:
    stages = {(stage.name, 0) for stage in run.stages}
    return stages | {(stage.name, attempt.number) for stage in run.stages for attempt in stage.attempts}

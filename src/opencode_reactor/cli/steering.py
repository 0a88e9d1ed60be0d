"""`reactor cancel` and `reactor retry`: a person's word to a run, stored for whoever serves its server."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import NotKnown, UsageError
from ..model.runs import Command, CommandKind, Run, RunState, StageState, WaitingOn
from ..store import Store
from . import shapes
from .opened import in_store, person, served
from .options import Options

RunArgument = Annotated[str, typer.Argument(help="A run's id, or its beginning.")]


def cancel(ctx: typer.Context, run: RunArgument) -> None:
    """Stop a run: what is under way is aborted, nothing further is sent."""

    async def told(store: Store) -> None:
        found = await store.run(run)
        if found.state.final:
            raise UsageError(f"run {found.id} is over: {found.state}", remedy="there is nothing to cancel")
        await _tell(ctx.obj, store, found, await store.add_command(found.id, CommandKind.CANCEL, by=person()))

    in_store(ctx.obj, told)


def retry(
    ctx: typer.Context,
    run: RunArgument,
    stage: Annotated[str, typer.Option(help="Only this stage; else every stage that failed or waits.")] = "",
) -> None:
    """Let a failed, cancelled or escalated run go on where it stopped: succeeded stages are not repeated."""

    async def told(store: Store) -> None:
        found = await store.run(run)
        _check_retry(found, stage)
        command = await store.add_command(found.id, CommandKind.RETRY, stage=stage, by=person())
        await _tell(ctx.obj, store, found, command)

    in_store(ctx.obj, told)


def _check_retry(run: Run, stage: str) -> None:
    names = [s.name for s in run.stages]
    if stage and stage not in names:
        raise NotKnown(f"run {run.id} has no stage {stage!r}", remedy=f"its stages: {', '.join(names)}")
    if run.state is RunState.SUCCEEDED:
        raise UsageError(f"run {run.id} has succeeded", remedy="submit it anew to run it again")
    stopped = {StageState.FAILED, StageState.CANCELLED, StageState.SKIPPED}
    chosen = [s for s in run.stages if not stage or s.name == stage]
    if not any(s.state in stopped or s.waiting_on is WaitingOn.PERSON for s in chosen):
        where = f"stage {stage}" if stage else "the run"
        raise UsageError(
            f"{where} has not stopped: {chosen[0].state if stage else run.state}",
            remedy=f"`reactor explain {run.id}` shows what it does",
        )


async def _tell(options: Options, store: Store, run: Run, command: Command) -> None:
    idle = await served(store, run.server)
    if options.output.json:
        options.output.emit("command", {**shapes.command(command), "served": not idle})
        return
    what = f"{command.kind} of {run.id}{f' (stage {command.stage})' if command.stage else ''}"
    options.output.line(f"{what} is stored" if idle else f"{what} is stored; it is obeyed at once")
    if idle:
        options.output.remark(idle)

"""`reactor cancel` and `reactor retry`: a person's word to a run, stored for whoever serves its server."""

from __future__ import annotations

from ..errors import NotKnown, UsageError
from ..model.runs import Command, CommandKind, Run, RunState, StageState, WaitingOn
from ..store import Store
from . import shapes
from .opened import in_store, person, served
from .options import Options
from .parser import Asked


def cancel(options: Options, asked: Asked) -> None:
    """Tell a run to stop."""

    async def told(store: Store) -> None:
        run = await store.run(asked.run)
        if run.state.final:
            raise UsageError(f"run {run.id} is over: {run.state}", remedy="there is nothing to cancel")
        await _tell(options, store, run, await store.add_command(run.id, CommandKind.CANCEL, by=person()))

    in_store(options, told)


def retry(options: Options, asked: Asked) -> None:
    """Tell a run to go on."""

    async def told(store: Store) -> None:
        run = await store.run(asked.run)
        _check_retry(run, asked.stage)
        command = await store.add_command(run.id, CommandKind.RETRY, stage=asked.stage, by=person())
        await _tell(options, store, run, command)

    in_store(options, told)


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
    idle = await served(options, store, run.server)
    if options.output.json:
        options.output.emit("command", {**shapes.command(command), "served": not idle})
        return
    what = f"{command.kind} of {run.id}{f' (stage {command.stage})' if command.stage else ''}"
    options.output.line(f"{what} is stored" if idle else f"{what} is stored; it is obeyed at once")
    if idle:
        options.output.remark(idle)

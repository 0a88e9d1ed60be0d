"""`reactor runs` and `reactor show`: what runs there are, and one of them with its stages."""

from __future__ import annotations

from ..model.runs import Attempt, Head, Run, RunState, StageRun
from ..model.shared import NO_TOKENS
from ..store import Store
from . import shapes
from .opened import in_store
from .options import Options
from .output import Cell, Column, Output, state_cell
from .parser import Asked
from .text import ago, amount, clean, moment, one_line, price, span


def runs(options: Options, asked: Asked) -> None:
    """List runs."""
    out, (server, directory) = options.output, _chosen(options)
    states = [RunState(state) for state in asked.state or ()] or None

    async def listed(store: Store) -> tuple[list[Head], int]:
        found = await store.heads(state=states, server=server, directory=directory, limit=asked.limit)
        return found, store.now()

    found, now = in_store(options, listed)
    if out.json:
        for run, tokens, cost in found:
            out.emit("run", shapes.run_head(run, tokens, cost))
    elif found:
        out.table(_HEADS, [_row(head, now) for head in found])
    else:
        out.remark("no runs" if states is None else "no runs in that state")


def show(options: Options, asked: Asked) -> None:
    """Show one run."""

    async def found(store: Store) -> tuple[Run, int]:
        return await store.run(asked.run), store.now()

    one, now = in_store(options, found)
    if options.output.json:
        options.output.emit("run", shapes.whole_run(one))
        return
    describe(one, options.output, now)
    if options.verbose:
        _answers(one, options.output)


_HEADS = (
    Column("id"),
    Column("pipeline"),
    Column("state"),
    Column("created"),
    Column("took", right=True),
    Column("tokens", right=True),
    Column("cost", right=True),
    Column("detail", share=True),
)
_STAGE_HEADS = (
    Column("stage"),
    Column("state"),
    Column("tries", right=True),
    Column("model", share=True),
    Column("tokens", right=True),
    Column("cost", right=True),
    Column("took", right=True),
    Column("summary", share=True),
)


def _chosen(options: Options) -> tuple[str | None, str | None]:
    """The server's URL and the directory that were named."""
    if options.server is None and options.dir is None:
        return None, None
    server = options.chosen_server(options.settings())
    directory = None if options.dir is None else options.directory(server)
    return None if options.server is None else server.url, directory


def _row(head: Head, now: int) -> list[Cell | str]:
    run, tokens, cost = head
    state = state_cell(run.state, run.waiting_on)
    took = span((run.ended or now) - run.created)
    created = ago(run.created, now)
    return [run.id, run.pipeline, state, created, took, amount(tokens), price(cost), _reason(run)]


def _reason(run: Run) -> str:
    return run.detail or (run.failure or "")


def describe(run: Run, out: Output, now: int) -> None:
    """A run for people: its head, a table of its stages, and what failed."""
    out.line(
        f"{run.id}  {one_line(run.pipeline)}  {run.state}{f': {run.waiting_on}' if run.waiting_on else ''}"
    )
    out.line(f"  server     {run.server}")
    out.line(f"  directory  {one_line(run.directory)}")
    over = f", ended {moment(run.ended)}" if run.ended else ""
    out.line(f"  created    {moment(run.created)} ({ago(run.created, now)}){over}")
    for name, value in run.inputs.items():
        out.line(f"  input      {one_line(name)} = {one_line(str(value), 80)}")
    if run.failure or run.detail:
        out.line(f"  reason     {one_line(': '.join(filter(None, (run.failure, run.detail))))}")
    out.line()
    stages_table(run, out, now)


def stages_table(run: Run, out: Output, now: int) -> None:
    """The stages of a run, one a row, and their sum."""
    rows = [_stage_row(stage, now) for stage in run.stages]
    if len(run.stages) > 1:
        tries = sum(len(stage.attempts) for stage in run.stages)
        took = span((run.ended or now) - run.created)
        rows.append(
            [Cell("total", "bold"), "", str(tries), "", amount(run.tokens), price(run.cost), took, ""]
        )
    out.table(_STAGE_HEADS, rows)


def _stage_row(stage: StageRun, now: int) -> list[Cell | str]:
    last: Attempt | None = stage.attempts[-1] if stage.attempts else None
    took = span((stage.ended or now) - stage.started) if stage.started else ""
    tokens = sum((a.tokens for a in stage.attempts), NO_TOKENS)
    return [
        stage.name,
        state_cell(stage.state, stage.waiting_on),
        str(len(stage.attempts)) if stage.attempts else "",
        str(last.model) if last and last.model else "",
        amount(tokens),
        price(sum(a.cost for a in stage.attempts)),
        took,
        _summary(stage),
    ]


def _summary(stage: StageRun) -> Cell | str:
    if stage.failure is not None:
        return Cell(": ".join(filter(None, (stage.failure, stage.detail))), "red")
    return stage.summary or stage.text or stage.detail


def _answers(run: Run, out: Output) -> None:
    for stage in run.stages:
        if stage.text:
            out.line()
            out.line(f"{stage.name}:")
            for line in clean(stage.text).splitlines():
                out.line(f"  {line}")

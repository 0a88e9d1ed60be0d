"""`reactor runs` and `reactor show`: what runs there are, and one of them with its stages."""

from __future__ import annotations

from collections.abc import Callable

from ..model.runs import Attempt, Run, RunState, StageRun
from ..model.shared import NO_TOKENS
from ..store import Store
from . import shapes
from .opened import in_store
from .options import Options
from .output import Cell, Column, Output, state_cell
from .parser import Asked
from .text import ago, amount, clean, moment, one_line, price, span

ALL = 100_000
"""How many runs are looked through where only some of them are wanted."""


def runs(options: Options, asked: Asked) -> None:
    """List runs."""
    out, fits = options.output, _chooser(options)
    states = [RunState(state) for state in asked.state or ()] or None
    limit: int = asked.limit

    async def listed(store: Store) -> tuple[list[Run], int]:
        found = await store.runs(state=states, limit=ALL if options.server or options.dir else limit)
        return [run for run in found if fits(run)][:limit], store.now()

    found, now = in_store(options, listed)
    if out.json:
        for run in found:
            out.emit("run", shapes.run_line(run))
    elif found:
        out.table(_HEADS, [_row(run, now) for run in found])
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


def _chooser(options: Options) -> Callable[[Run], bool]:
    """Whether a run is on the server and in the directory that were named."""
    if options.server is None and options.dir is None:
        return lambda _run: True
    server = options.chosen_server(options.settings())
    directory = None if options.dir is None else options.directory(server)
    url = None if options.server is None else server.url
    return lambda run: url in {None, run.server} and directory in {None, run.directory}


def _row(run: Run, now: int) -> list[Cell | str]:
    tokens, cost = amount(run.tokens), price(run.cost)
    state = state_cell(run.state, run.waiting_on)
    took = span((run.ended or now) - run.created)
    return [run.id, run.pipeline, state, ago(run.created, now), took, tokens, cost, _reason(run)]


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

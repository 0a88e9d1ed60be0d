"""The live view of a run on a terminal: rich, redrawn from the last snapshot, gone when the run is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..clock import Clock
from ..model.asks import Ask
from ..model.runs import JournalEntry, Run, StageRun, StageState
from ..model.shared import NO_TOKENS
from .output import STYLES
from .text import amount, one_line, price, span
from .words import doing, how_to_answer, subject

REFRESHES = 8
"""A second: enough for the clock to run and for a spinner to turn."""
_COLUMNS, _NUMBERS, _TEXTS = 7, {3, 4, 5}, {2, 6}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {
    StageState.PENDING: "·",
    StageState.WAITING: "…",
    StageState.SUCCEEDED: "✓",
    StageState.FAILED: "✗",
    StageState.SKIPPED: "-",
    StageState.CANCELLED: "-",
}


class LiveProgress:
    """Draws the stages, what they cost and wait for, and how an open ask is answered."""

    def __init__(
        self, clock: Clock, console: Console | None = None, *, typed: Callable[[str], str] = str
    ) -> None:
        self._typed = typed
        self._clock = clock
        self._run: Run | None = None
        self._asks: tuple[Ask, ...] = ()
        # Drawn by rich's own thread: it only ever reads a whole frozen snapshot.
        self._live = Live(
            console=console or Console(stderr=True),
            get_renderable=self.draw,
            refresh_per_second=REFRESHES,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._live.stop()

    def update(self, run: Run, asks: Sequence[Ask] = ()) -> None:
        """Keep the snapshot for the next drawing."""
        self._run, self._asks = run, tuple(asks)

    def note(self, entry: JournalEntry) -> None:
        """The view shows where things stand, not how they came to."""

    def ended(self, run: Run) -> None:
        """The view goes; what is printed after it stays."""
        self._run, self._asks = run, ()

    def draw(self) -> RenderableType:
        """The view of the last snapshot."""
        run, now = self._run, self._clock.now()
        if run is None:
            return Text("connecting …", style="dim")
        parts: list[RenderableType] = [self._head(run, now), self._stages(run, now)]
        for ask in self._asks:
            parts.append(Text(f"{ask.kind} {ask.id}: {subject(ask)}", style="yellow", overflow="ellipsis"))
            parts.append(Text(f"  {self._typed(how_to_answer(ask))}", style="bold"))
        return Group(*parts)

    def _head(self, run: Run, now: int) -> Text:
        used = [f"{amount(run.tokens)} tokens"] if run.tokens.total else []
        used += [price(run.cost)] if run.cost else []
        facts = [one_line(run.pipeline), run.id, span((run.ended or now) - run.created), *used]
        return Text("  ".join(facts), style="bold", no_wrap=True, overflow="ellipsis")

    def _stages(self, run: Run, now: int) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        for at in range(_COLUMNS):
            # Only a column that may wrap is narrowed by rich: names and numbers stay whole.
            table.add_column(justify="right" if at in _NUMBERS else "left", no_wrap=at not in _TEXTS)
        for stage in run.stages:
            cells = self._cells(stage, now)
            style = STYLES.get(stage.state, "")
            table.add_row(*(Text(cell, style=style, no_wrap=True, overflow="ellipsis") for cell in cells))
        return table

    def _cells(self, stage: StageRun, now: int) -> tuple[str, ...]:
        turning = _SPINNER[int(self._clock.monotonic() * REFRESHES) % len(_SPINNER)]
        last = stage.attempts[-1] if stage.attempts else None
        tokens = sum((attempt.tokens for attempt in stage.attempts), NO_TOKENS)
        tries = f" ({last.number})" if last is not None and last.number > 1 else ""
        return (
            _MARKS.get(stage.state, turning),
            f"{stage.name}{tries}",
            str(last.model) if last and last.model else "",
            amount(tokens),
            price(sum(attempt.cost for attempt in stage.attempts)),
            span((stage.ended or now) - stage.started) if stage.started else "",
            doing(stage, now),
        )

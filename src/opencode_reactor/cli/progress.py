"""How a run is followed: JSON lines for programs, a live view on a terminal, a line per change elsewhere.

All three are fed the same way: `update` with the run as it now stands and its open asks, as often as anybody
likes. Progress goes to stderr, so that stdout holds the result alone; JSON lines are the result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from ..clock import Clock, SystemClock
from ..model.asks import Ask
from ..model.runs import Attempt, AttemptState, JournalEntry, Run, StageRun, StageState
from . import shapes
from .output import Output
from .text import clock_time, one_line
from .words import WAITS, doing, how_to_answer, phase, subject

_PASSING = frozenset({AttemptState.CREATED, AttemptState.SENT})
"""Told with -v only: they last as long as one call."""


class Progress(Protocol):
    """Shows a run as it goes on. A context manager: a live view needs the terminal given back."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def update(self, run: Run, asks: Sequence[Ask] = ()) -> None:
        """The run as it now stands, and what waits for an answer in it."""
        ...

    def note(self, entry: JournalEntry) -> None:
        """A new line of the run's history."""
        ...

    def ended(self, run: Run) -> None:
        """Nothing more is followed: the run is over, or waits for a person."""
        ...


def progress(
    output: Output, *, verbose: bool = False, clock: Clock | None = None, typed: Callable[[str], str] = str
) -> Progress:
    """The way of following that fits where the output goes. `typed` completes commands that are shown."""
    clock = clock or SystemClock()
    if output.json:
        return JsonProgress(output)
    if output.quiet:
        return LineProgress(lambda _line: None, clock)
    if sys.stderr.isatty() and not verbose:
        from .live import LiveProgress

        return LiveProgress(clock, typed=typed)
    return LineProgress(output.remark, clock, verbose=verbose, typed=typed)


class _Followed:
    """What was shown last, and what is new since."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self._asked: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return

    def new_asks(self, asks: Sequence[Ask]) -> list[Ask]:
        """Asks that were not told of before."""
        new = [ask for ask in asks if ask.id not in self._asked]
        self._asked |= {ask.id for ask in new}
        return new

    def gone_asks(self, asks: Sequence[Ask]) -> list[str]:
        """Asks that were told of and wait no more."""
        gone = sorted(self._asked - {ask.id for ask in asks})
        self._asked -= set(gone)
        return gone


class JsonProgress(_Followed):
    """`run.started`, then `run.changed`, `stage.changed`, `attempt.changed`, `ask.opened`, `ask.closed`.

    It ends with `run.finished`, which bears the whole run; `journal` lines come between where they are read.
    """

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def update(self, run: Run, asks: Sequence[Ask] = ()) -> None:
        """Emit what changed."""
        before, self.run = self.run, run
        emit = self._output.emit
        if before is None:
            emit("run.started", {"run": shapes.run_line(run)})
        elif (before.state, before.waiting_on) != (run.state, run.waiting_on):
            emit("run.changed", {"run": shapes.run_line(run)})
        for stage in changed_stages(before, run):
            emit("stage.changed", {"run": run.id, "stage": stage.name, **_without_attempts(stage)})
        for attempt in changed_attempts(before, run, tokens=True):
            emit("attempt.changed", {"run": run.id, "stage": attempt.stage, **shapes.attempt(attempt)})
        for ask in self.new_asks(asks):
            emit("ask.opened", {"ask": shapes.ask(ask)})
        for gone in self.gone_asks(asks):
            emit("ask.closed", {"run": run.id, "ask": gone})

    def ended(self, run: Run) -> None:
        """The last line, whatever the run's state."""
        self._output.emit("run.finished", {"run": shapes.whole_run(run)})

    def note(self, entry: JournalEntry) -> None:
        """One journal line."""
        self._output.emit("journal", shapes.journal(entry))


class LineProgress(_Followed):
    """One plain line for each change."""

    def __init__(
        self,
        say: Callable[[str], None],
        clock: Clock,
        *,
        verbose: bool = False,
        typed: Callable[[str], str] = str,
    ) -> None:
        super().__init__()
        self._typed = typed
        self._say = say
        self._clock = clock
        self._verbose = verbose

    def update(self, run: Run, asks: Sequence[Ask] = ()) -> None:
        """Say what changed."""
        before, self.run = self.run, run
        now = self._clock.now()
        if before is None:
            self._line(f"run {run.id} of {one_line(run.pipeline)} on {run.server}")
        # What ended first: what it made way for may be in the same snapshot.
        stages = list(changed_stages(before, run))
        for stage in (s for s in stages if s.state.final):
            told = doing(stage, now)
            self._line(f"{stage.name}: {stage.state}{f': {told}' if told else ''}")
        for attempt in changed_attempts(before, run):
            goes_on = not attempt.state.final and (self._verbose or attempt.state not in _PASSING)
            # Why there is another attempt; the last one's failure is the stage's, told with it.
            if goes_on or (attempt.failure and attempt is not run.stage(attempt.stage).attempts[-1]):
                self._line(f"{attempt.stage}: {_attempt_words(attempt, now)}")
        # What an attempt under way waits for, its own line says.
        for stage in (s for s in stages if s.state is StageState.WAITING and s.open_attempt is None):
            self._line(f"{stage.name}: {doing(stage, now)}")
        for ask in self.new_asks(asks):
            self._line(f"{ask.kind} {ask.id}: {subject(ask)}  ->  {self._typed(how_to_answer(ask))}")
        self.gone_asks(asks)

    def ended(self, run: Run) -> None:
        """The command itself says how it ended."""

    def note(self, entry: JournalEntry) -> None:
        """With -v the journal is told too."""
        if self._verbose:
            where = f"{entry.stage}: " if entry.stage else ""
            self._line(f"{where}{entry.kind}: {one_line(entry.what)}")

    def _line(self, text: str) -> None:
        self._say(f"{clock_time(self._clock.now())}  {text}")


def changed_stages(before: Run | None, after: Run) -> Iterator[StageRun]:
    """Stages whose standing is another than it was; at first only those that stand anywhere at all."""
    known = {stage.name: stage for stage in before.stages} if before is not None else {}
    for stage in after.stages:
        was = known.get(stage.name, StageRun(stage.name))
        if (was.state, was.waiting_on, was.failure) != (stage.state, stage.waiting_on, stage.failure):
            yield stage


def changed_attempts(before: Run | None, after: Run, *, tokens: bool = False) -> Iterator[Attempt]:
    """Attempts that went on since; with `tokens` also those that only used more."""
    known = {a.id: a for s in before.stages for a in s.attempts} if before is not None else {}
    for stage in after.stages:
        for attempt in stage.attempts:
            was = known.get(attempt.id)
            if (
                was is None
                or _standing(was) != _standing(attempt)
                or (tokens and was.tokens != attempt.tokens)
            ):
                yield attempt


def _standing(attempt: Attempt) -> tuple[object, ...]:
    return (attempt.state, attempt.waiting_on, attempt.failure, attempt.session, attempt.turn.number)


def _attempt_words(attempt: Attempt, now: int) -> str:
    if attempt.state.final:
        why = one_line(": ".join(filter(None, (attempt.failure, attempt.detail))))
        return f"attempt {attempt.number} {attempt.state}{f': {why}' if why else ''}"
    model = f" on {attempt.model}" if attempt.model else ""
    waits = f", {WAITS[attempt.waiting_on]}" if attempt.waiting_on and attempt.not_before <= now else ""
    after = f" after {attempt.repairs[-1]}" if attempt.repairs else ""
    again = f", message {attempt.turn.number}{after}" if attempt.turn.number > 1 else ""
    words = phase(attempt, now)
    return f"attempt {attempt.number}{model}{again} {words}" + (waits if waits.lstrip(", ") != words else "")


def _without_attempts(stage: StageRun) -> dict[str, object]:
    shape = shapes.stage(stage)
    del shape["attempts"]
    return shape

"""A decision in the making: the only mutable thing in this room, alive for the length of one `step`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..model.asks import Ask
from ..model.runs import Attempt, JournalEntry, JournalKind, Run, StageRun
from ..model.sessions import Json
from .facts import Decision, Effect, Facts
from .plan import Plan


class Draft:
    """Collects the new run, the effects, the journal and the earliest time to look again."""

    def __init__(self, run: Run, plan: Plan, facts: Facts) -> None:
        self.run = replace(run, wake_at=None)
        self.plan = plan
        self.facts = facts
        self._room = facts.room
        self._placed = {a.id for a in run.open_attempts if a.waiting_on is None}
        self._effects: list[Effect] = []
        self._entries: list[JournalEntry] = []
        self._asks: list[Ask] = []
        self._commands: list[int] = []

    def decision(self) -> Decision:
        """What was decided."""
        return Decision(
            self.run, tuple(self._effects), tuple(self._entries), tuple(self._asks), tuple(self._commands)
        )

    def stage(self, name: str) -> StageRun:
        """The stage as it now stands in the draft."""
        return self.run.stage(name)

    def open_attempt(self, stage: str) -> Attempt | None:
        """The stage's attempt under way, as it now stands."""
        return self.stage(stage).open_attempt

    def put_stage(self, stage: StageRun) -> None:
        """Replace a stage."""
        stages = tuple(stage if s.name == stage.name else s for s in self.run.stages)
        self.run = replace(self.run, stages=stages)

    def put(self, attempt: Attempt) -> None:
        """Replace an attempt, or add the next one."""
        stage = self.stage(attempt.stage)
        kept = tuple(a for a in stage.attempts if a.number < attempt.number)
        self.put_stage(replace(stage, attempts=(*kept, attempt)))

    def effect(self, effect: Effect) -> None:
        """Ask for something to be done once this decision is stored."""
        self._effects.append(effect)

    def take_room(self, attempt: Attempt) -> bool:
        """Whether this attempt may be begun now: in the place it had before, or in one that is left."""
        if attempt.id in self._placed:
            return True
        self._room -= 1
        return self._room >= 0

    def open_ask(self, ask: Ask) -> None:
        """Open an approval in the transaction of this decision."""
        self._asks.append(ask)

    def obeyed(self, command: int) -> None:
        """Mark a person's command as taken."""
        self._commands.append(command)

    def note(
        self,
        kind: JournalKind,
        what: str,
        attempt: Attempt | None = None,
        *,
        stage: str = "",
        facts: Mapping[str, Json] | None = None,
    ) -> None:
        """Add a journal row."""
        self._entries.append(
            JournalEntry(
                kind=kind,
                what=what,
                stage=attempt.stage if attempt else stage,
                attempt=attempt.number if attempt else 0,
                at=self.facts.now,
                data=facts or {},
            )
        )

    def wake(self, at: int) -> None:
        """Look again at this time at the latest (epoch ms)."""
        if self.run.wake_at is None or at < self.run.wake_at:
            self.run = replace(self.run, wake_at=at)

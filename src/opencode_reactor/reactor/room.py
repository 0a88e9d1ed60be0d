"""How many attempts may be under way at once on a server, and who waits for a place."""

from __future__ import annotations

from ..model.runs import Attempt, AttemptState, Run


class Room:
    """Places on one server, counted by what each run has begun: a restart begins with the true count."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, None] = {}

    def left(self, run: Run) -> int:
        """How many attempts this run may begin now."""
        others = sum(n for r, n in self._taken.items() if r != run.id)
        return max(0, self._places - others - _begun(run))

    def take(self, run: Run) -> list[str]:
        """Count the run as it was decided; returns the runs to look at because a place became free.

        Called in the same turn of the loop as `left` and the decision between: two runs never get one place.
        """
        before = sum(self._taken.values())
        begun = _begun(run)
        if begun:
            self._taken[run.id] = begun
        else:
            self._taken.pop(run.id, None)
        if any(not _has_place(a) for a in run.open_attempts):
            self._waiting[run.id] = None
        else:
            self._waiting.pop(run.id, None)
        if sum(self._taken.values()) >= before:
            return []
        # The run itself included: it decided before it knew of the place that its own end made free.
        freed, self._waiting = list(self._waiting), {}
        return freed


def _begun(run: Run) -> int:
    return sum(_has_place(a) for a in run.open_attempts)


def _has_place(attempt: Attempt) -> bool:
    """A planned attempt that waits for nothing is about to get its session: the machine gave it a place."""
    return attempt.state is not AttemptState.PLANNED or attempt.waiting_on is None

from __future__ import annotations

from dataclasses import replace

import pytest

from opencode_reactor.errors import Conflict, Fenced
from opencode_reactor.model.runs import Attempt, AttemptState, Lease, Run, StageRun, Turn, TurnKind
from opencode_reactor.store.driver import Statement
from opencode_reactor.store.units import adding, fence, fenced, saving

LEASE = Lease("s", "ada", 3, 0)
TURN = Turn(1, TurnKind.FIRST, "", "m", "p")
OLD = Attempt("r1", "a", 1, AttemptState.FAILED, TURN, 1)
NEW = Attempt("r1", "a", 2, AttemptState.PLANNED, TURN, 2)
RUN = Run("r1", "p", "s", "/", "{}", rev=4, stages=(StageRun("a", attempts=(OLD,)), StageRun("b")))


def names(unit: tuple[Statement, ...]) -> list[str]:
    return [statement.name for statement in unit]


def test_a_new_run_is_written_whole() -> None:
    assert names(adding(RUN, [])) == ["add_run", "put_stage", "put_attempt", "put_stage"]


def test_a_save_is_fenced_then_guarded() -> None:
    first, second = saving(RUN, replace(RUN, detail="x"), LEASE)
    assert first.expect is not None
    assert first.expect.error is Fenced
    assert second.expect is not None
    assert second.expect.error is Conflict
    assert second.params["rev"] == 4


def test_only_what_differs_is_written() -> None:
    grown = replace(RUN, stages=(replace(RUN.stages[0], attempts=(OLD, NEW)), RUN.stages[1]))
    assert names(saving(RUN, grown, LEASE))[2:] == ["put_attempt"]
    told = replace(RUN, stages=(RUN.stages[0], replace(RUN.stages[1], summary="x")))
    assert names(saving(RUN, told, LEASE))[2:] == ["put_stage"]
    more = replace(RUN, stages=(*RUN.stages, StageRun("c")))
    assert names(saving(RUN, more, LEASE))[2:] == ["put_stage"]


@pytest.mark.parametrize("name", ["id", "pipeline", "server", "directory", "spec"])
def test_what_identifies_a_run_never_changes(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} never changes"):
        saving(RUN, replace(RUN, **{name: "other"}), LEASE)  # pyright: ignore[reportArgumentType]


def test_a_lease_on_another_server_matches_no_row() -> None:
    assert fence(LEASE, "s").params == {"server": "s", "owner": "ada", "epoch": 3}
    assert fence(LEASE, "t").params["epoch"] == -1


def test_without_a_lease_nothing_is_fenced() -> None:
    statement = Statement("finish_delivery", {"id": 1})
    assert fenced(None, statement) == (statement,)
    assert fenced(LEASE, statement) == (fence(LEASE, "s"), statement)

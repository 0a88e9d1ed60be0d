from __future__ import annotations

import sys
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.model.runs import (
    Attempt,
    AttemptState,
    Command,
    CommandKind,
    JournalEntry,
    Lease,
    Run,
    StageRun,
    Turn,
    TurnKind,
)
from opencode_reactor.store.run_rows import (
    attempt_params,
    entry_params,
    read_attempt,
    read_command,
    read_entry,
    read_lease,
    read_run,
    read_runs,
    read_stage,
    run_params,
    stage_params,
)

numbers = st.floats(allow_nan=False)
leaves = st.none() | st.booleans() | st.integers() | numbers | st.text()
trees = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
objects = st.dictionaries(st.text(), trees, max_size=4)


def every_field(noun: type[Any], **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of all fields, those with defaults too: one that the rows forget does not come back."""
    names = vars(sys.modules[noun.__module__])
    # Annotations are read one by one: `Json` is recursive, and nobody can infer values of it.
    others = {f.name: st.from_type(eval(str(f.type), names)) for f in fields(noun) if f.name not in known}
    return st.builds(noun, **known, **others)


attempts = every_field(Attempt, output=trees, cost=numbers)
stages = every_field(StageRun, output=trees, attempts=st.just(()))


@given(attempts)
def test_every_attempt_comes_back_as_it_was(attempt: Attempt) -> None:
    assert read_attempt(attempt_params("s", attempt)) == attempt


@given(stages, st.integers())
def test_every_stage_comes_back_as_it_was(stage: StageRun, position: int) -> None:
    assert read_stage(stage_params("r1", position, stage), ()) == stage


@given(every_field(Run, inputs=objects, stages=st.just(())))
def test_every_run_comes_back_as_it_was(run: Run) -> None:
    assert read_run(run_params(run), ()) == run


@given(every_field(JournalEntry, data=objects))
def test_every_journal_entry_comes_back_with_its_epoch_and_place(entry: JournalEntry) -> None:
    row = {**entry_params("r1", 7, entry), "seq": 9}
    assert read_entry(row) == replace(entry, epoch=7, seq=9)


def test_stages_and_attempts_go_to_the_run_they_belong_to_in_their_order() -> None:
    turn = Turn(1, TurnKind.FIRST, "", "m", "p")

    def run(name: str) -> Run:
        tries = tuple(Attempt(name, "b", n, AttemptState.FAILED, turn, n) for n in (1, 2))
        return Run(name, "p", "s", "/", "{}", stages=(StageRun("b", attempts=tries), StageRun("a")))

    runs = [run("r2"), run("r1")]
    read = read_runs(
        [run_params(r) for r in runs],
        [stage_params(r.id, n, s) for r in reversed(runs) for n, s in enumerate(r.stages)],
        [attempt_params(r.server, a) for r in runs for s in r.stages for a in s.attempts],
    )
    assert read == runs


def test_commands_and_leases_are_read_from_their_rows() -> None:
    row = {"id": 1, "run": "r1", "kind": "cancel", "stage": "a", "issuer": "ada", "at": 2, "taken": None}
    assert read_command(row) == Command(1, "r1", CommandKind.CANCEL, "a", "ada", 2)
    lease = {"server": "s", "owner": "ada", "epoch": 3, "until": 4}
    assert read_lease(lease, 1.5) == Lease("s", "ada", 3, 4, 1.5)


def test_a_state_nobody_knows_is_no_run() -> None:
    row = run_params(Run("r1", "p", "s", "/", "{}"))
    with pytest.raises(ValueError, match="asleep"):
        read_run({**row, "state": "asleep"}, ())

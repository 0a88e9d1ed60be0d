"""Places on one server: counted by what runs have begun, and given to whoever waits when one is free."""

from __future__ import annotations

from opencode_reactor.model.runs import Attempt, AttemptState, Run, StageRun, Turn, TurnKind, WaitingOn
from opencode_reactor.reactor.room import Room

A = AttemptState


def attempt(stage: str, state: AttemptState, waiting_on: WaitingOn | None = None) -> Attempt:
    turn = Turn(1, TurnKind.FIRST, "Do it.", f"msg_{stage}", f"prt_{stage}")
    return Attempt("r", stage, 1, state, turn, 0, waiting_on=waiting_on)


def run(name: str, *attempts: Attempt) -> Run:
    return Run(
        name, "p", "http://s", "/p", "{}", stages=tuple(StageRun(a.stage, attempts=(a,)) for a in attempts)
    )


RUNNING = attempt("one", A.RUNNING)
WAITING = attempt("one", A.PLANNED, WaitingOn.BACKOFF)
OVER = attempt("one", A.SUCCEEDED)


def test_all_places_are_free_at_first() -> None:
    assert Room(3).left(run("a")) == 3


def test_what_others_and_the_run_itself_have_begun_takes_places() -> None:
    room = Room(3)
    room.take(run("a", RUNNING))
    assert room.left(run("b")) == 2
    assert room.left(run("b", RUNNING, attempt("two", A.CREATED))) == 0
    assert room.left(run("a", RUNNING)) == 2


def test_an_attempt_about_to_get_its_session_has_its_place_and_a_parked_one_has_none() -> None:
    room = Room(3)
    room.take(run("a", attempt("one", A.PLANNED), attempt("two", A.PLANNED, WaitingOn.PROVIDER)))
    assert room.left(run("b")) == 2


def test_a_run_counts_as_it_stands_now() -> None:
    room = Room(3)
    room.take(run("a", RUNNING, attempt("two", A.SENT)))
    room.take(run("a", RUNNING))
    assert room.left(run("b")) == 2
    room.take(run("a", OVER))
    assert room.left(run("b")) == 3


def test_fewer_places_than_are_taken_are_none() -> None:
    room = Room(1)
    for name in "abc":
        room.take(run(name, RUNNING))
    assert room.left(run("d")) == 0


def test_a_place_that_becomes_free_is_told_to_all_who_wait_once() -> None:
    room = Room(1)
    room.take(run("a", RUNNING))
    assert room.take(run("b", WAITING)) == []
    assert room.take(run("c", WAITING)) == []
    assert room.take(run("a", OVER)) == ["b", "c"]
    assert room.take(run("a", OVER)) == []


def test_a_run_whose_own_end_made_room_is_told_if_it_waits_itself() -> None:
    room = Room(1)
    room.take(run("a", RUNNING, attempt("two", A.PLANNED, WaitingOn.BACKOFF)))
    assert room.take(run("a", OVER, attempt("two", A.PLANNED, WaitingOn.BACKOFF))) == ["a"]


def test_who_no_longer_waits_is_not_told() -> None:
    room = Room(1)
    room.take(run("a", RUNNING))
    room.take(run("b", WAITING))
    room.take(run("b", attempt("one", A.CANCELLED)))
    assert room.take(run("a", OVER)) == []

from __future__ import annotations

from opencode_reactor.model.asks import Ask, AskKind, AskState, Closed, Reply
from opencode_reactor.store.words import ambiguous, standing, unknown


def test_an_unknown_name_is_answered_with_near_ones_and_where_to_look() -> None:
    error = unknown("run", "amber-fix", ["amber-fox", "teal-owl"], "reactor runs")
    assert str(error) == "no run is called 'amber-fix'\n  Did you mean amber-fox? `reactor runs` lists them."
    assert unknown("run", "x", [], "reactor runs").remedy == "`reactor runs` lists them."


def test_an_ambiguous_name_shows_at_most_five() -> None:
    error = ambiguous("ask", "a", [f"a{n}" for n in range(6)])
    assert error.message == "'a' is the beginning of several asks: a0, a1, a2, a3, a4, …"


def test_who_was_first_is_told_with_time_and_words() -> None:
    answered = Ask(
        "a1",
        AskKind.QUESTION,
        "s",
        "que_1",
        state=AskState.ANSWERED,
        answers=(("x", "y"), ("z",)),
        answered_by="person: ada",
        answered=0,
    )
    assert standing(answered) == "ask a1 was answered by person: ada at 1970-01-01 00:00:00 UTC: x, y; z"


def test_a_closed_ask_tells_how_it_was_closed_unless_it_was_answered() -> None:
    closed = Ask("a1", AskKind.PERMISSION, "s", "p", state=AskState.CLOSED, closed_as=Closed.FORGOTTEN)
    assert standing(closed) == "ask a1 was closed before (forgotten)"
    told = Ask(
        "a1",
        AskKind.PERMISSION,
        "s",
        "p",
        state=AskState.CLOSED,
        closed_as=Closed.DELIVERED,
        reply=Reply.ONCE,
        answered_by="expiry",
    )
    assert standing(told) == "ask a1 was answered by expiry before: once"

"""Asks that were heard of, for when the server cannot list them."""

from __future__ import annotations

from opencode_reactor.model.events import PermissionAsked, PermissionReplied, SessionIdle
from opencode_reactor.model.sessions import PermissionRequest
from opencode_reactor.reactor.hearing import LIMIT, Hearing


def asked(name: str, directory: str = "/p") -> PermissionAsked:
    request = PermissionRequest(name, "ses_1", "glob", ("*",))
    return PermissionAsked(session="ses_1", directory=directory, request=request)


def test_what_was_asked_is_kept_by_directory_until_its_answer_is_heard() -> None:
    hearing = Hearing()
    for event in (asked("per_1"), asked("per_2"), asked("per_3", "/other"), SessionIdle(session="ses_1")):
        hearing.note(event)
    assert [r.id for r in hearing.asked("/p")] == ["per_1", "per_2"]
    hearing.note(PermissionReplied(session="ses_1", request="per_1", reply="once"))
    assert [r.id for r in hearing.asked("/p")] == ["per_2"]
    assert hearing.answered("per_1")
    assert not hearing.answered("per_2")


def test_it_remembers_so_many_and_forgets_the_oldest() -> None:
    hearing = Hearing()
    for number in range(LIMIT + 5):
        hearing.note(asked(f"per_{number}"))
    kept = hearing.asked("/p")
    assert len(kept) == LIMIT
    assert kept[0].id == "per_5"

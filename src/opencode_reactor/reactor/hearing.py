"""What events told of asks: for the case in which the server's own list cannot be had.

1.18.33 answers `GET /permission` with 400 for as long as one entry lacks an optional value (`glob` without
`path`, `webfetch` without `timeout`), an aborted turn's included. Then what was heard is all there is.
"""

from __future__ import annotations

from collections import OrderedDict

from ..model import events as e
from ..model.sessions import Request

LIMIT = 10_000
"""Requests remembered; those of long ago are answered, or their sessions are idle."""


class Hearing:
    """Requests that were asked, and those that were answered, by anybody, since this reactor listens."""

    def __init__(self) -> None:
        self._asked: OrderedDict[str, tuple[str, Request]] = OrderedDict()
        self._answered: OrderedDict[str, None] = OrderedDict()

    def note(self, event: e.Event) -> None:
        """Remember what an event says of an ask."""
        match event:
            case e.PermissionAsked(request=request) | e.QuestionAsked(request=request):
                self._asked[request.id] = event.directory, request
            case (
                e.PermissionReplied(request=answered)
                | e.QuestionReplied(request=answered)
                | e.QuestionRejected(request=answered)
            ):
                self._asked.pop(answered, None)
                self._answered[answered] = None
            case _:
                pass
        for remembered in (self._asked, self._answered):
            if len(remembered) > LIMIT:
                remembered.popitem(last=False)

    def asked(self, directory: str) -> tuple[Request, ...]:
        """What was asked in this directory and not answered since."""
        return tuple(request for where, request in self._asked.values() if where == directory)

    def answered(self, request: str) -> bool:
        """Whether its answer was heard."""
        return request in self._answered

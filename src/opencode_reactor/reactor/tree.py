"""Which session belongs to whom: subagents have sessions of their own and ask under them."""

from __future__ import annotations

from collections import OrderedDict

from ..errors import NotFound
from ..model.sessions import Session
from ..opencode import Client

LIMIT = 50_000
"""Lineages kept in memory; older ones are asked for again. A parent never changes."""
DEPTH = 32
"""Subagents of subagents are followed this far; deeper lineages would be a loop."""


class SessionTree:
    """Lineage of one server's sessions, from events and, where those were missed, from the server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._parents: OrderedDict[str, str | None] = OrderedDict()

    def note(self, session: Session) -> None:
        """Remember a session's parent."""
        self._parents[session.id] = session.parent
        if len(self._parents) > LIMIT:
            self._parents.popitem(last=False)

    def known_root(self, session: str) -> str:
        """The top of the session's tree as far as it is known without asking."""
        for _ in range(DEPTH):
            parent = self._parents.get(session)
            if parent is None:
                return session
            session = parent
        return session

    async def root(self, directory: str, session: str) -> str:
        """The top of the session's tree; the server is asked for what no event told."""
        for _ in range(DEPTH):
            if session not in self._parents:
                try:
                    self.note(await self._client.session(directory, session))
                except NotFound:
                    return session
            parent = self._parents[session]
            if parent is None:
                return session
            session = parent
        return session

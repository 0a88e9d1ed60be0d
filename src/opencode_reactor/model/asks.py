"""An ask: a permission, a question or an approval that waits for an answer, durably."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .shared import Question


class AskKind(StrEnum):
    """What is asked for."""

    PERMISSION = "permission"
    QUESTION = "question"
    APPROVAL = "approval"


class AskState(StrEnum):
    """open: waits · answered: decided and stored, not yet told to the server · closed: over."""

    OPEN = "open"
    ANSWERED = "answered"
    CLOSED = "closed"


class Reply(StrEnum):
    """OpenCode's three answers to a permission. `always` holds for the server's whole directory."""

    ONCE = "once"
    ALWAYS = "always"
    REJECT = "reject"


class Closed(StrEnum):
    """How an ask ended."""

    DELIVERED = "delivered"
    """Our answer reached the server (an approval: was taken by its run)."""
    ELSEWHERE = "elsewhere"
    """Somebody answered it in OpenCode itself."""
    FORGOTTEN = "forgotten"
    """The server restarted, or the turn was aborted: nobody waits for the answer any more."""
    CANCELLED = "cancelled"
    """Its run ended."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One ask. `session` is who asks (perhaps a subagent), `root` the session at the top of its tree.

    `run`, `stage`, `attempt` are empty where no pipeline owns the session. Text in `title`, `detail`,
    `options` comes from a model: it is data, never markup.
    """

    id: str
    kind: AskKind
    server: str
    request: str
    directory: str = ""
    session: str = ""
    root: str = ""
    run: str = ""
    stage: str = ""
    attempt: int = 0
    title: str = ""
    detail: str = ""
    permission: str = ""
    patterns: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    state: AskState = AskState.OPEN
    reply: Reply | None = None
    answers: tuple[tuple[str, ...], ...] = ()
    message: str = ""
    answered_by: str = ""
    """`policy: RULE`, `handler: NAME`, `person: USER`, `expiry`."""
    answered: int | None = None
    opened: int = 0
    expires: int | None = None
    closed: int | None = None
    closed_as: Closed | None = None
    rev: int = 0

    @property
    def options(self) -> tuple[str, ...]:
        """What can be answered: the replies of a permission or approval, the labels of a single question."""
        if self.kind is AskKind.PERMISSION:
            return tuple(Reply)
        if self.kind is AskKind.APPROVAL:
            return (Reply.ONCE, Reply.REJECT)
        return tuple(o.label for q in self.questions[:1] for o in q.options)

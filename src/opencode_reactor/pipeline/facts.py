"""What the machine is told and what it answers: observations, results and effects, all of them values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ..model.asks import Ask
from ..model.runs import Command, JournalEntry, Run, Turn
from ..model.sessions import Catalog, Message, PermissionRule, Status


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found about an attempt's session.

    `status` is None where the session is absent from the status map. `exists` is False where the server does
    not know the session. `asks` are the open asks of its whole tree.
    """

    at: int
    status: Status | None = None
    messages: tuple[Message, ...] = ()
    asks: tuple[Ask, ...] = ()
    exists: bool = True


# What came of an effect. A call whose outcome is not known (no connection, a deadline) has no result: the
# engine looks again, and what is found decides.


@dataclass(frozen=True, slots=True)
class SessionMade:
    """The attempt's session exists. `fresh`: made just now, so nothing can be in it yet."""

    session: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class PromptTaken:
    """The server answered 204. That proves nothing yet."""

    at: int


@dataclass(frozen=True, slots=True)
class CallRefused:
    """The server refused the call for good (400, 404, 422), in its own words."""

    reason: str


@dataclass(frozen=True, slots=True)
class CheckRan:
    """One `check` command: exit code (None: killed at the deadline) and the end of its output."""

    command: str
    code: int | None
    output: str


@dataclass(frozen=True, slots=True)
class ChecksRan:
    """All `check` commands up to the first that failed."""

    checks: tuple[CheckRan, ...]


Result: TypeAlias = SessionMade | PromptTaken | CallRefused | ChecksRan


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything one decision is made from. Keys of `seen` and `results` are attempt ids.

    `approvals` are the answered approvals of this run by stage. `catalog` is None where it could not be had:
    then nothing is validated beforehand. `spread` in [0, 1) is this decision's randomness. `room` is how many
    attempts may be begun now.
    """

    now: int
    store_id: str
    seen: Mapping[str, Seen] = field(default_factory=dict[str, Seen])
    results: Mapping[str, Result] = field(default_factory=dict[str, Result])
    commands: tuple[Command, ...] = ()
    approvals: Mapping[str, Ask] = field(default_factory=dict[str, Ask])
    catalog: Catalog | None = None
    spread: float = 0.0
    room: int = 1_000_000


# Effects: what to do once the decision is stored. Each may be carried out again without harm.


@dataclass(frozen=True, slots=True)
class CreateSession:
    """Find the session of this title, or create it."""

    attempt: str
    title: str
    permissions: tuple[PermissionRule, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SendPrompt:
    """Send the turn's message with its ids."""

    attempt: str
    session: str
    turn: Turn


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop the session's turn."""

    attempt: str
    session: str


@dataclass(frozen=True, slots=True)
class RunChecks:
    """Run the stage's commands in the project directory, one after the other, until `deadline` (epoch ms)."""

    attempt: str
    commands: tuple[str, ...]
    deadline: int


@dataclass(frozen=True, slots=True)
class CloseApproval:
    """The run has taken the approval's answer."""

    ask: str


Effect: TypeAlias = CreateSession | SendPrompt | Abort | RunChecks | CloseApproval


@dataclass(frozen=True, slots=True)
class Decision:
    """The new run, what to do, what to write into the journal; all of it stored before any effect is tried.

    `commands` are the ids of the commands obeyed, `asks` approvals to open.
    """

    run: Run
    effects: tuple[Effect, ...] = ()
    entries: tuple[JournalEntry, ...] = ()
    asks: tuple[Ask, ...] = ()
    commands: tuple[int, ...] = ()

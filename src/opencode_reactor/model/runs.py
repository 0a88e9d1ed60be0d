"""A run, its stages and their attempts: what the engine decides about and the store keeps.

All frozen: a decision makes a new value, the store swaps it in if the old one still stands (`Run.rev`).
Times are epoch milliseconds by the store's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from .shared import NO_TOKENS, Json, ModelRef, Tokens


class RunState(StrEnum):
    """Where a run stands. The last three are final, though `retry` reopens a failed or cancelled one."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


class WaitingOn(StrEnum):
    """Why a run, stage or attempt waits. `person` means escalated: `reactor retry` or `reactor cancel`."""

    PENDING_PERMISSION = "pending_permission"
    PENDING_QUESTION = "pending_question"
    APPROVAL = "approval"
    PROVIDER = "provider"
    BACKOFF = "backoff"
    PERSON = "person"


class StageState(StrEnum):
    """Where a stage stands. `skipped`: its `when` was false, or a stage it needs did not succeed."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the stage is over."""
        return self not in {StageState.PENDING, StageState.RUNNING, StageState.WAITING}


class AttemptState(StrEnum):
    """How far an attempt is; each is stored before what it announces is done.

    planned: ids chosen, nothing sent · created: the session is known · sent: the prompt went out ·
    running: our message was seen in the session · checking: the answer passed, `check` commands run ·
    aborting: we asked the server to stop, `failure` says why · then one of the final three.
    """

    PLANNED = "planned"
    CREATED = "created"
    SENT = "sent"
    RUNNING = "running"
    CHECKING = "checking"
    ABORTING = "aborting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the attempt is over."""
        return self in {AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.CANCELLED}


class Failure(StrEnum):
    """Every way an attempt can fail, each with one row in the playbook. The first two are no errors."""

    PENDING_PERMISSION = "pending_permission"
    PENDING_QUESTION = "pending_question"
    OUTPUT_NOT_JSON = "assistant_output_not_json"
    OUTPUT_MISSING_TEXT = "assistant_output_missing_text_part"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    AUTH_FAILED = "auth_failed"
    CONTEXT_OVERFLOW = "context_overflow"
    INVALID_REQUEST = "invalid_request"
    INTERRUPTED = "interrupted"
    SERVER_LOST = "server_lost"
    PROMPT_LOST = "prompt_lost"
    CONTENT_FILTERED = "content_filtered"
    CHECK_FAILED = "check_failed"
    BUDGET_EXCEEDED = "budget_exceeded"
    UNKNOWN = "unknown"


class TurnKind(StrEnum):
    """Why a message was sent: the stage's prompt, or a follow-up in the same session."""

    FIRST = "first"
    REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of ours and its ids, chosen and stored before it is sent; re-sent only with the same ids.

    `number` counts from 1 within the attempt. `sent` and `seen` are None until then. `sends` counts how
    often it went out (more than once only where it was proved absent).
    """

    number: int
    kind: TurnKind
    prompt: str
    message: str
    part: str
    sent: int | None = None
    seen: int | None = None
    sends: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """One condition of the completion gate, as it was found. `check` names it, `fact` says what was seen."""

    check: str
    holds: bool
    fact: str
    at: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a stage, in a session of its own.

    `not_before` holds the start back (backoff). `deadline` is set when the first prompt was seen and moves by
    the time spent waiting for people. `repairs` names the failures already answered in this session.
    """

    run: str
    stage: str
    number: int
    state: AttemptState
    turn: Turn
    created: int
    model: ModelRef | None = None
    session: str | None = None
    not_before: int = 0
    started: int | None = None
    ended: int | None = None
    deadline: int | None = None
    waiting_on: WaitingOn | None = None
    waiting_since: int | None = None
    aborted: int | None = None
    quiet_since: int | None = None
    """Since when the session is idle without a finished answer; None where it is not."""
    retrying_since: int | None = None
    """Since when the server retries its provider; None where it does not."""
    failure: Failure | None = None
    detail: str = ""
    repairs: tuple[Failure, ...] = ()
    text: str = ""
    output: Json = None
    tokens: Tokens = NO_TOKENS
    cost: float = 0.0
    evidence: tuple[Evidence, ...] = ()

    @property
    def id(self) -> str:
        """Names this attempt everywhere: ids of its messages derive from it."""
        return f"{self.run}.{self.stage}.{self.number}"


@dataclass(frozen=True, slots=True)
class StageRun:
    """One stage of one run: `output` is the parsed contract, `summary` what later stages are told."""

    name: str
    state: StageState = StageState.PENDING
    waiting_on: WaitingOn | None = None
    failure: Failure | None = None
    detail: str = ""
    output: Json = None
    text: str = ""
    summary: str = ""
    started: int | None = None
    ended: int | None = None
    extra_attempts: int = 0
    """Attempts granted by `reactor retry` beyond the pipeline's own number."""
    attempts: tuple[Attempt, ...] = ()

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt under way, of which the store allows one."""
        last = self.attempts[-1] if self.attempts else None
        return None if last is None or last.state.final else last


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a pipeline on one server in one directory.

    `spec` is the pipeline as JSON with every file it names inlined: later edits do not change a run.
    `rev` counts the stored versions; a write names the one it was decided on.
    """

    id: str
    pipeline: str
    server: str
    directory: str
    spec: str
    inputs: Mapping[str, Json] = field(default_factory=dict[str, Json])
    state: RunState = RunState.QUEUED
    waiting_on: WaitingOn | None = None
    failure: Failure | None = None
    detail: str = ""
    created: int = 0
    updated: int = 0
    ended: int | None = None
    rev: int = 0
    wake_at: int | None = None
    """When the engine wants to look again at the latest; None: only on a hint."""
    stages: tuple[StageRun, ...] = ()

    def stage(self, name: str) -> StageRun:
        """The stage of that name. Raises KeyError."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    @property
    def open_attempts(self) -> tuple[Attempt, ...]:
        """Every attempt under way, at most one a stage."""
        return tuple(a for s in self.stages if (a := s.open_attempt) is not None)

    @property
    def tokens(self) -> Tokens:
        """Tokens of all attempts."""
        return sum((a.tokens for s in self.stages for a in s.attempts), NO_TOKENS)

    @property
    def cost(self) -> float:
        """Cost of all attempts, in the currency of the server's price list (US dollars)."""
        return sum(a.cost for s in self.stages for a in s.attempts)


Head: TypeAlias = tuple[Run, Tokens, float]
"""A run as a list has it: without its stages, with the tokens and the cost of all its attempts."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """What a reactor must know of every live run of its server: the id, and when it wants to wake."""

    id: str
    wake_at: int | None


class JournalKind(StrEnum):
    """What a journal row tells of."""

    SUBMITTED = "submitted"
    DECIDED = "decided"
    OBSERVED = "observed"
    EFFECT = "effect"
    COMMAND = "command"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of a run's history, written in the transaction of the change it tells of.

    `what` is a short sentence for people; `data` the facts behind it (evidence, verdict, effect).
    """

    kind: JournalKind
    what: str
    stage: str = ""
    attempt: int = 0
    at: int = 0
    data: Mapping[str, Json] = field(default_factory=dict[str, Json])
    seq: int = 0
    epoch: int = 0


class CommandKind(StrEnum):
    """What a person can tell a run."""

    CANCEL = "cancel"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Command:
    """A person's word to a run: stored before anybody acts on it, taken in the transaction that obeys it."""

    id: int
    run: str
    kind: CommandKind
    stage: str = ""
    by: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act on a server. `epoch` only grows; `until` is by the store's clock, for show.

    `expires` is by the holder's own monotonic clock, measured from *before* the renewal was sent, in seconds:
    what the holder judges its own right by.
    """

    server: str
    owner: str
    epoch: int
    until: int
    expires: float = 0.0

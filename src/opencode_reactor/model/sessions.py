"""OpenCode's nouns: sessions, messages, parts, asks, agents, models. Read from the wire by `opencode/`.

Times are epoch milliseconds, as on the wire. Only what this project reads is kept; unknown fields are
dropped when the wire is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from .shared import NO_TOKENS, Json, ModelRef, Question, Tokens
from .shared import Option as Option  # noqa: PLC0414  looked for here, beside Question


@dataclass(frozen=True, slots=True)
class PermissionRule:
    """One rule of a session's ruleset: the last match wins. `action` is `allow`, `ask` or `deny`."""

    permission: str
    pattern: str
    action: str


@dataclass(frozen=True, slots=True)
class Session:
    """A session. `parent` names the session that started it as a subagent; None for a root."""

    id: str
    directory: str
    title: str
    created: int
    updated: int
    parent: str | None = None
    version: str = ""
    metadata: Mapping[str, Json] = field(default_factory=dict[str, Json])


# A session's status. A session that is not in the status map is idle (or was never prompted).


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing runs. Sent as an event; in the status map idle sessions are simply absent."""


@dataclass(frozen=True, slots=True)
class Busy:
    """A turn runs, or waits for an answer to an ask."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """The provider failed and the server itself will try again at `next` (epoch ms).

    `message` is text for people: it carries no status code. `reason` is `free_tier_limit` or
    `account_rate_limit` where the server knows (1.18), else empty.
    """

    attempt: int
    message: str
    next: int
    reason: str = ""


Status: TypeAlias = Idle | Busy | Retrying


@dataclass(frozen=True, slots=True)
class MessageError:
    """The error on an assistant message or in `session.error`; names as in opencode-server 7.1.

    `status` is the provider's HTTP status where there was one; header names are lower case.
    """

    name: str
    message: str = ""
    status: int | None = None
    retryable: bool = False
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: str = ""


class ToolState(StrEnum):
    """How far a tool call is. After a server's death `pending` and `running` stay for ever."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text. `synthetic` text was put in by the server, `ignored` text is not shown to the model."""

    id: str
    session: str
    message: str
    text: str
    synthetic: bool = False
    ignored: bool = False
    compaction_continue: bool = False
    """The server put this text in to go on after a compaction (metadata of the same name, 1.2 and later)."""


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """The model's reasoning; never an answer."""

    id: str
    session: str
    message: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolPart:
    """A tool call. `input` is what the model asked for, `output` or `error` what came back."""

    id: str
    session: str
    message: str
    tool: str
    call: str
    state: ToolState
    title: str = ""
    input: Mapping[str, Json] = field(default_factory=dict[str, Json])
    output: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class StepStartPart:
    """A step (one call of the model) begins; text before the last of these is not the answer."""

    id: str
    session: str
    message: str


@dataclass(frozen=True, slots=True)
class StepFinishPart:
    """A step ended, with what it used."""

    id: str
    session: str
    message: str
    reason: str
    tokens: Tokens
    cost: float


@dataclass(frozen=True, slots=True)
class CompactionPart:
    """The user message that holds this asks for a compaction; `auto` where the server decided on it."""

    id: str
    session: str
    message: str
    auto: bool = False
    overflow: bool = False


@dataclass(frozen=True, slots=True)
class OtherPart:
    """A part of a type this package does not read (file, patch, snapshot, agent, subtask, …)."""

    id: str
    session: str
    message: str
    type: str


Part: TypeAlias = (
    TextPart | ReasoningPart | ToolPart | StepStartPart | StepFinishPart | CompactionPart | OtherPart
)


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A message to the model: a person's, ours, or the server's own (compaction, synthetic)."""

    id: str
    session: str
    created: int
    agent: str = ""
    model: ModelRef | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """An answer, or one step towards it. `parent` is the id of the user message it answers.

    `completed` is None while it is being written, and for ever if the server died meanwhile.
    `summary` marks the text of a compaction. `finish` is the model's own reason (`stop`, `tool-calls`,
    `length`, `content-filter`, …), None where there was none.
    """

    id: str
    session: str
    parent: str
    created: int
    completed: int | None = None
    finish: str | None = None
    summary: bool = False
    error: MessageError | None = None
    agent: str = ""
    model: ModelRef | None = None
    tokens: Tokens = NO_TOKENS
    cost: float = 0.0
    parts: tuple[Part, ...] = ()


Message: TypeAlias = UserMessage | AssistantMessage


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """What a tool wants to do. `patterns` is what it asks for, `always` what `always` would allow.

    `metadata` holds the tool's own details (bash: `command`, from 1.18).
    """

    id: str
    session: str
    permission: str
    patterns: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    metadata: Mapping[str, Json] = field(default_factory=dict[str, Json])
    message: str = ""
    call: str = ""


@dataclass(frozen=True, slots=True)
class QuestionRequest:
    """What the model asks; one answer (a list of labels) for each question."""

    id: str
    session: str
    questions: tuple[Question, ...]
    message: str = ""
    call: str = ""


Request: TypeAlias = PermissionRequest | QuestionRequest


@dataclass(frozen=True, slots=True)
class Todo:
    """One entry of the model's own list. `status` is `pending`, `in_progress`, `completed` or `cancelled`."""

    content: str
    status: str
    priority: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class FileDiff:
    """What a session changed in one file."""

    file: str
    additions: int = 0
    deletions: int = 0


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent the server offers. `mode` is `primary`, `subagent` or `all`."""

    name: str
    mode: str = "all"
    description: str = ""
    model: ModelRef | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model the server offers. `context` is its window in tokens, 0 where unknown."""

    ref: ModelRef
    name: str = ""
    context: int = 0
    output: int = 0
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a directory's server instance offers: agents, models, and the model used when none is named."""

    agents: tuple[Agent, ...] = ()
    models: tuple[Model, ...] = ()
    default: ModelRef | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """`GET /global/health`."""

    healthy: bool
    version: str

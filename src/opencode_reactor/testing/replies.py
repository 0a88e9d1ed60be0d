"""What a scripted model may answer: frozen values, each one way a real provider behaves.

Nothing here knows HTTP; how a reply looks on the wire stands in `completions`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..model.sessions import Json, Tokens
from .requests import ModelRequest

Finish: TypeAlias = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True)
class Says:
    """Text. It streams in `chunks` pieces with `delay` seconds before each.

    `tokens` is what the model claims to have used; a large enough input makes the server compact.
    """

    text: str
    chunks: int = 2
    delay: float = 0.0
    tokens: Tokens | None = None
    finish: Finish = "stop"


@dataclass(frozen=True, slots=True)
class SaysJson:
    """A JSON value as text, which is how contracts are answered."""

    value: Json
    tokens: Tokens | None = None

    @property
    def text(self) -> str:
        """The value as the model writes it."""
        return json.dumps(self.value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Reasons:
    """Reasoning and no text: complete, without an error, and still no answer."""

    text: str
    tokens: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Empty:
    """A completion with nothing in it."""

    tokens: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call. `arguments` is what the tool's own schema asks for."""

    tool: str
    arguments: Mapping[str, Json]


@dataclass(frozen=True, slots=True, init=False)
class Calls:
    """One or more tool calls in one completion, after `text` where there is some.

    The model is asked again with the tools' results; the rule's next reply answers that.
    """

    calls: tuple[Call, ...]
    text: str
    tokens: Tokens | None

    def __init__(self, *calls: Call, text: str = "", tokens: Tokens | None = None) -> None:
        object.__setattr__(self, "calls", calls)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "tokens", tokens)


@dataclass(frozen=True, slots=True)
class Fails:
    """An HTTP error. `body` replaces the provider's usual error object; headers as given (`retry-after`)."""

    status: int
    message: str = ""
    body: Json = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Overflow:
    """400 in the words by which OpenCode knows that the context is too long."""

    limit: int = 8192


@dataclass(frozen=True, slots=True)
class Stalls:
    """Says `after`, then nothing for `for_` seconds, then `then` and the end.

    With `for_=None` it waits until the caller gives up. With `silent` not even the response's headers come
    before the wait is over.
    """

    after: str = ""
    for_: float | None = None
    then: str = ""
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Cuts:
    """Says `after`, then the connection is gone: by a reset, or with `reset=False` by a plain close."""

    after: str = ""
    reset: bool = True


Reply: TypeAlias = Says | SaysJson | Reasons | Empty | Calls | Fails | Overflow | Stalls | Cuts
Answer: TypeAlias = Reply | Callable[[ModelRequest], Reply]
"""A reply, or a function that makes one from the request."""


def bash(command: str, *, description: str = "Run a command") -> Call:
    """Call OpenCode's `bash` tool, which asks for permission where the rules say so."""
    return Call("bash", {"command": command, "description": description})


def question(text: str, *labels: str, header: str = "Question", multiple: bool = False) -> Call:
    """Call OpenCode's `question` tool with one question that offers `labels`."""
    options: list[Json] = [{"label": label, "description": label} for label in labels]
    asked: dict[str, Json] = {"question": text, "header": header, "options": options, "multiple": multiple}
    return Call("question", {"questions": [asked]})


def task(prompt: str, *, description: str = "Sub-task", agent: str = "general") -> Call:
    """Call OpenCode's `task` tool: a child session in which `agent` is given `prompt`."""
    return Call("task", {"description": description, "prompt": prompt, "subagent_type": agent})

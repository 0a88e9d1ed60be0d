"""What a model was asked: one chat completion request, read into a frozen value.

OpenCode's own side calls (title, summary, compaction) are told apart here, by their system prompts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from ..model.sessions import Json


class Side(StrEnum):
    """A call OpenCode makes beside the conversation."""

    TITLE = "title"
    SUMMARY = "summary"
    COMPACTION = "compaction"


# Words of the system prompts. 1.1.65 asks for the first three (a message's own summary is a title there),
# 1.18.33 for the first and the last.
_SIDE_WORDS = (
    ("You are a title generator", Side.TITLE),
    ("Summarize what was done in this conversation", Side.SUMMARY),
    ("tasked with summarizing conversations", Side.COMPACTION),
    ("context summarization agent", Side.COMPACTION),
)

_DIRECTORY = re.compile(r"^\s*Working directory: (.+?)\s*$", re.MULTILINE)

CONTINUATION = "Continue if you have next steps"
"""How the prompt begins that the server itself puts in after it compacted a turn in the middle."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request, in the order it came in: `number` counts from 1, `at` is epoch ms.

    `prompt` is the last user message's text, `rule` the name of the rule that answered. `messages` are
    those after the system prompt, as on the wire. `directory` is read from OpenCode's system prompt.
    `headers` have lower-case names and no login.
    """

    number: int
    at: int
    model: str
    system: str
    prompt: str
    messages: tuple[Mapping[str, Json], ...]
    tools: tuple[str, ...]
    stream: bool
    side: Side | None
    directory: str
    headers: Mapping[str, str]
    rule: str = ""

    @property
    def after_tool(self) -> bool:
        """Whether the last thing said is a tool's result."""
        return bool(self.messages) and self.messages[-1].get("role") == "tool"

    @property
    def session(self) -> str:
        """The session that asks, where the server says so (1.18 and its near neighbours), else empty."""
        return self.headers.get("x-session-id", "")

    @property
    def said(self) -> str:
        """Everything that users said in this conversation, one message a paragraph."""
        return "\n\n".join(_text(message) for message in self.messages if message.get("role") == "user")


def read_request(number: int, at: int, body: Mapping[str, Json], headers: Mapping[str, str]) -> ModelRequest:
    """Read a request's JSON object. What is absent or of another shape counts as empty."""
    messages = _objects(body.get("messages"))
    system = "\n".join(_text(message) for message in messages if message.get("role") == "system")
    spoken = tuple(message for message in messages if message.get("role") != "system")
    users = [_text(message) for message in spoken if message.get("role") == "user"]
    found = _DIRECTORY.search(system)
    return ModelRequest(
        number=number,
        at=at,
        model=str(body.get("model", "")),
        system=system,
        prompt=users[-1] if users else "",
        messages=spoken,
        tools=tuple(_tool_name(tool) for tool in _objects(body.get("tools"))),
        stream=body.get("stream") is True,
        side=_side(system),
        directory=found.group(1) if found else "",
        headers={name: value for name, value in headers.items() if name != "authorization"},
    )


def _side(system: str) -> Side | None:
    return next((side for words, side in _SIDE_WORDS if words in system), None)


def _objects(value: Json) -> list[Mapping[str, Json]]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return []
    return [cast("Mapping[str, Json]", item) for item in value if isinstance(item, Mapping)]


def _text(message: Mapping[str, Json]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in _objects(content) if part.get("type") == "text")


def _tool_name(tool: Mapping[str, Json]) -> str:
    function = tool.get("function")
    return str(function.get("name", "")) if isinstance(function, Mapping) else ""

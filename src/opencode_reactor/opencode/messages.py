"""The shapes of messages, their parts and their errors on the wire, folded into frozen nouns.

Rules of reading: as in `shapes`. A part of a type nobody knows, or one that lacks what its type promises, is
an `OtherPart`: a message is never lost for one of its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, OnErrorOmit, ValidationError

from ..model.sessions import (
    AssistantMessage,
    CompactionPart,
    Message,
    MessageError,
    ModelRef,
    OtherPart,
    Part,
    ReasoningPart,
    StepFinishPart,
    StepStartPart,
    TextPart,
    Tokens,
    ToolPart,
    ToolState,
    UserMessage,
)
from .shapes import (
    Count,
    Else,
    Flag,
    Id,
    MaybeCount,
    MaybeModelRef,
    MaybeText,
    Money,
    Shape,
    Text,
    Times,
    Tree,
)


class ErrorDetailsShape(Shape):
    """What an error says about itself."""

    message: Text
    status: MaybeCount = Field(alias="statusCode")
    retryable: Flag = Field(alias="isRetryable")
    headers: Annotated[dict[str, OnErrorOmit[str]], Else({})] = Field(alias="responseHeaders")
    body: Text = Field(alias="responseBody")


_NO_DETAILS = ErrorDetailsShape.model_validate({})


class ErrorShape(Shape):
    """An error of a turn."""

    name: str
    details: Annotated[ErrorDetailsShape, Else(_NO_DETAILS)] = Field(alias="data")

    def noun(self) -> MessageError:
        """The error; header names in lower case."""
        return MessageError(
            name=self.name,
            message=self.details.message,
            status=self.details.status,
            retryable=self.details.retryable,
            headers={name.lower(): value for name, value in self.details.headers.items()},
            body=self.details.body,
        )


MaybeError = Annotated[ErrorShape | None, Else(None)]


class CacheShape(Shape):
    """Cached tokens."""

    read: Count
    write: Count


_NO_CACHE = CacheShape.model_validate({})


class TokensShape(Shape):
    """Token counts."""

    input: Count
    output: Count
    reasoning: Count
    cache: Annotated[CacheShape, Else(_NO_CACHE)]

    def noun(self) -> Tokens:
        """The counts."""
        return Tokens(self.input, self.output, self.reasoning, self.cache.read, self.cache.write)


_NO_TOKENS = TokensShape.model_validate({})
TokensField = Annotated[TokensShape, Else(_NO_TOKENS)]


class UserShape(Shape):
    """A user message's head."""

    role: Literal["user"]
    id: Id
    session: Id = Field(alias="sessionID")
    time: Times
    agent: Text
    model: MaybeModelRef

    def noun(self) -> UserMessage:
        """The message, without its parts."""
        model = self.model.noun() if self.model else None
        return UserMessage(self.id, self.session, self.time.created, self.agent, model)


class AssistantShape(Shape):
    """An assistant message's head."""

    role: Literal["assistant"]
    id: Id
    session: Id = Field(alias="sessionID")
    parent: Text = Field(alias="parentID")
    time: Times
    finish: MaybeText
    summary: Flag
    error: MaybeError
    agent: Text
    mode: Text
    provider: Text = Field(alias="providerID")
    model: Text = Field(alias="modelID")
    tokens: TokensField
    cost: Money

    def noun(self) -> AssistantMessage:
        """The message, without its parts."""
        return AssistantMessage(
            id=self.id,
            session=self.session,
            parent=self.parent,
            created=self.time.created,
            completed=self.time.completed,
            finish=self.finish or None,
            summary=self.summary,
            error=self.error.noun() if self.error else None,
            agent=self.agent or self.mode,
            model=ModelRef(self.provider, self.model) if self.provider and self.model else None,
            tokens=self.tokens.noun(),
            cost=self.cost,
        )


def head_from_wire(value: Any) -> Message:
    """A message from its `info`, without parts. Raises pydantic's ValidationError."""
    if isinstance(value, Mapping) and value.get("role") == "user":  # pyright: ignore[reportUnknownMemberType]
        return UserShape.model_validate(value).noun()
    return AssistantShape.model_validate(value).noun()


class PartShape(Shape):
    """What every part has."""

    id: Id
    session: Id = Field(alias="sessionID")
    message: Id = Field(alias="messageID")
    type: str

    def noun(self) -> Part:
        """The part, as far as it is read."""
        return OtherPart(self.id, self.session, self.message, self.type)


class TextMarksShape(Shape):
    """What the server notes on a text of its own."""

    compaction_continue: Flag


_NO_MARKS = TextMarksShape.model_validate({})


class TextPartShape(PartShape):
    """Text."""

    text: str
    synthetic: Flag
    ignored: Flag
    marks: Annotated[TextMarksShape, Else(_NO_MARKS)] = Field(alias="metadata")

    def noun(self) -> Part:
        """The part."""
        return TextPart(
            self.id,
            self.session,
            self.message,
            self.text,
            self.synthetic,
            self.ignored,
            self.marks.compaction_continue,
        )


class ReasoningPartShape(PartShape):
    """Reasoning."""

    text: str

    def noun(self) -> Part:
        """The part."""
        return ReasoningPart(self.id, self.session, self.message, self.text)


class ToolStateShape(Shape):
    """How far a tool call is."""

    status: ToolState
    input: Tree
    title: Text
    output: Text
    error: Text


class ToolPartShape(PartShape):
    """A tool call."""

    tool: Text
    call: Text = Field(alias="callID")
    state: ToolStateShape

    def noun(self) -> Part:
        """The part."""
        return ToolPart(
            id=self.id,
            session=self.session,
            message=self.message,
            tool=self.tool,
            call=self.call,
            state=self.state.status,
            title=self.state.title,
            input=self.state.input,
            output=self.state.output,
            error=self.state.error,
        )


class StepStartPartShape(PartShape):
    """A step begins."""

    def noun(self) -> Part:
        """The part."""
        return StepStartPart(self.id, self.session, self.message)


class StepFinishPartShape(PartShape):
    """A step ended."""

    reason: Text
    tokens: TokensField
    cost: Money

    def noun(self) -> Part:
        """The part."""
        return StepFinishPart(self.id, self.session, self.message, self.reason, self.tokens.noun(), self.cost)


class CompactionPartShape(PartShape):
    """A compaction is asked for."""

    auto: Flag
    overflow: Flag

    def noun(self) -> Part:
        """The part."""
        return CompactionPart(self.id, self.session, self.message, self.auto, self.overflow)


_PARTS: Mapping[str, type[PartShape]] = {
    "text": TextPartShape,
    "reasoning": ReasoningPartShape,
    "tool": ToolPartShape,
    "step-start": StepStartPartShape,
    "step-finish": StepFinishPartShape,
    "compaction": CompactionPartShape,
}


def part_from_wire(value: Any) -> Part:
    """A part. Raises pydantic's ValidationError where it does not even say what it belongs to."""
    bare = PartShape.model_validate(value)
    try:
        return _PARTS.get(bare.type, PartShape).model_validate(value).noun()
    except ValidationError:
        return bare.noun()


class WholeMessageShape(Shape):
    """A message with its parts, as the routes answer it."""

    info: dict[str, Any]
    parts: tuple[Any, ...]


def message_from_wire(value: Any) -> Message:
    """A message with its parts. Raises pydantic's ValidationError."""
    whole = WholeMessageShape.model_validate(value)
    return replace(head_from_wire(whole.info), parts=tuple(_readable(whole.parts)))


def _readable(parts: Iterable[Any]) -> Iterator[Part]:
    for part in parts:
        with suppress(ValidationError):
            yield part_from_wire(part)

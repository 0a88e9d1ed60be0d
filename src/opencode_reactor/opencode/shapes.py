"""The shapes of OpenCode's nouns on the wire, each with its way into the frozen noun of `model/sessions.py`.

A field that cannot be read counts as absent and gets its default; only what identifies a thing must be there,
else pydantic's ValidationError (which stays in this room). Unknown fields are dropped. Where they are
described: opencode-server 2.9 and 7.1, and the answers of 1.1.65 and 1.18.33.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, OnErrorOmit
from pydantic_core import CoreSchema, core_schema

from ..model.sessions import (
    Agent,
    Busy,
    FileDiff,
    Health,
    Idle,
    Model,
    ModelRef,
    Option,
    PermissionRequest,
    Question,
    QuestionRequest,
    Retrying,
    Session,
    Status,
    Todo,
)


@dataclass(frozen=True, slots=True)
class Else:
    """What a field is where it is absent, null or of a wrong type."""

    value: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Decided in pydantic's core: no Python code runs for each field."""
        return core_schema.with_default_schema(handler(source), default=self.value, on_error="default")


Text = Annotated[str, Else("")]
MaybeText = Annotated[str | None, Else(None)]
Flag = Annotated[bool, Else(False)]
# Within what a database column and a double hold: nothing real is larger.
Count = Annotated[int, Field(ge=0, le=2**53), Else(0)]
MaybeCount = Annotated[int | None, Field(ge=0, le=2**53), Else(None)]
Money = Annotated[float, Field(allow_inf_nan=False), Else(0.0)]
Texts = Annotated[tuple[OnErrorOmit[str], ...], Else(())]
Tree = Annotated[dict[str, Any], Else({})]
Id = Annotated[str, Field(min_length=1, max_length=256)]


class Shape(BaseModel):
    """Any object on the wire."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class TimesShape(Shape):
    """Epoch milliseconds."""

    created: Count
    updated: Count
    completed: MaybeCount


_NO_TIMES = TimesShape.model_validate({})
Times = Annotated[TimesShape, Else(_NO_TIMES)]


class SessionShape(Shape):
    """A session."""

    id: Id
    directory: Text
    title: Text
    version: Text
    parent: MaybeText = Field(alias="parentID")
    metadata: Tree
    time: Times

    def noun(self) -> Session:
        """The session."""
        return Session(
            id=self.id,
            directory=self.directory,
            title=self.title,
            created=self.time.created,
            updated=self.time.updated,
            parent=self.parent or None,
            version=self.version,
            metadata=self.metadata,
        )


class ActionShape(Shape):
    """Why the server retries, where it knows (1.18)."""

    reason: Text


class StatusShape(Shape):
    """A session's status. A type nobody knows is taken for busy: something runs."""

    type: str
    attempt: Count
    message: Text
    next: Count
    action: Annotated[ActionShape | None, Else(None)]

    def noun(self) -> Status:
        """The status."""
        if self.type == "idle":
            return Idle()
        if self.type == "retry":
            reason = self.action.reason if self.action else ""
            return Retrying(self.attempt, self.message, self.next, reason)
        return Busy()


class ModelRefShape(Shape):
    """A model's name; a session's own has `id` where a message's has `modelID`."""

    provider: Id = Field(alias="providerID")
    model: Id = Field(alias="modelID")

    def noun(self) -> ModelRef:
        """The model's name."""
        return ModelRef(self.provider, self.model)


MaybeModelRef = Annotated[ModelRefShape | None, Else(None)]


class ToolRefShape(Shape):
    """The tool call that an ask belongs to."""

    message: Text = Field(alias="messageID")
    call: Text = Field(alias="callID")


_NO_TOOL = ToolRefShape.model_validate({})
ToolRef = Annotated[ToolRefShape, Else(_NO_TOOL)]


class PermissionShape(Shape):
    """A permission that is asked for (1.1 and later)."""

    id: Id
    session: Id = Field(alias="sessionID")
    permission: Id
    patterns: Texts
    always: Texts
    metadata: Tree
    tool: ToolRef

    def noun(self) -> PermissionRequest:
        """The request."""
        return PermissionRequest(
            self.id,
            self.session,
            self.permission,
            self.patterns,
            self.always,
            self.metadata,
            self.tool.message,
            self.tool.call,
        )


class OldPermissionShape(Shape):
    """The same under its older name, `permission.updated` (1.0)."""

    id: Id
    session: Id = Field(alias="sessionID")
    type: Id
    pattern: Annotated[str | tuple[str, ...] | None, Else(None)]
    message: Text = Field(alias="messageID")
    call: Text = Field(alias="callID")
    title: Text
    metadata: Tree

    def noun(self) -> PermissionRequest:
        """The request; what it showed as its title stands in the metadata, where nothing else does."""
        patterns = (self.pattern,) if isinstance(self.pattern, str) else self.pattern or ()
        metadata = {"title": self.title, **self.metadata} if self.title else self.metadata
        return PermissionRequest(
            self.id, self.session, self.type, patterns, (), metadata, self.message, self.call
        )


class OptionShape(Shape):
    """One answer that is offered."""

    label: str
    description: Text


class QuestionShape(Shape):
    """One question."""

    question: str
    header: Text
    options: Annotated[tuple[OnErrorOmit[OptionShape], ...], Else(())]
    multiple: Flag
    custom: Annotated[bool, Else(True)]

    def noun(self) -> Question:
        """The question."""
        options = tuple(Option(o.label, o.description) for o in self.options)
        return Question(self.question, self.header, options, self.multiple, self.custom)


class QuestionRequestShape(Shape):
    """What the model asks. Each question must be readable: an answer is given for every one of them."""

    id: Id
    session: Id = Field(alias="sessionID")
    questions: tuple[QuestionShape, ...]
    tool: ToolRef

    def noun(self) -> QuestionRequest:
        """The request."""
        questions = tuple(q.noun() for q in self.questions)
        return QuestionRequest(self.id, self.session, questions, self.tool.message, self.tool.call)


class TodoShape(Shape):
    """One entry of the model's list. It has no id from 1.14 on."""

    content: str
    status: Text
    priority: Text
    id: Text

    def noun(self) -> Todo:
        """The entry."""
        return Todo(self.content, self.status, self.priority, self.id)


class FileDiffShape(Shape):
    """What changed in one file."""

    file: str
    additions: Count
    deletions: Count

    def noun(self) -> FileDiff:
        """The change."""
        return FileDiff(self.file, self.additions, self.deletions)


class AgentShape(Shape):
    """An agent."""

    name: Id
    mode: Annotated[str, Else("all")]
    description: Text
    model: MaybeModelRef

    def noun(self) -> Agent:
        """The agent."""
        model = self.model.noun() if self.model else None
        return Agent(self.name, self.mode, self.description, model)


class LimitShape(Shape):
    """A model's limits in tokens."""

    context: Count
    output: Count


_NO_LIMIT = LimitShape.model_validate({})


class ModelShape(Shape):
    """A model."""

    name: Text
    limit: Annotated[LimitShape, Else(_NO_LIMIT)]
    variants: Tree

    def noun(self, provider: str, model: str) -> Model:
        """The model, under the name by which a prompt asks for it."""
        ref = ModelRef(provider, model)
        return Model(ref, self.name, self.limit.context, self.limit.output, tuple(self.variants))


class ProviderShape(Shape):
    """A provider with its models."""

    id: Id
    models: Annotated[dict[str, OnErrorOmit[ModelShape]], Else({})]


class ProvidersShape(Shape):
    """`GET /config/providers`."""

    providers: tuple[OnErrorOmit[ProviderShape], ...]
    default: Annotated[dict[str, OnErrorOmit[str]], Else({})]

    def models(self) -> tuple[Model, ...]:
        """Every model of every provider."""
        return tuple(m.noun(p.id, name) for p in self.providers for name, m in p.models.items())


class HealthShape(Shape):
    """`GET /global/health`."""

    healthy: bool
    version: str

    def noun(self) -> Health:
        """The answer."""
        return Health(self.healthy, self.version)

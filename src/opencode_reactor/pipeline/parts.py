"""The parts of a pipeline as people write them, in YAML or in Python: names, shapes and words for editors.

Only what can be said of one key alone is checked here; what keys mean to each other is `review.py`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from ..model.runs import Failure
from ..model.sessions import ModelRef
from .plan import Action, Answer
from .problems import in_python, is_mapping, kind, refusal, structural

COLLECT = object()
"""The context of a validation whose caller wants pydantic's own findings, to give each its line."""

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AMOUNT = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)")
_LONGEST = 366 * _UNITS["d"]


def milliseconds(value: object) -> int:
    """A duration as people write it: `20m`, `1h30m`, `500ms`, or a number of seconds. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"a duration is text like 20m or a number of seconds, not {kind(value)}")  # noqa: TRY004
    if isinstance(value, str):
        text = value.replace(" ", "")
        amounts = _AMOUNT.findall(text)
        if not text or "".join(number + unit for number, unit in amounts) != text:
            raise ValueError(f"{value!r} is no duration: write 20m, 90s, 1h30m, 500ms or a number of seconds")
        total = sum(float(number) * _UNITS[unit] for number, unit in amounts)
    else:
        total = float(value) * 1000
    if not 0 <= total <= _LONGEST:  # false for NaN too
        raise ValueError(f"{value!r} is no duration: it lies between 0 and 366 days")
    return round(total)


def _duration(value: object) -> object:
    milliseconds(value)
    return value


def _model(value: str) -> str:
    ModelRef.parse(value)
    return value


def _json(value: object) -> Any:
    """The value as JSON would have it: tuples become lists, what is no JSON is refused."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"this cannot be written as JSON: {error}") from error


def _schema_or_path(value: object) -> Any:
    if isinstance(value, str) or is_mapping(value):
        return _json(value)
    raise ValueError(f"output is a JSON Schema or the path of one, not {kind(value)}")


def _commands(value: object) -> object:
    commands: object = (value,) if isinstance(value, str) else value
    if isinstance(commands, (list, tuple)):
        listed = tuple(cast("Sequence[object]", commands))
        if all(isinstance(command, str) and command.strip() for command in listed):
            return listed
    raise ValueError("check is a command or a list of commands, each of them text")


def _condition(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise ValueError(f"when is an expression in text, not {kind(value)}")  # noqa: TRY004
    return value


_DURATION: Mapping[str, Any] = {
    "anyOf": [
        {"type": "string", "examples": ["20m", "90s", "1h30m", "500ms"]},
        {"type": "number", "minimum": 0},
    ]
}
_ACTION: Mapping[str, Any] = {"type": "string", "enum": [str(a) for a in Action]}
_RULES: Mapping[str, Any] = {
    "anyOf": [
        _ACTION,
        {
            "type": "object",
            "additionalProperties": {"anyOf": [_ACTION, {"type": "object", "additionalProperties": _ACTION}]},
        },
    ]
}
_ANSWER: Mapping[str, Any] = {"type": "string", "enum": [str(a) for a in Answer]}
_PLAYBOOK: Mapping[str, Any] = {
    "type": "object",
    "propertyNames": {"enum": [str(f) for f in Failure]},
    "additionalProperties": {"anyOf": [_ANSWER, {"type": "array", "items": _ANSWER, "minItems": 1}]},
}
_TEXTS: Mapping[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_SCHEMA: Mapping[str, Any] = {"anyOf": [{"type": "object"}, {"type": "string"}]}
_WHEN: Mapping[str, Any] = {"anyOf": [{"type": "string"}, {"type": "boolean"}]}

Duration: TypeAlias = Annotated[str | float, PlainValidator(_duration), WithJsonSchema(dict(_DURATION))]
ModelName: TypeAlias = Annotated[str, AfterValidator(_model), Field(examples=["openai/gpt-5.3-codex"])]
Models: TypeAlias = Annotated[Sequence[ModelName], AfterValidator(tuple)]
Word: TypeAlias = Annotated[str, Field(min_length=1)]
Rules: TypeAlias = Annotated[
    Mapping[str, str | Mapping[str, str]] | str, PlainValidator(_json), WithJsonSchema(dict(_RULES))
]
Playbook: TypeAlias = Annotated[
    Mapping[str, Sequence[str] | str], PlainValidator(_json), WithJsonSchema(dict(_PLAYBOOK))
]
AskOrReject: TypeAlias = Literal["ask", "reject"]
Tries: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=100)]


class Part(BaseModel):
    """A frozen part of a pipeline. Made wrongly in Python, it raises PipelineError with every problem."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_words(
        cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            if info.context is COLLECT:
                raise
            found = structural(error, cls)
            raise refusal(in_python(found, cls.__name__)) from error


class Input(Part):
    """A value a run is started with. Without a default it must be given."""

    description: str | None = None
    """What it is for, for whoever starts a run."""
    type: Literal["string", "number", "integer", "boolean", "json"] | None = None
    """What text from a shell is read as; left out: as the default's own type, else text."""
    default: Annotated[JsonValue, PlainValidator(_json), WithJsonSchema({})] = None
    """The value where none is given; left out: the input is required."""

    @property
    def required(self) -> bool:
        """Whether a run must be given this."""
        return "default" not in self.model_fields_set


class Spending(Part):
    """Upper bounds of what may be used; left out: unbounded. What is exceeded is aborted."""

    tokens: Annotated[int, Field(strict=True, gt=0)] | None = None
    """Tokens, cached ones included."""
    cost: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None
    """US dollars, as the server counts them."""


class Defaults(Part):
    """What the stages of a pipeline have in common."""

    agent: Word | None = None
    """OpenCode's agent; left out: the server's default."""
    model: ModelName | None = None
    """provider/model; left out: the server's default."""
    fallback_models: Models | None = None
    """Models to take in turn where a provider stays away too long, or a window is too small."""
    variant: Word | None = None
    """The model's variant (its reasoning effort)."""
    timeout: Duration | None = None
    """How long one attempt may take, time spent waiting for people aside; 20m if nobody says."""
    patience: Duration | None = None
    """How long to wait for a provider before the next fallback model is taken; 2m if nobody says."""
    attempts: Tries | None = None
    """How many attempts a stage has; 3 if nobody says."""
    budget: Spending | None = None
    """Upper bounds for one stage, all its attempts together."""


class Stage(Defaults):
    """One step: a prompt in a session of its own, or an approval by a person."""

    name: str
    """What the stage is called in templates (`stages.NAME`), titles and reports."""
    needs: Annotated[Sequence[str], AfterValidator(tuple)] | None = None
    """The stages whose success this one waits for; left out: the stage before it; []: starts at once."""
    prompt: str | None = None
    """The prompt, a Jinja2 template: `inputs`, `run`, and `stages` of those that come before."""
    prompt_file: str | None = None
    """The file that holds the prompt, relative to the pipeline's own."""
    approve: str | None = None
    """Instead of a prompt: what a person is asked to approve, a template too."""
    when: Annotated[str, PlainValidator(_condition), WithJsonSchema(dict(_WHEN))] | None = None
    """An expression; where it is false the stage is skipped."""
    permissions: Rules | None = None
    """Permission rules behind the pipeline's own; the last that matches decides."""
    questions: AskOrReject | None = None
    """Whether the model's questions are put to a person or refused."""
    output: (
        Annotated[
            Mapping[str, JsonValue] | str, PlainValidator(_schema_or_path), WithJsonSchema(dict(_SCHEMA))
        ]
        | None
    ) = None
    """The contract: the JSON Schema the answer must satisfy, or the path of its file."""
    summary: str | None = None
    """A template of `output` and `text`: what later stages are told; left out: the answer's beginning."""
    check: Annotated[Sequence[str], PlainValidator(_commands), WithJsonSchema(dict(_TEXTS))] | None = None
    """Commands that must exit 0 in the project directory before the answer counts."""
    playbook: Playbook | None = None
    """Other answers to failures, by failure: the n-th is given the n-th time."""


def _empty(value: object) -> object:
    return {} if value is None else value


Inputs: TypeAlias = Mapping[str, Annotated[Input, BeforeValidator(_empty)]]

"""A pipeline as its author gives it, in YAML or in Python: one model, checked whole when it is made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, cast

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from ..errors import PipelineError
from ..model.runs import Failure
from ..model.sessions import Json, ModelRef
from . import policy
from .contract import NotJson, read_json
from .files import inline
from .parts import (
    COLLECT,
    AskOrReject,
    Defaults,
    Input,
    Inputs,
    Part,
    Playbook,
    Rules,
    Spending,
    Stage,
    milliseconds,
)
from .plan import Answer, Budget, Plan, Questions, StagePlan
from .problems import Problems, hint, in_python, kind, refusal
from .review import fits, needs_of, review


class Pipeline(Part):
    """A pipeline: stages that run in the order of what they need, each to a proved end.

    Made wrongly it raises PipelineError, which tells every problem. Files it names are read by `inlined` (the
    loader's and `to_spec`'s first step), not when it is made.
    """

    name: str
    """What the pipeline is called in lists and titles."""
    description: str | None = None
    """What it is for."""
    inputs: Inputs = Field(default_factory=dict[str, Input])
    """The values a run is started with, by name."""
    defaults: Defaults = Defaults()
    """What holds for every stage that does not say otherwise."""
    budget: Spending | None = None
    """Upper bounds for a whole run."""
    permissions: Rules | None = None
    """Permission rules for every stage; the last that matches decides, nothing is allowed by default."""
    questions: AskOrReject = "ask"
    """Whether the model's questions are put to a person or refused."""
    playbook: Playbook | None = None
    """Other answers to failures, by failure: the n-th is given the n-th time."""
    stages: Annotated[Sequence[Stage], AfterValidator(tuple), Field(min_length=1)]
    """The stages. Each follows the one before it unless it says what it needs."""

    @model_validator(mode="after")
    def _reviewed(self, info: ValidationInfo) -> Self:
        found = review(self)
        if found and info.context is COLLECT:
            raise Problems(found)
        if found:
            raise refusal(in_python(found, "Pipeline"))
        return self

    def inlined(self, folder: Path | None = None) -> Pipeline:
        """This pipeline with the files it names read in, relative to a folder (left out: the current one).

        Raises PipelineError: a file that is missing, unreadable or wrong.
        """
        files = inline(self.model_dump(mode="json", exclude_unset=True), folder or Path.cwd())
        if files.problems:
            raise refusal(in_python(files.problems, "Pipeline"))
        return Pipeline.model_validate(files.tree) if files.origins else self

    def to_spec(self, folder: Path | None = None) -> str:
        """The pipeline as JSON with every file it names inlined: what a run keeps. Raises PipelineError."""
        whole = self.inlined(folder)
        return json.dumps(whole.model_dump(mode="json", exclude_unset=True), ensure_ascii=False)

    @classmethod
    def from_spec(cls, spec: str) -> Pipeline:
        """Read what `to_spec` wrote. Raises PipelineError."""
        try:
            tree = json.loads(spec)
        except (ValueError, RecursionError) as error:
            raise PipelineError(f"the stored pipeline is no JSON: {error}") from error
        return cls.model_validate(tree)


def compile_plan(pipeline: Pipeline) -> Plan:
    """Everything a run decides by: defaults applied, stages in an order in which each follows its needs.

    Raises PipelineError where a file the pipeline names cannot be read.
    """
    pipeline = pipeline.inlined()
    needs = needs_of(pipeline.stages)
    ordered: dict[str, StagePlan] = {}
    left = list(pipeline.stages)
    while left:  # there is no cycle: a round always finds a stage, the first in the author's own order
        stage = next(s for s in left if all(n in ordered for n in needs[s.name]))
        left.remove(stage)
        ordered[stage.name] = _stage_plan(stage, pipeline, needs[stage.name])
    return Plan(pipeline.name, tuple(ordered.values()), _budget(pipeline.budget))


def check_inputs(pipeline: Pipeline, given: Mapping[str, Json]) -> dict[str, Json]:
    """The inputs of a run: what was given, read as what it should be, and defaults for the rest.

    Text is read as the input's type, because a shell knows nothing but text. Raises PipelineError, which
    tells every input that is unknown, missing or of another type.
    """
    known = pipeline.inputs
    problems = [f"no input is called {name!r}{hint(name, known)}" for name in given if name not in known]
    values: dict[str, Json] = {}
    for name, wanted in known.items():
        if name not in given and wanted.required:
            what = f" ({wanted.description})" if wanted.description else ""
            problems.append(f"input {name!r} is missing{what}: give it with -i {name}=…")
            continue
        try:
            values[name] = _coerced(given[name], wanted) if name in given else cast("Json", wanted.default)
        except ValueError as error:
            problems.append(f"input {name!r}: {error}")
    if problems:
        raise PipelineError("\n".join(problems), place=f"pipeline {pipeline.name}")
    return values


def _stage_plan(stage: Stage, pipeline: Pipeline, needs: tuple[str, ...]) -> StagePlan:
    model: str | None = _first(stage, pipeline, "model")
    defaults = StagePlan(stage.name)
    timeout, patience = _first(stage, pipeline, "timeout"), _first(stage, pipeline, "patience")
    rules = [policy.parse(r) for r in (pipeline.permissions, stage.permissions) if r is not None]
    return StagePlan(
        name=stage.name,
        needs=needs,
        prompt=stage.prompt or "",
        approve=stage.approve or "",
        when=stage.when or "",
        agent=_first(stage, pipeline, "agent"),
        model=ModelRef.parse(model) if model else None,
        fallback_models=tuple(map(ModelRef.parse, _first(stage, pipeline, "fallback_models") or ())),
        variant=_first(stage, pipeline, "variant"),
        timeout=defaults.timeout if timeout is None else milliseconds(timeout),
        patience=defaults.patience if patience is None else milliseconds(patience),
        attempts=_first(stage, pipeline, "attempts") or defaults.attempts,
        budget=_budget(_first(stage, pipeline, "budget")),
        permissions=tuple(rule for group in rules for rule in group),
        questions=Questions(stage.questions or pipeline.questions),
        output=cast("Mapping[str, Json] | None", stage.output),
        summary=stage.summary or "",
        checks=tuple(stage.check or ()),
        playbook={**_rows(pipeline.playbook), **_rows(stage.playbook)},
    )


def _first(stage: Stage, pipeline: Pipeline, key: str) -> Any:
    own = getattr(stage, key)
    return getattr(pipeline.defaults, key) if own is None else own


def _budget(spending: Spending | None) -> Budget:
    return Budget(spending.tokens, spending.cost) if spending else Budget()


def _rows(playbook: Playbook | None) -> dict[Failure, tuple[Answer, ...]]:
    return {
        Failure(failure): tuple(Answer(a) for a in ([answers] if isinstance(answers, str) else answers))
        for failure, answers in (playbook or {}).items()
    }


_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _coerced(value: Json, wanted: Input) -> Json:
    kept = wanted.type or _type_of(wanted.default)
    if isinstance(value, str) and kept not in (None, "string"):
        value = _read(value, kept)
    if not fits(value, kept):
        raise ValueError(f"{kind(value)} is not of type {kept}")
    return value


def _type_of(default: object) -> str | None:
    """The type a default implies; None where any value will do."""
    match default:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case _:
            return None


def _read(text: str, wanted: str) -> Json:
    if wanted == "boolean":
        if (value := _BOOLEANS.get(text.strip().lower())) is None:
            raise ValueError(f"{text!r} is neither true nor false")
        return value
    try:
        return read_json(text)
    except NotJson as error:
        raise ValueError(f"{text!r} is no {'JSON' if wanted == 'json' else wanted}") from error


__all__ = [
    "Defaults",
    "Input",
    "Pipeline",
    "Spending",
    "Stage",
    "check_inputs",
    "compile_plan",
]

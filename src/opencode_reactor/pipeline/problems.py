"""What is wrong with a pipeline, and where: collected first, told together, with the nearest right word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias, TypeGuard, get_args

from pydantic import BaseModel, ValidationError

from ..errors import PipelineError

Loc: TypeAlias = tuple[str | int, ...]
"""Where in the pipeline: keys and positions from the top, `("stages", 0, "prompt")`."""

OWNERS = {"Pipeline": "the pipeline", "Stage": "a stage", "Input": "an input", "Spending": "a budget"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in one sentence. `line` counts from 1 in the text at `where`; 0: all of it."""

    where: Loc
    message: str
    line: int = 0


class Problems(Exception):
    """Carries what was found to whoever knows the lines; never leaves this room."""

    def __init__(self, found: Sequence[Problem]) -> None:
        super().__init__(f"{len(found)} problems")
        self.found = tuple(found)


def refusal(found: Iterable[tuple[str, Problem]]) -> PipelineError:
    """One error that tells everything, a line for each problem; its place is the first one's."""
    (place, first), *others = found
    rest = [f"{elsewhere}: {_sentence(problem)}" for elsewhere, problem in others]
    return PipelineError("\n".join([_sentence(first), *rest]), place=place)


def in_python(found: Iterable[Problem], root: str) -> Iterator[tuple[str, Problem]]:
    """Problems of a Python value with their places: `Pipeline.stages[0].prompt`."""
    for problem in found:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem.where)
        yield root + "".join(steps), problem


def hint(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the nearest known word, or nothing."""
    near = get_close_matches(word, [str(k) for k in known], n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def kind(value: object) -> str:
    """What a value is, in the words of a YAML file."""
    return next((word for types, word in _KINDS if isinstance(value, types)), f"a {type(value).__name__}")


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (type(None), "nothing"),
    (bool, "true or false"),  # before the numbers, of which it is one in Python
    ((int, float), "a number"),
    (str, "text"),
    (Mapping, "a mapping"),
    ((list, tuple), "a list"),
)


def is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether this is a mapping; its keys are text because they come from JSON or YAML."""
    return isinstance(value, Mapping)


def structural(error: ValidationError, root: type[BaseModel]) -> list[Problem]:
    """What pydantic found, in this project's words."""
    found: dict[Problem, None] = {}  # ordered, and one sentence once
    for line in error.errors(include_url=False):
        found[Problem(line["loc"], _words(line, root))] = None
    return list(found)


def _sentence(problem: Problem) -> str:
    return f"{problem.message} (line {problem.line} of the text)" if problem.line > 1 else problem.message


_SHAPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "finite_number": "a finite number",
}


_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
}


def _words(line: Mapping[str, Any], root: type[BaseModel]) -> str:  # noqa: PLR0911 - a case, an answer
    where: Loc = line["loc"]
    key, owner = (where[-1] if where else "it"), _owner(where[:-1], root)
    match line["type"]:
        case "extra_forbidden":
            return f"unknown key {key!r} in {_called(owner)}{_where_else(str(key), owner, root)}"
        case "missing":
            return f"{key!r} is missing in {_called(owner)}"
        case "value_error":
            return str(line["ctx"]["error"])
        case "literal_error":
            known = str(line["ctx"]["expected"])
            return f"{key!r} must be {known}, not {line['input']!r}"
        case bound if bound in _BOUNDS:
            return f"{_named(key)} must be {_BOUNDS[bound].format(**line['ctx'])}"
        case "string_too_short" | "too_short":
            return f"{_named(key)} is empty"
        case shape if shape in _SHAPES:
            return f"{_named(key)} must be {_SHAPES[shape]}, not {kind(line['input'])}"
        case _:
            return f"{_named(key)}: {line['msg'][0].lower()}{line['msg'][1:]}"


def _called(model: type[BaseModel]) -> str:
    return OWNERS.get(model.__name__, "defaults")


def _named(key: str | int) -> str:
    return f"number {key + 1} of the list" if isinstance(key, int) else repr(key)


def _where_else(key: str, owner: type[BaseModel], root: type[BaseModel]) -> str:
    """The nearest key of this place; else the place where such a key is at home; else what there is."""
    near = hint(key, owner.model_fields)
    if near:
        return near
    others = [m for m in _models_below(root) if m is not owner]
    for other in others:
        if key in other.model_fields:
            return f"; it is a key of {_called(other)}"
    for other in others:
        if near := hint(key, other.model_fields):
            return f"{near.rstrip('?')}, a key of {_called(other)}?"
    return f"; known are {', '.join(owner.model_fields)}"


def _owner(where: Loc, root: type[BaseModel]) -> type[BaseModel]:
    """The model that holds the keys at a place."""
    current = root
    for step in where:
        field = current.model_fields.get(str(step)) if isinstance(step, str) else None
        inner = _model_in(field.annotation) if field else None
        current = inner or current
    return current


def _models_below(root: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [m for f in root.model_fields.values() if (m := _model_in(f.annotation)) is not None]
    return [root, *(deeper for model in inner for deeper in _models_below(model))]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_in(a)) is not None), None)

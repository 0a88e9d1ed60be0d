"""What the keys of a pipeline mean to each other: names, order, templates, contracts, rules.

Nothing here is tried on a server: what is found is found before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Protocol, cast

from ..model.runs import Failure
from ..model.sessions import Json
from . import policy
from .contract import NoSchema, check_schema
from .failures import PLAYBOOK, REPAIRABLE
from .parts import Input, Stage
from .plan import Answer
from .problems import Loc, Problem, hint, is_mapping, kind
from .template import Names, Unknown, syntax_problem, unknown_names

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_NAME_WORDS = "a letter, then letters, digits, - and _, 64 at most"
_TITLE_LENGTH = 100
_OF_A_STAGE = ("summary", "output", "text", "state", "comment")
_OF_A_RUN = ("id", "pipeline", "directory")
_OF_AN_APPROVAL = {"name", "needs", "when", "approve"}
_SCHEMA_DEPTH = 16


class Whole(Protocol):
    """What a review needs of a pipeline."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def inputs(self) -> Mapping[str, Input]: ...  # noqa: D102
    @property
    def stages(self) -> Sequence[Stage]: ...  # noqa: D102
    @property
    def permissions(self) -> object: ...  # noqa: D102
    @property
    def playbook(self) -> object: ...  # noqa: D102


def needs_of(stages: Sequence[Stage]) -> dict[str, tuple[str, ...]]:
    """What each stage needs: what it names, else the stage before it."""
    before = [(), *((stage.name,) for stage in stages)]
    return {s.name: tuple(s.needs) if s.needs is not None else before[i] for i, s in enumerate(stages)}


def upstream(name: str, needs: Mapping[str, Sequence[str]]) -> set[str]:
    """Every stage that comes before this one, near or far."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        new = set(needs.get(ahead.pop(), ())) - found
        found |= new
        ahead.extend(new)
    return found


def review(whole: Whole) -> list[Problem]:
    """Everything that is wrong with a pipeline whose keys are well formed, in the order of its text."""
    needs = needs_of(whole.stages)
    first = chain(
        _title(whole.name),
        _inputs(whole.inputs),
        policy.problems(whole.permissions, ("permissions",)) if whole.permissions is not None else (),
        _playbook(whole.playbook, ("playbook",)),
        _graph(whole.stages, needs),
    )
    return [*first, *chain.from_iterable(_stage(i, whole, needs) for i in range(len(whole.stages)))]


def _title(name: str) -> Iterator[Problem]:
    if not (0 < len(name) <= _TITLE_LENGTH and name.isprintable() and name == name.strip()):
        yield Problem(
            ("name",), f"{name!r} is no name: 1 to {_TITLE_LENGTH} printable characters on one line"
        )


def _inputs(inputs: Mapping[str, Input]) -> Iterator[Problem]:
    for name, given in inputs.items():
        if not _NAME.fullmatch(name):
            yield Problem(("inputs", name), f"{name!r} is no name for an input: {_NAME_WORDS}")
        if not given.required and not fits(given.default, given.type):
            message = f"the default of {name!r} is {kind(given.default)}, not of type {given.type}"
            yield Problem(("inputs", name, "default"), message)


def fits(value: object, wanted: str | None) -> bool:
    """Whether a JSON value is of an input's type."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match wanted:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "number":
            return number
        case "integer":
            return number and isinstance(value, int)
        case _:
            return True


def _graph(stages: Sequence[Stage], needs: Mapping[str, tuple[str, ...]]) -> Iterator[Problem]:
    names = [s.name for s in stages]
    for index, name in enumerate(names):
        at = ("stages", index)
        if not _NAME.fullmatch(name):
            yield Problem((*at, "name"), f"{name!r} is no name for a stage: {_NAME_WORDS}")
        if name in names[:index]:
            yield Problem((*at, "name"), f"there are two stages called {name!r}")
        for position, need in enumerate(stages[index].needs or ()):
            if need not in names:
                message = f"stage {name!r} needs {need!r}, which is no stage{hint(need, names)}"
                yield Problem((*at, "needs", position), message)
    if (cycle := _cycle(needs)) is not None:
        at = names.index(cycle[0])
        yield Problem(("stages", at, "needs"), f"the stages wait for each other: {' -> '.join(cycle)}")


def _cycle(needs: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """One way round in a circle, its first name again at the end: each needs the one after it."""
    safe: set[str] = set()
    for start in needs:
        way, branches = [start], [iter(needs[start])]
        while way:
            step = next((n for n in branches[-1] if n in needs and n not in safe), None)
            if step is None:
                safe.add(way.pop())
                branches.pop()
            elif step in way:
                return [*way[way.index(step) :], step]
            else:
                way.append(step)
                branches.append(iter(needs[step]))
    return None


def _stage(index: int, whole: Whole, needs: Mapping[str, tuple[str, ...]]) -> Iterator[Problem]:
    stage, at = whole.stages[index], ("stages", index)
    yield from _purpose(stage, at)
    if stage.permissions is not None:
        yield from policy.problems(stage.permissions, (*at, "permissions"))
    yield from _playbook(stage.playbook, (*at, "playbook"))
    if is_mapping(stage.output):
        try:
            check_schema(cast("Mapping[str, Json]", stage.output))
        except NoSchema as error:
            yield Problem((*at, "output"), f"the output of {stage.name!r} is no JSON Schema: {error}")
    yield from _templates(stage, at, whole, upstream(stage.name, needs) - {stage.name})


def _purpose(stage: Stage, at: Loc) -> Iterator[Problem]:
    kinds = [k for k in ("prompt", "prompt_file", "approve") if getattr(stage, k) is not None]
    if not kinds:
        yield Problem(at, f"stage {stage.name!r} has nothing to do: give it prompt, prompt_file or approve")
    elif len(kinds) > 1:
        yield Problem((*at, kinds[1]), f"stage {stage.name!r} has both {' and '.join(kinds)}: choose one")
    elif not getattr(stage, kinds[0]).strip():
        yield Problem((*at, kinds[0]), f"{kinds[0]!r} of stage {stage.name!r} is empty")
    if kinds == ["approve"]:
        for key in sorted(stage.model_fields_set - _OF_AN_APPROVAL):
            yield Problem((*at, key), f"stage {stage.name!r} asks a person: {key!r} means nothing there")


def _playbook(value: object, at: Loc) -> Iterator[Problem]:
    if value is None:
        return
    if not is_mapping(value):
        yield Problem(at, f"a playbook is a mapping of failures to answers, not {kind(value)}")
        return
    known = [str(f) for f, row in PLAYBOOK.items() if row]
    for failure, answers in value.items():
        if failure not in known:
            yield Problem((*at, failure), f"{failure!r} is no failure with an answer{hint(failure, known)}")
            continue
        listed = cast("list[object]", answers) if isinstance(answers, list) else [answers]
        if not listed:
            yield Problem((*at, failure), f"{failure!r} has no answer at all")
        for answer in listed:
            yield from _answer(answer, Failure(failure), (*at, failure))


def _answer(answer: object, failure: Failure, at: Loc) -> Iterator[Problem]:
    known = [str(a) for a in Answer]
    if answer not in known:
        yield Problem(at, f"{answer!r} is no answer: write {', '.join(known)}{hint(str(answer), known)}")
    elif answer == Answer.REPAIR and failure not in REPAIRABLE:
        yield Problem(at, f"after {failure} there is nothing to repair in the same session")


def _templates(stage: Stage, at: Loc, whole: Whole, before: set[str]) -> Iterator[Problem]:
    contracts = {s.name: s.output for s in whole.stages}
    stages: Names = {
        n: {word: _outputs(contracts.get(n)) if word == "output" else None for word in _OF_A_STAGE}
        for n in before
    }
    known: dict[str, Names] = {
        "inputs": dict.fromkeys(whole.inputs),
        "run": dict.fromkeys(_OF_A_RUN),
        "stages": stages,
        "range": None,
        "dict": None,
    }
    own: Names = {**known, "output": _outputs(stage.output), "text": None}
    for key, names in (("when", known), ("prompt", known), ("approve", known), ("summary", own)):
        source = getattr(stage, key)
        if source is None:
            continue
        if (wrong := syntax_problem(source, expression=key == "when")) is not None:
            yield Problem((*at, key), wrong.message, wrong.line)
            continue
        for unknown in unknown_names(source, names, expression=key == "when"):
            yield Problem((*at, key), _phrase(unknown, stage, whole), unknown.line)


def _outputs(contract: object) -> Names:
    """The keys a contract declares; none where there is no contract, any where it leaves them open."""
    if contract is None:
        return {}
    return _declared(contract) if is_mapping(contract) else None


_OPEN = ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "additionalProperties")


def _declared(schema: object, depth: int = 0) -> Names:
    if not is_mapping(schema) or schema.get("type") != "object" or depth > _SCHEMA_DEPTH:
        return None
    properties = schema.get("properties")
    if not is_mapping(properties) or any(schema.get(word) for word in _OPEN):
        return None
    return {name: _declared(inner, depth + 1) for name, inner in properties.items()}


def _phrase(unknown: Unknown, stage: Stage, whole: Whole) -> str:  # noqa: PLR0911 - a case, an answer
    *head, word = unknown.path
    near = hint(word, unknown.known)
    match head:
        case []:
            return f"unknown name {word!r}{_at_home(word, whole) or near or _ROOTS}"
        case ["inputs"]:
            return f"no input is called {word!r}{near}"
        case ["stages"] if word == stage.name:
            return f"stage {word!r} cannot see itself"
        case ["stages"] if any(s.name == word for s in whole.stages):
            return f"stage {word!r} does not come before {stage.name!r}: add it to its needs"
        case ["stages"]:
            return f"no stage is called {word!r}{hint(word, [s.name for s in whole.stages])}"
        case ["stages", name, "output", *_] | ["output" as name, *_] if not unknown.known:
            whose = "this stage" if name == "output" else f"stage {name!r}"
            return f"{whose} has no output contract, so there is no {'.'.join((*head, word))}"
        case ["stages", _, "output", *_] | ["output", *_]:
            return f"the contract declares no {'.'.join((*head, word))}{near or _offer(unknown)}"
        case _:
            return f"there is no {'.'.join((*head, word))}{near or _offer(unknown)}"


_ROOTS = "; templates know inputs, stages and run (a summary also output and text)"


def _at_home(word: str, whole: Whole) -> str:
    if word in whole.inputs:
        return f"; did you mean inputs.{word}?"
    return f"; did you mean stages.{word}?" if any(s.name == word for s in whole.stages) else ""


def _offer(unknown: Unknown) -> str:
    return f"; there are {', '.join(unknown.known)}" if unknown.known else ""

"""The contract: the JSON Schema a stage's answer must satisfy, how it is asked for, how an answer is read.

An answer is a model's text: anything may stand in it. Whatever it is, reading it ends in a verdict, in time
linear in its length, and nothing is guessed: two different values that both satisfy the contract are none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import islice
from typing import Any, TypeAlias, cast

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from ..model.sessions import Json
from .problems import is_mapping

MAX_TEXT = 1_000_000
"""Characters of an answer that are looked at; a longer one is refused."""
MAX_DEPTH = 64
"""Levels a value may be nested: within what Python's own stack bears when it is validated."""
_MAX_TRIES = 256
_MAX_READ = 8  # times the text's length: nested candidates may be read again, but not for ever
_MAX_COMPLAINTS = 5
_MAX_MESSAGE = 200


class Fault(StrEnum):
    """Why an answer is not taken."""

    ABSENT = "no JSON in the answer"
    BROKEN = "the JSON cannot be read"
    AMBIGUOUS = "more than one value fits"
    UNFIT = "the value does not fit the schema"
    TOO_LARGE = "the answer is too large"


@dataclass(frozen=True, slots=True)
class Parsed:
    """The one value in the answer that satisfies the contract."""

    value: Json


@dataclass(frozen=True, slots=True)
class Unparsed:
    """Why there is none. `complaint` is what a model can act on: a few lines, path and message each."""

    reason: Fault
    complaint: str


Outcome: TypeAlias = Parsed | Unparsed


class NoSchema(ValueError):
    """A schema that is none, or one that could not be held against anything; the message says why."""


def parse(text: str, schema: Mapping[str, Json]) -> Outcome:
    """The value an answer holds: the whole text as JSON, else one in a fence, else one in balanced brackets.

    Never raises for any text, if the schema is one (`check_schema`).
    """
    if len(text) > MAX_TEXT:
        return Unparsed(
            Fault.TOO_LARGE, f"The answer has more than {MAX_TEXT} characters; give only the JSON."
        )
    validator = _validator(schema)
    whole = text.strip()
    try:
        return _verdict(read_json(whole), validator)
    except NotJson as error:
        refused = [Unparsed(Fault.BROKEN, f"The answer is not JSON: {error}.")]
    for candidates in (_fenced(whole), _balanced(whole)):
        verdict = _choose(candidates, validator)
        if isinstance(verdict, Parsed) or (verdict and verdict.reason is Fault.AMBIGUOUS):
            return verdict
        refused += [verdict] if verdict else []
    if len(refused) == 1 and not _OPENER.search(whole):
        return Unparsed(Fault.ABSENT, "The answer holds no JSON; give just one value.")
    # What was found inside tells more than that the whole is no JSON.
    return _most_telling(refused[1:]) or refused[0]


def instructions(schema: Mapping[str, Json]) -> str:
    """What is added to a prompt whose answer must be JSON."""
    return (
        "Give your final answer as exactly one JSON value and nothing else: no words before or after it, no "
        "code fence, no comments. It must satisfy this JSON Schema:\n\n" + _schema_text(schema)
    )


def repair_prompt(complaint: str, schema: Mapping[str, Json] | None) -> str:
    """What is said in the same session to an answer that was not taken; no schema where any text will do."""
    head = f"Your last answer cannot be used.\n\n{complaint}\n\n"
    if schema is None:
        return head + "Give your final answer now, as plain text. Use no tools."
    return (
        f"{head}Answer again with the corrected JSON value alone: its first character is the first of your "
        "answer, its last one the last; no words, no code fence. Use no tools. The JSON Schema it must "
        "satisfy:\n\n" + _schema_text(schema)
    )


def check_schema(schema: Mapping[str, Json]) -> None:
    """Make sure that answers can be held against this schema, offline. Raises NoSchema."""
    cls = _class_for(schema)
    try:
        cls.check_schema(dict(schema))
    except SchemaError as error:
        nearest = _deepest(cast("ValidationError", error))
        raise NoSchema(f"{nearest.json_path}: {_short(nearest.message)}") from error
    for part in _parts(schema):
        _check_part(part, schema)
    try:
        _validator(schema).is_valid(None)
    except RecursionError as error:
        raise NoSchema("the schema refers to itself without end") from error


def _check_part(part: Mapping[str, object], schema: Mapping[str, Json]) -> None:
    for word in ("$ref", "$dynamicRef"):
        reference = part.get(word)
        if isinstance(reference, str):
            _check_reference(reference, schema)
    patterns = [part.get("pattern")]
    if is_mapping(inner := part.get("patternProperties")):
        patterns.extend(inner)
    for pattern in patterns:
        if isinstance(pattern, str):
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise NoSchema(f"{pattern!r} is no regular expression: {error}") from error


def _check_reference(reference: str, schema: Mapping[str, Json]) -> None:
    if not reference.startswith("#"):
        # Nothing is fetched: neither is there a network, nor should a schema change after it was checked.
        raise NoSchema(f"{reference!r} leads outside; only references within the schema (#/…) are followed")
    specification = specification_with(str(schema.get("$schema", DRAFT202012_ID)), default=DRAFT202012)
    resource = specification.create_resource(schema)
    try:
        REGISTRY.with_resource("", resource).resolver().lookup(reference)
    except Unresolvable as error:
        raise NoSchema(f"{reference!r} leads nowhere") from error


DRAFT202012_ID = "https://json-schema.org/draft/2020-12/schema"


def _parts(value: object, depth: int = 0) -> Iterator[Mapping[str, object]]:
    if depth > MAX_DEPTH:
        raise NoSchema(f"the schema is nested more than {MAX_DEPTH} levels deep")
    if is_mapping(value):
        yield value
        for inner in value.values():
            yield from _parts(inner, depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in cast("Sequence[object]", value):
            yield from _parts(inner, depth + 1)


def _class_for(schema: Mapping[str, Json]) -> type[Validator]:
    return _in_bounds(validator_for(schema, default=Draft202012Validator))


@cache
def _in_bounds(cls: type[Validator]) -> type[Validator]:
    return cast("Any", validators).extend(cls, {"uniqueItems": _unique_items})


def _unique_items(
    _validator: Validator, wanted: object, items: object, _schema: object
) -> Iterator[ValidationError]:
    """The draft's `uniqueItems`, by hashing: jsonschema compares objects each with each."""
    if wanted and isinstance(items, list):
        keys = [_equality_key(item) for item in cast("list[object]", items)]
        if len(set(keys)) < len(keys):
            yield ValidationError("an element stands twice in the list")


def _equality_key(value: object) -> Hashable:
    """Equal for equal JSON values: 1 is 1.0 but not true."""
    if is_mapping(value):
        return ("{", frozenset((key, _equality_key(inner)) for key, inner in value.items()))
    if isinstance(value, list):
        return ("[", tuple(_equality_key(inner) for inner in cast("list[object]", value)))
    return (isinstance(value, bool), cast("Hashable", value))


def _validator(schema: Mapping[str, Json]) -> Validator:
    # With a registry of its own nothing is ever fetched, whatever the schema refers to.
    return _class_for(schema)(schema, registry=REGISTRY)


def _choose(candidates: Iterator[str], validator: Validator) -> Outcome | None:
    """The verdict over several candidates; None where there was none."""
    fitting: dict[Hashable, Parsed] = {}
    refused: list[Unparsed] = []
    for candidate in candidates:
        try:
            verdict = _verdict(read_json(candidate), validator)
        except NotJson as error:
            verdict = Unparsed(Fault.BROKEN, f"The JSON in the answer cannot be read: {error}.")
        if isinstance(verdict, Parsed):
            fitting[_equality_key(verdict.value)] = verdict
        else:
            refused.append(verdict)
    if len(fitting) > 1:
        return Unparsed(
            Fault.AMBIGUOUS,
            f"The answer holds {len(fitting)} different JSON values that all fit; give just one.",
        )
    return next(iter(fitting.values()), None) or _most_telling(refused)


def _most_telling(refused: Sequence[Unparsed]) -> Unparsed | None:
    """What could be read and does not fit tells a model more than what could not be read."""
    return min(refused, key=lambda r: r.reason is not Fault.UNFIT, default=None)


def _verdict(value: Json, validator: Validator) -> Outcome:
    try:
        errors = list(islice(validator.iter_errors(value), _MAX_COMPLAINTS + 1))
    except RecursionError:
        return Unparsed(Fault.UNFIT, "$: the value is nested too deeply to be held against the schema")
    if not errors:
        return Parsed(value)
    lines = [f"{e.json_path}: {_short(e.message)}" for e in map(_deepest, errors[:_MAX_COMPLAINTS])]
    return Unparsed(Fault.UNFIT, "\n".join([*lines, *(["and more"] if len(errors) > len(lines) else [])]))


def _deepest(error: ValidationError) -> ValidationError:
    """Of an `anyOf` the branch that came nearest: "not valid under any of the given" helps nobody."""
    while error.context:
        error = max(error.context, key=lambda e: (len(e.absolute_path), e.validator not in _KINDS_OF))
    return error


_KINDS_OF = ("type", "const", "enum")
"""Words that fail where a branch was meant for something else."""


def _short(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"


def _schema_text(schema: Mapping[str, Json]) -> str:
    return json.dumps(schema, ensure_ascii=False, indent=2)


class NotJson(ValueError):
    """A text that is not JSON, or JSON two readers would read differently. `line` is where, 0: unknown."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\\n]|\\.)*+(?P<end>"?)|[\[\]{}]')
_OPENER = re.compile(r"[\[{]")
_FENCE = re.compile(r"^[ \t]*+(?P<mark>```++|~~~++)[ \t]*+(?P<word>[^\s`]*+)[^\n`]*+$", re.MULTILINE)
_CLOSERS = {"}": "{", "]": "["}


def read_json(text: str) -> Json:
    """JSON, strictly: no key twice, no NaN, no number beyond a float, no half surrogate, bounded depth.

    Raises NotJson.
    """
    _check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_mapping, parse_constant=_constant, parse_float=_float)
        if "\\u" in text or not text.isascii():
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise NotJson(f"line {error.lineno} column {error.colno}: {error.msg}", error.lineno) from error
    except UnicodeEncodeError as error:
        raise NotJson("a text holds half of a surrogate pair") from error
    except (ValueError, RecursionError) as error:
        raise NotJson(_short(str(error))) from error
    return cast("Json", value)


def _check_depth(text: str) -> None:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise NotJson(f"it is nested more than {MAX_DEPTH} levels deep")


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return mapping


def _constant(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{_short(digits)} is too large a number")
    return number


def _fenced(text: str) -> Iterator[str]:
    """What stands in code fences; of those marked with a word only the ones that say they are JSON."""
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif not fence["word"] and fence["mark"].startswith(opened["mark"]):
            if opened["word"].lower() in ("", "json", "json5", "jsonc"):
                yield text[opened.end() : fence.start()].strip()
            opened = None


def _balanced(text: str) -> Iterator[str]:
    """Values in balanced brackets, outermost first; what is inside one that can be read is part of it."""
    taken = 0
    left = _MAX_READ * len(text)
    for tries, (start, end) in enumerate(sorted(_spans(text), key=lambda s: (s[0], -s[1]))):
        left -= end - start
        if tries >= _MAX_TRIES or left < 0:
            return
        if start < taken:
            continue
        candidate = text[start:end]
        try:
            json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        taken = end
        yield candidate


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Every pair of brackets that match, quotes within them read as JSON's; one pass, never back.

    A text that does not end on its line is no JSON: what was open before it is given up.
    """
    stack: list[int] = []
    at = 0
    while token := (_STRING_OR_BRACKET if stack else _OPENER).search(text, at):
        at = token.end()
        sign = text[token.start()]
        if sign in "[{":
            stack.append(token.start())
        elif sign == '"':
            if not token["end"]:
                stack.clear()
        elif text[stack[-1]] == _CLOSERS[sign]:
            yield stack.pop(), at
        else:
            stack.clear()

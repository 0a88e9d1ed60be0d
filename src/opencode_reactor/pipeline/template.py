"""Templates: Jinja2 in a sandbox. What a value holds is data and never read as a template.

The author writes the template, a model writes the values: so whatever a value can make large (repetition,
widths, ranges, loops) is bounded, and an undefined name is an error, never an empty place in a prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, cast

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
    Undefined,
    filters,
    nodes,
    pass_context,
    pass_eval_context,
)
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from ..errors import PipelineError
from .problems import Problem

MAX_OUTPUT = 1_000_000
"""Characters a template may give."""
MAX_ROUNDS = 100_000
"""Rounds all loops of one rendering may make together."""

Names: TypeAlias = "Mapping[str, Names] | None"
"""The names known at a place, and those below them; None where anything may stand below."""

_FILTERS = frozenset(
    "abs capitalize count d default dictsort first float groupby int items last length list lower map max "  # noqa: SIM905 - words
    "min reject rejectattr reverse round select selectattr sort string sum title trim truncate unique upper "
    "urlencode wordcount wordwrap".split()
)
_TEXT_METHODS = frozenset(
    "capitalize casefold count endswith find index isalnum isalpha isdigit islower isspace istitle "  # noqa: SIM905 - words
    "isupper lower lstrip partition removeprefix removesuffix rfind rindex rpartition rsplit rstrip split "
    "splitlines startswith strip swapcase title upper".split()
)
_MAPPING_METHODS = frozenset({"items", "keys", "values", "get"})
_STATEMENTS = (
    nodes.Output,
    nodes.If,
    nodes.For,
    nodes.Assign,
    nodes.AssignBlock,
    nodes.With,
    nodes.FilterBlock,
)
_MAX_POWER = 64
_ROUNDS = "rounds of this rendering"  # no name a template could spell
_BRACES = re.compile(r"\s*\{\{(?P<inside>.*)\}\}\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that is not known: `path` up to the unknown word, `known` what could stand there instead."""

    path: tuple[str, ...]
    known: tuple[str, ...]
    line: int


def render(source: str, context: Mapping[str, Any], *, place: str = "") -> str:
    """The text a template gives. Raises PipelineError: syntax, an undefined name, too much text or work."""
    pieces: list[str] = []
    room = MAX_OUTPUT
    try:
        template = _compiled(source)
        for piece in template.generate({**context, _ROUNDS: _Rounds()}):
            room -= len(piece)
            if room < 0:
                raise PipelineError(f"the template gives more than {MAX_OUTPUT} characters", place=place)
            pieces.append(piece)
    except _FOREIGN as error:
        raise _mapped(error, place) from error
    return "".join(pieces)


def truthy(expression: str, context: Mapping[str, Any], *, place: str = "") -> bool:
    """Whether an expression (`when`) holds. The text `false` is false too: inputs from a shell are text.

    Raises PipelineError.
    """
    try:
        _parse_expression(expression)  # says in our words what compiling says in jinja2's
        held = _ENVIRONMENT.compile_expression(_bare(expression), undefined_to_none=False)(context)
        return bool(held) and not (isinstance(held, str) and held.strip().lower() in ("", "false"))
    except _FOREIGN as error:
        raise _mapped(error, place) from error


def syntax_problem(source: str, *, expression: bool = False) -> Problem | None:
    """What is wrong with the writing of a template or expression, with its line; None where nothing is."""
    try:
        _parse_expression(source) if expression else _compiled(source)
    except TemplateSyntaxError as error:
        return Problem((), f"template: {error.message}", error.lineno)
    except (TemplateError, RecursionError) as error:
        return Problem((), f"template: {_words(error)}")
    return None


def unknown_names(source: str, known: Names, *, expression: bool = False) -> list[Unknown]:
    """Every name a (well written) template uses that is not in `known`."""
    tree = _parse_expression(source) if expression else _parse(source)
    free = find_undeclared_variables(tree)
    found: dict[Unknown, None] = {}
    for path, line in _paths(tree):
        if path[0] in free and (unknown := _first_unknown(path, known, line)) is not None:
            found[unknown] = None
    return list(found)


def _first_unknown(path: tuple[str, ...], known: Names, line: int) -> Unknown | None:
    for depth, word in enumerate(path, start=1):
        if known is None or (depth > 1 and word not in known and word in _MAPPING_METHODS):
            return None
        if word not in known:
            return Unknown(path[:depth], tuple(known), line)
        known = known[word]
    return None


def _paths(node: nodes.Node) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every name with what hangs on it, as far as it is spelled out: not into `a[b]`."""
    path = _path(node)
    if path is not None:
        yield path, node.lineno
        return
    for child in node.iter_child_nodes():
        yield from _paths(child)


def _path(node: nodes.Node) -> tuple[str, ...] | None:
    match node:
        case nodes.Name(name=name, ctx="load"):
            return (name,)
        case nodes.Getattr(node=inner, attr=attr):
            head = _path(inner)
            return None if head is None else (*head, attr)
        case nodes.Getitem(node=inner, arg=nodes.Const(value=str(key))):
            head = _path(inner)
            return None if head is None else (*head, key)
        case _:
            return None


@lru_cache(maxsize=256)  # checked when its pipeline is loaded, rendered when its stage is about to start
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(_parse(source))


def _parse(source: str) -> nodes.Template:
    tree = _ENVIRONMENT.parse(source)
    for statement in tree.find_all(nodes.Stmt):
        if not isinstance(statement, _STATEMENTS):
            raise TemplateSyntaxError(f"{_word(statement)} is not offered here", statement.lineno)
        if isinstance(statement, nodes.For) and statement.recursive:
            raise TemplateSyntaxError("a recursive loop is not offered here", statement.lineno)
    return cast("nodes.Template", _Counted().visit(tree))


def _bare(expression: str) -> str:
    """Without the braces people put around an expression by habit."""
    braced = _BRACES.fullmatch(expression)
    return braced["inside"] if braced else expression


def _parse_expression(source: str) -> nodes.Template:
    """An expression as a template with one output."""
    tree = _parse("{{ (" + _bare(source) + "\n) }}")
    match tree.body:
        case [nodes.Output(nodes=[nodes.Expr() as only])] if not isinstance(only, nodes.TemplateData):
            return tree
        case _:
            raise TemplateSyntaxError("this must be one expression", 1)


def _word(statement: nodes.Stmt) -> str:
    return "{% " + type(statement).__name__.lower() + " %}"


class _Rounds:
    """What one rendering may still loop."""

    def __init__(self) -> None:
        self.left = MAX_ROUNDS


class _Counted(NodeTransformer):
    """Puts every loop's values through the filter that counts its rounds."""

    def visit_For(self, node: nodes.For, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802 - jinja2's name
        self.generic_visit(node, *args, **kwargs)
        node.iter = nodes.Filter(node.iter, "counted", [], [], None, None, lineno=node.lineno)
        return node


@pass_context
def _counted(context: Context, values: Iterable[object]) -> Iterator[object]:
    rounds = cast("_Rounds", context.resolve(_ROUNDS))
    for value in values:
        rounds.left -= 1
        if rounds.left < 0:
            raise SecurityError(f"the template loops more than {MAX_ROUNDS} times")
        yield value


def _bounded(size: int) -> None:
    if size > MAX_OUTPUT:
        raise SecurityError(f"the template makes more than {MAX_OUTPUT} characters")


def _replace(text: object, old: str, new: str, count: int = -1) -> str:
    source, old, new = str(text), str(old), str(new)
    found = source.count(old) if count < 0 else min(count, source.count(old))
    _bounded(len(source) + found * len(new))
    return source.replace(old, new, count)


def _indent(text: object, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    source = str(text)
    _bounded(len(source) + (source.count("\n") + 1) * (len(width) if isinstance(width, str) else width))
    return filters.do_indent(source, width, first, blank)


@pass_eval_context
def _join(
    scope: nodes.EvalContext, values: Iterable[object], between: str = "", attribute: str | None = None
) -> str:
    items = list(values)
    _bounded(len(items) * len(str(between)))
    return str(filters.sync_do_join(scope, items, between, attribute))


def _tojson(value: object, indent: int | None = None) -> str:
    """JSON as a prompt wants it: jinja2's own escapes `<`, `>` and `&` for the sake of HTML."""
    return json.dumps(value, ensure_ascii=False, indent=min(indent, 8) if indent else None)


def _shown(value: object) -> object:
    """What an output shows of a value: text as it is, everything else as JSON, a function never."""
    if callable(value) and not isinstance(value, Undefined):
        raise SecurityError("a function is no text: call it, or name a value")
    if value is None or isinstance(value, (bool, Mapping, list, tuple)):
        return _tojson(cast("object", value))
    return value


class _Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox, in which a mapping's own keys go before Python's methods and sizes are bounded."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`output.items` is the key `items` where there is one: models name things like that."""
        if isinstance(obj, Mapping) and attribute in obj:
            return cast("Mapping[str, Any]", obj)[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Text keeps the methods that cannot make it grow; mappings those that read."""
        if isinstance(obj, str):
            return attr in _TEXT_METHODS
        if isinstance(obj, Mapping):
            return attr in _MAPPING_METHODS
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """`format` is not offered: it takes widths from the text. jinja2 asks this before the above."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Repetition and powers are bounded; `%` on text would take widths from the text."""
        match operator:
            case "*":
                for many, times in ((left, right), (right, left)):
                    if isinstance(many, (str, list, tuple)) and isinstance(times, int):
                        _bounded(len(cast("str", many)) * times)
            case "**" if not (isinstance(right, (int, float)) and abs(right) <= _MAX_POWER):
                raise SecurityError(f"a power over {_MAX_POWER} is not offered here")
            case "%" if isinstance(left, str):
                raise SecurityError("text is put together with ~, not with %")
            case _:
                pass
        return super().call_binop(context, operator, left, right)


def _environment() -> _Sandbox:
    environment = _Sandbox(
        undefined=StrictUndefined, autoescape=False, finalize=_shown, keep_trailing_newline=True
    )
    for name in environment.globals.keys() - {"range", "dict"}:
        del environment.globals[name]
    for name in environment.filters.keys() - _FILTERS:
        del environment.filters[name]
    ours: dict[str, Any] = {
        "replace": _replace,
        "indent": _indent,
        "join": _join,
        "tojson": _tojson,
        "counted": _counted,
    }
    environment.filters.update(ours)
    return environment


_ENVIRONMENT = _environment()
_FOREIGN = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What jinja2 and the operations of a template raise."""


def _mapped(error: Exception, place: str) -> PipelineError:
    line = f" (line {error.lineno} of the text)" if isinstance(error, TemplateSyntaxError) else ""
    return PipelineError(f"template: {_words(error)}{line}", place=place)


def _words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error) or type(error).__name__

"""YAML files with the line of every key; only what JSON knows, bounded in size, depth and repetition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ..errors import PipelineError
from .contract import NotJson, read_json
from .problems import Loc

MAX_BYTES = 256 * 1024
"""A pipeline's or a schema's file; long prompts have files of their own."""
MAX_NODES = 50_000
"""Values in a file, each as often as aliases repeat it."""
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Tree:
    """A file's content as JSON values, and where each key and element stands.

    `blocks` has the first line of each text written as a block (`|`), whose lines are the file's own.
    """

    file: Path
    content: Any
    lines: Mapping[Loc, int]
    blocks: Mapping[Loc, int] = field(default_factory=dict[Loc, int])

    def line(self, where: Loc) -> int:
        """The line of a key or element, or of the nearest thing around it that is there."""
        ends = range(len(where), -1, -1)
        return next((self.lines[where[:end]] for end in ends if where[:end] in self.lines), 1)

    def place(self, where: Loc) -> str:
        """The same as `file:line`."""
        return f"{self.file}:{self.line(where)}"


class _Mark(Protocol):
    line: int  # from 0


class _Node(Protocol):
    """What ruamel composes, which it does not describe: `id` is scalar, sequence or mapping."""

    id: str
    tag: object
    value: Any
    style: object
    start_mark: _Mark


class _Marked(Protocol):
    context: object
    problem: object
    context_mark: _Mark | None
    problem_mark: _Mark | None


def read_tree(file: Path) -> Tree:
    """Read a YAML or JSON file. Raises PipelineError with its place."""
    text = read_text(file, MAX_BYTES)
    if file.suffix == ".json":
        # JSON may be indented with tabs, which YAML does not take.
        return _json_tree(file, text)
    try:
        root = _compose(text)
    except MarkedYAMLError as error:
        raise _mapped(file, cast("_Marked", error)) from error
    except RecursionError as error:
        raise PipelineError("nested too deeply", place=f"{file}:1") from error
    except (YAMLError, ValueError, LookupError) as error:  # ruamel's for what it cannot place
        raise PipelineError(f"not YAML: {error}", place=f"{file}:1") from error
    if root is None:
        raise PipelineError("the file is empty", place=f"{file}:1")
    reading = _Reading(file)
    content = reading.value(root, ())
    return Tree(file, content, reading.lines, reading.blocks)


def _compose(text: str) -> _Node | None:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # an anchor set anew is YAML, and nothing to print
    return cast("_Node | None", yaml.compose(text))


def read_text(file: Path, limit: int) -> str:
    """A text file within a size. Raises PipelineError: missing, unreadable, too large, no UTF-8."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(limit + 1)
        if len(raw) > limit:
            raise PipelineError(f"larger than {limit // 1024} KB", place=str(file))
        return raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise PipelineError("there is no such file", place=str(file)) from error
    except IsADirectoryError as error:
        raise PipelineError("this is a folder, not a file", place=str(file)) from error
    except UnicodeDecodeError as error:
        raise PipelineError("not UTF-8 text", place=str(file)) from error
    except (OSError, ValueError) as error:
        raise PipelineError(f"cannot be read: {error}", place=str(file)) from error


def _json_tree(file: Path, text: str) -> Tree:
    try:
        return Tree(file, read_json(text), {(): 1})
    except NotJson as error:
        raise PipelineError(f"not JSON: {error}", place=f"{file}:{error.line or 1}") from error


def _mapped(file: Path, error: _Marked) -> PipelineError:
    mark = error.problem_mark or error.context_mark
    words = ", ".join(str(w) for w in (error.context, error.problem) if w)
    return PipelineError(f"not YAML: {words}", place=f"{file}:{mark.line + 1 if mark else 1}")


class _Reading:
    """One file on its way from YAML nodes to values: counts, and keeps the lines."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: dict[Loc, int] = {}
        self.blocks: dict[Loc, int] = {}
        self._left = MAX_NODES

    def value(self, node: _Node, where: Loc) -> Any:
        """What a node stands for. Aliases are followed anew each time, so that repetition counts."""
        self._left -= 1
        if self._left < 0:
            raise self._refused(node, f"more than {MAX_NODES} values, aliases counted each time")
        if len(where) > MAX_DEPTH:  # an alias that holds itself ends here as well
            raise self._refused(node, f"nested more than {MAX_DEPTH} levels deep")
        self.lines.setdefault(where, _line(node))
        if node.id == "scalar":
            if node.style == "|":
                self.blocks.setdefault(where, _line(node) + 1)
            return self._scalar(node)
        if node.id == "sequence":
            self._plain(node, "seq")
            items = cast("list[_Node]", node.value)
            return [self.value(item, (*where, i)) for i, item in enumerate(items)]
        self._plain(node, "map")
        return self._mapping(node, where)

    def _mapping(self, node: _Node, where: Loc) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in cast("list[tuple[_Node, _Node]]", node.value):
            if key.id != "scalar":
                raise self._refused(key, "a key must be text")
            name = str(key.value)
            if name in content:
                raise self._refused(key, f"the key {name!r} stands twice")
            self.lines[*where, name] = _line(key)
            content[name] = self.value(value, (*where, name))
        return content

    def _scalar(self, node: _Node) -> Any:
        text = str(node.value)
        match _tag(node):
            case "str" | "timestamp":  # a date is text: JSON has none
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" | "float" as tag:
                return self._number(node, text.replace("_", ""), tag)
            case _:
                raise self._refused(node, f"the tag {node.tag} is not read here")

    def _number(self, node: _Node, text: str, tag: str) -> int | float:
        try:
            number = int(text, 0 if text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10)
        except ValueError:
            number = None
        if number is not None and tag == "int":
            return number
        try:
            value = float(text)
        except ValueError as error:
            raise self._refused(node, f"{text} is no number that can be kept") from error
        if not math.isfinite(value):
            raise self._refused(node, f"{text} is no number that can be kept")
        return value

    def _plain(self, node: _Node, wanted: str) -> None:
        if _tag(node) != wanted:
            raise self._refused(node, f"the tag {node.tag} is not read here")

    def _refused(self, node: _Node, message: str) -> PipelineError:
        return PipelineError(message, place=f"{self.file}:{_line(node)}")


def _line(node: _Node) -> int:
    return node.start_mark.line + 1


def _tag(node: _Node) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")

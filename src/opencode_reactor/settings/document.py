"""A configuration file as it was read: every value with the way to it, so that a complaint names both.

tomllib knows no line numbers: the place of a key is found in the text. Complaints quote what stands in the
file, never what `{env:…}` or `{file:…}` turned into.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class File:
    """A configuration file as it was read. `lines` finds a key's place: tomllib knows none."""

    path: Path
    lines: Mapping[tuple[str, ...], int]
    environ: Mapping[str, str]

    def place(self, key: tuple[str, ...]) -> str:
        """`file:line` of the key, or of the nearest thing around it that has a line."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.path}:{self.lines[key]}" if key else str(self.path)


@dataclass(frozen=True, slots=True)
class Value:
    """A value with the way to it, so that a complaint can name both."""

    file: File
    key: tuple[str, ...]
    raw: Any

    def wrong(self, expected: str, remedy: str = "") -> ConfigError:
        """A complaint that quotes only what stands in the file."""
        name = ".".join(self.key) or "the file"
        return ConfigError(f"{name} must be {expected}", place=self.file.place(self.key), remedy=remedy)

    def child(self, name: str | int) -> Value:
        """One entry of a table or list."""
        return Value(self.file, (*self.key, str(name)), self.raw[name])

    def items(self, expected: str) -> list[Value]:
        """Every entry of a table."""
        if not isinstance(self.raw, dict):
            raise self.wrong(expected)
        return [self.child(name) for name in cast("dict[str, Any]", self.raw)]

    def each(self, expected: str) -> list[Value]:
        """Every entry of a list."""
        if not isinstance(self.raw, list):
            raise self.wrong(expected)
        return [self.child(i) for i in range(len(cast("list[Any]", self.raw)))]

    def table(self, keys: Mapping[str, Key]) -> dict[str, Any]:
        """A table whose keys are all known, each read in its own way."""
        values = {child.key[-1]: child for child in self.items("a table")}
        for name, child in values.items():
            if name not in keys:
                raise _unknown_key(child, keys)
        return {name: keys[name].read(child) for name, child in values.items()}

    def text(self) -> str:
        """A string, its `{env:NAME}` and `{file:PATH}` replaced."""
        if not isinstance(self.raw, str):
            raise self.wrong("a string")
        return re.sub(r"\{(env|file):([^{}]*)\}", self._stands_for, self.raw)

    def _stands_for(self, match: re.Match[str]) -> str:
        kind, name = match.groups()
        if kind == "env":
            if name not in self.file.environ:
                raise self._missing(f"the environment has no {name}", f"set {name}, or correct the name")
            return self.file.environ[name]
        path = self.file.path.parent / Path(name).expanduser()
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise self._missing(f"{path} cannot be read: {reason}", "correct the path") from error

    def _missing(self, what: str, remedy: str) -> ConfigError:
        return ConfigError(f"{'.'.join(self.key)}: {what}", place=self.file.place(self.key), remedy=remedy)


@dataclass(frozen=True, slots=True)
class Key:
    """One key: how its value is read and what editors are told about it."""

    read: Callable[[Value], Any]
    schema: Mapping[str, Any]


def _unknown_key(value: Value, keys: Mapping[str, Key]) -> ConfigError:
    name = value.key[-1]
    near = get_close_matches(name, keys, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]}?" if near else f"known here: {', '.join(keys)}"
    return ConfigError(f"unknown key {'.'.join(value.key)}", place=value.file.place(value.key), remedy=remedy)


def read_file(path: Path, environ: Mapping[str, str]) -> Value:
    """The whole file as one value. Raises ConfigError where it cannot be read or is no TOML."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("this is not UTF-8 text", place=str(path)) from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", place=str(path)) from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Its message ends with the place: "… (at line 3, column 5)".
        found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(error))
        line = (found[1] if found else None) or str(text.count("\n") + 1)
        message = str(error)[: found.start()] if found else str(error)
        raise ConfigError(f"this is not TOML: {message}", place=f"{path}:{line}") from error
    return Value(File(path, _key_lines(text), environ), (), raw)


_WORD = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_WORD}(?:\s*\.\s*{_WORD})*"


def _key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line on which each table and key is first written; keys of inline tables are their owner's line."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(rf"\s*\[\[?\s*({_DOTTED})\s*\]", line):
            table = _words(header[1])
            key = table
        elif entry := re.match(rf"\s*({_DOTTED})\s*=", line):
            key = (*table, *_words(entry[1]))
        else:
            continue
        for depth in range(1, len(key) + 1):
            lines.setdefault(key[:depth], number)
    return lines


def _words(dotted: str) -> tuple[str, ...]:
    return tuple(word.strip("\"'") for word in re.findall(_WORD, dotted))

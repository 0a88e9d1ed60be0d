"""One command line, read: the command's own arguments and the common options, by argparse.

argparse and not typer: measured, typer 0.29 costs every command 110 ms (it converts arguments with pydantic),
argparse 7.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from enum import StrEnum
from importlib import import_module
from inspect import cleandoc
from typing import Any, NoReturn, TypeVar

from ..errors import UsageError
from .options import Options, add_common
from .root import Entry

Asked = argparse.Namespace
"""A command's own arguments, by name."""

E = TypeVar("E", bound=StrEnum)


def call(entry: Entry, arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Raises UsageError for what was typed wrong."""
    module = import_module(f".{entry.module}", __package__)
    function: Callable[[Options, Asked], int | None] = getattr(module, entry.name)
    parser = Parser(prog=f"reactor {entry.name}", description=cleandoc(function.__doc__ or ""))
    add: Callable[[Parser], None] | None = getattr(module, f"add_{entry.name}", None)
    if add is not None:
        add(parser)
    add_common(parser, entry.takes.split())
    asked = parser.read(arguments)
    return function(Options.of(asked), asked) or 0


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError where argparse would print and exit."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(
            **keywords,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
        )
        self.add_argument("-h", "--help", action="help", help="show this and exit")

    def read(self, arguments: Sequence[str]) -> Asked:
        """The arguments, options before, between and behind the others. Raises UsageError."""
        asked, unknown = self.parse_known_intermixed_args(list(arguments))
        if unknown:
            what = unknown[0].partition("=")[0]
            known = re.findall(r"--[a-z][a-z-]+", self.format_help())
            near = get_close_matches(what, known, n=1, cutoff=0.5)
            self.error(f"{what} means nothing here" + (f": did you mean {near[0]}?" if near else ""))
        return asked

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where to look."""
        raise UsageError(message, remedy=f"{self.prog} --help says what is known")


def count(text: str) -> int:
    """A whole number from 1, as an argument's type."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def words(enum: type[StrEnum]) -> list[str]:
    """The words of an enumeration, as an argument's choices."""
    return [member.value for member in enum]

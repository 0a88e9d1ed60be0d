"""argparse, with errors that are raised instead of printed.

argparse and not typer: measured, typer 0.29 costs every command 110 ms (it converts arguments with pydantic),
argparse 7.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import UsageError

Asked = argparse.Namespace
"""A command's own arguments, by name."""


class _Help(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal. argparse asks shutil for that, as soon as an argument is added: 4 ms."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width())


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError where argparse would print and exit."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(
            **keywords,
            allow_abbrev=False,
            formatter_class=_Help,
            add_help=False,
        )
        self.add_argument("-h", "--help", action="help", help="show this and exit")

    def read(self, arguments: Sequence[str]) -> Asked:
        """The arguments, options before, between and behind the others. Raises UsageError."""
        asked, unknown = self.parse_known_intermixed_args(list(arguments))
        if unknown:
            what = unknown[0].partition("=")[0]
            known = re.findall(r"--[a-z][a-z-]+", self.format_help())
            # Late: only who mistyped needs it.
            from difflib import get_close_matches

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


def _width() -> int:
    told = os.environ.get("COLUMNS", "")
    try:
        columns = int(told) if told.isdecimal() else os.get_terminal_size().columns
    except OSError:
        columns = 0  # stdout is no terminal
    return (columns or 80) - 2

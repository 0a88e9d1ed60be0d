"""The options that every command takes where they mean something."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COMMON: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "config": (("--config",), {"metavar": "FILE", "type": Path, "help": "the configuration file"}),
    "server": (("--server",), {"metavar": "URL|NAME", "help": "the OpenCode server, or a configured name"}),
    "dir": (("--dir",), {"metavar": "PATH", "type": Path, "help": "the project directory sessions work in"}),
    "store": (("--store",), {"metavar": "URL", "help": "where runs are kept: sqlite:///… or a path"}),
    "format": (
        ("--format",),
        {
            "choices": ("default", "json"),
            "default": "default",
            "help": "json: one object a line on stdout",
        },
    ),
    "quiet": (("-q", "--quiet"), {"action": "store_true", "help": "no remarks, only results"}),
    "verbose": (
        ("-v", "--verbose"),
        {"action": "count", "default": 0, "help": "say more; -vv: debug lines, every traceback"},
    ),
}


def add_common(parser: ArgumentParser, names: Iterable[str]) -> None:
    """Give a command those of the common options that mean something to it."""
    group = parser.add_argument_group("common options")
    for name in names:
        flags, keywords = COMMON[name]
        group.add_argument(*flags, **keywords)

"""One command line: read, then handed to the command, which is imported only now."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import cleandoc
from typing import Any

from . import arguments
from .parser import Asked, Parser
from .root import Entry
from .shared_options import add_common


def call(entry: Entry, typed: Sequence[str]) -> int:
    """Run one command and return its exit code. Raises UsageError for what was typed wrong."""
    add: Callable[[Parser], None] = getattr(arguments, f"add_{entry.name}")
    parser = Parser(prog=f"reactor {entry.name}", description=cleandoc(add.__doc__ or ""))
    add(parser)
    add_common(parser, entry.takes.split())
    asked = parser.read(typed)
    function = _function(entry)
    from .options import Options

    return function(Options.of(asked), asked) or 0


def _function(entry: Entry) -> Callable[[Any, Asked], int | None]:
    """The command itself, imported now."""
    # Modules are no garbage: looking for some among them, now and at the end, is a tenth of a short command.
    gc.disable()
    module = import_module(f".{entry.module}", __package__)
    gc.freeze()
    gc.enable()
    return getattr(module, entry.name)

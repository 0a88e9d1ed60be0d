"""One command of the table, built for typer: its function's own parameters and the common options."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
import typer.core
import typer.main

from .options import declared, options_from
from .root import Entry


class Command(typer.core.TyperCommand):
    """A command with the common options: they reach its function as `Options` in the context's `obj`."""

    takes: tuple[str, ...] = ()

    def invoke(self, ctx: Any) -> Any:
        """Gather the common options, then call."""
        ctx.obj = options_from({name: ctx.params.pop(name) for name in self.takes})
        return super().invoke(ctx)


def built(entry: Entry) -> Command:
    """The command of one entry, its module imported, the common options behind its own."""
    function = getattr(import_module(f".{entry.module}", __package__), entry.name)
    command = _command(entry.name, function)
    command.takes = tuple(entry.takes.split())
    common = {p.name: p for p in _command("common", declared).params}
    command.params.extend(common[name] for name in command.takes)
    return command


def _command(name: str, function: Any) -> Command:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings = {"help_option_names": ["-h", "--help"]}
    app.command(name, cls=Command, context_settings=settings)(function)
    command = typer.main.get_command(app)
    assert isinstance(command, Command)
    return command

"""The options that every command understands where they mean something, and what they stand for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError
from ..settings import ServerSettings, Settings, load_settings
from .output import Format, Output

LOOPBACK = ("://127.", "://localhost", "://[::1]")


@dataclass(frozen=True, slots=True)
class Options:
    """What was said on the command line beside the command's own options."""

    config: Path | None = None
    server: str | None = None
    dir: Path | None = None
    store: str | None = None
    format: Format = Format.DEFAULT
    quiet: bool = False
    verbose: int = 0
    output: Output = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Output(self.format, quiet=self.quiet))

    def settings(self) -> Settings:
        """The settings in force, with `--store` applied. Raises ConfigError."""
        settings = load_settings(self.config, environ=os.environ, cwd=Path.cwd())
        return settings if self.store is None else settings.with_store(self.store_url(settings))

    def store_url(self, settings: Settings) -> str:
        """Where the store is. A path given with `--store` is taken from here, not from the file's folder."""
        if self.store is None:
            return settings.store
        return self.store if "://" in self.store else str(Path(self.store).expanduser().absolute())

    def chosen_server(self, settings: Settings) -> ServerSettings:
        """The server that was named, else the first configured one. Raises ConfigError."""
        return settings.server(self.server, os.environ)

    def directory(self, server: ServerSettings) -> str:
        """The project directory: absolute, no trailing slash, links resolved where it is on this machine.

        1.1 takes `/x` and `/x/` for two projects, and every version a link and its target: one spelling only.
        """
        path = Path.cwd() / (self.dir or "")
        if not any(mark in server.url for mark in LOOPBACK):
            return os.path.normpath(path)
        if not path.is_dir():
            raise ConfigError(f"--dir {self.dir}: there is no such folder", remedy="correct the path")
        return str(path.resolve())


# Declared once, as a function for typer to read; every command gets those of its parameters that it takes.
def declared(
    config: Annotated[Path | None, typer.Option(help="The configuration file.", metavar="FILE")] = None,
    server: Annotated[
        str | None, typer.Option(help="The OpenCode server, or a configured name.", metavar="URL|NAME")
    ] = None,
    dir: Annotated[  # noqa: A002 - the option's name
        Path | None, typer.Option(help="The project directory sessions work in.", metavar="PATH")
    ] = None,
    store: Annotated[str | None, typer.Option(help="Where runs are kept.", metavar="URL")] = None,
    format: Annotated[  # noqa: A002 - the option's name
        Format, typer.Option(help="json: one object a line on stdout.")
    ] = Format.DEFAULT,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No remarks, only results.")] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Say more; tracebacks too.")
    ] = 0,
) -> None:
    """See `Options`."""


def options_from(told: dict[str, Any]) -> Options:
    """The options out of a command's parameters; those a command does not take have their defaults."""
    return Options(**told)

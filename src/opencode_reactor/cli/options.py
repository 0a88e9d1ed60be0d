"""The options that every command understands where they mean something, and what they stand for."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from ..errors import ConfigError
from ..settings import ServerSettings, Settings, load_settings
from .output import Format, Output
from .shared_options import COMMON

LOOPBACK = ("://127.", "://localhost", "://[::1]")


@dataclass(frozen=True, slots=True)
class Options:
    """What was said on the command line beside the command's own arguments."""

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

    @classmethod
    def of(cls, asked: Namespace) -> Options:
        """The options out of everything that was asked; those a command does not take have their defaults."""
        told: dict[str, Any] = {name: getattr(asked, name) for name in COMMON if hasattr(asked, name)}
        told["format"] = Format(told["format"])
        return cls(**told)

    def settings(self) -> Settings:
        """The settings in force, with `--store` applied. Raises ConfigError."""
        settings = load_settings(self.config, environ=os.environ, cwd=Path.cwd())
        if self.store is None:
            return settings
        # A path typed here is taken from here, not from the file's folder.
        path = self.store if "://" in self.store else str(Path(self.store).expanduser().absolute())
        return settings.with_store(path)

    def typed(self, command: str) -> str:
        """A command as it has to be typed to find what this one kept: on the same store."""
        same = {"--config": self.config and str(self.config.absolute()), "--store": self.store}
        return " ".join([command, *(f"{option} {quote(said)}" for option, said in same.items() if said)])

    def serve(self, url: str) -> str:
        """The command that serves a server: named, where nobody configured it."""
        known = any(server.url == url for server in self.settings().servers)
        return self.typed("reactor serve" if known else f"reactor serve --server {url}")

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

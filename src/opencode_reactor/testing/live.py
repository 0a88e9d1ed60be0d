"""A real OpenCode server, a scripted model, and a project folder that brings the two together."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio

from ..model.sessions import Json
from ..opencode.server import OpenCodeServer
from ..opencode.transport import Login
from .model import ScriptedModel

_GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")


def make_project(directory: Path, config: Mapping[str, Json]) -> Path:
    """Make `directory` a git repository with one commit and an `opencode.json`; returns its real path.

    The commit makes it a project of its own for OpenCode: without one it would be "global". The
    configuration stands in the project, not in the server's environment, so that many projects with models
    of their own can share one server.
    """
    directory.mkdir(parents=True, exist_ok=True)
    real = directory.resolve()
    write_config(real, config)
    # The person's own git settings (templates, hooks, signing) have no say here.
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "--no-verify", "-m", "A project")):
        subprocess.run([*_GIT, *command], cwd=real, env=environment, check=True)  # noqa: S603
    return real


def write_config(directory: Path, config: Mapping[str, Json]) -> None:
    """Write the project's `opencode.json`. The server reads it when it first hears of the directory."""
    (directory / "opencode.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class LiveServer:
    """What a live test is given: a server that runs, a project, and the model that answers there."""

    version: str
    server: OpenCodeServer
    model: ScriptedModel
    directory: Path

    @property
    def url(self) -> str:
        """The server's base URL."""
        return self.server.url

    @property
    def login(self) -> Login:
        """The server's login."""
        return self.server.login

    def configure(self, *, permission: Mapping[str, Json] | None = None, compaction: bool = True) -> None:
        """Set the project's rules. Before the first call to the server, which reads them once."""
        write_config(self.directory, self.model.opencode_config(permission=permission, compaction=compaction))

    async def restart(self) -> None:
        """SIGTERM, then start again on the same port and files."""
        await anyio.to_thread.run_sync(self.server.restart)

    async def kill9(self) -> None:
        """Kill the server without a word; it stays away until `restart`."""
        await anyio.to_thread.run_sync(self.server.kill9)

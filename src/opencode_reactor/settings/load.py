"""Where the settings come from: the file in force, the environment, and what holds without either."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from ..errors import ConfigError
from .values import DEFAULT_URL, ServerSettings, Settings, server_from_environment

APP = "opencode-reactor"
FILE = "reactor.toml"
_HOMES = {"win32": "~/AppData/Local", "darwin": "~/Library/Application Support"}
"""Where configuration and state are on systems that do not tell them apart."""


def find_file(config: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The configuration file in force, None where there is none.

    Raises ConfigError if a file that was named (by `--config` or $REACTOR_CONFIG) does not exist.
    """
    named, how = (config, "--config") if config else (environ.get("REACTOR_CONFIG"), "$REACTOR_CONFIG")
    if named:
        path = cwd / Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(f"{how} names a file that does not exist: {path}", remedy="correct the path")
        return path
    user = _folder(environ, "XDG_CONFIG_HOME", "~/.config")
    candidates = (cwd / FILE, cwd / ".opencode" / FILE, user / FILE)
    return next((path for path in candidates if path.is_file()), None)


def load_settings(
    config: Path | None = None, *, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Settings:
    """The settings from the file in force, else what holds without one. Raises ConfigError.

    `config` names the file; `environ` and `cwd` are this process's own where they are left out.
    """
    environ, cwd = os.environ if environ is None else environ, cwd or Path.cwd()
    path = find_file(config, environ, cwd)
    if path is None:
        return Settings(
            servers=(server_from_environment(DEFAULT_URL, environ),),
            store=_default_store(environ),
            handlers=_default_handlers(cwd),
        )
    # Late: reading TOML and its keys is a tenth of a command's start, and mostly there is no file.
    from .keys import told_in  # noqa: PLC0415

    told = told_in(path, environ)
    servers = cast("tuple[ServerSettings, ...]", told.pop("servers", ()))
    told.setdefault("store", _default_store(environ))
    told.setdefault("handlers", _default_handlers(cwd))
    return Settings(
        servers=servers or (server_from_environment(DEFAULT_URL, environ),),
        source=path,
        **told,
    )


def _default_store(environ: Mapping[str, str]) -> str:
    state = _folder(environ, "XDG_STATE_HOME", "~/.local/state")
    return f"sqlite://{(state / 'reactor.db').as_posix()}"


def _default_handlers(cwd: Path) -> tuple[Path, ...]:
    return tuple(p for p in (cwd / "handlers", cwd / ".opencode" / "handlers") if p.is_dir())


def _folder(environ: Mapping[str, str], variable: str, otherwise: str) -> Path:
    """The user's folder of that kind, as platformdirs names it: importing that costs 5 ms of every start."""
    told = environ.get(variable) or (sys.platform == "win32" and environ.get("LOCALAPPDATA"))
    # os.path: without any home the ~ stays, and what cannot be used says so.
    return Path(told or os.path.expanduser(_HOMES.get(sys.platform, otherwise)), APP)  # noqa: PTH111

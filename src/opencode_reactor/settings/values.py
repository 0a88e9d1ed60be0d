"""What the configuration says, as values: frozen, and secrets that show themselves to nobody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:4096"
DEFAULT_USERNAME = "opencode"


class Secret:
    """Text that shows itself to nobody but `reveal()`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """One OpenCode server. `url` is its base URL as the reactor names it everywhere: see `normal_url`.

    `directories` are project directories to watch from the start, as the server sees them.
    """

    name: str
    url: str
    username: str = DEFAULT_USERNAME
    password: Secret | None = None
    directories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`level` is debug, info, warning or error; `format` is text or json."""

    level: str = "info"
    format: str = "text"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the reactor was told. `source` is the file it was told in, None where there is none.

    `permissions` is the plain mapping as written, in its order; the pipeline's policy parses its rules.
    `ask_expiry` in milliseconds, None: asks never expire. `concurrency`: attempts under way at once on one
    server.
    """

    servers: tuple[ServerSettings, ...]
    store: str
    handlers: tuple[Path, ...] = ()
    permissions: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict[str, Any])
    questions: str = "ask"
    ask_expiry: int | None = None
    log: LogSettings = LogSettings()
    concurrency: int = 8
    source: Path | None = None

    def with_store(self, url: str) -> Settings:
        """The same settings on another store."""
        return replace(self, store=url)

    def server(self, name_or_url: str | None, environ: Mapping[str, str]) -> ServerSettings:
        """The server of that name or URL; the first configured one for None. Raises ConfigError.

        A URL that no server is configured for is taken as it is, with the login from the environment.
        """
        if name_or_url is None:
            return self.servers[0]
        if "://" not in name_or_url:
            for server in self.servers:
                if server.name == name_or_url:
                    return server
            known = ", ".join(s.name for s in self.servers)
            raise ConfigError(
                f"no server is named {name_or_url!r}",
                place=str(self.source or ""),
                remedy=f"name one of {known}, or give a URL as in {DEFAULT_URL}",
            )
        url = normal_url(name_or_url)
        return next((s for s in self.servers if s.url == url), server_from_environment(url, environ))


def server_from_environment(url: str, environ: Mapping[str, str]) -> ServerSettings:
    """A server nobody configured, with OpenCode's own login variables."""
    password = environ.get("OPENCODE_SERVER_PASSWORD")
    return ServerSettings(
        name="default",
        url=url,
        username=environ.get("OPENCODE_SERVER_USERNAME") or DEFAULT_USERNAME,
        password=Secret(password) if password else None,
    )


def normal_url(url: str) -> str:
    """The one spelling of a server's base URL: no credentials, no default port, no slash at the end.

    Raises ConfigError for anything that is no http(s) URL of a server. The message never quotes a URL with
    credentials.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(
            "a server's URL has no valid port", remedy=f"write it as in {DEFAULT_URL}"
        ) from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"the URL of the server at {parts.hostname} holds a user name or password",
            remedy="leave them out of the URL: set username and password under [servers.NAME] in"
            " reactor.toml, or OPENCODE_SERVER_USERNAME and OPENCODE_SERVER_PASSWORD in the environment",
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{url!r} is no server's URL", remedy=f"write it as in {DEFAULT_URL}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    tail = "" if port in {None, default} else f":{port}"
    return f"{parts.scheme}://{host}{tail}{parts.path.rstrip('/')}"


def duration(text: str) -> int:
    """Milliseconds of `90s`, `20m`, `1h30m`, `2d`, `500ms`. Raises ValueError for anything else."""
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", text):
        msg = f"{text!r} is no duration: write 90s, 20m, 1h30m or 2d"
        raise ValueError(msg)
    units = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    return round(sum(float(n) * units[u] for n, u in re.findall(r"([\d.]+)(ms|[smhd])", text)))

"""The keys of `reactor.toml`: one table drives the reading, the complaints and the JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .document import Key, Value, read_file
from .values import DEFAULT_URL, DEFAULT_USERNAME, LogSettings, Secret, ServerSettings, duration, normal_url


def told_in(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """What a configuration file says, by key. Raises ConfigError."""
    return read_file(path, environ).table(KEYS)


def config_schema() -> dict[str, Any]:
    """The JSON Schema of `reactor.toml`, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "reactor.toml",
        **_table_schema(KEYS),
    }


def _one_of(*words: str) -> Key:
    def read(value: Value) -> str:
        text = value.text()
        if text not in words:
            near = get_close_matches(text, words, n=1, cutoff=0.5)
            raise value.wrong(f"one of {', '.join(words)}", f"did you mean {near[0]}?" if near else "")
        return text

    return Key(read, {"enum": list(words)})


def _url(value: Value) -> str:
    try:
        return normal_url(value.text())
    except ConfigError as error:
        # Not the message of normal_url: it may quote what a secret turned into.
        message = error.message if "{" not in value.raw else "this is no server's URL"
        raise ConfigError(message, place=value.file.place(value.key), remedy=error.remedy) from None


def _secret(value: Value) -> Secret | None:
    text = value.text()
    return Secret(text) if text else None


def _duration(value: Value) -> int:
    try:
        return duration(value.text())
    except ValueError:
        raise value.wrong("a duration: 90s, 20m, 1h30m or 2d") from None


def _count(value: Value) -> int:
    if type(value.raw) is not int or value.raw < 1:
        raise value.wrong("a whole number from 1")
    return value.raw


def _store(value: Value) -> str:
    text = value.text()
    return text if "://" in text else str(value.file.path.parent / Path(text).expanduser())


def _paths(value: Value) -> tuple[Path, ...]:
    folder = value.file.path.parent
    paths = [(v, folder / Path(v.text()).expanduser()) for v in value.each("a list of paths")]
    for entry, path in paths:
        if not path.exists():
            message = f"handlers: {entry.raw} does not exist (looked in {folder})"
            raise ConfigError(message, place=entry.file.place(entry.key), remedy="correct the path")
    return tuple(path for _, path in paths)


def _directories(value: Value) -> tuple[str, ...]:
    texts = [v.text() for v in value.each("a list of paths")]
    if any(not text.startswith("/") and not re.match(r"[A-Za-z]:", text) for text in texts):
        raise value.wrong("absolute paths, as the server sees them")
    return tuple(text.rstrip("/") or "/" for text in texts)


def _permissions(value: Value) -> dict[str, Any]:
    def rule(entry: Value) -> str | dict[str, str]:
        if isinstance(entry.raw, str):
            return entry.raw
        return {e.key[-1]: e.text() for e in entry.items("allow, always, ask, deny or a table of patterns")}

    return {entry.key[-1]: rule(entry) for entry in value.items("a table of permissions")}


def _log(value: Value) -> LogSettings:
    return LogSettings(**value.table(_LOG_KEYS))


def _servers(value: Value) -> tuple[ServerSettings, ...]:
    return tuple(_server(entry) for entry in value.items("tables: write [servers.NAME]"))


def _server(value: Value) -> ServerSettings:
    told = value.table(_SERVER_KEYS)
    if "url" not in told:
        raise value.wrong("a table with a url", f"add url = {DEFAULT_URL!r}")
    return ServerSettings(name=value.key[-1], **told)


def _text(value: Value) -> str:
    return value.text()


def _string(doc: str) -> dict[str, Any]:
    return {"type": "string", "description": doc}


def _strings(doc: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "description": doc}


def _table_schema(keys: Mapping[str, Key], required: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: dict(key.schema) for name, key in keys.items()},
        **({"required": list(required)} if required else {}),
    }


_ACTION: dict[str, Any] = {"enum": ["allow", "always", "ask", "deny"]}
_PERMISSIONS: dict[str, Any] = {
    "type": "object",
    "description": "What agents may do without asking a person; the last match wins, as in OpenCode",
    "additionalProperties": {"anyOf": [_ACTION, {"type": "object", "additionalProperties": _ACTION}]},
}
_SERVER_KEYS: dict[str, Key] = {
    "url": Key(_url, _string(f"The server's base URL, as in {DEFAULT_URL}")),
    "username": Key(_text, _string(f"Login name; {DEFAULT_USERNAME} where left out")),
    "password": Key(
        _secret, _string("Login password; better {env:NAME} or {file:PATH} than the word itself")
    ),
    "directories": Key(_directories, _strings("Project directories to watch from the start")),
}
_LOG_KEYS: dict[str, Key] = {
    "level": _one_of("debug", "info", "warning", "error"),
    "format": _one_of("text", "json"),
}
KEYS: dict[str, Key] = {
    "servers": Key(
        _servers,
        {"type": "object", "additionalProperties": _table_schema(_SERVER_KEYS, ["url"])},
    ),
    "store": Key(_store, _string("Where runs are kept: sqlite:///absolute/path.db, or a path")),
    "handlers": Key(_paths, _strings("Files and folders of handlers")),
    "permissions": Key(_permissions, _PERMISSIONS),
    "questions": _one_of("ask", "reject"),
    "ask_expiry": Key(_duration, _string("How long an ask waits for an answer: 90s, 20m, 1h30m, 2d")),
    "log": Key(_log, _table_schema(_LOG_KEYS)),
    "concurrency": Key(
        _count,
        {"type": "integer", "minimum": 1, "description": "Attempts under way at once on one server"},
    ),
}

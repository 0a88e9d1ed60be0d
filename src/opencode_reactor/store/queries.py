"""The SQL, by name, and the migrations, by number. Read once, from the package."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

_FILES = ("leases", "runs", "commands", "asks", "deliveries")
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def _text(path: str) -> str:
    # No importlib.resources: its import alone costs 10 ms of every command's start.
    return (Path(__file__).parent / path).read_text(encoding="utf-8")


def split(text: str) -> Iterator[tuple[str, str]]:
    """The named statements of one file, each from its `-- name:` line to the next. Raises ValueError."""
    head, *pieces = _NAME.split(text)
    if any(line and not line.startswith("--") for line in head.splitlines()):
        msg = "SQL before the first `-- name:` line"
        raise ValueError(msg)
    for name, statement in zip(pieces[::2], pieces[1::2], strict=True):
        yield name, statement.strip().removesuffix(";")


@cache
def queries() -> Mapping[str, str]:
    """Every named statement. Raises ValueError where two bear one name."""
    found: dict[str, str] = {}
    for file in _FILES:
        for name, statement in split(_text(f"sql/{file}.sql")):
            if name in found:
                msg = f"two statements are named {name}"
                raise ValueError(msg)
            found[name] = statement
    return found


NEWEST = 1
"""The schema this reactor speaks: the number of the last migration."""


def migration(number: int) -> str:
    """The script that brings the schema from `number - 1` to `number`.

    It is written in the common subset; `SERIAL_KEY` stands for the driver's own growing integer key.
    """
    return _text(f"migrations/{number:04}.sql")

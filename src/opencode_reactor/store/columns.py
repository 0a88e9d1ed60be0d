"""What one column holds: JSON as text, a word of an enumeration, or nothing. Shared by the row modules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

Word = TypeVar("Word", bound=StrEnum)


def _plain(value: object) -> object:
    """What `json` does not know: the read-only kinds of mapping and sequence."""
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, Sequence):
        return list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    msg = f"{type(value).__name__} is no JSON"
    raise TypeError(msg)


def dump(value: object) -> str:
    """JSON text, ASCII: half a surrogate pair in a model's words is then no trouble to any database."""
    return json.dumps(value, separators=(",", ":"), default=_plain)


def load(text: str) -> Any:
    """What `dump` was given, of dicts and lists. Raises ValueError on what is no JSON."""
    # Half of all such columns hold nothing, and asking a parser for that takes ten times as long.
    return None if text == "null" else [] if text == "[]" else json.loads(text)


def word(value: StrEnum | None) -> str | None:
    """A plain `str`: drivers look at exact types first."""
    return None if value is None else value.value


def read(kind: type[Word], value: str | None) -> Word | None:
    """The word again. Raises ValueError on one that the enumeration does not know."""
    return None if value is None else kind(value)

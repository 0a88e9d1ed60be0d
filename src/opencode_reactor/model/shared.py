"""The few nouns that OpenCode's sessions and our own runs and asks have in common.

Apart from `sessions`, which offers them too: each frozen class costs a command 0.7 ms of its start, and one
that only reads the store needs no others of those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as people write it: `provider/model`; the model's own name may hold further slashes."""

    provider: str
    model: str

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """Read `provider/model`. Raises ValueError where either side is missing."""
        provider, slash, model = text.partition("/")
        if not (provider and slash and model):
            msg = f"{text!r} is no model: write provider/model"
            raise ValueError(msg)
        return cls(provider, model)

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of a step, a message, an attempt or a run; they add up."""

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def total(self) -> int:
        """Everything that was processed, cached tokens included."""
        return self.input + self.output + self.reasoning + self.cache_read + self.cache_write

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )


NO_TOKENS = Tokens()


@dataclass(frozen=True, slots=True)
class Option:
    """One answer a question offers."""

    label: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `custom` answers in one's own words are taken unless it is False."""

    question: str
    header: str = ""
    options: tuple[Option, ...] = ()
    multiple: bool = False
    custom: bool = True

"""How a handler's call ended, as one frozen value, and what follows from it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import TypeAlias, cast

from ..backoff import Backoff

LONGEST_WAIT = 30 * 24 * 3600.0
"""Seconds; a handler that says `Retry(after=inf)` is still looked at once a month."""

ERROR_LENGTH = 500


class Retry(Exception):
    """Raised by a handler: not now. Tried again `after` seconds (None: backoff); counts as a try."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Reject(Exception):
    """Raised by a handler: never. The delivery becomes a dead letter at once."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Done:
    """The handler returned, or its filter said that the event is none of its business."""


@dataclass(frozen=True, slots=True)
class Later:
    """The handler raised `Retry`."""

    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The handler raised `Reject`, or the stored event cannot be read any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler or its filter raised anything else, or took longer than its timeout."""

    reason: str


Outcome: TypeAlias = Done | Later | Rejected | Failed


@dataclass(frozen=True, slots=True)
class Finish:
    """The delivery is done."""


@dataclass(frozen=True, slots=True)
class Postpone:
    """The delivery is tried again `wait` seconds from now; its lane waits with it."""

    tries: int
    wait: float
    error: str


@dataclass(frozen=True, slots=True)
class Bury:
    """The delivery is given up, kept as a dead letter; its lane goes on."""

    tries: int
    error: str


Decision: TypeAlias = Finish | Postpone | Bury


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a delivery is tried again, and how long it rests in between."""

    retries: int
    backoff: Backoff


def decide(outcome: Outcome, tries: int, patience: Patience, random: Random) -> Decision:
    """What follows from an outcome; `tries` counts the tries before this one."""
    tries += 1
    match outcome:
        case Done():
            return Finish()
        case Rejected(reason):
            return Bury(tries, shorten(reason))
        case Later(reason) | Failed(reason) if tries > patience.retries:
            return Bury(tries, shorten(reason))
        case Later(reason, after) if after is not None:
            return Postpone(tries, _bounded(after), shorten(reason))
        case Later(reason) | Failed(reason):
            return Postpone(tries, patience.backoff.delay(tries, random), shorten(reason))


def _bounded(seconds: float) -> float:
    # Written so that NaN, which compares false with everything, becomes 0.
    return min(seconds, LONGEST_WAIT) if seconds > 0 else 0.0


def outcome_of(error: BaseException, file: str) -> Outcome:
    """The outcome an exception stands for; `file` is the handler's, whose line the reason names."""
    match error:
        case Retry():
            return Later(error.reason, error.after)
        case Reject():
            return Rejected(error.reason)
        case _:
            return Failed(_sentence(error, file))


def _sentence(error: BaseException, file: str) -> str:
    first = _first(error)
    line = line_in(first, file) or line_in(error, file)
    text = str(first)
    named = f"{type(first).__name__}: {text}" if text else type(first).__name__
    return f"{named} (line {line})" if line else named


def _first(error: BaseException) -> BaseException:
    """What people look for: a task group inside a handler wraps even a single failure."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    return _first(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])


def line_in(error: BaseException, file: str) -> int | None:
    """The innermost line of `file` that `error` passed through; None where it passed through none."""
    found: int | None = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b(basic|bearer)\s+[\w.~+/=-]{6,}"), r"\1 ***"),
    (re.compile(r"(://)[^/\s@]*@"), r"\1***@"),
    (
        re.compile(
            r"(?i)([\w-]*(?:password|passwd|secret|token|api[_-]?key|authorization))"
            r"([\"']?\s*[:=]\s*[\"']?)[^\s\"',;&}]+"
        ),
        r"\1\2***",
    ),
    (re.compile(r"\bsk-[\w-]{8,}"), "sk-***"),
)


def shorten(text: str) -> str:
    """One line of at most 500 characters, with what looks like a secret starred out."""
    # Cut generously first: the patterns must not be fed megabytes that a failing call put into its message.
    line = " ".join(text[: ERROR_LENGTH * 4].split())
    for pattern, stars in _SECRETS:
        line = pattern.sub(stars, line)
    return line if len(line) <= ERROR_LENGTH else f"{line[: ERROR_LENGTH - 1]}…"

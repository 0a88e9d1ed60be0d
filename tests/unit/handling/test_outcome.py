from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from opencode_reactor.backoff import Backoff
from opencode_reactor.handling import Reject, Retry
from opencode_reactor.handling.outcome import (
    ERROR_LENGTH,
    LONGEST_WAIT,
    Bury,
    Decision,
    Done,
    Failed,
    Finish,
    Later,
    Outcome,
    Patience,
    Postpone,
    Rejected,
    decide,
    outcome_of,
    shorten,
)

STEADY = Backoff(first=2.0, factor=2.0, cap=60.0, jitter=0.0)


def after(outcome: Outcome, tries: int = 0, retries: int = 3) -> Decision:
    return decide(outcome, tries, Patience(retries, STEADY), random.Random(0))


@pytest.mark.parametrize(
    ("outcome", "tries", "decision"),
    [
        (Done(), 0, Finish()),
        (Done(), 99, Finish()),
        (Failed("x"), 0, Postpone(1, 2.0, "x")),
        (Failed("x"), 1, Postpone(2, 4.0, "x")),
        (Failed("x"), 2, Postpone(3, 8.0, "x")),
        (Failed("x"), 3, Bury(4, "x")),
        (Rejected("x"), 0, Bury(1, "x")),
        (Later("x"), 0, Postpone(1, 2.0, "x")),
        (Later("x", 0.5), 2, Postpone(3, 0.5, "x")),
        (Later("x", 0.5), 3, Bury(4, "x")),
    ],
)
def test_every_ending_has_one_consequence(outcome: Outcome, tries: int, decision: Decision) -> None:
    assert after(outcome, tries) == decision


def test_without_retries_the_first_failure_is_the_last() -> None:
    assert after(Failed("x"), retries=0) == Bury(1, "x")


@pytest.mark.parametrize(
    ("asked", "given"),
    [(-3.0, 0.0), (math.nan, 0.0), (math.inf, LONGEST_WAIT), (1e300, LONGEST_WAIT), (0.0, 0.0)],
)
def test_a_senseless_wait_is_brought_within_bounds(asked: float, given: float) -> None:
    assert after(Later("x", asked)) == Postpone(1, given, "x")


def test_retry_and_reject_are_words_and_everything_else_is_a_failure() -> None:
    assert outcome_of(Retry("soon", after=2), "") == Later("soon", 2)
    assert outcome_of(Reject("no"), "") == Rejected("no")
    assert outcome_of(ValueError("x"), "") == Failed("ValueError: x")
    assert outcome_of(ValueError(), "") == Failed("ValueError")


def test_a_failure_names_the_line_of_the_handlers_own_file() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Path("/nowhere/at/all").read_text(encoding="utf-8")
    failed = outcome_of(caught.value, __file__)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("FileNotFoundError")
    assert "(line " in failed.reason


def test_of_a_group_of_failures_the_first_is_told() -> None:
    group = ExceptionGroup("many", [ExceptionGroup("inner", [KeyError("a")]), ValueError("b")])
    assert outcome_of(group, "") == Failed("KeyError: 'a'")


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Basic c2VjcmV0MTIz",
        "Bearer secret123secret",
        "http://user:secret123@host/path",
        "https://secret123@host",
        "OPENCODE_SERVER_PASSWORD=secret123",
        '{"api_key": "secret123", "x": 1}',
        "api-key: secret123",
        "token=secret123&x=1",
        "key sk-secret123secret was refused",
    ],
)
def test_what_looks_like_a_secret_is_starred_out(text: str) -> None:
    assert "secret123" not in shorten(text)
    assert "***" in shorten(text)


def test_a_long_or_many_lined_reason_becomes_one_short_line() -> None:
    line = shorten("a\nb\t c" + "x" * 10_000_000)
    assert line.startswith("a b c")
    assert line.endswith("…")
    assert len(line) == ERROR_LENGTH


def test_an_ordinary_sentence_is_left_as_it_is() -> None:
    sentence = "the session ses_1 was not found at http://127.0.0.1:4096/session"
    assert shorten(sentence) == sentence

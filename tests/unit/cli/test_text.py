from __future__ import annotations

import pytest
from hypothesis import given, strategies

from opencode_reactor.cli import text
from opencode_reactor.model.sessions import Tokens


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq...\x1b\\done", "done"),
        ("\x9b2Jcleared", "cleared"),
        ("a\rb", "a\nb"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("bell\x07 nul\x00", "bell\ufffd nul\ufffd"),
        ("\u202etxt.exe", "\ufffdtxt.exe"),
        ("\x1b", ""),
        ("\x1b[", ""),
        ("lone \ud83d half", "lone \ufffd half"),
    ],
)
def test_control_sequences_are_taken_out(hostile: str, harmless: str) -> None:
    assert text.clean(hostile) == harmless


def test_each_character_that_is_taken_out_is_taken_out_wherever_it_stands() -> None:
    reorders = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    for char in [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *reorders, "\ud800", "\udfff"]:
        assert (char in text.clean(f"a{char}b")) == (char in "\n\t")


@given(strategies.text(alphabet=strategies.characters(max_codepoint=0x2100)))
def test_whatever_a_model_writes_no_control_character_is_left(hostile: str) -> None:
    assert not any(ord(char) < 32 and char not in "\n\t" for char in text.clean(hostile))
    assert "\n" not in text.one_line(hostile)
    text.one_line(hostile).encode()


def test_long_text_is_shortened_to_columns_and_not_to_characters() -> None:
    assert text.one_line("a b\n c", 10) == "a b c"
    assert text.one_line("abcdefghij", 5) == "abcd…"
    assert text.one_line("漢字漢字", 5) == "漢字…"
    assert text.columns("e\u0301") == 1


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (-5, "0.0 s"),
        (400, "0.4 s"),
        (12_000, "12 s"),
        (185_000, "3 m 05 s"),
        (7_800_000, "2 h 10 m"),
        (273_600_000, "3 d 4 h"),
    ],
)
def test_spans_are_said_in_two_units(milliseconds: int, said: str) -> None:
    assert text.span(milliseconds) == said


def test_times_are_iso_in_utc_with_milliseconds() -> None:
    assert text.iso(1_760_000_000_123) == "2025-10-09T08:53:20.123Z"
    assert text.iso(None) is None


def test_ago_knows_past_and_future() -> None:
    assert text.ago(1000, 13_000) == "12 s ago"
    assert text.ago(13_000, 1000) == "in 12 s"


def test_amounts_and_prices_are_short() -> None:
    assert [text.amount(Tokens(input=n)) for n in (0, 812, 12_345, 1_200_000)] == ["", "812", "12.3k", "1.2M"]
    assert [text.price(c) for c in (0.0, 0.004, 1.5)] == ["", "$0.0040", "$1.50"]

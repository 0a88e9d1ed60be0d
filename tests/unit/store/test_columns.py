from __future__ import annotations

import json
from enum import StrEnum
from types import MappingProxyType

import pytest

from opencode_reactor.store.columns import dump, load, read, word


class Colour(StrEnum):
    RED = "red"


def test_read_only_mappings_and_tuples_are_json_too() -> None:
    value = MappingProxyType[str, object]({"a": (1, MappingProxyType[str, int]({})), "b": range(2)})
    assert json.loads(dump(value)) == {"a": [1, {}], "b": [0, 1]}


def test_json_is_ascii_so_that_torn_text_is_kept() -> None:
    text = dump(["\ud83d", "\N{SNOWMAN}"])
    assert text.isascii()
    assert json.loads(text) == ["\ud83d", "\N{SNOWMAN}"]


@pytest.mark.parametrize("value", [None, [], {}, [[]], [None], {"a": []}, "null", "[]", 0, False, 1.5])
def test_what_was_dumped_is_loaded_anew_each_time(value: object) -> None:
    once, again = load(dump(value)), load(dump(value))
    assert once == again == value
    assert type(once) is type(value)
    assert once is not again or not isinstance(value, list | dict)


@pytest.mark.parametrize("text", ["", "[", "nul", "[] []"])
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Extra"):
        load(text)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="object is no JSON"):
        dump([object()])


def test_a_word_is_a_plain_string_and_comes_back_as_a_word() -> None:
    assert type(word(Colour.RED)) is str
    assert word(None) is None
    assert read(Colour, "red") is Colour.RED
    assert read(Colour, None) is None
    with pytest.raises(ValueError, match="blue"):
        read(Colour, "blue")

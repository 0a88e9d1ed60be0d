"""Ids of our messages: the same for the same attempt, unlike any other, and in an order servers bear."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.model.sessions import AssistantMessage, Message, UserMessage
from opencode_reactor.pipeline.ids import first_ids, follow_up_ids

FORM = re.compile(r"(msg|prt)_[0-9a-f]{12}[0-9A-Za-z]{14}")
HEX = st.integers(0, 16**12 - 1).map(lambda n: f"{n:012x}")
NAMES = st.text(st.characters(codec="utf-8"), max_size=30)


def there(*ids: str) -> list[Message]:
    return [UserMessage(name, "ses", n) for n, name in enumerate(ids)]


def test_the_first_ids_sort_before_anything_a_server_makes() -> None:
    message, part = first_ids("store", "r1.one.1")
    assert FORM.fullmatch(message)
    assert FORM.fullmatch(part)
    assert message.startswith("msg_000000000000")
    assert message[4:] == part[4:]
    assert message < "msg_203c498e3001ztPMxUGm10Yptf"


def test_the_same_attempt_of_the_same_store_always_has_the_same_ids() -> None:
    # Stores outlive versions of this program: another id for an open attempt would send its prompt twice.
    assert first_ids("store", "r1.one.1") == (
        "msg_000000000000FCLqxAlu0KzwCl",
        "prt_000000000000FCLqxAlu0KzwCl",
    )


@given(NAMES, NAMES, NAMES, NAMES)
def test_two_attempts_never_share_an_id(store: str, attempt: str, other_store: str, other: str) -> None:
    same = (store, attempt) == (other_store, other)
    ambiguous = f"{store}|{attempt}" == f"{other_store}|{other}"
    assert (first_ids(store, attempt) == first_ids(other_store, other)) == (same or ambiguous)


@given(st.lists(HEX, min_size=1, max_size=8), st.integers(2, 9))
def test_a_follow_up_sorts_just_behind_everything_in_its_session(times: list[str], turn: int) -> None:
    messages = there(*(f"msg_{time}00000000000000" for time in times))
    message, part = follow_up_ids("store", "r1.one.1", turn, messages)
    assert FORM.fullmatch(message)
    assert FORM.fullmatch(part)
    last = max(times)
    if last != "f" * 12:
        assert message > max(m.id for m in messages)
        assert int(message[4:16], 16) == int(last, 16) + 1
    assert message[4:] == part[4:]


def test_a_follow_up_behind_the_last_tick_still_has_twelve_digits() -> None:
    message, _ = follow_up_ids("store", "r1.one.1", 2, there("msg_" + "f" * 12 + "0" * 14))
    assert FORM.fullmatch(message)
    assert message.startswith("msg_ffffffffffff")


def test_ids_of_no_servers_making_are_sorted_behind_as_far_as_they_can_be_read() -> None:
    odd = there("msg_", "msg_zzz", "", "x" * 40, "msg_00000000000a")
    message, _ = follow_up_ids("store", "r1.one.1", 2, odd)
    assert message.startswith("msg_00000000000b")


def test_in_an_empty_session_a_follow_up_is_still_an_id() -> None:
    message, _ = follow_up_ids("store", "r1.one.1", 2, [])
    assert message.startswith("msg_000000000001")


def test_each_turn_and_each_look_at_the_same_messages_has_its_own_ids() -> None:
    messages = there("msg_203c498e300100000000000000")
    turns = [follow_up_ids("store", "r1.one.1", turn, messages) for turn in (2, 3, 4)]
    assert len(set(turns)) == 3
    assert follow_up_ids("store", "r1.one.1", 2, messages) == turns[0]
    first, _ = first_ids("store", "r1.one.1")
    assert first not in {message for message, _ in turns}


def test_answers_count_as_much_as_prompts() -> None:
    answer = AssistantMessage("msg_00000000000f00000000000000", "ses", "msg_1", 2)
    message, _ = follow_up_ids("store", "r1.one.1", 2, [*there("msg_00000000000100000000000000"), answer])
    assert message.startswith("msg_000000000010")

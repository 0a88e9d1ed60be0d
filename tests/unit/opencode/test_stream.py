import json
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import BadAnswer
from opencode_reactor.model.events import (
    Event,
    MessagePartUpdated,
    PermissionAsked,
    SessionIdle,
    UnknownEvent,
    event_name,
)
from opencode_reactor.model.sessions import TextPart
from opencode_reactor.opencode import stream
from opencode_reactor.opencode.stream import EventReader, FrameSplitter, Seen, Sink, Tally

CAPTURES = sorted((Path(__file__).parents[2] / "captures").glob("*/*.jsonl"))
ALL_CAPTURES = sorted((Path(__file__).parents[4] / "shared" / "captures").glob("*/*.jsonl"))


class Heard:
    """A reader with what came out of it."""

    def __init__(self, wanted: Callable[[str], bool] = lambda _: True, *, seen: Seen | None = None) -> None:
        self.events: list[Event] = []
        self.control: list[tuple[str, str]] = []
        self.tally = Tally()
        self.sink = Sink(
            "http://server", self.events.append, wanted, SystemClock(), seen or Seen(), self.tally
        )

    def reader(self, connection: str = "c", directory: str = "") -> EventReader:
        return EventReader(
            self.sink,
            connection=connection,
            directory=directory,
            control=lambda name, where: self.control.append((name, where)),
        )

    def hear(self, *frames: object, connection: str = "c", directory: str = "") -> list[Event]:
        reader = self.reader(connection, directory)
        for frame in frames:
            reader.feed(frame if isinstance(frame, bytes) else sse(frame))
        return self.events

    @property
    def names(self) -> list[str]:
        return [event_name(event) for event in self.events]


def sse(value: object) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def frames_of(capture: Path) -> Iterator[dict[str, Any]]:
    for line in capture.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)["data"]


def idle(event_id: str | None = "evt_1", session: str = "ses_1") -> dict[str, Any]:
    head = {"id": event_id} if event_id else {}
    return {**head, "type": "session.idle", "properties": {"sessionID": session}}


def split(*pieces: bytes) -> list[bytes]:
    splitter = FrameSplitter()
    return [frame for piece in pieces for frame in splitter.feed(piece)]


# The splitter


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_end_at_all_three_ends_that_the_specification_has(end: bytes) -> None:
    assert split(b"data: a" + end + end + b"data: b" + end + b"data: c" + end + end) == [b"a", b"b\nc"]


def test_an_end_of_two_characters_may_be_cut_in_two() -> None:
    assert split(b"data: a\r", b"\n\r", b"\ndata: b\r\n\r", b"\n") == [b"a", b"b"]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85"])
def test_other_separators_are_text(character: str) -> None:
    data = f"one{character}two".encode()
    assert split(b"data: " + data + b"\n\n") == [data]


def test_comments_and_other_fields_are_dropped() -> None:
    assert split(b": heartbeat\n\nevent: x\nid: 1\nretry: 5\ndata:tight\ndataset: no\n\n") == [b"tight"]


def test_a_byte_order_mark_at_the_start_is_dropped() -> None:
    assert split(b"\xef\xbb\xbfdata: a\n\n", b"data: b\n\n") == [b"a", b"b"]


def test_data_without_a_colon_is_an_empty_line() -> None:
    assert split(b"data\ndata\n\n") == [b"\n"]


def test_an_unfinished_frame_is_not_given_out() -> None:
    assert split(b"data: a\n") == []
    assert split(b"data: a") == []
    assert split(b"") == []


def test_a_frame_that_never_ends_is_refused_before_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_MAX_FRAME", 1000)
    splitter = FrameSplitter()
    splitter.feed(b"data: ")
    for _ in range(9):
        splitter.feed(b"x" * 100)
    with pytest.raises(BadAnswer):
        splitter.feed(b"x" * 100)


def test_comments_for_ever_are_no_frame_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_MAX_FRAME", 1000)
    assert split(*([b": heartbeat\n\n"] * 500)) == []


def peer(text: str) -> list[bytes]:
    """What httpx-sse makes of it."""
    lines, decoder = SSELineDecoder(), SSEDecoder()
    events = [decoder.decode(line) for line in [*lines.decode(text), *lines.flush()]]
    return [event.data.encode() for event in events if event is not None and event.data]


@given(
    st.lists(st.sampled_from(["data: a", "data:b", "data", ": c", "id: 1", "x", "", "data:  é\u2028"])),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_however_it_is_cut_the_frames_are_those_of_httpx_sse(
    lines: list[str], end: str, cuts: list[int]
) -> None:
    text = end.join([*lines, "", ""])
    raw = text.encode()
    places = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
    pieces = [raw[a:b] for a, b in pairwise(places)]
    assert [frame for frame in split(*pieces) if frame] == peer(text)


def test_an_event_of_16_megabytes_comes_whole_from_small_pieces() -> None:
    text = "x" * 16_000_000
    raw = sse({"type": "message.part.updated", "properties": {"part": part(text)}})
    heard = Heard()
    heard.hear(*(raw[at : at + 1400] for at in range(0, len(raw), 1400)))
    [event] = heard.events
    assert isinstance(event, MessagePartUpdated)
    assert isinstance(event.part, TextPart)
    assert len(event.part.text) == len(text)


def part(text: str) -> dict[str, Any]:
    return {"id": "prt_1", "sessionID": "ses_1", "messageID": "msg_1", "type": "text", "text": text}


# What is remembered


def test_an_event_is_known_as_long_as_the_memory_promises() -> None:
    seen = Seen(size=10)
    assert seen.add("a")
    assert not seen.add("a")
    for number in range(5):
        seen.add(number)
    assert not seen.add("a")


def test_the_memory_is_bounded() -> None:
    seen = Seen(size=10)
    for number in range(10_000):
        seen.add(number)
    assert sum(number in seen for number in range(10_000)) <= 10
    assert 9_999 in seen


# The reader


def test_the_same_event_on_two_streams_is_one_event() -> None:
    heard = Heard()
    heard.hear({"directory": "/p", "project": "x", "payload": idle()}, connection="global")
    heard.hear(idle(), connection="own", directory="/p")
    [event] = heard.events
    assert (event.id, event.directory, event.server) == ("evt_1", "/p", "http://server")
    assert heard.tally.duplicates == 1


def test_the_id_may_stand_behind_the_properties() -> None:
    heard = Heard()
    late = {"type": "session.idle", "properties": {"sessionID": "ses_1"}, "id": "evt_1"}
    heard.hear({"directory": "/p", "payload": late})
    heard.hear(idle(), connection="own", directory="/p")
    assert [event.id for event in heard.events] == ["evt_1"]


def test_a_sync_twin_is_dropped_and_its_plain_event_kept() -> None:
    twin: dict[str, Any] = {
        "id": "evt_1",
        "type": "sync",
        "syncEvent": {"id": "evt_1", "type": "session.idle.1", "data": {}},
    }
    heard = Heard()
    older: dict[str, Any] = {"type": "sync", "syncEvent": {}, "id": "evt_2"}
    heard.hear({"payload": twin}, {"payload": older})
    heard.hear({"payload": idle()})
    assert heard.names == ["session.idle"]
    assert heard.tally.twins == 2


def test_what_nobody_wants_is_dropped_before_it_is_decoded() -> None:
    heard = Heard(lambda name: name == "session.idle")
    heard.hear(b'data: {"id":"e","type":"plugin.added","properties":{broken\n\n', idle())
    assert heard.names == ["session.idle"]
    assert (heard.tally.unwanted, heard.tally.broken) == (1, 0)


def test_an_older_name_is_asked_for_and_delivered_under_the_newer_one() -> None:
    asked: list[str] = []

    def wanted(name: str) -> bool:
        asked.append(name)
        return True

    old: dict[str, Any] = {
        "id": "per_1",
        "sessionID": "ses_1",
        "type": "bash",
        "pattern": "ls",
        "title": "ls",
        "metadata": {},
    }
    heard = Heard(wanted)
    [event] = heard.hear({"type": "permission.updated", "properties": old})
    assert isinstance(event, PermissionAsked)
    assert event.patterns == ("ls",)
    assert set(asked) == {"permission.asked"}


def test_versions_without_ids_get_ids_that_never_come_again() -> None:
    heard = Heard()
    heard.hear(idle(None), idle(None), connection="one")
    heard.hear(idle(None), connection="two")
    assert len({event.id for event in heard.events}) == 3


def test_an_ask_has_one_id_in_every_version() -> None:
    ask = {"id": "per_1", "sessionID": "ses_1", "permission": "bash"}
    heard = Heard()
    heard.hear({"id": "evt_9", "type": "permission.asked", "properties": ask})
    heard.hear({"type": "permission.asked", "properties": ask}, connection="later")
    assert [event.id for event in heard.events] == ["permission.asked:per_1"]
    assert heard.tally.duplicates == 1


def test_text_that_looks_like_a_head_is_not_taken_for_one() -> None:
    tricky = {"properties": {"sessionID": "ses_1", "x": '{"payload":{"id":"evt_0","type":"sync"'}}
    heard = Heard()
    heard.hear(
        {"directory": '/p","payload":{"type":"sync', "payload": idle("evt_7")},
        {**tricky, "type": "session.idle", "id": "evt_8"},
    )
    assert [(event.id, event_name(event)) for event in heard.events] == [
        ("evt_7", "session.idle"),
        ("evt_8", "session.idle"),
    ]
    assert heard.events[0].directory == '/p","payload":{"type":"sync'


def test_heartbeats_of_a_directory_stream_are_not_delivered_besides() -> None:
    heard = Heard()
    beat: dict[str, Any] = {"id": "evt_1", "type": "server.heartbeat", "properties": {}}
    heard.hear(beat, directory="/p")
    heard.hear({"payload": {**beat, "id": "evt_2"}})
    assert [event.id for event in heard.events] == ["evt_2"]


def test_the_stream_s_beginning_and_disposals_are_told_even_when_unwanted() -> None:
    heard = Heard(lambda _: False)
    disposed = {"id": "evt_2", "type": "server.instance.disposed", "properties": {"directory": "/p"}}
    connected: dict[str, Any] = {"id": "evt_1", "type": "server.connected", "properties": {}}
    everywhere: dict[str, Any] = {"id": "evt_3", "type": "global.disposed", "properties": {}}
    heard.hear(
        {"payload": connected},
        {"directory": "/p", "payload": disposed},
        {"directory": "global", "payload": everywhere},
    )
    assert heard.control == [
        ("server.connected", ""),
        ("server.instance.disposed", "/p"),
        ("global.disposed", "global"),
    ]
    assert heard.events == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{",
        b'{"type":"session.idle"',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"type":"session.idle","properties":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type":"session.idle","n":' + b"9" * 10_000 + b"}",
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_json_object_is_counted_and_the_stream_goes_on(data: bytes) -> None:
    heard = Heard()
    heard.hear(b"data: " + data + b"\n\n", idle())
    assert heard.names == ["session.idle"]
    assert heard.tally.broken == 1


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"payload": None},
        {"payload": []},
        {"payload": {"type": 5, "properties": "x"}},
        {"type": None},
        {"type": "session.idle"},
        {"type": "session.idle", "properties": []},
        {"type": "session.idle", "properties": {"sessionID": 7}},
        {"type": "session.status", "properties": {"sessionID": "s", "status": "busy"}},
        {"type": "message.updated", "properties": {"info": {"role": "ghost"}}},
        {"type": "message.updated", "properties": {"info": 10**400}},
        {"type": "message.part.updated", "properties": {"part": {"type": "text"}}},
        {"type": "question.asked", "properties": {"id": "que", "sessionID": "s", "questions": [None]}},
        {"id": {"a": 1}, "type": "a.b", "directory": 3, "properties": {"sessionID": ""}},
    ],
)
def test_an_event_that_lacks_what_its_type_promises_is_unknown_and_kept(frame: dict[str, Any]) -> None:
    heard = Heard()
    [event] = heard.hear(frame)
    assert isinstance(event, UnknownEvent)
    assert event.id


def test_half_a_character_becomes_a_replacement_and_can_be_stored() -> None:
    heard = Heard()
    raw = b'data: {"type":"message.part.updated","properties":{"part":{"id":"p","sessionID":"s",'
    raw += b'"messageID":"m","type":"text","text":"a\\ud83d b \\ud83d\\ude00"}}}\n\n'
    [event] = heard.hear(raw)
    assert isinstance(event, MessagePartUpdated)
    assert isinstance(event.part, TextPart)
    assert event.part.text == "a\ufffd b \U0001f600"
    assert event.part.text.encode()


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    heard = Heard()
    [event] = heard.hear(b'data: {"type":"x.y","properties":{"sessionID":"s\xff"}}\n\n')
    assert event.session_id == "s\ufffd"


# Recorded streams


def test_there_are_captures_of_old_and_new_versions() -> None:
    assert {"1.1.65", "1.18.33"} <= {capture.parent.name for capture in CAPTURES}


def hear_captures(captures: Iterable[Path]) -> Heard:
    heard = Heard()
    for number, capture in enumerate(captures):
        heard.hear(*frames_of(capture), connection=str(number))
    return heard


def test_every_known_event_of_the_captures_is_read_and_none_is_broken() -> None:
    heard = hear_captures(CAPTURES)
    unknown = {event.name for event in heard.events if isinstance(event, UnknownEvent)}
    assert heard.tally.broken == 0
    assert unknown <= {
        "plugin.added",
        "catalog.updated",
        "reference.updated",
        "integration.updated",
        "project.updated",
        "session.next.agent.switched",
        "session.next.model.switched",
    }


@pytest.mark.skipif(not ALL_CAPTURES, reason="the whole collection of captures is not beside this checkout")
def test_the_whole_collection_is_read_without_an_exception() -> None:
    v1 = [capture for capture in ALL_CAPTURES if not capture.name.startswith("api_")]
    heard = hear_captures(v1)
    assert heard.tally.broken == 0
    assert len(heard.events) > 7_000


def test_both_streams_of_one_turn_give_each_event_once() -> None:
    of_turn = [
        capture for capture in CAPTURES if capture.parent.name == "1.18.33" and "happy" in capture.name
    ]
    both = Heard()
    for number, capture in enumerate(of_turn):
        directory = "" if ".global." in capture.name else "/project"
        both.hear(*frames_of(capture), connection=str(number), directory=directory)
    ids = [event.id for event in both.events]
    assert len(of_turn) == 2
    assert len(ids) == len(set(ids))
    assert both.tally.duplicates > 20
    assert sum(isinstance(event, SessionIdle) for event in both.events) == 1

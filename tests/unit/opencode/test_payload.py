import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opencode_reactor.model.events import (
    EVENT_CLASSES,
    Event,
    FileEdited,
    MessagePartDelta,
    MessagePartRemoved,
    MessagePartUpdated,
    MessageRemoved,
    MessageUpdated,
    PermissionAsked,
    QuestionAsked,
    QuestionRejected,
    QuestionReplied,
    SessionDeleted,
    SessionError,
    SessionIdle,
    SessionStatus,
    TodoUpdated,
    UnknownEvent,
)
from opencode_reactor.model.sessions import (
    AssistantMessage,
    CompactionPart,
    MessageError,
    ModelRef,
    Option,
    OtherPart,
    PermissionRequest,
    Question,
    QuestionRequest,
    ReasoningPart,
    Retrying,
    Session,
    TextPart,
    Todo,
    Tokens,
    UserMessage,
)
from opencode_reactor.opencode.payload import payload_of
from opencode_reactor.opencode.wire import event_from_payload, event_from_wire

CAPTURES = sorted((Path(__file__).parents[2] / "captures").glob("*/*.jsonl"))
AT: dict[str, Any] = {"id": "evt_1", "server": "http://s", "directory": "/p", "received": 5}


def natural(event_id: str) -> dict[str, Any]:
    return {**AT, "id": event_id}


def again(event: Event) -> Event:
    return event_from_payload(
        payload_of(event),
        server=event.server,
        directory=event.directory,
        received=event.received,
        recovered=event.recovered,
    )


def captured() -> Iterator[Event]:
    for capture in CAPTURES:
        for number, line in enumerate(capture.read_text(encoding="utf-8").splitlines()):
            frame = json.loads(line)["data"]
            yield event_from_wire(
                frame, server="http://s", directory="/p", received=number, connection=f"c.{number}"
            )


def test_every_captured_event_is_the_same_after_it_was_stored() -> None:
    events = list(captured())
    assert len(events) > 300
    assert {type(event) for event in events} >= {cls for cls in EVENT_CLASSES if "asked" in cls.type}
    for event in events:
        assert again(event) == event


MADE = [
    SessionIdle(session="ses_1", **AT),
    SessionDeleted(
        session="ses_1",
        info=Session("ses_1", "/p", "t", 1, 2, parent="ses_0", version="1.2.3", metadata={"a": [1, None]}),
        **AT,
    ),
    SessionStatus(session="ses_1", status=Retrying(3, "wait", 99, "account_rate_limit"), **AT),
    SessionError(**AT),
    SessionError(
        session="ses_1", error=MessageError("APIError", "m", 500, headers={"a": "b"}, body="x"), **AT
    ),
    MessageUpdated(
        session="ses_1", message=UserMessage("msg_1", "ses_1", 4, "build", ModelRef("p", "m/n")), **AT
    ),
    MessageUpdated(
        session="ses_1",
        message=AssistantMessage(
            "msg_2",
            "ses_1",
            "msg_1",
            4,
            completed=9,
            finish="stop",
            summary=True,
            error=MessageError("MessageAbortedError", "Aborted", retryable=True),
            agent="build",
            model=ModelRef("p", "m"),
            tokens=Tokens(1, 2, 3, 4, 5),
            cost=0.25,
        ),
        **AT,
    ),
    *(
        MessagePartUpdated(session="ses_1", part=part, delta="x", **AT)
        for part in (
            ReasoningPart("prt_1", "ses_1", "msg_1", "hm"),
            CompactionPart("prt_1", "ses_1", "msg_1", auto=True, overflow=True),
            OtherPart("prt_1", "ses_1", "msg_1", "patch"),
            TextPart("prt_1", "ses_1", "msg_1", "a", synthetic=True, ignored=True, compaction_continue=True),
        )
    ),
    MessageRemoved(session="ses_1", message="msg_1", **AT),
    MessagePartRemoved(session="ses_1", message="msg_1", part="prt_1", **AT),
    MessagePartDelta(session="ses_1", message="msg_1", part="prt_1", field="text", delta="x", **AT),
    PermissionAsked(
        session="ses_1",
        request=PermissionRequest(
            "per_1", "ses_1", "bash", ("ls",), ("ls *",), {"command": "ls"}, "msg_1", "c"
        ),
        **natural("permission.asked:per_1"),
        recovered=True,
    ),
    QuestionAsked(
        session="ses_1",
        request=QuestionRequest(
            "que_1",
            "ses_1",
            (Question("Which?", "Pick", (Option("A", "a"),), multiple=True, custom=False),),
            "msg_1",
        ),
        **natural("question.asked:que_1"),
    ),
    QuestionReplied(
        session="ses_1", request="que_1", answers=(("A",), ()), **natural("question.replied:que_1")
    ),
    QuestionRejected(session="ses_1", request="que_1", **natural("question.rejected:que_1")),
    TodoUpdated(session="ses_1", todos=(Todo("x", "pending", "high", "1"),), **AT),
    FileEdited(file="/p/ä\u2028.txt", **AT),
    UnknownEvent(name="x.y", session="ses_1", properties={"sessionID": "ses_1", "n": [1.5, None]}, **AT),
    UnknownEvent(name="session.idle", properties={"sessionID": 5}, **AT),
]


@pytest.mark.parametrize("event", MADE, ids=lambda event: type(event).__name__)
def test_an_event_nobody_heard_on_a_wire_can_be_stored_as_well(event: Event) -> None:
    assert again(event) == event


def test_a_payload_is_the_wire_s_own_shape() -> None:
    assert json.loads(payload_of(SessionIdle(session="ses_1", **AT))) == {
        "id": "evt_1",
        "type": "session.idle",
        "properties": {"sessionID": "ses_1"},
    }

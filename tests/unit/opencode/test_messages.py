from typing import Any

import pytest
from pydantic import ValidationError

from opencode_reactor.model.sessions import (
    AssistantMessage,
    CompactionPart,
    MessageError,
    ModelRef,
    OtherPart,
    ReasoningPart,
    StepFinishPart,
    StepStartPart,
    TextPart,
    Tokens,
    ToolPart,
    ToolState,
    UserMessage,
)
from opencode_reactor.opencode.messages import head_from_wire, message_from_wire, part_from_wire

IDS = {"id": "prt_1", "sessionID": "ses_1", "messageID": "msg_1"}
INFO = {"id": "msg_1", "sessionID": "ses_1"}


@pytest.mark.parametrize(
    ("wire", "noun"),
    [
        ({"type": "text", "text": "a"}, TextPart("prt_1", "ses_1", "msg_1", "a")),
        (
            {"type": "text", "text": "a", "synthetic": True, "metadata": {"compaction_continue": True}},
            TextPart("prt_1", "ses_1", "msg_1", "a", synthetic=True, compaction_continue=True),
        ),
        (
            {"type": "text", "text": "a", "ignored": True},
            TextPart("prt_1", "ses_1", "msg_1", "a", ignored=True),
        ),
        ({"type": "reasoning", "text": "hm"}, ReasoningPart("prt_1", "ses_1", "msg_1", "hm")),
        ({"type": "step-start", "snapshot": "x"}, StepStartPart("prt_1", "ses_1", "msg_1")),
        (
            {
                "type": "step-finish",
                "reason": "stop",
                "cost": 0.5,
                "tokens": {
                    "total": 15,
                    "input": 1,
                    "output": 2,
                    "reasoning": 3,
                    "cache": {"read": 4, "write": 5},
                },
            },
            StepFinishPart("prt_1", "ses_1", "msg_1", "stop", Tokens(1, 2, 3, 4, 5), 0.5),
        ),
        (
            {"type": "compaction", "auto": True, "overflow": True},
            CompactionPart("prt_1", "ses_1", "msg_1", auto=True, overflow=True),
        ),
        ({"type": "patch", "hash": "x"}, OtherPart("prt_1", "ses_1", "msg_1", "patch")),
    ],
)
def test_each_part_is_read(wire: dict[str, Any], noun: object) -> None:
    assert part_from_wire({**IDS, **wire}) == noun


@pytest.mark.parametrize(
    ("state", "part"),
    [
        ({"status": "pending", "input": {}, "raw": ""}, {"state": ToolState.PENDING}),
        (
            {
                "status": "completed",
                "input": {"a": 1},
                "output": "o",
                "title": "t",
                "metadata": {"exit": None},
            },
            {"state": ToolState.COMPLETED, "input": {"a": 1}, "output": "o", "title": "t"},
        ),
        ({"status": "error", "error": "no", "output": None}, {"state": ToolState.ERROR, "error": "no"}),
    ],
)
def test_a_tool_call_is_read_in_every_state(state: dict[str, Any], part: dict[str, Any]) -> None:
    wire = {**IDS, "type": "tool", "tool": "bash", "callID": "call_1", "state": state}
    assert part_from_wire(wire) == ToolPart("prt_1", "ses_1", "msg_1", "bash", "call_1", **part)


@pytest.mark.parametrize(
    "wire", [{"type": "text"}, {"type": "text", "text": None}, {"type": "tool", "state": {"status": "odd"}}]
)
def test_a_part_that_lacks_what_its_type_promises_is_another_part(wire: dict[str, Any]) -> None:
    assert isinstance(part_from_wire({**IDS, **wire}), OtherPart)


def test_an_answer_is_read_with_everything_that_decides() -> None:
    message = head_from_wire(
        {
            **INFO,
            "role": "assistant",
            "parentID": "msg_0",
            "time": {"created": 1, "completed": 2},
            "finish": "stop",
            "mode": "build",
            "providerID": "p",
            "modelID": "m/n",
            "cost": 0.5,
            "tokens": {"input": 1, "cache": None},
            "error": {
                "name": "APIError",
                "data": {"statusCode": 503, "isRetryable": True, "responseBody": "x"},
            },
        }
    )
    assert message == AssistantMessage(
        "msg_1",
        "ses_1",
        "msg_0",
        1,
        completed=2,
        finish="stop",
        error=MessageError("APIError", status=503, retryable=True, body="x"),
        agent="build",
        model=ModelRef("p", "m/n"),
        tokens=Tokens(1),
        cost=0.5,
    )


def test_a_user_message_is_read() -> None:
    info: dict[str, Any] = {
        **INFO,
        "role": "user",
        "time": {"created": 7},
        "agent": "build",
        "summary": {"diffs": []},
    }
    model = {"providerID": "p", "modelID": "m", "variant": "high"}
    assert head_from_wire({**info, "model": model}) == UserMessage(
        "msg_1", "ses_1", 7, "build", ModelRef("p", "m")
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"time": {"created": "x", "completed": -1}},
        {"time": None, "cost": "free", "tokens": 3, "finish": 5, "error": "bad", "summary": "x"},
        {"cost": float("inf"), "tokens": {"input": 10**30, "output": 1e300}},
        {"error": {"data": {}}},
    ],
)
def test_what_cannot_be_read_counts_as_absent(odd: dict[str, Any]) -> None:
    assert head_from_wire({**INFO, "role": "assistant", **odd}) == AssistantMessage("msg_1", "ses_1", "", 0)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        {},
        {"role": "assistant"},
        {**INFO, "role": "tool"},
        {**INFO, "id": "", "role": "user"},
    ],
)
def test_a_message_that_does_not_say_what_it_is_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        head_from_wire(value)


def test_a_message_is_not_lost_for_one_of_its_parts() -> None:
    message = message_from_wire(
        {
            "info": {**INFO, "role": "user"},
            "parts": [
                None,
                {"type": "text"},
                {**IDS, "type": "text", "text": "a"},
                {**IDS, "type": "hologram"},
            ],
        }
    )
    assert message.parts == (
        TextPart("prt_1", "ses_1", "msg_1", "a"),
        OtherPart("prt_1", "ses_1", "msg_1", "hologram"),
    )

from __future__ import annotations

import json
from typing import Any


def tool(**state: Any) -> str:
    """As 1.18.33 sent it (captures `permission_once`, `permission_reject`)."""
    return json.dumps(
        {
            "directory": "/project",
            "project": "8b5848fe865f37215a6ec7e4c493abdcae514830",
            "payload": {
                "id": f"evt_{state['status']}",
                "type": "message.part.updated",
                "properties": {
                    "sessionID": "ses_dfc3b8446ffekb4YX5YVZ0ujrQ",
                    "part": {
                        "type": "tool",
                        "tool": "bash",
                        "callID": "call_c5",
                        "state": state,
                        "id": "prt_203c47c43001zZnkyVaeJ04liY",
                        "sessionID": "ses_dfc3b8446ffekb4YX5YVZ0ujrQ",
                        "messageID": "msg_203c47bdc001mGenltkLtydFSu",
                    },
                    "time": 1795359538450,
                },
            },
        }
    )


INPUT = {"command": "echo hi", "description": "run"}
PENDING = tool(status="pending", input={}, raw="")
RUNNING = tool(status="running", input=INPUT, time={"start": 1795359538255})
COMPLETED = tool(
    status="completed",
    input=INPUT,
    output="hi\n",
    metadata={"output": "hi\n", "exit": 0, "truncated": False},
    title="echo hi",
    time={"start": 1795359538255, "end": 1795359538450},
)
FAILED = tool(
    status="error",
    input=INPUT,
    error="The user rejected permission to use this specific tool call." + "!" * 500,
    time={"start": 1795359540353, "end": 1795359540379},
)
TEXT = json.dumps(
    {
        "directory": "/project",
        "payload": {
            "type": "message.part.updated",
            "properties": {
                "part": {
                    "id": "prt_1",
                    "sessionID": "ses_1",
                    "messageID": "msg_1",
                    "type": "text",
                    "text": "hello",
                },
            },
        },
    }
)


async def test_a_tool_call_is_one_line_when_it_ends(stage: Any) -> None:
    await stage.play("log_tools", PENDING, RUNNING, TEXT, COMPLETED)
    (line,) = stage.logs
    assert (line["event"], line["log_level"], line["tool"], line["title"]) == (
        "tool ended",
        "info",
        "bash",
        "echo hi",
    )


async def test_a_failed_tool_call_is_a_warning_with_its_reason_cut_short(stage: Any) -> None:
    await stage.play("log_tools", FAILED)
    (line,) = stage.logs
    assert (line["event"], line["log_level"]) == ("tool failed", "warning")
    assert line["error"].startswith("The user rejected permission")
    assert len(line["error"]) == 120


async def test_nothing_of_it_goes_into_the_store(stage: Any) -> None:
    await stage.play("log_tools", COMPLETED)
    assert await stage.store.delivery(1) is None

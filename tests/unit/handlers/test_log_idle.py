from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

Serve = Callable[[Callable[[str, asyncio.StreamWriter], Any]], AbstractAsyncContextManager[str]]

SESSION = "ses_dfc3b8446ffekb4YX5YVZ0ujrQ"
IDLE = (
    '{"directory": "/project", "project": "8b5848fe865f37215a6ec7e4c493abdcae514830", "payload": {"id": '
    '"evt_203c47e6e001Y8iiR9gTqS9TGL", "type": "session.idle", "properties": {"sessionID": '
    '"ses_dfc3b8446ffekb4YX5YVZ0ujrQ"}}}'
)


def info(**more: str) -> bytes:
    """A session as 1.18.33 has it (capture `subagent`)."""
    session = {
        "id": SESSION,
        "slug": "witty-rocket",
        "version": "1.18.33",
        "directory": "/project",
        "title": "Mend the build",
        "time": {"created": 1795362859859, "updated": 1795362859859},
        **more,
    }
    return json.dumps(session).encode()


def answering(status: str, body: bytes, asked: list[str]) -> Callable[[str, asyncio.StreamWriter], Any]:
    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        asked.append(request.partition("\r\n")[0])
        writer.write(f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n".encode())
        writer.write(f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)

    return answer


async def test_a_root_session_at_rest_is_one_line_with_its_title(stage: Any, serve: Serve) -> None:
    asked: list[str] = []
    async with serve(answering("200 OK", info(), asked)) as stage.server:
        await stage.play("log_idle", IDLE)
    (line,) = stage.logs
    assert (line["event"], line["title"], line["session"]) == ("session is idle", "Mend the build", SESSION)
    assert len(asked) == 1
    assert f"/session/{SESSION}" in asked[0]


async def test_a_subagent_at_rest_is_not_worth_a_line(stage: Any, serve: Serve) -> None:
    async with serve(answering("200 OK", info(parentID="ses_root"), [])) as stage.server:
        await stage.play("log_idle", IDLE)
    assert stage.logs == []
    assert await stage.store.dead_deliveries() == []


async def test_a_session_that_is_gone_is_no_failure(stage: Any, serve: Serve) -> None:
    body = b'{"name":"NotFoundError","data":{"message":"Session not found"}}'
    async with serve(answering("404 Not Found", body, [])) as stage.server:
        await stage.play("log_idle", IDLE)
    assert await stage.store.dead_deliveries() == []


async def test_a_server_in_trouble_is_asked_again_and_then_given_up(stage: Any, serve: Serve) -> None:
    asked: list[str] = []
    async with serve(answering("500 Oops", b'{"name":"UnknownError","data":{"message":"x"}}', asked)) as url:
        stage.server = url
        await stage.play("log_idle", IDLE)
    (dead,) = await stage.store.dead_deliveries()
    assert (dead.handler, dead.tries, len(asked)) == ("log_idle", 2, 2)

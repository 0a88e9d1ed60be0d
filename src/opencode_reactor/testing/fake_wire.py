"""The wire of the OpenCode in memory: its streams and its answers, as httpx sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import httpx

Wire: TypeAlias = dict[str, Any]


class FakeStream(httpx.AsyncByteStream):
    """One SSE connection: what was sent and not read waits here, as it does in the real server.

    With a `directory` it is `/event`: that directory's events alone, without their envelopes.
    """

    def __init__(self, directory: str | None, closed: Callable[[FakeStream], None]) -> None:
        self._directory = directory
        self._closed = closed
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._open = True

    def send(self, directory: str, event: Wire) -> None:
        """Send an event, if this stream carries it; "" is the server's own directory."""
        if not self._open or (self._directory and directory not in {"", self._directory}):
            return
        envelope = {"directory": directory} if directory else {}
        frame = {**envelope, "payload": event} if self._directory is None else event
        self._waiting.put_nowait(f"data: {json.dumps(frame)}\n\n".encode())

    def end(self) -> None:
        """End it, as the server's death does."""
        if self._open:
            self._open = False
            self._waiting.put_nowait(None)
            self._closed(self)

    async def beat(self, seconds: float, name: Callable[[], str]) -> None:
        """Send heartbeats until it ends."""
        while self._open:
            await asyncio.sleep(seconds)
            self.send("", {"id": name(), "type": "server.heartbeat", "properties": {}})

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._waiting.get()) is not None:
            yield piece

    async def aclose(self) -> None:
        """The client went away."""
        self.end()


def json_answer(data: object, status: int = 200) -> httpx.Response:
    """An answer as JSON."""
    content = json.dumps(data).encode()
    return httpx.Response(status, headers={"content-type": "application/json"}, content=content)


def not_found() -> httpx.Response:
    """404, in the server's words."""
    return json_answer({"name": "NotFoundError", "data": {"message": "not found"}}, 404)

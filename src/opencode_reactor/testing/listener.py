"""A loopback HTTP/1.1 listener that can do what web frameworks prevent: stall, cut and reset.

It parses with h11 and carries out the steps of `completions`; what to answer is its owner's affair.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import h11

from .completions import Drop, End, Head, Pause, Send, Step

_READ = 65536


@dataclass(frozen=True, slots=True)
class Heard:
    """One request: header names in lower case, the body whole."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class _Gone(Exception):  # a signal inside this module
    """The other side closed the connection, or we dropped it."""


class Listener:
    """Listens on a free port of 127.0.0.1 while open; `answer` maps each request to steps."""

    def __init__(self, answer: Callable[[Heard], Iterable[Step]]) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def open(self, port: int = 0) -> int:
        """Begin to listen; returns the port. Raises OSError where the port is taken."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is None:
            return
        self._server.close()
        for conversation in self._open:
            conversation.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.ensure_future(_Connection(reader, writer, self._answer).run())
        self._open.add(conversation)
        conversation.add_done_callback(self._open.discard)
        # Also where it is cancelled before its first step, which is before its own clean-up.
        conversation.add_done_callback(lambda _: writer.close())


class _Connection:
    """One TCP connection, many requests in turn."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Callable[[Heard], Iterable[Step]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        """Answer until either side closes. A client's nonsense ends its connection and nothing else."""
        try:
            while (heard := await self._hear()) is not None:
                for step in self._answer(heard):
                    await self._carry_out(step)
                if self._http.our_state is h11.MUST_CLOSE:
                    break
                self._http.start_next_cycle()
        except (_Gone, ConnectionError, h11.RemoteProtocolError):
            pass
        finally:
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()

    async def _hear(self) -> Heard | None:
        request: h11.Request | None = None
        body = bytearray()
        while True:
            match self._http.next_event():
                case h11.NEED_DATA:
                    self._http.receive_data(await self._reader.read(_READ))
                case h11.Request() as request:
                    # Clients may wait for this before they send a large body.
                    if self._http.they_are_waiting_for_100_continue:
                        await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                case h11.Data() as data:
                    body += data.data
                case h11.EndOfMessage():
                    assert request is not None
                    return _heard(request, bytes(body))
                case _:
                    return None

    async def _carry_out(self, step: Step) -> None:
        match step:
            case Head():
                headers = [*step.headers.items(), ("transfer-encoding", "chunked")]
                await self._send(h11.Response(status_code=step.status, headers=headers))
            case Send():
                await self._send(h11.Data(data=step.content))
            case Pause():
                await self._pause(step.seconds)
            case Drop():
                self._drop(step)
                raise _Gone
            case End():
                await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        content = self._http.send(event)
        if content:
            self._writer.write(content)
            await self._writer.drain()

    async def _pause(self, seconds: float | None) -> None:
        """Wait, but not for a client that left: its EOF ends the answer; what it sends meanwhile is kept."""
        clock = asyncio.get_running_loop()
        until = None if seconds is None else clock.time() + seconds
        while until is None or clock.time() < until:
            try:
                async with asyncio.timeout_at(until):
                    content = await self._reader.read(_READ)
            except TimeoutError:
                return
            if not content:
                raise _Gone
            self._http.receive_data(content)

    def _drop(self, step: Drop) -> None:
        if step.reset:
            connection: socket.socket = self._writer.get_extra_info("socket")
            # Linger on, for zero seconds: the kernel sends RST instead of FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()


def _heard(request: h11.Request, body: bytes) -> Heard:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
    return Heard(request.method.decode("ascii"), request.target.decode("ascii"), headers, body)

"""A loopback server that answers whatever bytes a test wants, on real sockets."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def serve() -> Callable[[Answer], AbstractAsyncContextManager[str]]:
    """`async with serve(answer) as url`: each request, head and body as text, is handed to `answer`.

    `answer` writes raw bytes; when it returns, the connection is closed.
    """

    @asynccontextmanager
    async def running(answer: Answer) -> AsyncGenerator[str]:
        conversations: set[asyncio.Task[None]] = set()

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    await answer(await read_request(reader), writer)
                    await writer.drain()
            finally:
                writer.close()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # A task of our own: asyncio's own reports every one that is cancelled as an error.
            conversation = asyncio.ensure_future(converse(reader, writer))
            conversations.add(conversation)
            conversation.add_done_callback(conversations.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            left = list(conversations)
            for conversation in left:
                conversation.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await server.wait_closed()
            await asyncio.sleep(0)  # the transports close their sockets in the loop's next turn

    return running


async def read_request(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return (head + await reader.readexactly(length)).decode()

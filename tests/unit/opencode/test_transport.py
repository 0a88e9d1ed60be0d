import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import httpx
import pytest

from opencode_reactor.errors import (
    BadAnswer,
    ConfigError,
    LoginRefused,
    NotFound,
    Refused,
    ServerError,
    Unreachable,
)
from opencode_reactor.opencode import transport as module
from opencode_reactor.opencode.transport import Call, Login, Transport, base_url, plain_json

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Answer], AbstractAsyncContextManager[str]]

GET = Call("GET", "/session/status", "/project", deadline=2.0)
POST = Call("POST", "/session", "/project", {"title": "ä"}, deadline=2.0)


def answering(raw: bytes) -> Answer:
    async def answer(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return answer


def http(status: str, body: bytes = b"", kind: str = "application/json", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


async def asked(serve: Serve, raw: bytes, call: Call = GET, login: Login | None = None) -> Any:
    async with serve(answering(raw)) as url, Transport(url, login) as transport:
        return await transport.json(call)


# URLs


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("http://127.0.0.1:4096", "http://127.0.0.1:4096"),
        (" http://127.0.0.1:4096/ ", "http://127.0.0.1:4096"),
        ("HTTP://LocalHost:80", "http://localhost"),
        ("https://host:443/oc//", "https://host/oc"),
        ("http://[::1]:4096/", "http://[::1]:4096"),
        ("http://user:pass@host:1/", "http://host:1"),
    ],
)
def test_a_server_has_one_url_however_it_is_written(given: str, normal: str) -> None:
    assert base_url(given)[0] == normal


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:4096", "ftp://host", "http://", "http://host:99999", "http://[::1", "http://h/?a=1"],
)
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        base_url(url)
    assert "http://127.0.0.1:4096" in refused.value.remedy


def test_a_login_in_the_url_is_used_and_never_shown() -> None:
    url, login = base_url("http://m%40e:s%3Acret@host")
    assert login == Login("m@e", "s:cret")
    assert "s:cret" not in repr(login)
    assert "cret" not in url


def test_no_password_is_shown_when_a_url_cannot_be_used() -> None:
    with pytest.raises(ConfigError) as refused:
        base_url("ftp://user:secret@host")
    assert "secret" not in str(refused.value)


# What is sent


async def test_a_call_carries_login_directory_and_body(serve: Serve) -> None:
    heard: list[str] = []

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        heard.append(request)
        writer.write(http("200 OK", b"{}"))

    call = Call("POST", "/session", "/pröject 1%41", {"title": "ä"})
    async with serve(answer) as url, Transport(url, Login("me", "pä")) as transport:
        assert await transport.json(call) == {}
    head, _, body = heard[0].partition("\r\n\r\n")
    lines = head.lower().split("\r\n")
    assert lines[0] == "post /session http/1.1"
    assert f"authorization: basic {base64.b64encode('me:pä'.encode()).decode().lower()}" in lines
    assert "x-opencode-directory: /pr%c3%b6ject%201%2541" in lines
    assert json.loads(body) == {"title": "ä"}


async def test_one_connection_serves_many_calls() -> None:
    connections = 0
    left = asyncio.Event()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http("200 OK", b"{}"))
        writer.close()
        await writer.wait_closed()
        left.set()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Transport(f"http://127.0.0.1:{port}", None) as transport:
        for _ in range(5):
            await transport.json(GET)
    await left.wait()
    server.close()
    assert connections == 1


async def test_a_read_is_asked_again_when_a_kept_connection_was_closed_meanwhile(serve: Serve) -> None:
    calls = 0

    async def answer(_: str, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            writer.write(http("200 OK", b"7"))

    async with serve(answer) as url, Transport(url, None) as transport:
        assert await transport.json(GET) == 7
    assert calls == 2


async def test_what_changes_something_is_never_sent_twice(serve: Serve) -> None:
    calls = 0

    async def answer(_: str, __: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1

    async with serve(answer) as url, Transport(url, None) as transport:
        with pytest.raises(Unreachable):
            await transport.json(POST)
    assert calls == 1


# What comes back


async def test_no_content_is_none(serve: Serve) -> None:
    assert await asked(serve, b"HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n") is None


@pytest.mark.parametrize(
    "raw",
    [
        http("200 OK", b"<!doctype html><title>opencode</title>", "text/html"),
        http("200 OK", b"{}", "text/plain"),
        http("200 OK", b""),
        http("200 OK", b'{"a":'),
        http("200 OK", b"[" * 200_000),
        http("301 Moved Permanently", b"{}", extra="location: http://user:secret@elsewhere/\r\n"),
        http("307 Temporary Redirect", b"{}", extra="location: /x\r\n"),
        http("404 Not Found", b"<html>nginx</html>", "text/html"),
        http("200 OK", b"not gzip", extra="content-encoding: gzip\r\n"),
    ],
)
async def test_an_answer_that_is_not_the_api_s_is_a_bad_answer(serve: Serve, raw: bytes) -> None:
    with pytest.raises(BadAnswer) as bad:
        await asked(serve, raw)
    assert "/session/status" in bad.value.message
    assert bad.value.remedy
    assert "secret" not in str(bad.value)


@pytest.mark.parametrize(
    "raw", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"]
)
async def test_a_broken_conversation_is_unreachable(serve: Serve, raw: bytes) -> None:
    with pytest.raises(Unreachable):
        await asked(serve, raw)


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"])
async def test_a_gateway_that_cannot_reach_the_server_is_no_word_of_the_server(
    serve: Serve, status: str
) -> None:
    with pytest.raises(Unreachable):
        await asked(serve, http(status, b"<html>", "text/html"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            b'{"name":"NotFoundError","data":{"message":"Session not found: ses_x"}}',
            "Session not found: ses_x",
        ),
        (
            b'{"_tag":"QuestionNotFoundError","message":"Question request\\n not found"}',
            "Question request not found",
        ),
        (b'{"_tag":"BadRequest"}', "BadRequest"),
        (
            b'{"data":{"title":5},"error":[{"path":["title"],"message":"expected string"}],"success":false}',
            "expected string at ['title']",
        ),
        (b'{"a":1}', ""),
        (b"[]", ""),
        (b"nonsense", ""),
        (b'{"message":"\\u001b[31mred\\u0000"}', "[31mred"),
    ],
)
async def test_a_refusal_carries_the_server_s_own_words(serve: Serve, body: bytes, words: str) -> None:
    with pytest.raises(Refused) as refused:
        await asked(serve, http("400 Bad Request", body))
    assert refused.value.status == 400
    assert refused.value.message.endswith(f"400 {words}".rstrip())


async def test_a_refusal_is_short_and_holds_no_password(serve: Serve) -> None:
    body = json.dumps({"message": "hunter22 " * 100_000}).encode()
    with pytest.raises(Refused) as refused:
        await asked(serve, http("500 Internal Server Error", body), login=Login("me", "hunter22"))
    assert len(str(refused.value)) < 500
    assert "hunter22" not in str(refused.value)


async def test_404_with_json_says_that_it_is_gone(serve: Serve) -> None:
    with pytest.raises(NotFound) as gone:
        await asked(serve, http("404 Not Found", b'{"name":"NotFoundError","data":{"message":"gone"}}'))
    assert gone.value.status == 404


@pytest.mark.parametrize(
    ("login", "hint"), [(None, "wants a login"), (Login("me", "hunter22"), "refused the login of 'me'")]
)
@pytest.mark.parametrize("kind", ["application/octet-stream", "application/json", "text/html"])
async def test_401_is_about_the_login(serve: Serve, login: Login | None, hint: str, kind: str) -> None:
    with pytest.raises(LoginRefused) as refused:
        await asked(serve, http("401 Unauthorized", b"Unauthorized", kind), login=login)
    assert hint in refused.value.message
    assert "OPENCODE_SERVER_PASSWORD" in refused.value.remedy
    assert "hunter22" not in str(refused.value)


async def test_an_answer_without_end_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BODY", 1 << 20)

    async def answer(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[")
        while True:
            writer.write(b" " * 65536)
            await writer.drain()

    async with serve(answer) as url, Transport(url, None) as transport:
        with pytest.raises(BadAnswer, match="more than 1 MiB"):
            await transport.json(GET)


async def never(_: str, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_a_server_that_never_answers_is_left_at_the_deadline(serve: Serve) -> None:
    async with serve(never) as url, Transport(url, None) as transport:
        with anyio.fail_after(5), pytest.raises(Unreachable, match=r"within 0\.1 s"):
            await transport.json(Call("GET", "/global/health", deadline=0.1))


async def test_a_head_that_comes_drop_by_drop_does_not_stretch_the_deadline(serve: Serve) -> None:
    async def answer(_: str, writer: asyncio.StreamWriter) -> None:
        for byte in http("200 OK", b"{}", extra="x: " + "y" * 500 + "\r\n"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serve(answer) as url, Transport(url, None) as transport:
        with anyio.fail_after(5), pytest.raises(Unreachable):
            await transport.json(Call("GET", "/global/health", deadline=0.2))


async def test_nobody_at_the_port_is_unreachable_with_a_hint() -> None:
    server = await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with Transport(f"http://127.0.0.1:{port}", None) as transport:
        with pytest.raises(Unreachable, match="no connection") as refused:
            await transport.json(GET)
    assert "running" in refused.value.remedy


async def test_a_call_that_is_cancelled_leaves_the_pool_usable(serve: Serve) -> None:
    slow = True

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        if slow:
            await never(request, writer)
        writer.write(http("200 OK", b"1"))

    async with serve(answer) as url, Transport(url, None) as transport:
        for _ in range(40):
            with anyio.move_on_after(0.01):
                await transport.json(GET)
        slow = False
        assert await transport.json(GET) == 1


# Streams


def sse_head(kind: str = "text/event-stream") -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n".encode()


STREAM = Call("GET", "/event", "/project", deadline=1.0, long=True)


async def test_a_stream_is_handed_on_as_it_comes_and_ends_with_the_server(serve: Serve) -> None:
    got: list[bytes] = []
    first = asyncio.Event()

    async def answer(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(sse_head() + b"data: 1\n\n")
        await first.wait()
        writer.write(b"data: 2\n\n")

    def feed(piece: bytes) -> None:
        got.append(piece)
        first.set()

    async with serve(answer) as url, Transport(url, None) as transport:
        await transport.stream(STREAM, feed)
    assert b"".join(got) == b"data: 1\n\ndata: 2\n\n"


async def test_a_compressed_stream_is_read_all_the_same() -> None:
    import gzip  # noqa: PLC0415

    packed = gzip.compress(b"data: 1\n\n")
    headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    inner = httpx.MockTransport(
        lambda _: httpx.Response(200, headers=headers, stream=httpx.ByteStream(packed))
    )
    got: list[bytes] = []
    async with Transport("http://host", None, inner) as transport:
        await transport.stream(STREAM, got.append)
    assert b"".join(got) == b"data: 1\n\n"


async def test_html_is_no_event_stream(serve: Serve) -> None:
    async with serve(answering(sse_head("text/html") + b"<html>")) as url, Transport(url, None) as transport:
        with pytest.raises(BadAnswer, match="text/html"):
            await transport.stream(STREAM, lambda _: None)


async def test_a_stream_that_never_begins_is_left_at_the_deadline(serve: Serve) -> None:
    async with serve(never) as url, Transport(url, None) as transport:
        with anyio.fail_after(5), pytest.raises(Unreachable):
            await transport.stream(Call("GET", "/event", deadline=0.1, long=True), lambda _: None)


async def test_a_stream_cut_in_mid_chunk_is_unreachable(serve: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    async with serve(answering(head + b"ff\r\ndata: 1")) as url, Transport(url, None) as transport:
        with pytest.raises(Unreachable):
            await transport.stream(STREAM, lambda _: None)


async def test_streams_take_no_place_from_calls(serve: Serve) -> None:
    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        if "/event" in request:
            writer.write(sse_head() + b"data: 1\n\n")
            await never(request, writer)
        writer.write(http("200 OK", b"1"))

    opened = 0
    all_open = asyncio.Event()

    def feed(_: bytes) -> None:
        nonlocal opened
        opened += 1
        if opened == 60:
            all_open.set()

    async with serve(answer) as url, Transport(url, None) as transport, anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(transport.stream, STREAM, feed)
        await all_open.wait()
        with anyio.fail_after(5):
            assert await transport.json(GET) == 1
        group.cancel_scope.cancel()


async def test_every_failure_is_one_of_ours() -> None:
    def explode(request: httpx.Request) -> httpx.Response:
        raise httpx.DecodingError("odd", request=request)

    async with Transport("http://host", None, httpx.MockTransport(explode)) as transport:
        with pytest.raises(ServerError):
            await transport.json(GET)


# JSON


def test_plain_json_mends_halves_of_characters() -> None:
    assert plain_json(b'{"a":"x\\ud83d","b":"\\ud83d\\ude00","c":"\\\\ud83d"}') == {
        "a": "x\ufffd",
        "b": "\U0001f600",
        "c": "\\ud83d",
    }


def test_plain_json_raises_value_error_and_recursion_error_alone() -> None:
    for bad in (b"{", b"[" * 100_000, b"9" * 10_000, b""):
        with pytest.raises((ValueError, RecursionError)):
            plain_json(bad)

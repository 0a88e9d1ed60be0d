"""HTTP to one OpenCode server: login, deadlines, size limits, and the mapping of every failure.

The only module that calls httpx. It speaks to httpx's transport and not to its client: redirects, cookies,
environment proxies and netrc are wrong here, and a call costs two thirds of the processor time. What may not
be here: any knowledge of routes or shapes.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import anyio
import httpx

from ..errors import BadAnswer, ConfigError, LoginRefused, NotFound, Refused, Unreachable

_MAX_WORDS = 300
_MAX_ERROR_BODY = 64 * 1024
_MAX_BODY = 256 * 1024 * 1024
"""A session's messages are answered in one piece and hold whole tool outputs."""
_BODY_DEADLINE = 60.0
_GATEWAY = frozenset({502, 503, 504})
_REMEDY_DOWN = "Is it running? `opencode serve --port N` starts one; --server names another."
_REMEDY_STRANGE = "Is this the URL of an OpenCode server, with nothing but it behind?"


@dataclass(frozen=True, slots=True)
class Login:
    """Basic authentication, as `OPENCODE_SERVER_USERNAME` and `OPENCODE_SERVER_PASSWORD` set it."""

    username: str = "opencode"
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `directory` selects the server's instance; `deadline` is in seconds, until the answer
    begins.
    """

    method: str
    path: str
    directory: str = ""
    body: Mapping[str, Any] | None = None
    deadline: float = 10.0
    long: bool = False
    """A call that lasts a turn: it must not take a place among the short ones."""

    def __str__(self) -> str:
        return f"{self.method} {self.path.partition('?')[0]}"


def base_url(url: str) -> tuple[str, Login | None]:
    """The normalised base URL, without credentials or trailing slash, and the login the URL held, if any.

    Raises ConfigError where it is no http(s) URL.
    """
    remedy = "Write it like http://127.0.0.1:4096"
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError("the server's URL cannot be read", remedy=remedy) from error
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise ConfigError("the server's URL is not an http or https URL", remedy=remedy)
    login = None
    if parts.username is not None:
        login = Login(unquote(parts.username) or "opencode", unquote(parts.password or ""))
    name = f"[{host}]" if ":" in host else host
    shown_port = "" if port in {None, {"http": 80, "https": 443}[parts.scheme]} else f":{port}"
    return f"{parts.scheme}://{name}{shown_port}{parts.path.rstrip('/')}", login


class Transport:
    """Calls and streams to one server. Enter it before use; leaving closes every connection."""

    def __init__(self, url: str, login: Login | None, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self.url, in_url = base_url(url)
        login = login or in_url
        self._login = login
        self._inner = inner
        self._headers = {"host": urlsplit(self.url).netloc, "accept-encoding": "identity"}
        if login is not None:
            # The server's own form: UTF-8, as RFC 7617 advises.
            token = b64encode(f"{login.username}:{login.password}".encode()).decode()
            self._headers["authorization"] = f"Basic {token}"
        self._short: httpx.AsyncBaseTransport | None = None
        self._long: httpx.AsyncBaseTransport | None = None

    async def __aenter__(self) -> Self:
        # Streams and turns hold a connection for hours: they must never use up the places of short calls.
        self._short = self._inner or self._pool(max_connections=32)
        self._long = self._inner or self._pool(max_connections=None)
        await self._short.__aenter__()
        if self._long is not self._short:
            await self._long.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        short, long, self._short, self._long = self._short, self._long, None, None
        # Closed even while this task is being cancelled: the server keeps a queue per open stream.
        with anyio.CancelScope(shield=True):
            for pool in {short, long} - {None}:
                assert pool is not None
                await pool.aclose()

    def _pool(self, *, max_connections: int | None) -> httpx.AsyncHTTPTransport:
        # Loading the certificate store costs 20 ms; plain HTTP needs none.
        return httpx.AsyncHTTPTransport(
            verify=self.url.startswith("https:"),
            limits=httpx.Limits(
                max_connections=max_connections, max_keepalive_connections=16, keepalive_expiry=5.0
            ),
        )

    async def json(self, call: Call) -> Any:
        """The decoded JSON answer, None for an answer without a body (204).

        Raises Unreachable, LoginRefused, NotFound, Refused, BadAnswer.
        """
        response, body = await self._exchange(call)
        if response.status_code == HTTPStatus.NO_CONTENT:
            return None
        if _content_type(response) != "application/json":
            raise self._strange(call, f"answered {_content_type(response) or 'without a type'}, not JSON")
        if not body:
            raise BadAnswer(
                f"{self._where(call)}: the server sent an empty answer",
                remedy="OpenCode 1.1 answers so where it does not know the session, agent or model.",
            )
        try:
            return plain_json(body)
        except (ValueError, RecursionError) as error:
            raise self._strange(call, "sent broken JSON") from error

    async def stream(self, call: Call, feed: Callable[[bytes], None]) -> None:
        """Hand every piece of an event stream to `feed` as it comes; return when the server ends it.

        `call.deadline` bounds the wait for the answer's head alone: who listens watches the silence after it.
        Raises what `json` raises.
        """
        with self._mapped(call):
            response = await self._send(call)
            try:
                await self._check(call, response)
                if _content_type(response) != "text/event-stream":
                    raise self._strange(
                        call, f"answered {_content_type(response) or 'nothing'}, no event stream"
                    )
                async for piece in _pieces(response):
                    feed(piece)
            finally:
                await response.aclose()

    async def _exchange(self, call: Call) -> tuple[httpx.Response, bytes]:
        with self._mapped(call):
            response = await self._send(call)
            try:
                await self._check(call, response)
                with anyio.fail_after(max(call.deadline, _BODY_DEADLINE)):
                    return response, await self._read(call, response)
            finally:
                await response.aclose()

    async def _send(self, call: Call) -> httpx.Response:
        pool = self._long if call.long else self._short
        assert pool is not None, "enter the client before using it"
        with anyio.fail_after(call.deadline):
            try:
                return await pool.handle_async_request(self._request(call))
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                # A kept connection that the server closed in the same moment. Only what changes nothing is
                # asked again here; whoever sends a prompt has to look first.
                if call.method != "GET":
                    raise
                return await pool.handle_async_request(self._request(call))

    def _request(self, call: Call) -> httpx.Request:
        headers = dict(self._headers)
        if call.directory:
            # Not as a query parameter: both 1.1.65 and 1.18.33 percent-decode that one twice.
            headers["x-opencode-directory"] = quote(call.directory, safe="/")
        content = None
        if call.body is not None:
            content = json.dumps(call.body, separators=(",", ":")).encode()
            headers["content-type"] = "application/json"
        # Reading is bounded by whoever waits for it: `_send`, `_exchange` and the listener's watchdog.
        timeout = {"connect": min(call.deadline, 5.0), "read": None, "write": call.deadline, "pool": None}
        return httpx.Request(
            call.method,
            self.url + call.path,
            headers=headers,
            content=content,
            extensions={"timeout": timeout},
        )

    async def _check(self, call: Call, response: httpx.Response) -> None:
        status = response.status_code
        if httpx.codes.is_success(status):
            return
        if status == HTTPStatus.UNAUTHORIZED:
            raise self._login_refused()
        if httpx.codes.is_redirect(status):
            raise self._strange(call, f"sends elsewhere ({status}), which is not followed")
        if _content_type(response) != "application/json":
            # Something in between speaks; that a session is gone is only believed from OpenCode itself.
            if status in _GATEWAY:
                raise Unreachable(f"{self._where(call)}: a gateway answered {status}", remedy=_REMEDY_DOWN)
            if status == HTTPStatus.NOT_FOUND:
                raise self._strange(call, "answered 404 without JSON")
        with anyio.fail_after(_BODY_DEADLINE):
            words = _words(await _beginning(response))
        error = NotFound if status == HTTPStatus.NOT_FOUND else Refused
        raise error(f"{self._where(call)}: {status} {self._discreet(words)}".rstrip(), status=status)

    async def _read(self, call: Call, response: httpx.Response) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in _pieces(response):
            pieces.append(piece)
            size += len(piece)
            if size > _MAX_BODY:
                raise self._strange(call, f"sent more than {_MAX_BODY >> 20} MiB")
        return b"".join(pieces)

    @contextmanager
    def _mapped(self, call: Call) -> Generator[None]:
        try:
            yield
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Unreachable(
                f"{self._where(call)}: no answer within {call.deadline:g} s", remedy=_REMEDY_DOWN
            ) from error
        except httpx.ConnectError as error:
            raise Unreachable(f"no connection to {self.url}", remedy=_REMEDY_DOWN) from error
        except httpx.TransportError as error:
            raise Unreachable(f"{self._where(call)}: the connection broke", remedy=_REMEDY_DOWN) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._strange(call, "sent what cannot be decoded") from error

    def _login_refused(self) -> LoginRefused:
        if self._login is None:
            return LoginRefused(
                f"{self.url} wants a login",
                remedy="Set OPENCODE_SERVER_PASSWORD (and OPENCODE_SERVER_USERNAME) as the server has them.",
            )
        return LoginRefused(
            f"{self.url} refused the login of {self._login.username!r}",
            remedy="Check OPENCODE_SERVER_USERNAME and OPENCODE_SERVER_PASSWORD against the server's.",
        )

    def _strange(self, call: Call, what: str) -> BadAnswer:
        return BadAnswer(f"{self._where(call)}: the server {what}", remedy=_REMEDY_STRANGE)

    def _where(self, call: Call) -> str:
        return f"{call} at {self.url}"

    def _discreet(self, words: str) -> str:
        password = self._login.password if self._login else ""
        return words.replace(password, "***") if password else words


def plain_json(data: bytes) -> Any:
    """Decode JSON whose strings can be stored and sent on. Raises ValueError, RecursionError.

    JavaScript cuts strings between the halves of a character and then writes the half as an escape; such a
    string cannot be encoded again. Everything else arrives as UTF-8, so the escape is rare and cheap to see.
    """
    value = json.loads(data.decode("utf-8", "replace"))
    if b"\\ud" in data or b"\\uD" in data:
        text = json.dumps(value, ensure_ascii=False)
        value = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return value


def _content_type(response: httpx.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _pieces(response: httpx.Response) -> AsyncIterable[bytes]:
    # httpx's own iterator costs as much again as all the rest; it is needed only to decompress.
    if response.headers.get("content-encoding", "identity") == "identity":
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        return stream
    return response.aiter_bytes()


async def _beginning(response: httpx.Response) -> bytes:
    body = b""
    async for piece in _pieces(response):
        body += piece
        if len(body) > _MAX_ERROR_BODY:
            break
    return body[:_MAX_ERROR_BODY]


def _words(body: bytes) -> str:
    """The server's own words, on one line and short. Shapes: opencode-server 11."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    found = _message_in(value)
    line = " ".join("".join(c if c.isprintable() else " " for c in found).split())
    return line if len(line) <= _MAX_WORDS else line[: _MAX_WORDS - 1] + "…"


def _message_in(value: Any) -> str:
    match value:
        case {"data": {"message": str(message)}} | {"message": str(message)}:
            return message
        case {"error": [{"message": str(message), **rest}, *_]}:  # the validation errors of 1.1.x
            path = rest.get("path")
            return f"{message} at {path}" if path else message
        case {"name": str(name)} | {"_tag": str(name)}:
            return name
        case _:
            return ""

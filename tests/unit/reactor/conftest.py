"""An OpenCode as far as the engine sees it, behind the real client's transport; the test says what happens.

Tests get it through the fixture `server`: in pytest's importlib mode nothing here can be imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import unquote

import anyio
import httpx
import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.opencode import Client
from opencode_reactor.reactor.lease import LeaseKeeper, Terms
from opencode_reactor.store import Store, open_store

URL = "http://opencode.test"

Json = dict[str, Any]


class Server:
    """Sessions, messages, statuses and asks as JSON, changed by the test at will.

    `before` sees each request first: what it returns is the answer, what it raises happens on the line.
    `during` is awaited while the request is under way. A prompt is stored, and answered at once with the next
    of `answers`; without one its session stays busy.
    """

    def __init__(self) -> None:
        self.version = "1.18.33"
        self.sessions: dict[str, Json] = {}
        self.messages: dict[str, list[Json]] = {}
        self.statuses: dict[str, Json] = {}
        self.permissions: dict[str, Json] = {}
        self.questions: dict[str, Json] = {}
        self.directories: dict[str, str] = {}
        """The directory of each ask; without one it is asked in all."""
        self.answers: list[str] = []
        self.calls: list[tuple[str, str, Json]] = []
        """Everything but reads: method, path and body, in order."""
        self.reads: list[str] = []
        self.before: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
        self.during: Callable[[httpx.Request], Awaitable[None]] | None = None
        self._numbers = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = unquote(request.url.path)
        body: Json = json.loads(request.content) if request.content else {}
        if request.method == "GET":
            self.reads.append(path)
        else:
            self.calls.append((request.method, path, body))
        if self.during is not None:
            await self.during(request)
        answer = self.before(request)
        if answer is not None:
            return answer
        directory = unquote(request.headers.get("x-opencode-directory", ""))
        if request.method == "GET":
            return self._read(path, directory, request.url.params.get("search", ""))
        return self._write(path, directory, body)

    def _read(self, path: str, directory: str, search: str) -> httpx.Response:
        asked = re.fullmatch(r"/session/(ses_\w+)(/message)?", path)
        if asked:
            found = (self.messages if asked[2] else self.sessions).get(asked[1])
            return httpx.Response(404, json={}) if found is None else httpx.Response(200, json=found)
        models = {"m": {"id": "m", "name": "M", "limit": {"context": 1, "output": 1}}}
        lists: Json = {
            "/global/health": {"healthy": True, "version": self.version},
            "/session": [s for s in self.sessions.values() if search in s["title"]],
            "/session/status": self.statuses,
            "/permission": self._asks(self.permissions, directory),
            "/question": self._asks(self.questions, directory),
            "/agent": [{"name": "build", "mode": "primary"}],
            "/config/providers": {"providers": [{"id": "local", "models": models}], "default": {}},
            "/config": {},
        }
        return httpx.Response(200, json=lists[path])

    def _asks(self, asks: dict[str, Json], directory: str) -> list[Json]:
        return [a for name, a in asks.items() if self.directories.get(name, directory) == directory]

    def _write(self, path: str, directory: str, body: Json) -> httpx.Response:
        if path == "/session":
            return httpx.Response(200, json=self.session(body["title"], directory))
        kind, name, deed = path.split("/")[1:]
        if deed == "prompt_async":
            self._prompt(name, body)
            return httpx.Response(204)
        if deed == "abort":
            known = name in self.sessions
            self.statuses.pop(name, None)
            return httpx.Response(200 if known else 404, json=known)
        asks = self.permissions if kind == "permission" else self.questions
        known = asks.pop(name, None) is not None
        return httpx.Response(200 if known else 404, json=known)

    # What a test puts in

    def session(self, title: str, directory: str = "/p", parent: str | None = None) -> Json:
        """Make a session; its id counts up."""
        self._numbers += 1
        name = f"ses_{self._numbers}"
        times = {"created": self._numbers, "updated": self._numbers}
        made = {"id": name, "title": title, "directory": directory, "time": times, "version": "1"}
        self.sessions[name] = made | ({"parentID": parent} if parent else {})
        self.messages[name] = []
        return self.sessions[name]

    def ask(self, request: str, session: str, permission: str = "bash", *patterns: str) -> None:
        """A tool in a session that works asks for permission."""
        self.statuses[session] = {"type": "busy"}
        self.permissions[request] = {
            "id": request,
            "sessionID": session,
            "permission": permission,
            "patterns": list(patterns),
            "always": [],
            "metadata": {},
        }

    def question(self, request: str, session: str, *labels: str) -> None:
        """The model of a session that works asks a question."""
        self.statuses[session] = {"type": "busy"}
        options = [{"label": label, "description": ""} for label in labels]
        asked = {"question": "Which?", "header": "H", "options": options}
        self.questions[request] = {"id": request, "sessionID": session, "questions": [asked]}

    def answer(self, session: str, text: str) -> None:
        """End the session's turn with a text."""
        self._numbers += 1
        asked = [m["info"]["id"] for m in self.messages[session] if m["info"]["role"] == "user"]
        info = {
            "id": f"msg_{self._numbers:012x}00000000000000",
            "role": "assistant",
            "sessionID": session,
            "parentID": asked[-1],
            "time": {"created": 1, "completed": 2},
            "finish": "stop",
            "providerID": "local",
            "modelID": "m",
        }
        common = {"sessionID": session, "messageID": info["id"]}
        parts = [{"id": "prt_a", "type": "step-start"}, {"id": "prt_b", "type": "text", "text": text}]
        self.messages[session].append({"info": info, "parts": [{**part, **common} for part in parts]})
        self.statuses.pop(session, None)

    def _prompt(self, session: str, body: Json) -> None:
        info = {"id": body["messageID"], "role": "user", "sessionID": session, "time": {"created": 1}}
        common = {"sessionID": session, "messageID": info["id"]}
        if all(m["info"]["id"] != info["id"] for m in self.messages[session]):
            parts = [{**part, **common} for part in body["parts"]]
            self.messages[session].append({"info": info, "parts": parts})
        if self.answers:
            self.answer(session, self.answers.pop(0))
        else:
            self.statuses[session] = {"type": "busy"}

    # What a test looks at

    def sent(self, end: str) -> list[tuple[str, Json]]:
        """Paths and bodies of the calls whose path ends so."""
        return [(path, body) for _, path, body in self.calls if path.endswith(end)]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    """The real client of that server, its dialect known."""
    async with Client(URL, login=None, timeout=1.0, transport=httpx.MockTransport(server)) as connected:
        await connected.connect()
        server.reads.clear()
        yield connected


class SetClock(SystemClock):
    """The machine's clock, but that a test sets it ahead (ms)."""

    ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead


@pytest.fixture
def clock() -> SetClock:
    """The store's clock."""
    return SetClock()


@pytest.fixture
async def store(clock: SetClock) -> AsyncIterator[Store]:
    opened = await open_store("sqlite://:memory:", clock=clock)
    yield opened
    await opened.aclose()


@pytest.fixture
def held(store: Store) -> Callable[..., AbstractAsyncContextManager[LeaseKeeper]]:
    """`async with held() as lease:` has the lease on the server in the test's own task group."""

    @asynccontextmanager
    async def holding(ttl: int = 15_000) -> AsyncGenerator[LeaseKeeper]:
        keeper = LeaseKeeper(store, URL, "ada", SystemClock(), Terms(ttl=ttl, renew_every=60.0, margin=0.5))
        begun, done = anyio.Event(), anyio.Event()

        async def work() -> None:
            begun.set()
            await done.wait()

        async with anyio.create_task_group() as group:
            group.start_soon(keeper.hold, work)
            await begun.wait()
            try:
                yield keeper
            finally:
                done.set()

    return holding

"""An OpenCode in memory, behind the client's transport: for faults a real server will not show on demand.

It keeps sessions, messages, statuses and asks, runs scripted turns on the loop's time, and sends the events
of 1.18.33, as far as the reactor reads them. A request can be lost before it arrives or its answer after; an
event lost, late or twice; the whole server killed.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from ..clock import Clock
from .fake_wire import FakeStream, Wire, json_answer, not_found

VERSION = "1.18.33"
HEARTBEAT = 10.0


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each fault is, per request or event."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    lost_event: float = 0.0
    twice_event: float = 0.0
    late_event: float = 0.0
    lying_204: float = 0.0
    """A prompt is answered 204 and not stored."""
    no_part: float = 0.0
    """A prompt's message is stored without its part."""
    slow: float = 0.0
    """Seconds a request may take at most, chosen evenly."""


@dataclass(frozen=True, slots=True)
class Turned:
    """How a scripted turn goes: seconds of work, perhaps an ask in the middle, then an answer or an error."""

    seconds: float = 1.0
    text: str = "done"
    error: Wire | None = None
    asks: str = ""
    """A permission asked for in the middle, as `permission pattern`."""
    never: bool = False
    """Busy until it is aborted."""


Script: TypeAlias = Callable[[str, int], Turned]
"""From a prompt's text, and how many prompts the server had before it, to how its turn goes."""


@dataclass(slots=True)
class _Session:
    info: Wire
    messages: dict[str, Wire] = field(default_factory=dict[str, Wire])
    turn: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """One prompt that began a turn: the outside record that a test judges by."""

    session: str
    message: str
    text: str


class FakeOpenCode:
    """One server. `transport()` is what a `Client` is given; `kill` and `boot` are its life."""

    def __init__(self, clock: Clock, random: Random, script: Script, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.admitted: list[Admitted] = []
        self.up = True
        self._clock = clock
        self._random = random
        self._script = script
        self._ids = 0
        self._sessions: dict[str, _Session] = {}
        self._status: dict[str, Wire] = {}
        self._asks: dict[str, tuple[Wire, asyncio.Future[str]]] = {}
        self._streams: set[FakeStream] = set()
        self._beating: set[asyncio.Task[None]] = set()
        self._answers = self._routes()

    def transport(self) -> httpx.AsyncBaseTransport:
        """A connection to this server for one client."""
        return _Connection(self)

    def kill(self) -> None:
        """SIGKILL: turns, statuses, asks and streams are gone; what was stored stays as it is."""
        self.up = False
        for session in self._sessions.values():
            if session.turn is not None:
                session.turn.cancel()
                session.turn = None
        self._status.clear()
        self._asks.clear()
        self.cut()

    def boot(self) -> None:
        """Start again on the same files."""
        self.up = True

    def cut(self) -> None:
        """End every stream."""
        for stream in list(self._streams):
            stream.end()

    def users(self) -> Mapping[str, list[Wire]]:
        """The user messages of each session."""
        return {
            name: [m for m in s.messages.values() if m["info"]["role"] == "user"]
            for name, s in self._sessions.items()
        }

    # Requests

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """One request, with whatever the faults make of it."""
        faults, roll = self.faults, self._random.random
        if faults.slow:
            await asyncio.sleep(roll() * faults.slow)
        if not self.up or roll() < faults.lost_request:
            raise httpx.ConnectError("the fake does not hear", request=request)
        response = self._route(request)
        if roll() < faults.lost_reply and not isinstance(response.stream, FakeStream):
            raise httpx.ReadError("the fake's answer is lost", request=request)
        return response

    def _route(self, request: httpx.Request) -> httpx.Response:
        parts = urlsplit(str(request.url))
        for method, pattern, answer in self._answers:
            match = pattern.fullmatch(parts.path)
            if method == request.method and match:
                body: Wire = json.loads(request.content) if request.content else {}
                query = {k: v[0] for k, v in parse_qs(parts.query).items()}
                directory = unquote(request.headers.get("x-opencode-directory", ""))
                return answer(_Asked(directory, tuple(match.groups()), query, body))
        return httpx.Response(200, headers={"content-type": "text/html"}, content=b"<html>")

    def _routes(self) -> list[_Route]:
        models = {"m": {"id": "m", "name": "M", "limit": {"context": 100_000, "output": 8_000}}}
        providers = {"providers": [{"id": "fake", "models": models}], "default": {"fake": "m"}}
        table: list[tuple[str, str, Callable[[_Asked], httpx.Response]]] = [
            ("GET", "/global/health", lambda _: json_answer({"healthy": True, "version": VERSION})),
            ("GET", "/global/event", self._listen),
            ("GET", "/event", self._listen),
            ("GET", "/session/status", self._statuses),
            ("GET", "/session", self._list_sessions),
            ("POST", "/session", self._create),
            ("GET", "/session/([^/]+)", self._one_session),
            ("GET", "/session/([^/]+)/message", self._messages),
            ("POST", "/session/([^/]+)/prompt_async", self._prompt),
            ("POST", "/session/([^/]+)/abort", self._abort),
            ("GET", "/permission", self._permissions),
            ("POST", "/permission/([^/]+)/reply", self._reply),
            ("GET", "/question", self._questions),
            ("GET", "/agent", lambda _: json_answer([{"name": "build", "mode": "primary"}])),
            ("GET", "/config/providers", lambda _: json_answer(providers)),
            ("GET", "/config", lambda _: json_answer({})),
        ]
        return [(method, re.compile(path), answer) for method, path, answer in table]

    # Sessions

    def _create(self, asked: _Asked) -> httpx.Response:
        now = self._clock.now()
        info: Wire = {
            "id": self._next("ses"),
            "directory": asked.directory,
            "title": asked.body.get("title", ""),
            "version": VERSION,
            "metadata": asked.body.get("metadata", {}),
            "permission": asked.body.get("permission", []),
            "time": {"created": now, "updated": now},
        }
        self._sessions[info["id"]] = _Session(info)
        self._emit(asked.directory, "session.created", {"sessionID": info["id"], "info": info})
        return json_answer(info)

    def _list_sessions(self, asked: _Asked) -> httpx.Response:
        wanted = asked.query.get("search", "")
        found = [s.info for s in self._sessions.values() if s.info["directory"] == asked.directory]
        return json_answer([info for info in found if wanted in info["title"]])

    def _one_session(self, asked: _Asked) -> httpx.Response:
        session = self._sessions.get(asked.path[0])
        return json_answer(session.info) if session else not_found()

    def _messages(self, asked: _Asked) -> httpx.Response:
        session = self._sessions.get(asked.path[0])
        if session is None:
            return not_found()
        return json_answer([session.messages[key] for key in sorted(session.messages)])

    def _statuses(self, _: _Asked) -> httpx.Response:
        return json_answer(self._status)

    # Turns

    def _prompt(self, asked: _Asked) -> httpx.Response:
        session = self._sessions.get(asked.path[0])
        if session is None:
            return not_found()
        if self._random.random() < self.faults.lying_204:
            return httpx.Response(204)
        self._store_prompt(session, asked.body)
        return httpx.Response(204)

    def _store_prompt(self, session: _Session, body: Wire) -> None:
        message, part = body["messageID"], body["parts"][0]
        info: Wire = {
            "id": message,
            "role": "user",
            "sessionID": session.info["id"],
            "time": {"created": self._clock.now()},
            "agent": "build",
        }
        kept = session.messages.get(message)
        whole = self._random.random() >= self.faults.no_part
        known = kept is not None and bool(kept["parts"])
        if not known:
            parts = [{**part, "messageID": message, "sessionID": session.info["id"]}] if whole else []
            session.messages[message] = {"info": info, "parts": parts}
            self._session_event(session, "message.updated", info=info)
            for each in parts:
                self._session_event(session, "message.part.updated", part=each)
        answered = any(m["info"].get("parentID") == message for m in session.messages.values())
        # The same ids again do nothing while the server lives; after its death they run the turn once more.
        if whole and session.turn is None and (not answered or self._dead_answer(session, message)):
            self.admitted.append(Admitted(session.info["id"], message, part["text"]))
            turned = self._script(part["text"], len(self.admitted) - 1)
            session.turn = asyncio.get_running_loop().create_task(self._turn(session, message, turned))

    def _dead_answer(self, session: _Session, message: str) -> bool:
        answers = [m["info"] for m in session.messages.values() if m["info"].get("parentID") == message]
        return all("completed" not in a["time"] for a in answers)

    async def _turn(self, session: _Session, parent: str, turned: Turned) -> None:
        name = session.info["id"]
        await asyncio.sleep(0.05)  # the status shows a turn only a while after the 204
        self._status[name] = {"type": "busy"}
        self._session_event(session, "session.status", status={"type": "busy"})
        info = self._begin_answer(session, parent)
        await asyncio.sleep(turned.seconds / 2)
        error, text = turned.error, turned.text
        if turned.asks and await self._ask(session, turned.asks) == "reject":
            text = "refused"
        await asyncio.sleep(turned.seconds / 2)
        if turned.never:
            await asyncio.Event().wait()
        self._finish_answer(session, info, text, error)

    def _begin_answer(self, session: _Session, parent: str) -> Wire:
        info: Wire = {
            "id": self._next("msg"),
            "role": "assistant",
            "sessionID": session.info["id"],
            "parentID": parent,
            "time": {"created": self._clock.now()},
            "providerID": "fake",
            "modelID": "m",
        }
        session.messages[info["id"]] = {"info": info, "parts": []}
        self._session_event(session, "message.updated", info=info)
        return info

    def _finish_answer(self, session: _Session, info: Wire, text: str, error: Wire | None) -> None:
        name = session.info["id"]
        common = {"messageID": info["id"], "sessionID": name}
        tokens = {"input": 10, "output": 5, "reasoning": 0, "cache": {"read": 0, "write": 0}}
        done = {**info, "time": {**info["time"], "completed": self._clock.now()}}
        parts: list[Wire] = [{"id": self._next("prt"), "type": "step-start", **common}]
        if error is None:
            done["finish"] = "stop"
            parts.append({"id": self._next("prt"), "type": "text", "text": text, **common})
            finish = {"type": "step-finish", "reason": "stop", "tokens": tokens, "cost": 0.01}
            parts.append({"id": self._next("prt"), **finish, **common})
        else:
            done["error"] = error
        self._status.pop(name, None)
        session.turn = None
        self._drop_asks(name)
        if error is not None:  # after an error the first idle precedes the completion
            self._session_event(session, "session.error", error=error)
            self._session_event(session, "session.idle")
        session.messages[info["id"]] = {"info": done, "parts": parts}
        self._session_event(session, "message.updated", info=done)
        self._session_event(session, "session.status", status={"type": "idle"})
        self._session_event(session, "session.idle")

    def _abort(self, asked: _Asked) -> httpx.Response:
        session = self._sessions.get(asked.path[0])
        if session is not None and session.turn is not None:
            session.turn.cancel()
            session.turn = None
            open_ = [m["info"] for m in session.messages.values() if _unfinished(m["info"])]
            error = {"name": "MessageAbortedError", "data": {"message": "Aborted"}}
            if open_:
                self._finish_answer(session, open_[-1], "", error)
            else:
                self._status.pop(session.info["id"], None)
                self._session_event(session, "session.idle")
        return json_answer(True)

    # Asks

    async def _ask(self, session: _Session, what: str) -> str:
        permission, _, pattern = what.partition(" ")
        request: Wire = {
            "id": self._next("per"),
            "sessionID": session.info["id"],
            "permission": permission,
            "patterns": [pattern],
            "always": [],
            "metadata": {},
        }
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asks[request["id"]] = (request, answer)
        self._emit(session.info["directory"], "permission.asked", request)
        try:
            return await answer
        finally:
            self._asks.pop(request["id"], None)

    def _permissions(self, _: _Asked) -> httpx.Response:
        return json_answer([request for request, _ in self._asks.values()])

    def _questions(self, _: _Asked) -> httpx.Response:
        return json_answer([])

    def _reply(self, asked: _Asked) -> httpx.Response:
        found = self._asks.get(asked.path[0])
        if found is None or found[1].done():
            return not_found()
        request, answer = found
        answer.set_result(asked.body["reply"])
        properties = {"sessionID": request["sessionID"], "requestID": request["id"], **asked.body}
        self._emit(self._sessions[request["sessionID"]].info["directory"], "permission.replied", properties)
        return json_answer(True)

    def _drop_asks(self, session: str) -> None:
        for name in [n for n, (r, _) in self._asks.items() if r["sessionID"] == session]:
            del self._asks[name]

    # Events

    def _listen(self, asked: _Asked) -> httpx.Response:
        stream = FakeStream(asked.directory or None, self._streams.discard)
        self._streams.add(stream)
        stream.send("", {"id": self._next("evt"), "type": "server.connected", "properties": {}})
        beating = asyncio.get_running_loop().create_task(stream.beat(HEARTBEAT, lambda: self._next("evt")))
        self._beating.add(beating)
        beating.add_done_callback(self._beating.discard)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)

    def _session_event(self, session: _Session, name: str, **properties: Any) -> None:
        self._emit(session.info["directory"], name, {"sessionID": session.info["id"], **properties})

    def _emit(self, directory: str, name: str, properties: Wire) -> None:
        event = {"id": self._next("evt"), "type": name, "properties": properties}
        faults, roll = self.faults, self._random.random
        if roll() < faults.lost_event:
            return
        times = 2 if roll() < faults.twice_event else 1
        loop = asyncio.get_running_loop()
        for stream in list(self._streams):
            for _ in range(times):
                if roll() < faults.late_event:
                    loop.call_later(roll() * 3, stream.send, directory, event)
                else:
                    stream.send(directory, event)

    def _next(self, prefix: str) -> str:
        """The server's own form: 12 hex digits of its clock, then something unique."""
        self._ids += 1
        ticks = (self._clock.now() * 4096 + self._ids % 4096) % 2**48
        return f"{prefix}_{ticks:012x}{self._ids:014d}"


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request as a route sees it."""

    directory: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    body: Wire


_Route: TypeAlias = tuple[str, "re.Pattern[str]", Callable[[_Asked], httpx.Response]]


class _Connection(httpx.AsyncBaseTransport):
    def __init__(self, fake: FakeOpenCode) -> None:
        self._fake = fake

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._fake.answer(request)


def _unfinished(info: Wire) -> bool:
    return info["role"] == "assistant" and "completed" not in info["time"]

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any
from urllib.parse import unquote

import anyio
import pytest

from opencode_reactor.backoff import Backoff
from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import LoginRefused, UnsupportedVersion
from opencode_reactor.model.events import Event, event_name
from opencode_reactor.model.sessions import Busy
from opencode_reactor.opencode import Client, Dialect
from opencode_reactor.reactor.watcher import Resync, Watcher, WatchState

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Answer], AbstractAsyncContextManager[str]]

PERMISSION = {"id": "per_1", "sessionID": "ses_1", "permission": "bash"}
QUESTION = {"id": "que_1", "sessionID": "ses_1", "questions": [{"question": "Q?"}]}
BUSY = {"ses_1": {"type": "busy"}}
GLOBAL = ""


class FakeServer:
    """OpenCode as far as a watcher sees it, on real sockets; the test says what happens."""

    def __init__(self, version: str = "1.18.33") -> None:
        self.version = version
        self.down = False
        self.login_refused = False
        self.lists_refused = False
        self.greets = True
        self.lists: dict[str, dict[str, Any]] = {}
        """Per directory what `status`, `permission` and `question` answer."""
        self.broken: set[str] = set()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.changed = asyncio.Condition()
        self._streams: dict[str, list[asyncio.StreamWriter]] = {}
        self._ends: dict[asyncio.StreamWriter, asyncio.Event] = {}

    async def __call__(self, request: str, writer: asyncio.StreamWriter) -> None:
        path = request.split(" ")[1]
        directory = ""
        for line in request.split("\r\n"):
            if line.lower().startswith("x-opencode-directory:"):
                directory = unquote(line.partition(":")[2].strip())
        self.asked[path, directory] += 1
        if self.down:
            return
        if self.login_refused or (self.lists_refused and path == "/permission"):
            writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
        elif path in {"/global/event", "/event"}:
            await self._stream(directory, writer)
        elif directory in self.broken:
            writer.write(b"HTTP/1.1 500 Oops\r\ncontent-type: application/json\r\n\r\n{}")
        else:
            answer = json.dumps(self._answer(path, directory)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + answer)
        await self._notify()

    def _answer(self, path: str, directory: str) -> object:
        if path == "/global/health":
            return {"healthy": True, "version": self.version}
        empty: dict[str, object] = {"/session/status": {}, "/permission": [], "/question": []}
        return self.lists.get(directory, {}).get(path, empty[path])

    async def _stream(self, directory: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        self._ends[writer] = end = asyncio.Event()
        self._streams.setdefault(directory, []).append(writer)
        if self.greets:
            self.say("server.connected", {}, directory)
        await self._notify()
        try:
            await end.wait()
        finally:
            self._streams[directory].remove(writer)

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def say(
        self, name: str, properties: object, directory: str = GLOBAL, *, of: str = "", event_id: str = ""
    ) -> None:
        """Send an event on the global stream, or on that of `directory`."""
        payload = {"type": name, "properties": properties} | ({"id": event_id} if event_id else {})
        frame = payload if directory else {"directory": of, "payload": payload}
        for writer in self._streams.get(directory, []):
            writer.write(b"data: " + json.dumps(frame).encode() + b"\n\n")

    def end_streams(self, directory: str = GLOBAL) -> None:
        for writer in self._streams.get(directory, []):
            self._ends[writer].set()

    def listening(self, directory: str = GLOBAL) -> int:
        return len(self._streams.get(directory, []))

    async def until(self, reached: Callable[[], bool]) -> None:
        async with self.changed:
            with anyio.fail_after(10):
                await self.changed.wait_for(reached)


class Impatient(Client):
    """The real client, with a dialect that lets tests be quick."""

    heartbeat = 10.0
    settle = 0.0

    async def connect(self) -> Dialect:
        return replace(await super().connect(), heartbeat=self.heartbeat, settle=self.settle)


class Watching:
    """A watcher that runs, and what it told."""

    def __init__(self, client: Client) -> None:
        self.events: list[Event] = []
        self.resyncs: list[Resync] = []
        self.order: list[str] = []
        self._moved = asyncio.Condition()
        self.watcher = Watcher(
            client,
            deliver=self._deliver,
            resynced=self._resynced,
            clock=SystemClock(),
            random=Random(7),
            wanted=lambda name: not name.startswith("server."),
        )

    def _deliver(self, event: Event) -> None:
        self.events.append(event)
        self.order.append(event_name(event))

    async def _resynced(self, resync: Resync) -> None:
        self.resyncs.append(resync)
        self.order.append("resync")

    @property
    def names(self) -> list[str]:
        return [event_name(event) for event in self.events]

    async def until(self, reached: Callable[[], bool]) -> None:
        with anyio.fail_after(10):
            while not reached():  # noqa: ASYNC110 - what is awaited is told by plain synchronous calls
                await asyncio.sleep(0.002)


@pytest.fixture
def watch(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractAsyncContextManager[Watching]]:
    """`async with watch(server, "/a") as watching`: a watcher of these directories, running and live."""

    @asynccontextmanager
    async def running(
        server: FakeServer, *directories: str, heartbeat: float = 10.0, live: bool = True
    ) -> AsyncGenerator[Watching]:
        async with serve(server) as url, Impatient(url) as client, anyio.create_task_group() as group:
            client.heartbeat = heartbeat
            watching = Watching(client)
            monkeypatch.setattr(watching.watcher, "_backoff", Backoff(first=0.01, cap=0.05))
            for directory in directories:
                watching.watcher.watch(directory)
            group.start_soon(watching.watcher.run)
            if live:
                with anyio.fail_after(10):
                    await watching.watcher.live.wait()
            yield watching
            group.cancel_scope.cancel()

    return running


Watch = Callable[..., AbstractAsyncContextManager[Watching]]


async def test_the_first_list_is_made_before_it_is_live(watch: Watch) -> None:
    server = FakeServer()
    server.lists["/a"] = {"/session/status": BUSY}
    async with watch(server, "/a") as watching:
        [first, *_] = watching.resyncs
        assert first.whole
        assert first.directories["/a"].statuses == {"ses_1": Busy()}
        assert first.at > 0
        assert watching.watcher.state is WatchState.LIVE


async def test_a_server_without_directories_is_live_too(watch: Watch) -> None:
    async with watch(FakeServer()) as watching:
        assert [dict(resync.directories) for resync in watching.resyncs] == [{}]


async def test_an_event_on_both_streams_is_delivered_once(watch: Watch) -> None:
    server = FakeServer()
    async with watch(server, "/a") as watching:
        await server.until(lambda: server.listening("/a") == 1)
        server.say("session.idle", {"sessionID": "s"}, "/a", event_id="evt_1")
        server.say("session.idle", {"sessionID": "s"}, of="/a", event_id="evt_1")
        server.say("session.idle", {"sessionID": "s"}, of="/a", event_id="evt_2")
        await watching.until(lambda: len(watching.events) == 2)
        await watching.until(lambda: watching.watcher.statistics.duplicates == 1)
        assert [(event.id, event.directory) for event in watching.events] == [
            ("evt_1", "/a"),
            ("evt_2", "/a"),
        ]
        assert all(event.server.startswith("http://127.0.0.1:") for event in watching.events)


async def test_versions_without_ids_are_heard_on_one_stream_only(watch: Watch) -> None:
    server = FakeServer("1.1.65")
    async with watch(server, "/a") as watching:
        server.say("session.idle", {"sessionID": "s"}, of="/a")
        await watching.until(lambda: watching.names == ["session.idle"])
        assert server.asked["/event", "/a"] == 0
        assert "/a" in watching.resyncs[0].directories


@pytest.mark.parametrize("version", ["1.1.65", "1.18.33"])
async def test_a_directory_can_be_added_while_it_runs(watch: Watch, version: str) -> None:
    server = FakeServer(version)
    async with watch(server) as watching:
        watching.watcher.watch("/late")
        watching.watcher.watch("/late")
        await watching.until(lambda: len(watching.resyncs) == 2)
        assert not watching.resyncs[1].whole
        assert set(watching.resyncs[1].directories) == {"/late"}
        assert server.asked["/event", "/late"] == (1 if version == "1.18.33" else 0)


async def test_a_directory_can_be_let_go_while_it_runs(watch: Watch) -> None:
    server = FakeServer()
    async with watch(server, "/a") as watching:
        await server.until(lambda: server.listening("/a") == 1)
        watching.watcher.unwatch("/a")
        watching.watcher.unwatch("/never")
        server.say("session.idle", {"sessionID": "s"}, of="/a", event_id="evt_1")
        await watching.until(lambda: len(watching.events) == 1)
        server.end_streams()
        await watching.until(lambda: sum(r.whole for r in watching.resyncs) == 2)
        assert server.asked["/event", "/a"] == 1


async def test_after_the_stream_ended_everything_is_listed_again(watch: Watch) -> None:
    server = FakeServer()
    async with watch(server, "/a") as watching:
        server.say("session.idle", {"sessionID": "s"}, of="/heard-of", event_id="evt_1")
        await watching.until(lambda: len(watching.events) == 1)
        before = len(watching.resyncs)
        server.end_streams()
        await watching.until(lambda: any(r.whole for r in watching.resyncs[before:]))
        [again] = [r for r in watching.resyncs[before:] if r.whole]
        assert set(again.directories) == {"/a", "/heard-of"}
        assert watching.watcher.statistics.reconnects >= 1


async def test_a_directory_stream_that_ended_lists_its_directory_again(watch: Watch) -> None:
    server = FakeServer()
    async with watch(server, "/a", "/b") as watching:
        await server.until(lambda: server.listening("/a") == server.listening("/b") == 1)
        for times in range(2, 7):
            server.end_streams("/a")
            await server.until(
                lambda n=times: server.asked["/event", "/a"] == n and server.listening("/a") == 1
            )
        lists = server.asked
        await watching.until(lambda: lists["/session/status", "/a"] >= lists["/session/status", "/b"] + 3)
        assert server.asked["/global/event", ""] == server.asked["/event", "/b"] == 1


async def test_a_stream_that_falls_silent_is_left(watch: Watch) -> None:
    server = FakeServer()
    async with watch(server, heartbeat=0.04) as watching:
        await server.until(lambda: server.asked["/global/event", ""] >= 3)
        await watching.until(lambda: watching.watcher.statistics.reconnects >= 2)


async def test_heartbeats_keep_a_stream_alive(watch: Watch) -> None:
    server = FakeServer()
    async with watch(server, heartbeat=0.2) as watching:
        for _ in range(30):
            server.say("server.heartbeat", {})
            await asyncio.sleep(0.05)
        assert server.asked["/global/event", ""] == 1
        assert watching.watcher.statistics.reconnects == 0


async def test_a_stream_that_never_greets_is_not_live_and_is_left(watch: Watch) -> None:
    server = FakeServer()
    server.greets = False
    async with watch(server, heartbeat=0.04, live=False) as watching:
        await server.until(lambda: server.asked["/global/event", ""] >= 2)
        assert not watching.watcher.live.is_set()
        assert watching.resyncs == []
        server.greets = True
        await watching.until(watching.watcher.live.is_set)


async def test_nothing_is_listed_before_the_stream_has_settled(serve: Serve) -> None:
    server = FakeServer()
    async with serve(server) as url, Impatient(url) as client, anyio.create_task_group() as group:
        client.settle = 0.3
        watching = Watching(client)
        watching.watcher.watch("/a")
        group.start_soon(watching.watcher.run)
        await server.until(lambda: server.listening() == 1)
        began = anyio.current_time()
        await watching.watcher.live.wait()
        assert anyio.current_time() - began >= 0.28
        group.cancel_scope.cancel()


async def test_a_server_that_comes_late_is_found(watch: Watch) -> None:
    server = FakeServer()
    server.down = True
    async with watch(server, "/a", live=False) as watching:
        await watching.until(lambda: watching.watcher.state is WatchState.WAITING)
        assert not watching.watcher.live.is_set()
        server.down = False
        await watching.until(watching.watcher.live.is_set)
        assert watching.watcher.statistics.reconnects >= 1


async def test_a_refused_login_ends_it_plainly(serve: Serve) -> None:
    server = FakeServer()
    server.login_refused = True
    async with serve(server) as url, Impatient(url) as client:
        with pytest.raises(LoginRefused):
            await Watching(client).watcher.run()


async def test_a_login_refused_later_ends_it_too(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer()
    async with serve(server) as url, Impatient(url) as client:
        watching = Watching(client)
        monkeypatch.setattr(watching.watcher, "_backoff", Backoff(first=0.01))
        watching.watcher.watch("/a")

        async def refuse() -> None:
            await watching.watcher.live.wait()
            server.login_refused = True
            server.end_streams("/a")

        async with asyncio.TaskGroup() as group:
            group.create_task(refuse())
            with anyio.fail_after(10), pytest.raises(LoginRefused):
                await watching.watcher.run()


async def test_a_login_refused_to_a_list_ends_it_too(serve: Serve) -> None:
    server = FakeServer("1.1.65")
    server.lists_refused = True
    async with serve(server) as url, Impatient(url) as client:
        watching = Watching(client)
        watching.watcher.watch("/a")
        with anyio.fail_after(10), pytest.raises(LoginRefused):
            await watching.watcher.run()


async def test_an_unsupported_version_ends_it_plainly(serve: Serve) -> None:
    async with serve(FakeServer("2.0.0")) as url, Impatient(url) as client:
        with pytest.raises(UnsupportedVersion):
            await Watching(client).watcher.run()


async def test_another_version_after_a_reconnect_is_noticed(watch: Watch) -> None:
    server = FakeServer("1.18.33")
    async with watch(server, "/a") as watching:
        await server.until(lambda: server.listening("/a") == 1)
        server.version = "1.1.65"
        server.end_streams()
        await watching.until(lambda: sum(r.whole for r in watching.resyncs) == 2)
        server.end_streams("/a")
        server.say("session.idle", {"sessionID": "s"}, of="/a")
        await watching.until(lambda: watching.names == ["session.idle"])
        assert server.asked["/event", "/a"] == 1


async def test_only_the_last_directories_that_were_heard_of_are_listed_again(watch: Watch) -> None:
    server = FakeServer("1.1.65")
    async with watch(server) as watching:
        for number in range(200):
            server.say("session.idle", {"sessionID": "s"}, of=f"/{number}")
        await watching.until(lambda: len(watching.events) == 200)
        server.end_streams()
        await watching.until(lambda: len(watching.resyncs) == 2)
        assert len(watching.resyncs[1].directories) == 64
        assert "/199" in watching.resyncs[1].directories


# Asks that were not heard


async def test_a_live_ask_in_a_list_is_delivered_as_recovered(watch: Watch) -> None:
    server = FakeServer()
    server.lists["/a"] = {"/session/status": BUSY, "/permission": [PERMISSION], "/question": [QUESTION]}
    async with watch(server, "/a") as watching:
        await watching.until(lambda: len(watching.events) == 2)
        assert [(event.id, event.recovered, event.directory) for event in watching.events] == [
            ("permission.asked:per_1", True, "/a"),
            ("question.asked:que_1", True, "/a"),
        ]
        assert watching.order[0] == "resync"
        server.end_streams()
        await watching.until(lambda: sum(r.whole for r in watching.resyncs) == 2)
        assert len(watching.events) == 2
        assert watching.watcher.statistics.recovered == 2


async def test_an_ask_of_an_aborted_turn_is_listed_but_not_delivered(watch: Watch) -> None:
    server = FakeServer()
    server.lists["/a"] = {"/permission": [PERMISSION], "/question": [QUESTION]}
    async with watch(server, "/a") as watching:
        assert watching.resyncs[0].directories["/a"].permissions[0].id == "per_1"
        assert watching.events == []


async def test_an_ask_that_was_heard_is_not_found_again_and_the_other_way_round(watch: Watch) -> None:
    server = FakeServer()
    async with watch(server, "/a") as watching:
        server.say("permission.asked", PERMISSION, of="/a", event_id="evt_1")
        await watching.until(lambda: len(watching.events) == 1)
        server.lists["/a"] = {"/session/status": BUSY, "/permission": [PERMISSION], "/question": [QUESTION]}
        server.end_streams()
        await watching.until(lambda: len(watching.events) == 2)
        await server.until(lambda: server.listening() == 1)
        server.say("question.asked", QUESTION, of="/a", event_id="evt_2")
        server.say("session.idle", {"sessionID": "ses_1"}, of="/a", event_id="evt_3")
        await watching.until(lambda: len(watching.events) == 3)
        assert watching.names == ["permission.asked", "question.asked", "session.idle"]


async def test_an_ask_that_was_answered_while_it_was_listed_is_not_delivered(watch: Watch) -> None:
    server = FakeServer()
    async with watch(server, "/a") as watching:
        server.say(
            "permission.replied", {"sessionID": "ses_1", "requestID": "per_1", "reply": "once"}, of="/a"
        )
        server.say("question.rejected", {"sessionID": "ses_1", "requestID": "que_1"}, of="/a")
        await watching.until(lambda: len(watching.events) == 2)
        server.lists["/a"] = {"/session/status": BUSY, "/permission": [PERMISSION], "/question": [QUESTION]}
        server.end_streams()
        await watching.until(lambda: sum(r.whole for r in watching.resyncs) == 2)
        assert watching.names == ["permission.replied", "question.rejected"]


# Trouble with lists


async def test_a_directory_that_cannot_be_listed_keeps_no_other_waiting(watch: Watch) -> None:
    server = FakeServer()
    server.broken = {"/bad"}
    async with watch(server, "/bad", "/good") as watching:
        assert set(watching.resyncs[0].directories) == {"/good"}
        server.broken = set()
        await watching.until(lambda: any("/bad" in r.directories for r in watching.resyncs))


async def test_while_nothing_can_be_listed_it_is_not_live(watch: Watch) -> None:
    server = FakeServer()
    server.broken = {"/bad"}
    async with watch(server, "/bad", live=False) as watching:
        await watching.until(lambda: len(watching.resyncs) >= 3)
        assert not watching.watcher.live.is_set()
        server.broken = set()
        await watching.until(watching.watcher.live.is_set)


async def test_a_disposed_instance_is_listed_again_where_it_is_watched(watch: Watch) -> None:
    server = FakeServer("1.1.65")
    async with watch(server, "/a") as watching:
        server.say("server.instance.disposed", {"directory": "/other"}, of="/other")
        server.say("server.instance.disposed", {"directory": "/a"}, of="/a")
        await watching.until(lambda: len(watching.resyncs) == 2)
        assert set(watching.resyncs[1].directories) == {"/a"}
        server.say("global.disposed", {}, of="global")
        await watching.until(lambda: len(watching.resyncs) == 3)
        assert set(watching.resyncs[2].directories) == {"/a"}


async def test_whoever_is_told_of_a_list_may_be_slow_and_the_stream_goes_on(serve: Serve) -> None:
    server = FakeServer()
    heard: list[Event] = []
    told = asyncio.Event()

    async def slow(_: Resync) -> None:
        told.set()
        await asyncio.Event().wait()

    async with serve(server) as url, Impatient(url) as client, anyio.create_task_group() as group:
        watcher = Watcher(
            client,
            deliver=heard.append,
            resynced=slow,
            clock=SystemClock(),
            random=Random(7),
            wanted=lambda name: name == "session.idle",
        )
        group.start_soon(watcher.run)
        await told.wait()
        for number in range(500):
            server.say("session.idle", {"sessionID": "s"}, of="/a", event_id=f"evt_{number}")
        with anyio.fail_after(10):
            while len(heard) < 500:  # noqa: ASYNC110 - told by a plain synchronous call
                await asyncio.sleep(0.002)
        assert not watcher.live.is_set()
        group.cancel_scope.cancel()

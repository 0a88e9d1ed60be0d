"""Real OpenCode servers for the live tests: each test runs on the newest and on the oldest version.

`live` shares one server per version and gives each test its own project and model. `own_live` starts a server
for the one test that kills or restarts it. Everything is synchronous and serves in threads of its own, so
that no test's event loop, and no blocking call in a test, can stop it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx
import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import ConfigError
from opencode_reactor.model.runs import Run, RunState
from opencode_reactor.opencode.binary import NEWEST, OLDEST, Binary, find_binary
from opencode_reactor.opencode.server import OpenCodeServer
from opencode_reactor.store import Store, open_store
from opencode_reactor.testing import LiveServer, ScriptedModel, make_project

T = TypeVar("T")
HERE = Path(__file__).parent
PATIENCE = 60.0
"""Seconds until a test gives up: the machine may be shared, so only a hang takes as long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(params=[NEWEST, OLDEST])
def version(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Callable[[str], OpenCodeServer]]:
    """The server of a version, started when it is first asked for and again when a test left it dead."""
    started: dict[str, OpenCodeServer] = {}
    with ExitStack() as stack:

        def of_version(version: str) -> OpenCodeServer:
            if version not in started:
                started[version] = stack.enter_context(OpenCodeServer(_binary(version)))
            server = started[version]
            if server.pid is None:
                server.start()
            return server

        yield of_version


@pytest.fixture
def live(
    version: str, shared_server: Callable[[str], OpenCodeServer], tmp_path: Path
) -> Iterator[LiveServer]:
    server = shared_server(version)
    with ScriptedModel() as model:
        directory = make_project(tmp_path / "project", model.opencode_config())
        yield LiveServer(version, server, model, directory)
        _quieten(server, directory)


@pytest.fixture
def own_live(version: str, tmp_path: Path) -> Iterator[LiveServer]:
    with ScriptedModel() as model, OpenCodeServer(_binary(version)) as server:
        directory = make_project(tmp_path / "project", model.opencode_config())
        yield LiveServer(version, server, model, directory)


@dataclass(frozen=True)
class Finished:
    """What a command left behind. `took` in seconds, the interpreter's start included."""

    code: int
    out: str
    err: str
    took: float

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output, read as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


class Command:
    """One `reactor` process, whose lines are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._began = time.monotonic()
        self._news = threading.Condition()
        self._lines: dict[str, list[str]] = {"out": [], "err": []}
        streams = {"out": process.stdout, "err": process.stderr}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in streams.items()
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._news:
                    self._lines[name].append(line)
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def says(self, text: str) -> str:
        """The first line with that text, on whichever stream, as soon as it is there."""
        return self._await(lambda: next((line for line in self._all() if text in line), None), repr(text))

    def emits(self, type_: str, **holds: object) -> dict[str, Any]:
        """The first JSON line of that type whose fields hold these values, as soon as it is there."""

        def find() -> dict[str, Any] | None:
            for text in self._lines["out"]:
                line: dict[str, Any] = json.loads(text)
                if line["type"] == type_ and all(line.get(key) == value for key, value in holds.items()):
                    return line
            return None

        return self._await(find, f"{type_} {holds}")

    def _await(self, find: Callable[[], T | None], what: str) -> T:
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while (found := find()) is None:
                over = not any(reader.is_alive() for reader in self._readers)
                if over or not self._news.wait(timeout=deadline - time.monotonic()):
                    pytest.fail(f"no {what} in:\n{''.join(self._all())}")
            return found

    def _all(self) -> list[str]:
        return [*self._lines["err"], *self._lines["out"]]

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> Finished:
        """Wait until it ended by itself."""
        try:
            self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not end:\n{''.join(self._all())}")
        for reader in self._readers:
            reader.join()
        took = time.monotonic() - self._began
        return Finished(
            self._process.returncode, "".join(self._lines["out"]), "".join(self._lines["err"]), took
        )

    def stop(self, number: int = signal.SIGTERM) -> Finished:
        """Send a signal and wait for the end; `took` is from the signal on."""
        self._began = time.monotonic()
        self.send(number)
        return self.end()

    @property
    def over(self) -> bool:
        """Whether it ended."""
        return self._process.poll() is not None

    def away(self) -> None:
        """Kill it if it still runs: the test is over."""
        if not self.over:
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()


class Terminal:
    """A person at a terminal in the project: real `reactor` processes, one home, one store."""

    def __init__(self, live: LiveServer, home: Path) -> None:
        self.live = live
        self.home = home
        self.store = home / "state" / "opencode-reactor" / "reactor.db"
        self.config = home / "config" / "opencode-reactor" / "reactor.toml"
        self.config.parent.mkdir(parents=True)
        self.configure("")
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "LANG": "C.UTF-8",
            "OPENCODE_SERVER_PASSWORD": live.login.password,
        }
        self._started: list[Command] = []

    def configure(self, more: str) -> None:
        """Write the configuration: the live server, and `more` in front of it."""
        server = f'[servers.live]\nurl = "{self.live.url}"\npassword = "{{env:OPENCODE_SERVER_PASSWORD}}"\n'
        self.config.write_text(f"{more}\n{server}", encoding="utf-8")

    def start(self, *arguments: str, **environ: str) -> Command:
        """Start a command in the project's folder."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "opencode_reactor", *arguments],
            cwd=self.live.directory,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        command = Command(process)
        self._started.append(command)
        return command

    def __call__(self, *arguments: str, **environ: str) -> Finished:
        """Run a command to its end."""
        return self.start(*arguments, **environ).end()

    def away(self) -> None:
        """End what is left of the commands."""
        for command in self._started:
            command.away()

    def file(self, name: str, content: str | Mapping[str, Any]) -> str:
        """A file in the person's home, JSON (and so YAML) if it is a mapping; returns its path."""
        path = self.home / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    def pipeline(self, *stages: Mapping[str, Any], **keys: Any) -> str:
        """A pipeline's file; returns its path."""
        name = f"flow{len(list(self.home.glob('flow*')))}"
        return self.file(f"{name}.yaml", {"name": name, **keys, "stages": stages})

    def stored(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Do something with the store the processes use."""

        async def session() -> T:
            store = await open_store(str(self.store), clock=SystemClock())
            try:
                async with asyncio.timeout(PATIENCE):
                    return await work(store)
            finally:
                await store.aclose()

        return asyncio.run(session())

    def only_run(self) -> Run:
        """The one run in the store."""

        async def read(store: Store) -> list[Run]:
            return await store.runs()

        (run,) = self.stored(read)
        return run

    def succeeded(self, run: str) -> Run:
        """The run, as soon as it has succeeded."""
        found: list[Run] = []

        async def wait(store: Store) -> None:
            changed = asyncio.Event()
            unregister = store.changed(changed.set)
            try:
                while (last := await store.run(run)).state is not RunState.SUCCEEDED:
                    await changed.wait()
                    changed.clear()
                found.append(last)
            finally:
                unregister()

        self.stored(wait)
        return found[0]

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of which nobody tells: a file, the server's own state."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "it does not come to hold"
            time.sleep(0.05)

    def asked(self, text: str, count: int = 1) -> None:
        """Wait until the model was asked this so many times."""
        asyncio.run(self.live.model.wait_for(text, count, within=PATIENCE))

    def prompted(self, text: str) -> int:
        """How often this was put to the model as a new turn, tools' results apart."""
        return sum(r.messages[-1].get("role") == "user" for r in self.live.model.asked(text))

    def http(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """A plain call to the server, as any other program makes it; returns the JSON of its answer."""
        login = self.live.login
        answer = httpx.request(
            method,
            self.live.url + path,
            params={"directory": str(self.live.directory)},
            json=body,
            auth=(login.username, login.password),
            timeout=PATIENCE,
            trust_env=False,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


@pytest.fixture
def terminal(live: LiveServer, tmp_path: Path) -> Iterator[Terminal]:
    """Depends on `live`, so the commands end before the server is tidied up."""
    person = Terminal(live, tmp_path / "person")
    yield person
    person.away()


def _binary(version: str) -> Binary:
    try:
        return find_binary(version, start=HERE)
    except ConfigError:
        # Never skipped in silence: a green run without the real server would prove nothing.
        pytest.fail(f"opencode {version} is not in .opencode-bin: run `make test`", pytrace=False)


def _quieten(server: OpenCodeServer, directory: Path) -> None:
    """Stop what a test left running: before 1.18 a failing turn is retried for ever."""
    if server.pid is None:
        return
    with (
        suppress(httpx.TransportError),
        httpx.Client(
            base_url=server.url,
            auth=(server.login.username, server.login.password),
            params={"directory": str(directory)},
            timeout=5.0,
            trust_env=False,
        ) as client,
    ):
        for session in client.get("/session/status").json():
            client.post(f"/session/{session}/abort")
        client.post("/instance/dispose")

"""`reactor doctor`: everything this machine needs is tried, a line each, with the mend where it fails."""

from __future__ import annotations

import platform
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio

from ..clock import SystemClock
from ..errors import ConfigError, ReactorError, ServerError, UsageError
from ..handling import load as load_handlers
from ..opencode import Client
from ..settings import ServerSettings, Settings
from ..store import open_store
from .connected import client_of
from .options import Options
from .output import Cell, Output
from .parser import Asked
from .text import one_line

FIRST_FRAME = 8.0
"""Seconds in which a stream has to say its first word; the server says `server.connected` at once."""
_OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried. `error` is empty where it works; `mend` says what to do."""

    name: str
    fact: str
    error: str = ""
    mend: str = ""
    code: int = 0


def doctor(options: Options, _asked: Asked) -> int:
    """Try everything, a line each."""
    codes: set[int] = set()

    async def examine() -> None:
        async for finding in _findings(options):
            codes.add(finding.code)
            _tell(options.output, finding)

    anyio.run(examine)
    return min(codes - {0}, default=0)


def _tell(out: Output, finding: Finding) -> None:
    ok = not finding.error
    if out.json:
        shape = {"name": finding.name, "ok": ok, "fact": finding.fact or finding.error, "mend": finding.mend}
        out.emit("finding", shape)
        return
    mark = Cell("ok", "green") if ok else Cell("FAIL", "bold red")
    out.line(f"{mark.text:4}  {finding.name:24}  {one_line(finding.fact or finding.error)}")
    if finding.mend:
        out.line(f"      {'':24}  -> {finding.mend}")


async def _findings(options: Options) -> AsyncIterator[Finding]:
    yield _python()
    try:
        settings = options.settings()
        servers = settings.servers if options.server is None else (options.chosen_server(settings),)
    except ConfigError as error:
        yield _failed("configuration", error)
        return
    yield Finding("configuration", str(settings.source or "no file: a local server and ./handlers"))
    yield await _store(settings)
    yield _handlers(settings)
    for server in servers:
        async for finding in _server(server, options):
            yield finding


def _python() -> Finding:
    fact = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST_PYTHON:
        return Finding("python", "", fact, "install Python 3.11 or newer", UsageError.exit_code)
    return Finding("python", fact)


async def _store(settings: Settings) -> Finding:
    try:
        store = await open_store(settings.store, clock=SystemClock())
        try:
            live = [run for run in await store.runs(limit=1000) if not run.state.final]
        finally:
            await store.aclose()
    except ReactorError as error:
        return _failed("store", error)
    return Finding("store", f"{store.url}, {len(live)} runs under way")


def _handlers(settings: Settings) -> Finding:
    loaded = load_handlers(settings.handlers)
    if loaded.problems:
        first = loaded.problems[0]
        others = f" (and {len(loaded.problems) - 1} more: `reactor check`)" if loaded.problems[1:] else ""
        error = f"{first.place}: {first.message}{others}"
        return Finding("handlers", "", error, first.remedy, first.exit_code)
    return Finding("handlers", f"{len(loaded.handlers)} loaded")


async def _server(server: ServerSettings, options: Options) -> AsyncIterator[Finding]:
    async with client_of(server) as client:
        try:
            dialect = await client.connect()
        except ServerError as error:
            yield _failed(f"{server.name}: server", error)
            return
        login = f"as {server.username}" if server.password else "without a password"
        yield Finding(f"{server.name}: server", f"{client.url} answers, {login}")
        ids = "events with ids" if dialect.event_ids else "events without ids"
        streams = "two streams" if dialect.directory_stream else "one stream"
        yield Finding(f"{server.name}: version", f"{dialect.version}: {ids}, {streams}")
        yield await _stream(server.name, client)
        yield await _catalog(server, client, options)


async def _stream(name: str, client: Client) -> Finding:
    ended = anyio.Event()
    heard: list[ReactorError | None] = []

    def speak(_piece: bytes) -> None:
        heard.append(None)
        ended.set()

    async def listen() -> None:
        try:
            await client.listen(None, speak)
        except ReactorError as error:
            heard.append(error)
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        with anyio.move_on_after(FIRST_FRAME):
            await ended.wait()
        group.cancel_scope.cancel()
    if not heard:
        mend = "is a proxy between that buffers? turn buffering off for text/event-stream"
        fact = f"connected, but silent for {FIRST_FRAME:g} s"
        return Finding(f"{name}: stream", "", fact, mend, ServerError.exit_code)
    if heard[0] is not None:
        return _failed(f"{name}: stream", heard[0])
    return Finding(f"{name}: stream", "speaks at once")


async def _catalog(server: ServerSettings, client: Client, options: Options) -> Finding:
    name = f"{server.name}: models"
    try:
        directory = options.directory(server)
        catalog = await client.catalog(directory)
    except ReactorError as error:
        return _failed(name, error)
    if not catalog.models:
        mend = "configure a provider in OpenCode: `opencode auth login`, or opencode.json"
        return Finding(name, "", f"no model is offered in {directory}", mend, ServerError.exit_code)
    agents = ", ".join(agent.name for agent in catalog.agents if agent.mode != "subagent")
    default = f", default {catalog.default}" if catalog.default else ""
    return Finding(name, f"{len(catalog.models)} models{default}; agents {agents}")


def _failed(name: str, error: ReactorError) -> Finding:
    where = f"{error.place}: " if error.place else ""
    return Finding(name, "", f"{where}{error.message}", error.remedy, error.exit_code)

"""`reactor events`: the server's event stream, as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from random import Random
from typing import Any

import anyio

from ..clock import SystemClock
from ..errors import UsageError
from ..model.events import Event, SessionInfoEvent, event_name
from ..opencode import payload_of
from ..reactor.watcher import Resync, Watcher
from ..settings import duration
from .connected import client_of
from .logs import configure_logs
from .options import Options
from .output import Output
from .parser import Asked
from .stopping import Stopped, unless_stopped
from .text import clock_time, iso, one_line

QUIET_TYPES = ("*.delta", "server.heartbeat")
"""Left out unless --type names them: too many, and nothing in them to read."""
_WIDTH = 200
INTERRUPTED = 130


def events(options: Options, asked: Asked) -> int:
    """Print events as they come."""
    settings = options.settings()
    try:
        seconds = None if asked.follow else duration(asked.span) / 1000
    except ValueError as error:
        raise UsageError(f"--for: {error}") from None
    configure_logs(settings.log, least="warning", verbose=options.verbose, quiet=options.quiet)
    server = options.chosen_server(settings)
    directory = options.directory(server) if options.dir else ""
    wanted = Wanted(tuple(asked.type or ()), directory, set(filter(None, [asked.session])))
    tail = Tail(options.output, wanted, asked.limit)

    async def listen() -> None:
        async with client_of(server) as client:
            with anyio.move_on_after(seconds):
                await client.connect()
                if directory:
                    options.output.remark(f"listening to {client.url} for {directory}")
                else:
                    options.output.remark(f"listening to {client.url}")
                await _watch(client, tail, wanted, directory)

    try:
        anyio.run(unless_stopped, listen)
    except Stopped:
        return INTERRUPTED
    return 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are printed. `sessions` grows by the subagents that are heard of."""

    types: tuple[str, ...]
    directory: str = ""
    sessions: set[str] = field(default_factory=set[str])

    def name(self, name: str) -> bool:
        """Whether events of that type are."""
        if self.types:
            return any(fnmatchcase(name, glob) for glob in self.types)
        return not any(fnmatchcase(name, glob) for glob in QUIET_TYPES)

    def event(self, event: Event) -> bool:
        """Whether this one is."""
        if self.directory and event.directory not in {"", self.directory}:
            return False
        if self.sessions and isinstance(event, SessionInfoEvent) and event.info.parent in self.sessions:
            self.sessions.add(event.session)
        if self.sessions and event.session_id not in self.sessions:
            return False
        return self.name(event_name(event))


class Tail:
    """Prints events and knows when it has printed enough."""

    def __init__(self, output: Output, wanted: Wanted, limit: int | None) -> None:
        self._output = output
        self._wanted = wanted
        self._left = limit or 2**62
        self.enough = anyio.Event()

    def deliver(self, event: Event) -> None:
        """Print one, if it is wanted."""
        if self._left <= 0 or not self._wanted.event(event):
            return
        self._left -= 1
        if self._output.json:
            self._output.emit("event", shape(event))
        else:
            self._output.line(line(event))
            self._output.flush()
        if self._left <= 0:
            self.enough.set()


def shape(event: Event) -> dict[str, Any]:
    """One event as a JSON line; `event` is the wire's own payload."""
    return {
        "event": json.loads(payload_of(event)),
        "name": event_name(event),
        "session": event.session_id,
        "directory": event.directory,
        "server": event.server,
        "received": iso(event.received),
        "recovered": event.recovered,
    }


def line(event: Event) -> str:
    """One event on one line."""
    told = json.loads(payload_of(event))["properties"]
    told.pop("sessionID", None)
    text = one_line(json.dumps(told, ensure_ascii=False), _WIDTH) if told else ""
    return f"{clock_time(event.received)}  {event_name(event):22}  {event.session_id or '-'}  {text}".rstrip()


async def _watch(client: Any, tail: Tail, wanted: Wanted, directory: str) -> None:
    async def resynced(_found: Resync) -> None:
        """Only what comes is printed, not what stands."""

    watcher = Watcher(
        client,
        deliver=tail.deliver,
        resynced=resynced,
        clock=SystemClock(),
        random=Random(),
        wanted=wanted.name if not wanted.sessions else _with_children(wanted),
    )
    if directory:
        watcher.watch(directory)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        await tail.enough.wait()
        group.cancel_scope.cancel()


def _with_children(wanted: Wanted) -> Callable[[str], bool]:
    return lambda name: wanted.name(name) or name == "session.created"

"""The reactor, put together: a store, the servers under its care, and whoever watches a run.

For the command line and for one's own event loop alike. What may not be here: printing, parsing, signals.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import anyio
import structlog

from .backoff import Backoff
from .clock import Clock, SystemClock
from .errors import ConfigError, Conflict, LoginRefused, PipelineError, Unreachable, UnsupportedVersion
from .handling import Handler, Origin, Registry, load
from .model.asks import Ask
from .model.runs import JournalEntry, Run, RunState, WaitingOn
from .model.sessions import Json
from .opencode import Client, Login
from .pipeline.definition import Pipeline
from .pipeline.loading import load as load_pipeline
from .pipeline.plan import Questions, Rule
from .pipeline.policy import parse
from .reactor.asks import AskPolicy
from .reactor.attached import Attached, Charge
from .reactor.engine import BURST, SWEEP_EVERY
from .reactor.submission import make_run, occasion_id
from .reactor.together import first_of
from .settings import ServerSettings, Settings
from .store import Store, open_store

log = structlog.get_logger()

ASKS = frozenset({WaitingOn.PENDING_PERMISSION, WaitingOn.PENDING_QUESTION, WaitingOn.APPROVAL})
"""Waits that a person ends by answering."""

DEADLINE = 6.0
"""Seconds a call may take to begin its answer: with the lease's margin less than what a renewal leaves."""

Listener = Callable[[Run, Sequence[Ask], Sequence[JournalEntry]], None]
"""Called with each new snapshot of a run, its open asks, and what is new in its journal; must not block."""


@dataclass(frozen=True, slots=True)
class Until:
    """When to stop following a run that is not over: at an open ask, at an escalation, or never."""

    asked: bool = False
    escalated: bool = False

    def reached(self, run: Run) -> bool:
        """Whether there is nothing more to wait for."""
        if run.state.final:
            return True
        if run.state is not RunState.WAITING:
            return False
        return (self.asked and run.waiting_on in ASKS) or (
            (self.asked or self.escalated) and run.waiting_on is WaitingOn.PERSON
        )


class Reactor:
    """One reactor. It may share its store, and so its servers, with others: whoever holds a server drives it.

    `handlers` None: those of the configured folders. Raises HandlerError where one cannot be loaded,
    ConfigError where the permission rules are none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        handlers: Iterable[Handler] | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._random = random or Random()
        self._registry = Registry(_loaded(settings.handlers) if handlers is None else handlers)
        self._policy = AskPolicy(_rules(settings), Questions(settings.questions), settings.ask_expiry)
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    async def serve(self, servers: Sequence[ServerSettings] | None = None) -> None:
        """Care for the servers (all configured ones) until cancelled.

        A server that is away is waited for. Raises LoginRefused or UnsupportedVersion where it is the only
        one; beside others it is left out, with an error in the log.
        """
        chosen = self._settings.servers if servers is None else tuple(servers)
        try:
            async with self._store() as store, anyio.create_task_group() as group:
                for server in chosen:
                    group.start_soon(self._serve_one, store, server, len(chosen) == 1)
        except BaseExceptionGroup as failures:
            raise first_of(failures) from failures

    async def run(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Json] | None = None,
        *,
        server: ServerSettings | None = None,
        directory: str | None = None,
        listener: Listener | None = None,
        until: Until | None = None,
    ) -> Run:
        """Run a pipeline to its end (or to what `until` says) and return its last snapshot.

        Raises PipelineError before anything is stored, ServerError where the server cannot be had. Cancelled,
        the run stays in the store and any reactor goes on with it.
        """
        chosen = server or self._settings.servers[0]
        async with _client(chosen) as client:
            await client.connect()
            made = make_run(
                pipeline,
                inputs or {},
                server=client.url,
                directory=_project(directory),
                clock=self._clock,
                random=self._random,
            )
            async with self._store() as store:
                run = await store.add_run(made)
                return await self._drive(store, client, run, listener, until or Until())

    async def _drive(
        self, store: Store, client: Client, run: Run, listener: Listener | None, until: Until
    ) -> Run:
        last = run
        try:
            async with anyio.create_task_group() as group:
                attached = self._attach(store, client, only=run.id)
                group.start_soon(attached.run)
                last = await follow(store, run.id, listener, until)
                group.cancel_scope.cancel()
        except BaseExceptionGroup as failures:
            raise first_of(failures) from failures
        return last

    async def _serve_one(self, store: Store, settings: ServerSettings, alone: bool) -> None:
        backoff, tries = Backoff(first=1.0, cap=30.0), 0
        async with _client(settings) as client:
            while True:
                try:
                    await client.connect()
                    log.info(
                        "attached", server=settings.name, url=client.url, version=str(client.dialect.version)
                    )
                    await self._attach(store, client, directories=settings.directories).run()
                except Unreachable as error:
                    tries += 1
                    log.warning("not reachable, will try again", server=settings.name, error=error.message)
                    await anyio.sleep(backoff.delay(tries, self._random))
                except (LoginRefused, UnsupportedVersion) as error:
                    if alone:
                        raise
                    log.error("left out", server=settings.name, error=str(error))  # noqa: TRY400
                    return

    def _attach(
        self, store: Store, client: Client, *, directories: tuple[str, ...] = (), only: str | None = None
    ) -> Attached:
        charge = Charge(self._registry, self._policy, directories, self._settings.concurrency, only)
        starter = _Starter(store, client.url, self._clock)
        # Each a holder of its own: two runs of one reactor must not take the server from each other.
        owner = f"{self._owner}:{self._random.getrandbits(32):08x}"
        return Attached(client, store, owner, charge, starter.start, clock=self._clock, random=self._random)

    @asynccontextmanager
    async def _store(self) -> AsyncGenerator[Store]:
        store = await open_store(self._settings.store, clock=self._clock)
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await store.aclose()


async def follow(store: Store, run_id: str, listener: Listener | None, until: Until) -> Run:
    """Watch a run in the store, whoever drives it, until `until` is reached; returns its last snapshot."""
    stirred = anyio.Event()

    def stir() -> None:
        stirred.set()

    unregister = store.changed(stir)
    shown: tuple[int, tuple[Ask, ...]] | None = None
    told = 0
    try:
        while True:
            stirred = anyio.Event()  # before reading: a change after it must not be missed
            run, asks = await store.run(run_id), tuple(await store.asks(run=run_id))
            if listener is not None and (run.rev, asks) != shown:
                entries = await store.journal(run_id, after=told)
                told = entries[-1].seq if entries else told
                listener(run, asks, entries)
                shown = run.rev, asks
            if until.reached(run):
                return run
            with anyio.move_on_after(SWEEP_EVERY):  # a hint may be lost; a look now and then is not
                await stirred.wait()
                await anyio.sleep(BURST)  # commits come in bursts, and while they do the stages need the time
    finally:
        unregister()


class _Starter:
    """Queues runs for handlers, each once: its id derives from the occasion."""

    def __init__(self, store: Store, server: str, clock: Clock) -> None:
        self._store = store
        self._server = server
        self._clock = clock

    async def start(self, origin: Origin, pipeline: str, inputs: Mapping[str, Json]) -> str:
        loaded = load_pipeline(pipeline)
        directory = origin.directory or str(Path.cwd())
        occasion = f"{self._store.store_id}|{origin.handler}|{origin.server}|{origin.event}|{pipeline}"
        made = make_run(
            loaded, inputs, server=self._server, directory=directory, clock=self._clock, random=Random()
        )
        queued = replace(made, id=occasion_id(occasion))
        try:
            await self._store.add_run(queued)
        except Conflict:
            log.debug("queued by an earlier try of the same delivery", run=queued.id)
        return queued.id


def _project(directory: str | None) -> str:
    """The project directory in its one spelling: 1.1 takes `/x` and `/x/` for two projects.

    Links are left as they are: the server may be on another machine, where they lead elsewhere.
    """
    return os.path.normpath(Path.cwd() / (directory or ""))


def _rules(settings: Settings) -> tuple[Rule, ...]:
    try:
        return parse(settings.permissions)
    except PipelineError as error:
        place = "" if settings.source is None else str(settings.source)
        raise ConfigError(f"permissions: {error.message}", place=place) from error


def _loaded(paths: Sequence[Path]) -> tuple[Handler, ...]:
    found = load(path for path in paths if path.exists())
    for problem in found.problems:
        raise problem
    return found.handlers


def _client(settings: ServerSettings) -> Client:
    password = settings.password
    login = None if password is None else Login(settings.username, password.reveal())
    return Client(settings.url, login=login, timeout=DEADLINE)

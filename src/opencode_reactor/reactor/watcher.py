"""Keeps listening to one server: connect, settle, list, watch, and all of it again whenever a stream breaks.

What happened while nobody listened is found by listing after every connection, so nothing is missed that a
list still shows. The watcher hands events on and waits for nobody who gets them; it decides nothing. Facts:
opencode-server 2 and 4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

import anyio
import structlog
from anyio.abc import TaskGroup

from ..backoff import Backoff
from ..clock import Clock
from ..errors import BadAnswer, LoginRefused, Refused, ServerError, Unreachable, UnsupportedVersion
from ..model.events import (
    Event,
    GlobalDisposed,
    PermissionAsked,
    PermissionReplied,
    QuestionAsked,
    QuestionRejected,
    QuestionReplied,
    ServerConnected,
    ServerInstanceDisposed,
)
from ..model.sessions import PermissionRequest, QuestionRequest, Request, Status
from ..opencode import Client, Dialect, ask_event
from ..opencode.stream import EventReader, Seen, Sink, Tally
from ..opencode.wire import natural_id
from .together import first_of

_log = structlog.get_logger(__name__)

_STEADY = 10.0
"""A stream that held so many seconds was sound: its end is no failure in a row."""
_SIDE_BY_SIDE = 4
"""Directories listed at once: a cold one starts its plugins first, all of them would start at once."""
_MAX_HEARD_OF = 64


class WatchState(StrEnum):
    """How far the watching is."""

    CONNECTING = "connecting"
    LISTING = "listing"
    """The stream stands; what happened before is being looked up."""
    LIVE = "live"
    WAITING = "waiting"
    """The server could not be reached; it is tried again soon."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What one directory's instance said.

    Asks of aborted turns linger in it: one that somebody waits for has a session with a status.
    """

    statuses: Mapping[str, Status]
    permissions: tuple[PermissionRequest, ...]
    questions: tuple[QuestionRequest, ...]


@dataclass(frozen=True, slots=True)
class Resync:
    """What was found by looking, after a stream was (re)connected.

    `at` is when the looking began, epoch ms. `whole` says that anything may have been missed anywhere: look
    at everything, not only at `directories`. A directory whose list failed is not in it; it comes later.
    """

    at: int
    directories: Mapping[str, Listing]
    whole: bool


@dataclass(frozen=True, slots=True)
class WatchStatistics:
    """Counts since the watcher was made; the first five are what became of the frames."""

    events: int
    unwanted: int
    twins: int
    duplicates: int
    broken: int
    recovered: int
    """Asks that were not heard but found."""
    reconnects: int
    resyncs: int


class Watcher:
    """One server's streams, as one sequence of events."""

    def __init__(
        self,
        client: Client,
        *,
        deliver: Callable[[Event], None],
        resynced: Callable[[Resync], Awaitable[None]],
        clock: Clock,
        random: Random,
        wanted: Callable[[str], bool],
    ) -> None:
        """`deliver` must neither wait nor raise. `wanted` is asked with wire names, the newest ones.

        After each connection `resynced` is awaited; only then the asks that were found are delivered, those
        that had been heard excepted.
        """
        self._client = client
        self._deliver = deliver
        self._resynced = resynced
        self._clock = clock
        self._random = random
        self._backoff = Backoff()
        self._seen = Seen()
        self._tally = Tally()
        self._sink = Sink(client.url, self._take, wanted, clock, self._seen, self._tally)
        self._dialect: Dialect | None = None
        self._group: TaskGroup | None = None
        self._watched: dict[str, anyio.CancelScope | None] = {}
        self._heard_of: dict[str, None] = {}
        """Directories that events came from: their instances run, so listing them starts nothing."""
        self._stale: set[str] = set()
        self._all_stale = False
        self._settled_at = 0.0
        self._bell = anyio.Event()
        self._standing = anyio.Event()
        self._recovered = self._reconnects = self._resyncs = 0
        self.state = WatchState.CONNECTING
        self.live = anyio.Event()
        """Set once, when the first list is done: before, nobody knows what is there."""

    @property
    def statistics(self) -> WatchStatistics:
        """The counts so far."""
        tally = self._tally
        return WatchStatistics(
            events=tally.events,
            unwanted=tally.unwanted,
            twins=tally.twins,
            duplicates=tally.duplicates,
            broken=tally.broken,
            recovered=self._recovered,
            reconnects=self._reconnects,
            resyncs=self._resyncs,
        )

    def watch(self, directory: str) -> None:
        """List this directory from now on and, where the version allows, listen to its own stream too.

        Said again of a watched directory it does nothing.
        """
        if directory not in self._watched:
            self._watched[directory] = None
            self._start(directory)

    def unwatch(self, directory: str) -> None:
        """Its own stream is not needed any more. Its events still come on the server's stream."""
        scope = self._watched.pop(directory, None)
        if scope is not None:
            scope.cancel()

    async def run(self) -> None:
        """Watch until cancelled. Raises LoginRefused and UnsupportedVersion; all else is tried again."""
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                group.start_soon(self._resync_for_ever)
                await self._hold(None)
        except BaseExceptionGroup as failures:
            raise first_of(failures) from failures
        finally:
            self._group = None
            self._dialect = None

    # Streams

    async def _hold(self, directory: str | None) -> None:
        """Listen to one stream for ever: the fence around each connection."""
        tries = 0
        while True:
            began = self._clock.monotonic()
            try:
                await self._connect(directory)
                reason = "the server ended the stream"
            except (LoginRefused, UnsupportedVersion):
                raise
            except ServerError as error:
                reason = error.message
            tries = 1 if self._clock.monotonic() - began > _STEADY else tries + 1
            delay = self._backoff.delay(tries, self._random)
            self._reconnects += 1
            if directory is None:
                self.state = WatchState.WAITING
            # Once where somebody follows a run: until the server is back, nothing else is heard.
            tell = _log.warning if directory is None and tries == 1 else _log.info
            tell(
                "stream lost",
                server=self._client.url,
                directory=directory,
                reason=reason,
                again_in=round(delay, 2),
            )
            await anyio.sleep(delay)

    async def _connect(self, directory: str | None) -> None:
        if directory is None:
            self.state = WatchState.CONNECTING
            self._speak(await self._client.connect())
        assert self._dialect is not None
        silence = self._dialect.silence
        reader = EventReader(
            self._sink,
            connection=f"{self._random.getrandbits(64):016x}",
            directory=directory or "",
            control=self._control_of(directory),
        )
        with anyio.move_on_after(silence) as patience:
            moved = reader.heard

            def feed(piece: bytes) -> None:
                nonlocal moved
                reader.feed(piece)
                # Not for every piece: moving a deadline costs more than reading an event.
                if reader.heard - moved > silence / 50:
                    moved = reader.heard
                    patience.deadline = anyio.current_time() + silence

            await self._client.listen(directory, feed)
        if patience.cancelled_caught:
            raise Unreachable(f"no byte on the stream for {silence:g} s")

    def _speak(self, dialect: Dialect) -> None:
        """Take the version that the server has now; the directories' streams begin anew if it is another."""
        if dialect == self._dialect:
            return
        if self._dialect is not None:
            _log.info("the server's version changed", server=self._client.url, version=str(dialect.version))
        self._dialect = dialect
        for directory, scope in self._watched.items():
            if scope is not None:
                scope.cancel()
            self._start(directory)

    def _start(self, directory: str) -> None:
        if self._group is None or self._dialect is None:
            return
        if self._dialect.directory_stream:
            self._watched[directory] = scope = anyio.CancelScope()
            self._group.start_soon(self._hold_scoped, directory, scope)
        else:
            self._mark(directory)

    async def _hold_scoped(self, directory: str, scope: anyio.CancelScope) -> None:
        with scope:
            await self._hold(directory)

    def _control_of(self, directory: str | None) -> Callable[[str, str], None]:
        def control(name: str, disposed: str) -> None:
            if name == ServerConnected.type:
                self._connected(directory)
            elif name == GlobalDisposed.type:
                self._heard_of.clear()
                self._mark(*self._watched)
            elif name == ServerInstanceDisposed.type:
                # Its asks are forgotten. Listing starts an instance again: only where somebody needs it.
                self._heard_of.pop(disposed, None)
                self._mark(*({disposed} & self._watched.keys()))

        return control

    def _connected(self, directory: str | None) -> None:
        if directory is not None:
            self._mark(directory)
            return
        assert self._dialect is not None
        self.state = WatchState.LISTING
        # The server's own listener is attached only now, from 1.15 on: a list that is made before could miss
        # what the stream misses too.
        self._settled_at = self._clock.monotonic() + self._dialect.settle
        self._all_stale = True
        self._standing.set()
        self._bell.set()

    def _take(self, event: Event) -> None:
        if event.directory and event.directory not in self._heard_of and event.session_id is not None:
            self._heard_of[event.directory] = None
            if len(self._heard_of) > _MAX_HEARD_OF:
                del self._heard_of[next(iter(self._heard_of))]
        self._deliver(event)

    # Lists

    def _mark(self, *directories: str) -> None:
        if directories:
            self._stale.update(directories)
            self._bell.set()

    async def _resync_for_ever(self) -> None:
        tries = 0
        await self._standing.wait()  # list, then watch: nothing is listed before the server's stream stands
        while True:
            await self._bell.wait()
            await anyio.sleep(max(0.0, self._settled_at - self._clock.monotonic()))
            self._bell = anyio.Event()
            failed = await self._resync()
            tries = tries + 1 if failed else 0
            if failed:
                assert self._group is not None
                self._group.start_soon(self._mark_later, failed, self._backoff.delay(tries, self._random))

    async def _mark_later(self, directories: frozenset[str], delay: float) -> None:
        await anyio.sleep(delay)
        self._mark(*(directories & (self._watched.keys() | self._heard_of.keys())))

    async def _resync(self) -> frozenset[str]:
        """List what is stale and tell of it. Returns the directories that could not be listed."""
        whole, self._all_stale = self._all_stale, False
        directories, self._stale = self._stale, set()
        if whole:
            directories = {*directories, *self._watched, *self._heard_of}
        at = self._clock.now()
        listings = await self._list_all(directories)
        failed = frozenset(directories - listings.keys())
        await self._resynced(Resync(at, listings, whole))
        self._resyncs += 1
        for directory, listing in listings.items():
            self._recover(directory, listing)
        # One directory whose instance never starts must not keep all others waiting.
        if listings or not directories:
            self.live.set()
        if whole and self.state is WatchState.LISTING:
            self.state = WatchState.LIVE
        return failed

    async def _list_all(self, directories: Iterable[str]) -> dict[str, Listing]:
        listings: dict[str, Listing] = {}
        places = anyio.Semaphore(_SIDE_BY_SIDE)

        async def list_one(directory: str) -> None:
            async with places:
                try:
                    listings[directory] = await self._list(directory)
                except LoginRefused:
                    raise
                except ServerError as error:
                    _log.warning("directory not listed", directory=directory, reason=error.message)

        async with anyio.create_task_group() as group:
            for directory in sorted(directories):
                group.start_soon(list_one, directory)
        return listings

    async def _list(self, directory: str) -> Listing:
        try:
            permissions = await self._client.permissions(directory)
        except (Refused, BadAnswer) as error:
            # 1.18.33 cannot list what lacks an optional value. What was heard of is not lost by that.
            _log.warning("permissions not listed", directory=directory, reason=error.message)
            permissions = []
        questions = await self._client.questions(directory)
        # The statuses last: an ask whose session is not busy by then waits for nobody.
        statuses = await self._client.status(directory)
        return Listing(statuses, tuple(permissions), tuple(questions))

    def _recover(self, directory: str, listing: Listing) -> None:
        """Deliver the asks that are live and were never heard of."""
        for request in (*listing.permissions, *listing.questions):
            if request.session in listing.statuses and not self._answered(request):
                self._found(request, directory)

    def _answered(self, request: Request) -> bool:
        """Whether the answer was heard while the lists were on their way."""
        kinds = (
            (PermissionReplied,)
            if isinstance(request, PermissionRequest)
            else (QuestionReplied, QuestionRejected)
        )
        return any((natural_id(kind, request.id), kind.type) in self._seen for kind in kinds)

    def _found(self, request: Request, directory: str) -> None:
        kind = PermissionAsked if isinstance(request, PermissionRequest) else QuestionAsked
        if not self._sink.wanted(kind.type) or not self._seen.add((natural_id(kind, request.id), kind.type)):
            return
        self._recovered += 1
        self._take(
            ask_event(request, server=self._client.url, directory=directory, received=self._clock.now())
        )

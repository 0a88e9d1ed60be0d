"""The watcher against the real server, on both versions: nothing is missed, nothing comes twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from random import Random

import anyio
import httpx

from opencode_reactor.clock import SystemClock
from opencode_reactor.model.events import (
    Event,
    MessageUpdated,
    PermissionAsked,
    PermissionReplied,
    QuestionAsked,
    SessionCreated,
    SessionIdle,
    SessionStatus,
    UnknownEvent,
    event_name,
)
from opencode_reactor.model.sessions import Busy, ModelRef
from opencode_reactor.opencode import Client, Prompt
from opencode_reactor.reactor.watcher import Resync, Watcher, WatchState
from opencode_reactor.testing import Calls, LiveServer, Says, bash, question, task

STANDARD = ModelRef("scripted", "standard")


class Watching:
    """A watcher that runs, its client, and what it told of this test's project."""

    def __init__(self, client: Client, project: str, *, wanted: Callable[[str], bool]) -> None:
        self.client = client
        self.project = project
        self.events: list[Event] = []
        self.resyncs: list[Resync] = []
        self.watcher = Watcher(
            client,
            deliver=self._deliver,
            resynced=self._resynced,
            clock=SystemClock(),
            random=Random(3),
            wanted=wanted,
        )
        self.watcher.watch(project)

    def _deliver(self, event: Event) -> None:
        if event.directory == self.project:
            self.events.append(event)

    async def _resynced(self, resync: Resync) -> None:
        self.resyncs.append(resync)

    async def until(self, reached: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not reached():  # noqa: ASYNC110 - what is awaited is told by plain synchronous calls
                await asyncio.sleep(0.01)

    def of(self, session: str) -> list[Event]:
        return [event for event in self.events if event.session_id == session]

    async def prompt(self, session: str, text: str) -> None:
        await self.client.prompt_async(self.project, session, Prompt(text, model=STANDARD))


@asynccontextmanager
async def watching(
    live: LiveServer, wanted: Callable[[str], bool] = lambda name: "delta" not in name
) -> AsyncGenerator[Watching]:
    async with Client(live.url, login=live.login) as client, anyio.create_task_group() as group:
        found = Watching(client, str(live.directory), wanted=wanted)
        group.start_soon(found.watcher.run)
        async with asyncio.timeout(30):
            await found.watcher.live.wait()
        yield found
        group.cancel_scope.cancel()


def finished(events: list[Event]) -> bool:
    return any(isinstance(event, SessionIdle) for event in events)


async def test_a_turn_is_heard_from_its_first_event_to_its_last_and_each_once(live: LiveServer) -> None:
    async with watching(live) as seen:
        # Right after `live`: what happens in a new stream's first moments is not lost.
        session = await seen.client.create_session(seen.project, title="heard")
        await seen.prompt(session.id, "hello")
        await seen.until(lambda: finished(seen.of(session.id)))
        heard = seen.of(session.id)
        names = [event_name(event) for event in heard]
        assert names[0] == "session.created"
        assert isinstance(heard[0], SessionCreated)
        assert heard[0].info.title == "heard"
        assert {"message.updated", "message.part.updated", "session.status", "session.idle"} <= set(names)
        assert any(isinstance(e, SessionStatus) and e.status == Busy() for e in heard)
        assert not [e for e in heard if isinstance(e, UnknownEvent) and not e.name.startswith("session.next")]
        assert max(Counter(event.id for event in heard).values()) == 1
        assert {event.server for event in heard} == {seen.client.url}
        counts = seen.watcher.statistics
        assert counts.broken == 0
        assert (counts.duplicates > 0) is seen.client.dialect.directory_stream
        assert (counts.twins > 0) is seen.client.dialect.event_ids


async def test_many_sessions_made_at_once_are_all_heard_of(live: LiveServer) -> None:
    async with watching(live, lambda name: name == "session.created") as seen:
        made: set[str] = set()

        async def make(number: int) -> None:
            made.add((await seen.client.create_session(seen.project, title=f"session {number}")).id)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(make, number)
        await seen.until(lambda: len(seen.events) >= 30)
        assert sorted(event.session_id or "" for event in seen.events) == sorted(made)


async def test_a_permission_of_a_subagent_is_heard_under_its_own_session(live: LiveServer) -> None:
    live.configure(permission={"bash": "ask"})
    live.model.on("delegate", Calls(task("Greet them.")), Says("Delegated."))
    live.model.on("Greet them", Calls(bash("echo hello")), Says("Greeted."))
    async with watching(live) as seen:
        session = await seen.client.create_session(seen.project, title="parent")
        await seen.prompt(session.id, "delegate")
        await seen.until(lambda: any(isinstance(e, PermissionAsked) for e in seen.events))
        [asked] = [event for event in seen.events if isinstance(event, PermissionAsked)]
        assert asked.id == f"permission.asked:{asked.request.id}"
        assert asked.session != session.id
        [child] = [
            e.info for e in seen.events if isinstance(e, SessionCreated) and e.session == asked.session
        ]
        assert child.parent == session.id
        await seen.client.reply_permission(seen.project, asked.request.id, "once")
        await seen.until(lambda: finished(seen.of(session.id)))
        [replied] = [event for event in seen.events if isinstance(event, PermissionReplied)]
        assert (replied.request, replied.reply) == (asked.request.id, "once")


async def test_asks_that_nobody_heard_are_found_once(live: LiveServer) -> None:
    live.configure(permission={"bash": "ask"})
    live.model.on("greet", Calls(bash("echo hello")), Says("Greeted."))
    live.model.on("choose", Calls(question("Which?", "Red")), Says("Chosen."))
    project = str(live.directory)
    async with Client(live.url, login=live.login) as client:
        await client.connect()
        for text in ("greet", "choose"):
            session = await client.create_session(project, title=text)
            await client.prompt_async(project, session.id, Prompt(text, model=STANDARD))
        async with asyncio.timeout(30):
            while not await client.permissions(project):  # noqa: ASYNC110 - the server tells when asked
                await asyncio.sleep(0.05)
            while not await client.questions(project):  # noqa: ASYNC110 - the server tells when asked
                await asyncio.sleep(0.05)
    async with watching(live) as seen:
        await seen.until(lambda: len([e for e in seen.events if e.recovered]) == 2)
        found = {type(event): event for event in seen.events if event.recovered}
        assert set(found) == {PermissionAsked, QuestionAsked}
        listing = seen.resyncs[0].directories[project]
        assert {request.session for request in (*listing.permissions, *listing.questions)} == set(
            listing.statuses
        )
        [permission] = listing.permissions
        await seen.client.reply_permission(project, permission.id, "once")
        await seen.until(lambda: any(isinstance(event, PermissionReplied) for event in seen.events))


async def test_the_ask_of_an_aborted_turn_is_not_delivered(live: LiveServer) -> None:
    live.configure(permission={"bash": "ask"})
    live.model.on("greet", Calls(bash("echo hello")), Says("Greeted."))
    project = str(live.directory)
    async with Client(live.url, login=live.login) as client:
        await client.connect()
        session = await client.create_session(project, title="aborted")
        await client.prompt_async(project, session.id, Prompt("greet", model=STANDARD))
        async with asyncio.timeout(30):
            while not await client.permissions(project):  # noqa: ASYNC110 - the server tells when asked
                await asyncio.sleep(0.05)
            await client.abort(project, session.id)
            while await client.status(project):  # noqa: ASYNC110 - the server tells when asked
                await asyncio.sleep(0.05)
        lingering = await client.permissions(project)
    async with watching(live) as seen:
        assert [*seen.resyncs[0].directories[project].permissions] == lingering
        assert not [event for event in seen.events if isinstance(event, PermissionAsked)]


async def test_a_disposed_instance_is_listened_to_again(live: LiveServer) -> None:
    async with watching(live) as seen:
        first = await seen.client.create_session(seen.project, title="before")
        await seen.until(lambda: seen.of(first.id))
        before = len(seen.resyncs)
        async with httpx.AsyncClient(
            auth=(live.login.username, live.login.password), headers={"x-opencode-directory": seen.project}
        ) as plain:
            (await plain.post(f"{live.url}/instance/dispose")).raise_for_status()
        await seen.until(lambda: any(event_name(e) == "server.instance.disposed" for e in seen.events))
        await seen.until(lambda: any(seen.project in r.directories for r in seen.resyncs[before:]))
        again = await seen.client.create_session(seen.project, title="after")
        await seen.prompt(again.id, "hello")
        await seen.until(lambda: finished(seen.of(again.id)))
        assert len([e for e in seen.of(again.id) if isinstance(e, SessionCreated)]) == 1


async def test_a_killed_server_is_found_again_and_everything_is_listed(own_live: LiveServer) -> None:
    live = own_live
    async with watching(live) as seen:
        await seen.client.create_session(seen.project, title="before")
        await live.kill9()
        await seen.until(lambda: seen.watcher.state is not WatchState.LIVE)
        await live.restart()
        await seen.until(lambda: sum(resync.whole for resync in seen.resyncs) == 2)
        await seen.until(lambda: seen.watcher.state is WatchState.LIVE)
        session = await seen.client.create_session(seen.project, title="after")
        await seen.prompt(session.id, "hello")
        await seen.until(lambda: finished(seen.of(session.id)))
        completed = [e for e in seen.of(session.id) if isinstance(e, MessageUpdated)]
        assert completed
        assert seen.watcher.statistics.reconnects >= 1

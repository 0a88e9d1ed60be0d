"""Drives a shipped handler as `reactor serve` would: loaded from its file, dispatched from a real store."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from opencode_reactor.backoff import Backoff
from opencode_reactor.clock import SystemClock
from opencode_reactor.handling import Context, Handler, Loaded, Registry, load, make_context
from opencode_reactor.model.deliveries import Delivery
from opencode_reactor.model.events import Event
from opencode_reactor.opencode import Client, event_from_wire
from opencode_reactor.reactor.dispatcher import Dispatcher, Limits
from opencode_reactor.store import Store, open_store

SERVER = "http://127.0.0.1:4096"
SHIPPED = Path(__file__).parents[3] / "handlers"


@dataclass
class Acted:
    """The acting side: notes what a handler did, without its origin."""

    calls: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])

    async def reply(self, _origin: Any, ask: Any, reply: str, message: str) -> None:
        self.calls.append(("reply", ask.request.id, str(reply), message))

    async def answer(self, _origin: Any, ask: Any, answers: Any) -> None:
        self.calls.append(("answer", ask.request.id, answers))

    async def prompt(self, _origin: Any, *said: Any) -> None:
        self.calls.append(("prompt", *said))

    async def abort(self, _origin: Any, *said: Any) -> None:
        self.calls.append(("abort", *said))

    async def start(self, _origin: Any, *said: Any) -> str:
        self.calls.append(("start", *said))
        return "r1"

    async def notify(self, _origin: Any, *said: Any) -> None:
        self.calls.append(("notify", *said))


@dataclass
class Stage:
    """A store, a server's URL, and what came of the events that were played."""

    store: Store
    server: str = SERVER
    acted: Acted = field(default_factory=Acted)
    logs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def load(self, *names: str) -> Loaded:
        """The shipped handlers of these files, of all files if none is named."""
        return load([SHIPPED / f"{name}.py" for name in names] or [SHIPPED])

    async def play(self, name: str, *frames: str) -> None:
        """Hand recorded frames to the handlers of one file and wait until they are through."""
        loaded = self.load(name)
        assert loaded.problems == ()
        async with Client(self.server) as client:

            def context(delivery: Delivery | None, event: Event, handler: Handler) -> Context:
                return make_context(event, handler.name, delivery, client, self.acted)

            dispatcher = Dispatcher(
                Registry(loaded.handlers),
                self.store,
                context=context,
                clock=SystemClock(),
                random=random.Random(1),
                limits=Limits(backoff=Backoff(first=0.01)),
            )
            with capture_logs() as lines:
                await self._dispatch(dispatcher, frames)
        self.logs += [dict(line) for line in lines if line.get("handler") == loaded.handlers[0].name]

    async def _dispatch(self, dispatcher: Dispatcher, frames: tuple[str, ...]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dispatcher.run, self.server)
            with anyio.fail_after(10):
                for number, frame in enumerate(frames):
                    dispatcher.offer(
                        event_from_wire(json.loads(frame), server=self.server, connection=f"heard-{number}")
                    )
                await dispatcher.settled()
            tasks.cancel_scope.cancel()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    store = await open_store(f"sqlite:///{tmp_path}/store.db", clock=SystemClock())
    yield Stage(store)
    await store.aclose()

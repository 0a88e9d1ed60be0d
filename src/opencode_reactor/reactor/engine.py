"""The engine: one loop over keys. Look, decide, remember, act; only here does a run change.

Whatever happens (an event, a resync, a timer, a person's answer, a restart) becomes a key on the queue. One
hand works a run at a time, and an exception puts its key back: nothing is ever forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TypeAlias

import anyio
import structlog
from anyio.abc import TaskGroup

from ..backoff import Backoff
from ..clock import Clock
from ..errors import Conflict, Fenced, ReactorError
from ..model import events as e
from ..model.asks import AskState, Closed
from ..model.runs import Run, RunState
from ..model.sessions import Idle, Retrying, StepFinishPart, UserMessage
from ..opencode import Client
from ..pipeline.definition import Pipeline, compile_plan
from ..pipeline.facts import (
    Abort,
    CloseApproval,
    CreateSession,
    Decision,
    Facts,
    Result,
    RunChecks,
    SendPrompt,
)
from ..pipeline.machine import step
from ..pipeline.plan import Plan
from ..store import Store
from .asks import AskKeeper, Owner
from .checks import Checks
from .effects import Hands
from .lease import LeaseKeeper
from .look import Lookout
from .room import Room
from .together import Call, together
from .tree import SessionTree
from .workqueue import WorkQueue

SWEEP_EVERY = 15.0
"""Seconds between looks at everything live: finds what every hint missed."""
SOON = 250
"""ms until a step's end or a new message is looked at: its turn, often over by then, needs the server."""
BURST = 0.05
"""Seconds from a commit to reading what others stored: one reading for a burst of our own."""
HANDS = 16
"""Keys worked side by side: 10,000 live runs must not exhaust the connections."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunKey:
    """Look at this run."""

    id: str


@dataclass(frozen=True, slots=True)
class AsksKey:
    """Look at the asks of this directory."""

    directory: str


Key: TypeAlias = RunKey | AsksKey

_ASK_EVENTS = (
    e.PermissionAsked,
    e.PermissionReplied,
    e.QuestionAsked,
    e.QuestionReplied,
    e.QuestionRejected,
)
WANTED = frozenset(
    cls.type
    for cls in (
        *_ASK_EVENTS,
        e.SessionCreated,
        e.SessionDeleted,
        e.SessionStatus,
        e.SessionIdle,
        e.SessionError,
        e.MessageUpdated,
        e.MessagePartUpdated,
        e.ServerInstanceDisposed,
        e.GlobalDisposed,
    )
)
"""The events the engine takes as hints."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the engine of one server works with."""

    client: Client
    store: Store
    lease: LeaseKeeper
    tree: SessionTree
    asks: AskKeeper
    clock: Clock
    random: Random


class Engine:
    """Drives every run of one server for as long as the lease on it is held.

    `watch` and `unwatch`, set before `run`, are told of each directory that gets live work and has none any
    more, so that its own stream is listened to. At most `concurrency` attempts are under way at once; further
    ones wait their turn.
    """

    def __init__(self, around: Surroundings, concurrency: int) -> None:
        self._client = around.client
        self._store = around.store
        self._lease = around.lease
        self._asks = around.asks
        self._tree = around.tree
        self._clock = around.clock
        self._random = around.random
        self.watch: Callable[[str], object] = _nobody
        self.unwatch: Callable[[str], object] = _nobody
        self._room = Room(concurrency)
        self._lookout = Lookout(around.client, around.store, around.clock, around.random)
        self._hands = Hands(around.client, around.lease, around.store.now)
        self._queue: WorkQueue[Key] = WorkQueue(around.clock)
        self._backoff = Backoff(first=0.25, cap=15.0)
        self._tries: dict[Key, int] = {}
        self._plans: dict[str, Plan] = {}
        self._sessions: dict[str, str] = {}
        self._asking: set[str] = set()
        self._checks = Checks(around.store.now, lambda run: self._queue.add(RunKey(run)))
        self._attended: dict[str, set[str]] = {}

    # Hints

    def hint(self, event: e.Event) -> None:
        """Take an event as a reason to look. Never blocks, never believes it."""
        match event:
            case e.SessionCreated(info=info):
                self._tree.note(info)
            case e.MessagePartUpdated(part=StepFinishPart()) | e.MessageUpdated(message=UserMessage()):
                self._hint_run(event, SOON)
            case e.SessionDeleted() | e.SessionStatus(status=Idle() | Retrying()):
                self._hint_run(event)
            case e.SessionIdle() | e.SessionError():
                self._hint_run(event)
                if event.directory in self._asking:  # an ended turn takes its asks with it
                    self._queue.add(AsksKey(event.directory))
            case e.ServerInstanceDisposed() | e.GlobalDisposed():
                self._lookout.forget_catalogs()
            case _ if isinstance(event, _ASK_EVENTS):
                self._asks.hearing.note(event)
                self._queue.add(AsksKey(event.directory))
            case _:
                pass

    def run_of(self, event: e.Event) -> str | None:
        """The live run whose session tree an event comes from, as far as is known without asking."""
        return self.run_of_session(event.session_id or "")

    def run_of_session(self, session: str) -> str | None:
        """The live run whose session tree a session belongs to, as far as is known without asking."""
        return self._sessions.get(self._tree.known_root(session))

    def _hint_run(self, event: e.Event, delay: int = 0) -> None:
        run = self.run_of(event)
        if run is None:
            return
        if delay:
            self._queue.add_at(RunKey(run), self._clock.now() + delay)
        else:
            self._queue.add(RunKey(run))

    def look_at_asks(self, directory: str) -> None:
        """Something changed this directory's asks."""
        self._queue.add(AsksKey(directory))

    async def look_at_everything(self, directories: Iterable[str] = ()) -> None:
        """After a resync, a take-over, a restart, and with every sweep: every live key, once."""
        for run in await self._store.live_runs(self._client.url):
            self._queue.add(RunKey(run.id))
        for run_id in await self._store.commanded_runs(self._client.url):  # a retry wakes one that is over
            self._queue.add(RunKey(run_id))
        waiting = await self._store.asks(server=self._client.url, states=(AskState.OPEN, AskState.ANSWERED))
        for directory in {*directories, *self._attended, *(a.directory for a in waiting)} - {""}:
            self._queue.add(AsksKey(directory))

    # The loop

    async def run(self) -> None:
        """Work keys until cancelled."""
        limit = anyio.Semaphore(HANDS)
        async with anyio.create_task_group() as group:
            group.start_soon(self._sweep)
            group.start_soon(self._listen)
            while True:
                await limit.acquire()
                key = await self._queue.get()
                group.start_soon(self._work, key, limit, group)

    async def _sweep(self) -> None:
        while True:
            try:
                await self.look_at_everything()
                await self._lookout.freshen_catalogs(self._attended.keys())
            except ReactorError as error:
                log.warning("sweep failed", error=str(error))
            await anyio.sleep(SWEEP_EVERY)

    async def _listen(self) -> None:
        """Turn what other hands stored (runs, commands, answers) into keys."""
        stirred = anyio.Event()

        def stir() -> None:
            stirred.set()

        unregister = self._store.changed(stir)
        try:
            while True:
                await stirred.wait()
                await anyio.sleep(BURST)
                stirred = anyio.Event()
                try:
                    await self._take_what_was_stored()
                except ReactorError as error:
                    log.warning("the store was not read", error=str(error))
        finally:
            unregister()

    async def _take_what_was_stored(self) -> None:
        server = self._client.url
        for run in await self._store.runs(state={RunState.QUEUED}):
            if run.server == server:
                self._queue.add(RunKey(run.id))
        for run_id in await self._store.commanded_runs(server):
            self._queue.add(RunKey(run_id))
        for ask in await self._store.asks(server=server, states=(AskState.ANSWERED,)):
            self._queue.add(AsksKey(ask.directory) if ask.session else RunKey(ask.run))

    async def _work(self, key: Key, limit: anyio.Semaphore, group: TaskGroup) -> None:
        """One key, once: the fence. A failure of any kind puts the key back, later each time."""
        try:
            match key:
                case RunKey(run):
                    await self._drive(run, group)
                case AsksKey(directory):
                    await self._keep_asks(directory)
            self._tries.pop(key, None)
        except Conflict:
            self._queue.add(key)  # somebody was faster: look again at what they made of it
        except (Fenced, ReactorError) as error:
            tell = log.info if key in self._tries else log.warning  # once: a server may be away for hours
            tell("will look again", key=str(key), error=error.message)
            self._again(key)
        except Exception:
            # Ours to mend, and no reason to forget a run: the key comes back like any other.
            log.exception("a defect of the reactor", key=str(key))
            self._again(key)
        finally:
            self._queue.done(key)
            limit.release()

    def _again(self, key: Key) -> None:
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        self._queue.add_at(key, self._clock.now() + int(self._backoff.delay(tries, self._random) * 1000))

    async def _keep_asks(self, directory: str) -> None:
        done = await self._asks.reconcile(directory, self.owner_of)
        if done.open:
            self._asking.add(directory)
        else:
            self._asking.discard(directory)
        if done.next_expiry is not None:
            self._queue.add_at(AsksKey(directory), done.next_expiry)
        for run in done.runs:
            self._queue.add(RunKey(run))

    # One run

    async def _drive(self, run_id: str, group: TaskGroup) -> None:
        """Decide about a run as often as what was done brings something new to decide on."""
        run = await self._store.run(run_id)
        plan = self._plan(run)
        if not run.state.final:
            self._attend(run)
        results: dict[str, Result] = {}
        facts: Facts | None = None
        while True:
            results |= self._checks.results(run)
            facts = await self._lookout.look(run, results, facts)
            decision = step(run, plan, replace(facts, room=self._room.left(run)))
            for other in self._room.take(decision.run):
                self._queue.add(RunKey(other))
            run = await self._remember(run, decision)
            self._checks.forget(results)
            results = await self._act(run, plan, decision, group)
            if not results:
                break
        if run.wake_at is not None:
            self._queue.add_at(RunKey(run.id), run.wake_at)
        if run.state.final:
            self._forget(run)

    def _plan(self, run: Run) -> Plan:
        plan = self._plans.get(run.id)
        if plan is None:
            compiled = compile_plan(Pipeline.from_spec(run.spec))
            plan = self._plans[run.id] = self._asks.policy.below(compiled)
        return plan

    def _attend(self, run: Run) -> None:
        """Listen to the stream of this run's directory for as long as it has live runs."""
        if run.directory not in self._attended:
            self.watch(run.directory)
        self._attended.setdefault(run.directory, set()).add(run.id)

    def _forget(self, run: Run) -> None:
        attended = self._attended.get(run.directory, set())
        attended.discard(run.id)
        if not attended and self._attended.pop(run.directory, None) is not None:
            self.unwatch(run.directory)
        self._plans.pop(run.id, None)
        for session in [s for s, r in self._sessions.items() if r == run.id]:
            del self._sessions[session]

    async def _remember(self, before: Run, decision: Decision) -> Run:
        """Store the decision, whole, before any of it is carried out; nothing new is not stored."""
        after = decision.run
        same = replace(after, wake_at=before.wake_at) == before
        if not same or decision.entries or decision.asks or decision.commands:
            after = await self._store.save_run(
                before,
                after,
                entries=decision.entries,
                asks=decision.asks,
                commands=decision.commands,
                lease=self._lease.lease,
            )
            known = {a.id for s in before.stages for a in s.attempts}
            for attempt in after.open_attempts:
                if attempt.id not in known:
                    self._hands.planned_here(attempt)
        for attempt in after.open_attempts:
            if attempt.session is not None:
                self._sessions[attempt.session] = after.id
        return after

    async def _act(self, run: Run, plan: Plan, decision: Decision, group: TaskGroup) -> dict[str, Result]:
        """Carry the effects out side by side; each leaves a result, or doubt that the next look ends."""
        results: dict[str, Result] = {}
        attempts = {a.id: a for a in run.open_attempts}

        async def create(effect: CreateSession) -> None:
            results[effect.attempt] = await self._hands.create(run, effect)

        async def send(effect: SendPrompt) -> None:
            attempt = attempts[effect.attempt]
            results[effect.attempt] = await self._hands.send(run, plan.stage(attempt.stage), attempt, effect)

        calls: list[Call] = []
        for effect in decision.effects:
            match effect:
                case CreateSession():
                    calls.append(partial(create, effect))
                case SendPrompt():
                    calls.append(partial(send, effect))
                case Abort():
                    calls.append(partial(self._hands.abort, run, effect))
                case RunChecks():
                    self._checks.start(run, effect, group)
                case CloseApproval(ask):
                    calls.append(partial(self._close_approval, ask))
        await together(*calls)
        return results

    async def _close_approval(self, ask: str) -> None:
        await self._store.close_ask(await self._store.ask(ask), Closed.DELIVERED)

    async def owner_of(self, root: str) -> Owner | None:
        """The stage that owns a root session; None where no pipeline does."""
        found = await self._store.owner_of(self._client.url, root)
        if found is None:
            return None
        run_id, stage, attempt = found
        plan = self._plan(await self._store.run(run_id))
        return Owner(run_id, attempt, plan.stage(stage))


def _nobody(_directory: str) -> None:
    """Where nobody wants to know which directories have live work."""

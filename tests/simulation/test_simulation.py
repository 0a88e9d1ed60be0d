"""The real engine, watcher and store on virtual time, with an OpenCode in memory that fails at every turn."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import anyio
import httpx
import pytest
import structlog

from opencode_reactor.handling import Registry
from opencode_reactor.model.runs import Run, RunState, StageState, Turn, WaitingOn
from opencode_reactor.opencode import Client, Prompt
from opencode_reactor.pipeline import machine
from opencode_reactor.pipeline.definition import Pipeline
from opencode_reactor.pipeline.facts import Seen
from opencode_reactor.pipeline.gate import Judgement, Passed, Unsent, judge
from opencode_reactor.pipeline.machine import EDGES
from opencode_reactor.reactor.asks import AskPolicy
from opencode_reactor.reactor.attached import Attached, Charge
from opencode_reactor.reactor.submission import make_run
from opencode_reactor.store.driver import Driver, Rows, Unit
from opencode_reactor.store.immediate import ImmediateDriver, open_immediate
from opencode_reactor.store.store import Store
from opencode_reactor.testing.fake import FakeOpenCode, Faults, Turned
from opencode_reactor.testing.virtual import VirtualClock, run_virtual

SEEDS = int(os.environ.get("REACTOR_SEEDS", "40"))
FIRST = int(os.environ.get("REACTOR_FIRST_SEED", "0"))
URL = "http://fake"
RUNS = 4
CHAOS = 120.0
HEALED = 1800.0

PIPELINE = Pipeline.model_validate(
    {
        "name": "sim",
        "defaults": {"timeout": "20s", "patience": "10s", "attempts": 30},
        "permissions": {"bash": "allow"},
        "stages": [
            {"name": "a", "prompt": "first of {{ run.id }}"},
            {"name": "b", "prompt": "second: {{ stages.a.summary }}"},
            {"name": "c", "prompt": "third: {{ stages.b.summary }}"},
        ],
    }
)


class Mortal:
    """What can be killed or frozen: everything a process does goes through one of these."""

    def __init__(self) -> None:
        self.dead = False
        self.running = anyio.Event()
        self.running.set()

    async def alive(self) -> None:
        """Wait while frozen; for ever once dead."""
        await self.running.wait()
        if self.dead:
            await anyio.Event().wait()


class MortalDriver:
    """A store's driver that stops in the middle with its process."""

    def __init__(self, inner: Driver, mortal: Mortal) -> None:
        self._inner = inner
        self._mortal = mortal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def read(self, unit: Unit) -> Rows:
        await self._mortal.alive()
        rows = await self._inner.read(unit)
        await self._mortal.alive()
        return rows

    async def write(self, unit: Unit) -> Rows:
        await self._mortal.alive()
        rows = await self._inner.write(unit)
        await self._mortal.alive()  # killed between its commit and the word of it
        return rows


class MortalTransport(httpx.AsyncBaseTransport):
    """A connection that stops with its process."""

    def __init__(self, inner: httpx.AsyncBaseTransport, mortal: Mortal) -> None:
        self._inner = inner
        self._mortal = mortal

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._mortal.alive()
        response = await self._inner.handle_async_request(request)
        await self._mortal.alive()
        return response


@dataclass
class World:
    """One seed's world."""

    seed: int
    clock: VirtualClock
    random: Random = field(init=False)
    kills: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        rates = [self.random.choice((0.0, 0.02, 0.1)) for _ in range(7)]
        self.faults = Faults(*rates, slow=self.random.choice((0.0, 0.05, 0.5)))
        self.fake = FakeOpenCode(self.clock, self.random, self.script, self.faults)
        self.base = open_immediate("sqlite://:memory:", clock=self.clock)
        self.workers: dict[str, tuple[Mortal, anyio.CancelScope]] = {}
        self.born = 0
        self.chaos = True

    def script(self, text: str, _number: int) -> Turned:
        roll = self.random.random()
        answer = f"{text.split(maxsplit=1)[0]} answered"
        if self.chaos and roll < 0.05:
            return Turned(never=True)
        if self.chaos and roll < 0.1:
            error = {"name": "APIError", "data": {"message": "x", "statusCode": 503, "isRetryable": True}}
            return Turned(error=error)
        if roll < 0.25:
            return Turned(seconds=2, text=answer, asks="bash ls")
        return Turned(seconds=self.random.choice((0.0, 0.5, 3.0, 8.0)), text=answer)

    @property
    def driver(self) -> ImmediateDriver:
        driver: ImmediateDriver = self.base._driver  # type: ignore[assignment]
        return driver

    async def work(self, name: str) -> None:
        """One process's life: it cares for the server until it is killed."""
        mortal, scope = Mortal(), anyio.CancelScope()
        self.workers[name] = mortal, scope
        mine = Store(MortalDriver(self.driver, mortal), self.base.store_id, self.clock)  # type: ignore[arg-type]
        transport = MortalTransport(self.fake.transport(), mortal)
        with scope:
            async with Client(URL, transport=transport, timeout=6.0) as client:
                while True:
                    try:
                        await client.connect()
                        break
                    except Exception:  # noqa: BLE001 - a world at war
                        await anyio.sleep(1)
                charge = Charge(Registry(()), AskPolicy(), ("/p",))
                attached = Attached(
                    client, mine, name, charge, _never, clock=self.clock, random=Random(self.random.random())
                )
                await attached.run()


async def _never(*_: object) -> str:
    raise AssertionError


async def simulate(seed: int, clock: VirtualClock) -> tuple[World, list[Run]]:
    world = World(seed, clock)
    made = [
        make_run(PIPELINE, {}, server=URL, directory="/p", clock=clock, random=world.random)
        for _ in range(RUNS)
    ]
    for run in made:
        await world.base.add_run(run)
    async with anyio.create_task_group() as group:

        def spawn() -> None:
            world.born += 1
            group.start_soon(world.work, f"worker-{world.born}")

        spawn()
        spawn()
        await wreck(world, spawn)
        world.chaos = False
        world.fake.faults = Faults()
        world.fake.boot()
        for mortal, _ in world.workers.values():
            mortal.running.set()
        with anyio.move_on_after(HEALED):
            while not all([_settled(await world.base.run(r.id)) for r in made]):  # noqa: ASYNC110
                await anyio.sleep(5)
        group.cancel_scope.cancel()
    return world, [await world.base.run(r.id) for r in made]


async def wreck(world: World, spawn: Any) -> None:
    """Two minutes of whatever can go wrong."""
    random, until = world.random, anyio.current_time() + CHAOS
    while anyio.current_time() < until:
        await anyio.sleep(random.random() * 8)
        name = random.choice(sorted(world.workers))
        mortal, scope = world.workers[name]
        match random.choice(("kill", "kill", "freeze", "cut", "server")):
            case "kill":
                mortal.dead = True
                scope.cancel()
                del world.workers[name]
                world.kills += 1
                spawn()
            case "freeze":
                mortal.running = anyio.Event()
                await anyio.sleep(random.random() * 25)
                mortal.running.set()
            case "cut":
                world.fake.cut()
            case "server":
                world.fake.kill()
                await anyio.sleep(random.random() * 5)
                world.fake.boot()


def _settled(run: Run) -> bool:
    return run.state.final or run.waiting_on is WaitingOn.PERSON


async def check(world: World, runs: list[Run]) -> None:
    """The invariants, judged by the server's own record and the journal."""
    turns = Counter(a.message for a in world.fake.admitted)
    assert all(n == 1 for n in turns.values()), f"a prompt ran twice: {turns.most_common(3)}"
    sessions: dict[str, set[str]] = {}
    for admitted in world.fake.admitted:
        sessions.setdefault(admitted.message, set()).add(admitted.session)
    assert all(len(s) == 1 for s in sessions.values()), "one attempt was prompted in two sessions"
    for session, users in world.fake.users().items():
        assert len(users) <= 2, f"{session} has {len(users)} user messages"
        assert all(len(u["parts"]) <= 1 for u in users), f"{session}: a part was appended"
    for run in runs:
        assert _settled(run), f"{run.id} is {run.state} ({run.waiting_on}) after healing"
        epochs = [e.epoch for e in await world.base.journal(run.id) if e.epoch]
        assert epochs == sorted(epochs), f"{run.id}: an older epoch wrote after a newer one"
        for stage in run.stages:
            numbers = [a.number for a in stage.attempts]
            assert numbers == list(range(1, len(numbers) + 1))
            assert sum(not a.state.final for a in stage.attempts) <= 1
            if stage.state is StageState.SUCCEEDED:
                assert stage.text.endswith("answered") or stage.text == "refused"
            for attempt in stage.attempts:
                assert attempt.state in EDGES


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@dataclass
class Seeds:
    """What came of some seeds."""

    ended: Counter[str] = field(default_factory=Counter[str])
    failures: Counter[str] = field(default_factory=Counter[str])
    kills: int = 0
    broken: list[str] = field(default_factory=list[str])


def try_seeds(seeds: range, *, enough: int = 1_000_000) -> Seeds:
    """Simulate these seeds; what breaks is collected, with its seed, until there is enough of it."""
    tried = Seeds()
    for seed in seeds:
        if len(tried.broken) >= enough:
            break

        async def one(clock: VirtualClock, seed: int = seed) -> None:
            world, runs = await simulate(seed, clock)
            tried.kills += world.kills
            tried.ended.update(str(run.state) for run in runs)
            tried.failures.update(str(a.failure) for r in runs for s in r.stages for a in s.attempts)
            await check(world, runs)

        try:
            run_virtual(one, seed)
        except (AssertionError, RuntimeError, ExceptionGroup) as error:
            tried.broken.append(f"REACTOR_FIRST_SEED={seed} REACTOR_SEEDS=1: {error!r}")
    return tried


def test_whatever_fails_every_run_ends_and_no_prompt_runs_twice() -> None:
    tried = try_seeds(range(FIRST, FIRST + SEEDS))
    print(f"{SEEDS} seeds, {tried.kills} kills, runs {dict(tried.ended)}, attempts {dict(tried.failures)}")  # noqa: T201
    assert not tried.broken, "\n".join(tried.broken[:20])
    assert tried.ended[RunState.SUCCEEDED] > 0


# Mutants: the protocol, broken on purpose. A simulation that does not notice proves nothing.


def with_random_ids(patch: pytest.MonkeyPatch) -> None:
    """Ids are chosen when they are sent, not stored before."""
    number = iter(range(10**6))
    send = Client.prompt_async

    async def careless(self: Client, directory: str, session_id: str, prompt: Prompt) -> None:
        tail = f"{next(number):026d}"
        await send(self, directory, session_id, replace(prompt, message=f"msg_{tail}", part=f"prt_{tail}"))

    patch.setattr(Client, "prompt_async", careless)


def with_trust_in_idle(patch: pytest.MonkeyPatch) -> None:
    """A session that is not busy has answered."""

    def trusting(turn: Turn, seen: Seen, contract: object) -> Judgement:
        whole = judge(turn, seen, None)
        idle = seen.status is None and not isinstance(whole.verdict, Unsent)
        verdict = Passed("", None) if idle and contract is None else whole.verdict
        return replace(whole, verdict=verdict)

    patch.setattr(machine, "judge", trusting)


@pytest.mark.parametrize("mutate", [with_random_ids, with_trust_in_idle])
def test_a_broken_protocol_is_noticed(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    tried = try_seeds(range(40), enough=1)
    assert tried.broken

"""How long from one stage's end to the next stage's prompt: the reactor beside what it is measured against.

The same prompts go to the same real server, whose model answers at once, in three ways by turns: synchronous
calls one after the other (the floor), the reactor, and a loop that polls `/session/status` once a second.
What drives runs in a process of its own; the scripted model and a listener on the server's event stream,
which stamp the times, stay in this one. Run it on an idle machine: everything shares its processors.

    python benchmarks/stage_latency.py [--version 1.1.65] [--stages 20] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import anyio
import httpx
import structlog

from opencode_reactor.app import Reactor
from opencode_reactor.errors import ReactorError
from opencode_reactor.model.runs import RunState
from opencode_reactor.opencode import Login
from opencode_reactor.opencode.binary import NEWEST, find_binary
from opencode_reactor.opencode.server import OpenCodeServer
from opencode_reactor.pipeline.definition import Pipeline
from opencode_reactor.settings import Secret, ServerSettings, Settings
from opencode_reactor.testing import ModelRequest, Says, ScriptedModel, make_project

POLL_EVERY = 1.0
"""Seconds between two looks of the polling loop."""
SETTLE = 0.3
"""Seconds between two drivers: what the server still does for the one is not to be paid by the next."""


# What drives. Each runs in the driver process.


@dataclass(frozen=True, slots=True)
class Round:
    """One drive: where, as whom, and how many stages."""

    url: str
    login: Login
    directory: str
    stages: int
    store: str

    def prompt(self, stage: int) -> str:
        """The stage's prompt: the same for every driver."""
        return f"Stage {stage}: say that it is done."


async def reactor(round_: Round) -> None:
    """A linear pipeline, as `reactor run` runs it."""
    stages = [
        {"name": f"s{n}", "prompt": round_.prompt(n), "needs": [f"s{n - 1}"] if n else []}
        for n in range(round_.stages)
    ]
    login = round_.login
    server = ServerSettings("benchmark", round_.url, login.username, Secret(login.password))
    settings = Settings(servers=(server,), store=round_.store)
    pipeline = Pipeline.model_validate({"name": "benchmark", "stages": stages})
    run = await Reactor(settings, handlers=()).run(pipeline, directory=round_.directory)
    assert run.state is RunState.SUCCEEDED, run.detail


async def synchronous(round_: Round) -> None:
    """The plain calls that wait: a session, its message, and the next."""
    async with _http(round_) as client:
        for stage in range(round_.stages):
            session = await _session(client, stage)
            answer = await client.post(f"/session/{session}/message", json=_body(round_, stage))
            answer.raise_for_status()


async def polling(round_: Round) -> None:
    """The loop that many write: send, then ask once a second whether the session is still busy."""
    async with _http(round_) as client:
        for stage in range(round_.stages):
            session = await _session(client, stage)
            answer = await client.post(f"/session/{session}/prompt_async", json=_body(round_, stage))
            answer.raise_for_status()
            while True:
                await anyio.sleep(POLL_EVERY)
                if session not in (await client.get("/session/status")).json():
                    break


def _http(round_: Round) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=round_.url,
        auth=(round_.login.username, round_.login.password),
        headers={"x-opencode-directory": round_.directory},
        timeout=60.0,
        trust_env=False,
    )


async def _session(client: httpx.AsyncClient, stage: int) -> str:
    # With a title: without one the server asks the model for it, beside the first turn.
    answer = await client.post("/session", json={"title": f"benchmark · s{stage}"})
    session: str = answer.raise_for_status().json()["id"]
    return session


def _body(round_: Round, stage: int) -> dict[str, Any]:
    return {"parts": [{"type": "text", "text": round_.prompt(stage)}]}


DRIVERS: dict[str, Callable[[Round], Awaitable[None]]] = {
    "the synchronous calls": synchronous,
    "the reactor": reactor,
    f"a poll every {POLL_EVERY:g} s": polling,
}


def drive(name: str, round_: Round) -> float:
    """Drive one round; returns the processor seconds this process spent."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    before = time.process_time()
    anyio.run(DRIVERS[name], round_)
    return time.process_time() - before


# What is measured, in the process that looks on.


class Stamps:
    """When the model was prompted and when the server said that a session is idle; `time.monotonic`."""

    def __init__(self) -> None:
        self.prompted: list[float] = []
        self.idle: dict[str, float] = {}

    def answer(self, request: ModelRequest) -> Says:
        """The model's reply, at once; OpenCode's side calls are answered and not counted."""
        if request.side is None:
            self.prompted.append(time.monotonic())
        return Says("Done.", chunks=1)

    def frame(self, line: str) -> None:
        """Take a line of the server's stream."""
        if '"session.idle"' in line:
            at = time.monotonic()
            event = json.loads(line.removeprefix("data:"))["payload"]
            if event["type"] == "session.idle":
                self.idle.setdefault(event["properties"]["sessionID"], at)

    def clear(self) -> None:
        """Before a round."""
        self.prompted.clear()
        self.idle.clear()


@contextmanager
def listening(server: OpenCodeServer, stamps: Stamps) -> Generator[None]:
    """Stamp the server's stream in a thread of its own; afterwards the server is ended."""
    login = server.login
    with httpx.Client(
        base_url=server.url, auth=(login.username, login.password), timeout=30.0, trust_env=False
    ) as client:

        def listen() -> None:
            # The stream ends with the server, which does not say goodbye.
            with suppress(httpx.TransportError), client.stream("GET", "/global/event") as answer:
                for line in answer.iter_lines():
                    stamps.frame(line)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield
        finally:
            server.kill9()
            thread.join()


@dataclass(slots=True)
class Figures:
    """What was measured of one driver, in milliseconds, all rounds together."""

    idle_to_prompt: list[float] = field(default_factory=list[float])
    prompt_to_prompt: list[float] = field(default_factory=list[float])
    processor: list[float] = field(default_factory=list[float])
    rounds: list[float] = field(default_factory=list[float])
    """The median from prompt to prompt, of each round."""

    def add(self, stamps: Stamps, processor: float, stages: int) -> None:
        """Take one round."""
        prompted, idle = stamps.prompted, list(stamps.idle.values())
        if len(prompted) != stages:
            raise SystemExit(f"{stages} stages, but the model was prompted {len(prompted)} times")
        whole = _gaps(prompted, prompted[1:])
        self.prompt_to_prompt += whole
        self.rounds.append(statistics.median(whole))
        # The stream of one round may lack an idle (it was connecting): such a round has only the first kind.
        if len(idle) >= stages - 1:
            self.idle_to_prompt += _gaps(idle, prompted[1:])
        self.processor.append(processor * 1000 / stages)


def _gaps(begin: list[float], end: list[float]) -> list[float]:
    return [(b - a) * 1000 for a, b in zip(begin, end, strict=False)]


class Benchmark:
    """One server version, every driver by turns."""

    def __init__(self, version: str, stages: int, rounds: int) -> None:
        self.version = version
        self.stages = stages
        self.rounds = rounds
        self.figures = {name: Figures() for name in DRIVERS}
        self._stamps = Stamps()

    def measure(self) -> Self:
        """Start everything, warm it up, and measure."""
        binary = find_binary(self.version, start=Path(__file__).parent)
        spawn = multiprocessing.get_context("spawn")
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as folder,
            ScriptedModel(self._stamps.answer) as model,
            OpenCodeServer(binary) as server,
            ProcessPoolExecutor(1, mp_context=spawn) as process,
            listening(server, self._stamps),
        ):
            project = make_project(Path(folder) / "project", model.opencode_config())
            store = str(Path(folder) / "store.db")
            at = Round(server.url, server.login, str(project), self.stages, store)
            warm_up = Round(at.url, at.login, at.directory, 3, store)
            for name in DRIVERS:
                process.submit(drive, name, warm_up).result()
            for _ in range(self.rounds):
                for name in DRIVERS:
                    time.sleep(SETTLE)
                    self._stamps.clear()
                    processor = process.submit(drive, name, at).result()
                    self.figures[name].add(self._stamps, processor, self.stages)
        return self

    def tell(self) -> None:
        """Print the table and what follows from it."""
        print(f"OpenCode {self.version}: {self.stages} one-step stages, {self.rounds} rounds by turns, in ms")
        print(f"{'':22}{'idle to next prompt':>26}{'prompt to prompt':>28}{'processor':>12}")
        head = f"{'median':>10}{'p90':>8}{'max':>8}"
        print(f"{'':22}{head}  {head}{'a stage':>12}")
        for name, figures in self.figures.items():
            idle, whole = _spread(figures.idle_to_prompt), _spread(figures.prompt_to_prompt)
            print(f"{name:22}{idle[0]:>10.1f}{idle[1]:>8.1f}{idle[2]:>8.1f}", end="")
            print(f"{whole[0]:>12.1f}{whole[1]:>8.1f}{whole[2]:>8.1f}", end="")
            print(f"{statistics.fmean(figures.processor):>12.1f}")
        (floor, base), *others = self.figures.items()
        for name, figures in others:
            # Round by round: what else the machine did then, it did to both.
            added = [mine - plain for mine, plain in zip(figures.rounds, base.rounds, strict=True)]
            ratios = [mine / plain for mine, plain in zip(figures.rounds, base.rounds, strict=True)]
            print(
                f"{name} adds {statistics.median(added):.1f} ms a stage to {floor} ({min(added):.1f} to "
                f"{max(added):.1f} by round), {statistics.median(ratios):.2f} times as long"
            )


def _spread(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return float("nan"), float("nan"), float("nan")
    return statistics.median(values), statistics.quantiles(values, n=10)[-1], max(values)


def main() -> None:
    """Measure each version that was named."""
    parser = argparse.ArgumentParser(description="From a stage's end to the next stage's prompt.")
    parser.add_argument("--version", action="append", help=f"of OpenCode; again for another ({NEWEST})")
    parser.add_argument("--stages", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    if chosen.stages < 3 or chosen.rounds < 1:
        parser.error("at least 3 stages and 1 round")
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load > processors / 4:
        print(
            f"This machine is not idle (load {load:.1f} on {processors} processors): expect larger figures."
        )
    for version in chosen.version or [NEWEST]:
        try:
            Benchmark(version, chosen.stages, chosen.rounds).measure().tell()
        except ReactorError as error:
            raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()

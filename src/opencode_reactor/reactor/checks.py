"""Running a stage's `check` commands in the project directory."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import FileIO
from subprocess import DEVNULL, STDOUT

import anyio
from anyio.abc import Process, TaskGroup

from ..model.runs import Run
from ..pipeline.facts import CheckRan, ChecksRan, Result, RunChecks

OUTPUT_LIMIT = 8_000
"""Characters kept of a command's output: its end, where test runners put what matters."""
LAST_WORDS = 0.5
"""Seconds a command's output may take to end after the command and its group have."""


class Checks:
    """The checks under way. They take minutes, so they run beside the queue; `ended` hears each run's id."""

    def __init__(self, now: Callable[[], int], ended: Callable[[str], None]) -> None:
        self._now = now
        self._ended = ended
        self._running: dict[str, anyio.CancelScope] = {}
        self._done: dict[str, ChecksRan] = {}

    def start(self, run: Run, effect: RunChecks, group: TaskGroup) -> None:
        """Begin an attempt's checks; asked again before what came of them is stored, do nothing."""
        if effect.attempt not in self._running and effect.attempt not in self._done:
            scope = self._running[effect.attempt] = anyio.CancelScope()
            group.start_soon(self._run, run, effect, scope)

    def results(self, run: Run) -> dict[str, Result]:
        """What has come for this run and was not decided on; checks of attempts that ended are stopped."""
        still = {a.id for a in run.open_attempts}
        for attempt in self._running.keys() - still:
            if attempt.startswith(f"{run.id}."):
                self._running[attempt].cancel()
        self.forget(a for a in self._done if a.startswith(f"{run.id}.") and a not in still)
        return {a: self._done[a] for a in still if a in self._done}

    def forget(self, attempts: Iterable[str]) -> None:
        """What came of these attempts' checks is stored by now; not before: it is not to be had twice."""
        for attempt in tuple(attempts):
            self._done.pop(attempt, None)

    async def _run(self, run: Run, effect: RunChecks, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                seconds = (effect.deadline - self._now()) / 1000
                self._done[effect.attempt] = await run_checks(effect.commands, run.directory, seconds)
        finally:
            del self._running[effect.attempt]
        self._ended(run.id)


async def run_checks(commands: tuple[str, ...], directory: str, seconds: float) -> ChecksRan:
    """Run the commands one after the other through the shell, up to the first that fails.

    The commands are the pipeline author's own words (never a model's). All share `seconds`; a command that is
    not over then is killed. With each command ends everything it started in the background.
    """
    ran: list[CheckRan] = []
    deadline = anyio.current_time() + seconds
    for command in commands:
        ran.append(await _run(command, directory, deadline))
        if ran[-1].code != 0:
            break
    return ChecksRan(tuple(ran))


class _Tail(asyncio.Protocol):
    """The end of what a command says."""

    def __init__(self) -> None:
        self._said = bytearray()
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._said += data
        del self._said[: -4 * OUTPUT_LIMIT]  # a chatty command must not fill memory

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  whatever ended it
        self.ended.set()

    def text(self) -> str:
        """What was kept, in characters."""
        return self._said.decode(errors="replace")[-OUTPUT_LIMIT:]


async def _run(command: str, directory: str, deadline: float) -> CheckRan:
    # A pipe of our own: over asyncio's `wait` returns only when nobody holds the other end any more, and what
    # a command leaves in the background holds it for ever (https://github.com/python/cpython/issues/119710).
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb", 0) as pipe:
        try:
            process, transport, tail = await _begin(command, directory, theirs, pipe)
        except OSError as error:
            return CheckRan(command, 127, f"cannot be run in {directory}: {error.strerror}")
        finally:
            os.close(theirs)
        code: int | None = None
        try:
            with anyio.move_on_after(deadline - anyio.current_time()):
                code = await process.wait()
        finally:
            await _end(process, tail)
            transport.close()
        return CheckRan(command, code, tail.text())


async def _begin(
    command: str, directory: str, theirs: int, ours: FileIO
) -> tuple[Process, asyncio.ReadTransport, _Tail]:
    """Start a command and listen to it. Not to be cancelled between: nobody would be there to end it."""
    with anyio.CancelScope(shield=True):
        process = await anyio.open_process(
            command, stdin=DEVNULL, stdout=theirs, stderr=STDOUT, cwd=directory, start_new_session=True
        )
        transport, tail = await asyncio.get_running_loop().connect_read_pipe(_Tail, ours)
        return process, transport, tail
    raise AssertionError(command)  # for the type checker: nothing cancels a shielded scope


async def _end(process: Process, tail: _Tail) -> None:
    """Kill the command's whole group: what it left in the background would outlive its stage."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.CancelScope(shield=True):
        await process.aclose()
        # Its last words are in the pipe; only one that left the group can still keep us from its end.
        with anyio.move_on_after(LAST_WORDS):
            await tail.ended.wait()

"""What a command costs before it does anything: whole processes, beside a Python that does nothing.

Processor time, user and system, of processes that take turns; the store they read holds 50 runs of four
stages each. The promise is 60 ms over bare Python for whatever only uses the store, on a quiet machine: a
busy one makes everything dearer, bare Python too, so look at the ratio as well.

    python benchmarks/startup.py [--rounds 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from opencode_reactor.clock import SystemClock
from opencode_reactor.model.asks import Ask, AskKind
from opencode_reactor.model.runs import (
    Attempt,
    AttemptState,
    Evidence,
    JournalEntry,
    JournalKind,
    Run,
    RunState,
    StageRun,
    StageState,
    Turn,
    TurnKind,
)
from opencode_reactor.model.shared import ModelRef, Tokens
from opencode_reactor.store import Store
from opencode_reactor.store.immediate import at_once, open_immediate

PROMISED = 60.0
"""ms over bare Python."""
BARE = "python -c pass"
RUNS = 50
STAGES = ("plan", "draft", "review", "publish")
SERVER = "http://127.0.0.1:4096"
REACTOR = "from opencode_reactor.__main__ import main; main()"
COMMANDS = (
    "--help",
    "runs",
    "runs --format json",
    "show r007",
    "explain r007",
    "inbox",
    "dead",
    "cancel r008",
)


def stage(run: str, name: str) -> StageRun:
    """A stage that succeeded, as the engine leaves it."""
    checks = ("idle", "answer", "completed", "contract", "checks")
    attempt = Attempt(
        run=run,
        stage=name,
        number=1,
        state=AttemptState.SUCCEEDED,
        turn=Turn(
            1, TurnKind.FIRST, "Draft the release notes. " * 20, f"msg_{run}{name}", f"prt_{run}{name}"
        ),
        created=1,
        model=ModelRef("openai", "gpt-5.3-codex"),
        session=f"ses_{run}{name}",
        text="Notes. " * 50,
        tokens=Tokens(9_000, 800, 200, 4_000, 0),
        cost=0.05,
        evidence=tuple(Evidence(check, holds=True, fact="as it was found", at=1) for check in checks),
    )
    return StageRun(name, StageState.SUCCEEDED, summary="4 notes", attempts=(attempt,))


async def fill(store: Store) -> None:
    """What the commands then read."""
    entries = [JournalEntry(JournalKind.DECIDED, "an entry of the journal", "plan", 1, at=1)] * 20
    for number in range(RUNS):
        name = f"r{number:03}"
        stages = tuple(stage(name, of) for of in STAGES)
        state = RunState.RUNNING if number == 8 else RunState.SUCCEEDED
        await store.add_run(Run(name, "notes", SERVER, "/work", "{}", state=state, stages=stages), entries)
        ask = Ask(f"a{name}", AskKind.PERMISSION, SERVER, f"per_{name}", title="bash: git push", run=name)
        await store.add_ask(ask)


def processor_time(arguments: list[str], environ: dict[str, str]) -> float:
    """User and system time of a whole process, ms."""
    silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    child = os.posix_spawn(arguments[0], arguments, environ, file_actions=silent)
    _, status, used = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"failed: {' '.join(arguments)}")
    return (used.ru_utime + used.ru_stime) * 1000


def measure(folder: Path, rounds: int) -> Iterator[tuple[str, list[float]]]:
    """The times of each command, turn by turn."""
    path = str(folder / "reactor.db")
    store = open_immediate(path, clock=SystemClock())
    at_once(fill(store))
    at_once(store.aclose())
    # Compiled code is kept as an installed package's is, whatever this environment or checkout says.
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    lines = {BARE: [sys.executable, "-c", "pass"]}
    for command in COMMANDS:
        words = command.split() + ([] if command == "--help" else ["--store", path])
        lines[f"reactor {command}"] = [sys.executable, "-c", REACTOR, *words]
    for line in lines.values():
        processor_time(line, environ)
    turns = [[processor_time(line, environ) for line in lines.values()] for _ in range(rounds)]
    yield from ((name, [turn[n] for turn in turns]) for n, name in enumerate(lines))


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description="Processor time of a command's start, ms.")
    parser.add_argument("--rounds", type=int, default=20)
    rounds: int = parser.parse_args().rounds
    if rounds < 1:
        parser.error("rounds: at least 1")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        found = dict(measure(Path(name), rounds))
    bare = statistics.median(found[BARE])
    print(f"\n{rounds} rounds by turns, processor ms a process, {RUNS} runs in the store")
    print(f"{'':28}{'median':>8}{'least':>8}{'over bare':>11}{'ratio':>8}")
    for line, times in found.items():
        median = statistics.median(times)
        over = f"{median - bare:>11.1f}{median / bare:>8.1f}" if line != BARE else ""
        more = "  more than promised" if median - bare > PROMISED else ""
        print(f"{line:28}{median:>8.1f}{min(times):>8.1f}{over}{more}")


if __name__ == "__main__":
    main()

"""The commands by name: `reactor --help` reads this table and no more.

A command's module is imported when that command runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import UsageError

PLAIN = "format quiet verbose"
STORE = f"config store {PLAIN}"
SERVER = f"config server {PLAIN}"
ALL = f"config server dir store {PLAIN}"


class Entry(NamedTuple):
    """One command: its place in the help, the module with its function, the common options it takes."""

    group: str
    name: str
    module: str
    line: str
    takes: str


COMMANDS = (
    Entry("Run", "run", "run", "Run one pipeline to its end.", ALL),
    Entry("Run", "prompt", "run", "Send one prompt; exit code 0 only with a proved answer.", ALL),
    Entry("Run", "serve", "serve", "The daemon: handlers and queued runs on all configured servers.", ALL),
    Entry("Run", "submit", "submit", "Queue a run for the daemon and print its id.", ALL),
    Entry("Run", "demo", "demo", "A sample pipeline on a real server with a scripted model, offline.", PLAIN),
    Entry("Look", "runs", "runs", "List runs, newest first.", f"server dir {STORE}"),
    Entry("Look", "show", "runs", "Show one run with its stages.", STORE),
    Entry("Look", "explain", "explain", "Why a run stands where it stands, and what happens next.", STORE),
    Entry("Look", "events", "events", "The server's event stream, as it comes.", f"dir {SERVER}"),
    Entry("Decide", "inbox", "inbox", "What waits for a person.", f"server {STORE}"),
    Entry("Decide", "reply", "inbox", "Answer a permission or an approval.", STORE),
    Entry("Decide", "answer", "inbox", "Answer a question.", STORE),
    Entry("Decide", "cancel", "steering", "Stop a run.", STORE),
    Entry("Decide", "retry", "steering", "Let a failed or waiting run go on.", STORE),
    Entry("Decide", "dead", "dead", "Handler deliveries that were given up: list, retry, drop.", STORE),
    Entry("Check", "check", "check", "Load pipelines, handlers and configuration; say what is wrong.", ALL),
    Entry("Check", "handlers", "handlers", "List the loaded handlers.", f"config {PLAIN}"),
    Entry("Check", "doctor", "doctor", "Try everything this machine needs; name the mend.", ALL),
    Entry("Check", "schema", "schema", "JSON Schema of pipeline files or of reactor.toml.", PLAIN),
)


def overview() -> str:
    """What `reactor --help` prints, from the table alone."""
    width = max(len(entry.name) for entry in COMMANDS) + 2
    groups = [
        "\n".join([f"{group}:", *(f"  {e.name:{width}}{e.line}" for e in COMMANDS if e.group == group)])
        for group in dict.fromkeys(entry.group for entry in COMMANDS)
    ]
    return "\n\n".join([_ABOUT, *groups, _HINTS])


def entry(name: str) -> Entry:
    """The command of that name. Raises UsageError that names the nearest one."""
    for known in COMMANDS:
        if known.name == name:
            return known
    from difflib import get_close_matches

    near = get_close_matches(name, [known.name for known in COMMANDS], n=1)
    raise UsageError(
        f"there is no command {name!r}",
        remedy=f"did you mean {near[0]}?" if near else "reactor --help lists all",
    )


WITH_VALUE = ("--config", "--server", "--dir", "--store", "--format")
"""The common options that take a value."""


def split(arguments: Sequence[str]) -> tuple[Sequence[str], str, Sequence[str]]:
    """Options ahead of the command, the command's name, what follows it. Raises UsageError without a name."""
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 2 if arguments[at] in WITH_VALUE else 1
    if at >= len(arguments):
        raise UsageError(f"{' '.join(arguments)}: no command is named", remedy="reactor --help lists all")
    return arguments[:at], arguments[at], arguments[at + 1 :]


_ABOUT = """\
Usage: reactor COMMAND [OPTIONS] [ARGUMENTS]

React to OpenCode servers: handlers on their events, pipelines with a proved end."""
_HINTS = """\
`reactor COMMAND --help` tells more. Exit codes: 0 succeeded, 1 the run failed, 2 usage, configuration or
pipeline file wrong, 3 waits for a person, 4 server unreachable or login refused, 130 interrupted."""

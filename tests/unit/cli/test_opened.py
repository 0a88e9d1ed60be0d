from __future__ import annotations

from typing import Any

import pytest

from opencode_reactor.model.deliveries import Delivery
from opencode_reactor.model.runs import Failure, Run, RunState, StageRun, StageState
from opencode_reactor.store import Store

# What a command that only uses the store has no need of, and what each of these would bring along.
HEAVY = {
    "anyio",
    "asyncio",
    "httpx",
    "jinja2",
    "jsonschema",
    "pydantic",
    "rich",
    "ruamel",
    "ssl",
    "structlog",
    "tomllib",
    "opencode_reactor.app",
    "opencode_reactor.handling",
    "opencode_reactor.model.events",
    "opencode_reactor.model.sessions",
    "opencode_reactor.opencode",
    "opencode_reactor.pipeline",
    "opencode_reactor.reactor",
    "opencode_reactor.store.worker",
}
COMMANDS = (
    "runs",
    "runs --format json",
    "show r1abc",
    "explain r1abc",
    "inbox",
    "reply per_1 once",
    "answer que_1 SQLite",
    "cancel r1abc",
    "retry r2def",
    "dead",
    "dead drop 1",
)


@pytest.fixture
def kept(reactor: Any, given: Any) -> Any:
    async def fill(store: Store) -> None:
        await store.add_run(given.waiting_run(), given.history())
        stages = (StageRun("draft", StageState.FAILED, failure=Failure.TIMEOUT),)
        await store.add_run(Run("r2def", "p", given.server, "/", "{}", state=RunState.FAILED, stages=stages))
        await store.add_ask(given.permission())
        await store.add_ask(given.question())
        (delivery,) = await store.add_deliveries([Delivery(0, "h", given.server, "e", "n", "", "/", "{}")])
        await store.bury_delivery(delivery.id, tries=3, error="broken")

    reactor.stored(fill)
    return reactor


def imported(err: str) -> set[str]:
    """The modules of a start that Python was told to time."""
    lines = (line for line in err.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_only_uses_the_store_imports_nothing_heavy(kept: Any, command: str) -> None:
    done = kept(*command.split(), PYTHONPROFILEIMPORTTIME="1")
    modules = imported(done.err)
    assert done.code == 0, done.err
    assert "opencode_reactor.store.immediate" in modules
    assert not HEAVY & modules


def test_help_imports_neither_the_store_nor_a_parser(kept: Any) -> None:
    modules = imported(kept("--help", PYTHONPROFILEIMPORTTIME="1").err)
    assert "opencode_reactor.cli.root" in modules
    assert not (HEAVY | {"argparse", "dataclasses", "sqlite3", "opencode_reactor.store"}) & modules

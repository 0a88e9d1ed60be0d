from __future__ import annotations

from dataclasses import replace

import pytest

from opencode_reactor.errors import NotKnown
from opencode_reactor.model.runs import Command, CommandKind, Run
from opencode_reactor.store import Store

SERVER = "http://127.0.0.1:4096"


async def test_a_command_waits_until_the_save_that_obeys_it(store: Store) -> None:
    run = await store.add_run(Run("r1", "p", SERVER, "/", "{}"), [])
    lease = await store.take_lease(SERVER, "ada", 9_000)
    assert lease is not None
    first = await store.add_command("r1", CommandKind.CANCEL, by="ada")
    second = await store.add_command("r1", CommandKind.RETRY, stage="draft")
    assert first == Command(first.id, "r1", CommandKind.CANCEL, "", "ada", first.at)
    assert await store.commands("r1") == [first, second]
    assert await store.commanded_runs(SERVER) == ["r1"]
    await store.save_run(run, replace(run, detail="x"), lease=lease, commands=[first.id])
    assert await store.commands("r1") == [second]


async def test_commanded_runs_are_the_servers_own_and_each_once(store: Store) -> None:
    await store.add_run(Run("r1", "p", SERVER, "/", "{}"), [])
    await store.add_run(Run("r2", "p", "http://other", "/", "{}"), [])
    for run in ("r1", "r1", "r2"):
        await store.add_command(run, CommandKind.RETRY)
    assert await store.commanded_runs(SERVER) == ["r1"]
    assert await store.commanded_runs("http://third") == []


async def test_a_command_to_nobody_is_not_known(store: Store) -> None:
    with pytest.raises(NotKnown, match="no run r9"):
        await store.add_command("r9", CommandKind.CANCEL)

"""What was refused while a prompt was answered: it was not all done then, whatever the answer says."""

from __future__ import annotations

import json
from contextlib import suppress

import anyio

from ..errors import NotFound
from ..model.asks import Ask, AskKind, AskState, Reply
from ..model.runs import Attempt, Run
from ..model.sessions import ToolPart
from ..opencode import Client
from ..pipeline.failures import ruled_out
from ..store import Store
from .connected import client_of
from .opened import in_store
from .options import Options
from .shapes import plain
from .text import one_line
from .words import subject

_WIDTH = 120


def refused(options: Options, run: Run, attempt: Attempt) -> list[str]:
    """The permissions that somebody refused in an attempt, and the tool calls that a rule did."""

    async def answered(store: Store) -> list[Ask]:
        return await store.asks(run=run.id, states=(AskState.ANSWERED, AskState.CLOSED))

    by_reply = [
        f"{subject(ask)} ({ask.answered_by})"
        for ask in in_store(options, answered)
        if ask.kind is AskKind.PERMISSION and ask.reply is Reply.REJECT and ask.attempt == attempt.number
    ]
    return by_reply + [f"{_call(part)} (by a rule)" for part in anyio.run(_by_rule, options, run, attempt)]


async def _by_rule(options: Options, run: Run, attempt: Attempt) -> list[ToolPart]:
    found: list[ToolPart] = []
    async with client_of(options.chosen_server(options.settings())) as client:
        await client.connect()
        sessions = [attempt.session] if attempt.session else []
        while sessions:
            session = sessions.pop()
            with suppress(NotFound):  # deleted meanwhile
                found += ruled_out(await client.messages(run.directory, session))
                sessions += await _children(client, run.directory, session)
    return found


async def _children(client: Client, directory: str, session: str) -> list[str]:
    return [child.id for child in await client.children(directory, session)]


def _call(part: ToolPart) -> str:
    command = part.input.get("command")
    told = command if isinstance(command, str) else json.dumps(plain(part.input), ensure_ascii=False)
    return one_line(f"{part.tool}: {told}", _WIDTH)

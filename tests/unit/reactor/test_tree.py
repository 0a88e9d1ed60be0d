"""Lineage of sessions: from events where they were heard, from the server where they were not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from opencode_reactor.errors import Unreachable
from opencode_reactor.model.sessions import Session
from opencode_reactor.opencode import Client
from opencode_reactor.reactor.tree import DEPTH, LIMIT, SessionTree


def session(name: str, parent: str | None = None) -> Session:
    return Session(name, "/p", name, 1, 1, parent=parent)


async def test_what_events_told_needs_no_question(server: Any, client: Client) -> None:
    tree = SessionTree(client)
    for name, parent in (("root", None), ("child", "root"), ("grandchild", "child")):
        tree.note(session(name, parent))
    assert tree.known_root("grandchild") == "root"
    assert await tree.root("/p", "grandchild") == "root"
    assert server.reads == []


async def test_what_no_event_told_is_asked_once(server: Any, client: Client) -> None:
    root = server.session("root")["id"]
    child = server.session("child", parent=root)["id"]
    grandchild = server.session("grandchild", parent=child)["id"]
    tree = SessionTree(client)
    assert tree.known_root(grandchild) == grandchild
    assert await tree.root("/p", grandchild) == root
    assert await tree.root("/p", grandchild) == root
    assert server.reads == [f"/session/{name}" for name in (grandchild, child, root)]
    assert tree.known_root(grandchild) == root


async def test_a_session_the_server_does_not_know_is_its_own_root(server: Any, client: Client) -> None:
    child = server.session("child", parent="ses_99")["id"]
    tree = SessionTree(client)
    assert await tree.root("/p", "ses_98") == "ses_98"
    assert await tree.root("/p", child) == "ses_99"


async def test_a_server_that_is_away_is_no_answer(server: Any, client: Client) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away", request=request)

    server.before = away
    with pytest.raises(Unreachable):
        await SessionTree(client).root("/p", "ses_1")


async def test_a_lineage_without_end_is_not_followed_for_ever(server: Any, client: Client) -> None:
    tree = SessionTree(client)
    tree.note(session("a", "b"))
    tree.note(session("b", "a"))
    assert tree.known_root("a") in {"a", "b"}
    assert await tree.root("/p", "a") in {"a", "b"}
    for n in range(2 * DEPTH):
        tree.note(session(f"s{n}", f"s{n + 1}"))
    assert tree.known_root("s0") == f"s{DEPTH}"
    assert server.reads == []


async def test_memory_is_bounded_and_the_oldest_lineages_are_asked_for_again(
    server: Any, client: Client
) -> None:
    root = server.session("root")["id"]
    tree = SessionTree(client)
    tree.note(session("first", root))
    for n in range(LIMIT):
        tree.note(session(f"s{n}"))
    assert tree.known_root("first") == "first"
    assert tree.known_root(f"s{LIMIT - 1}") == f"s{LIMIT - 1}"

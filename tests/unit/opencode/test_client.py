import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from opencode_reactor.errors import BadAnswer, LoginRefused, NotFound, Unreachable, UnsupportedVersion
from opencode_reactor.model.sessions import (
    Agent,
    AssistantMessage,
    Busy,
    FileDiff,
    Model,
    ModelRef,
    PermissionRule,
    Todo,
    UserMessage,
)
from opencode_reactor.opencode import Client, Login, Prompt
from opencode_reactor.opencode import client as module

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Answer], AbstractAsyncContextManager[str]]

DIR = "/project"
ANSWERED = {"id": "msg_2", "sessionID": "ses_1", "role": "assistant", "parentID": "msg_1"}


class Server:
    """Answers each route with what the test says, and remembers what was asked."""

    def __init__(self, routes: dict[str, Any]) -> None:
        self._routes = routes
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        key = f"{request.method} {request.url.raw_path.decode()}"
        answer = self._routes.get(key)
        if isinstance(answer, httpx.Response):
            return answer
        if key not in self._routes:
            return httpx.Response(404, json={"name": "NotFoundError", "data": {"message": "no route"}})
        return httpx.Response(200, json=answer)

    @property
    def body(self) -> Any:
        return json.loads(self.asked[-1].content)

    @property
    def client(self) -> Client:
        return Client("http://host", login=Login("me", "hunter22"), transport=httpx.MockTransport(self))


# Connecting


@pytest.mark.parametrize(("version", "ids"), [("1.1.65", False), ("1.18.33", True)])
async def test_connecting_chooses_the_dialect_by_the_version(version: str, ids: bool) -> None:
    server = Server({"GET /global/health": {"healthy": True, "version": version}})
    async with server.client as client:
        dialect = await client.connect()
        assert dialect is client.dialect
    assert dialect.event_ids is ids
    assert {request.url.path for request in server.asked} == {"/global/health"}


async def test_connecting_again_notices_another_version() -> None:
    routes: dict[str, Any] = {"GET /global/health": {"healthy": True, "version": "1.1.65"}}
    async with Server(routes).client as client:
        old = await client.connect()
        assert await client.connect() is old
        routes["GET /global/health"] = {"healthy": True, "version": "1.18.33"}
        assert (await client.connect()).event_ids


async def test_the_dialect_is_not_known_before_connecting() -> None:
    async with Server({}).client as client:
        with pytest.raises(RuntimeError):
            assert client.dialect


async def test_a_version_we_do_not_speak_is_refused() -> None:
    async with Server({"GET /global/health": {"healthy": True, "version": "2.0.1"}}).client as client:
        with pytest.raises(UnsupportedVersion):
            await client.connect()


@pytest.mark.parametrize("answer", [{}, [], {"healthy": True}, {"healthy": "?", "version": 3}])
async def test_a_health_that_is_none_is_a_bad_answer(answer: object) -> None:
    async with Server({"GET /global/health": answer}).client as client:
        with pytest.raises(BadAnswer):
            await client.connect()


async def test_connecting_survives_requests_that_a_starting_server_never_answers(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HEALTH_DEADLINES", (0.1, 0.1, 0.1))
    calls = 0

    async def answer(_: str, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            await asyncio.Event().wait()
        body = b'{"healthy":true,"version":"1.18.33"}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + body)

    async with serve(answer) as url, Client(url) as client:
        assert (await client.connect()).event_ids
    assert calls == 3


async def test_connecting_gives_up_in_the_end(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEALTH_DEADLINES", (0.05, 0.05))

    async def answer(_: str, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serve(answer) as url, Client(url) as client:
        with pytest.raises(Unreachable):
            await client.connect()


async def test_a_refused_login_is_not_tried_again() -> None:
    server = Server({"GET /global/health": httpx.Response(401)})
    async with server.client as client:
        with pytest.raises(LoginRefused):
            await client.connect()
    assert len(server.asked) == 1


def test_the_url_is_the_server_s_id_without_credentials() -> None:
    assert Client("http://user:hunter22@Host:4096/").url == "http://host:4096"


# What is sent


async def test_every_call_names_the_directory_and_the_login() -> None:
    server = Server({"GET /session/status": {}})
    async with server.client as client:
        await client.status("/pröject")
    headers = server.asked[0].headers
    assert headers["x-opencode-directory"] == "/pr%C3%B6ject"
    assert headers["authorization"].startswith("Basic ")


async def test_a_session_is_made_with_what_was_given_and_nothing_else() -> None:
    server = Server({"POST /session": {"id": "ses_1", "title": "t"}})
    async with server.client as client:
        await client.create_session(DIR, title="t")
        assert server.body == {"title": "t"}
        session = await client.create_session(
            DIR,
            title="t",
            permissions=[PermissionRule("bash", "git *", "allow")],
            metadata={"run": "r"},
            parent="ses_0",
        )
    assert session.id == "ses_1"
    assert server.body == {
        "title": "t",
        "permission": [{"permission": "bash", "pattern": "git *", "action": "allow"}],
        "metadata": {"run": "r"},
        "parentID": "ses_0",
    }


def test_a_prompt_has_its_model_under_model_and_no_empty_fields() -> None:
    full = Prompt(
        "hi", "msg_1", "prt_1", ModelRef("p", "m/n"), "build", "high", "be kind", {"question": False}
    )
    assert full.body() == {
        "parts": [{"type": "text", "text": "hi", "id": "prt_1"}],
        "messageID": "msg_1",
        "model": {"providerID": "p", "modelID": "m/n"},
        "agent": "build",
        "variant": "high",
        "system": "be kind",
        "tools": {"question": False},
    }
    assert Prompt("hi").body() == {"parts": [{"type": "text", "text": "hi"}]}


async def test_an_id_cannot_leave_its_place_in_the_path() -> None:
    server = Server({})
    async with server.client as client:
        with pytest.raises(NotFound):
            await client.session(DIR, "../config?x=#")
    assert server.asked[0].url.raw_path == b"/session/..%2Fconfig%3Fx%3D%23"


async def test_a_search_is_encoded_and_has_a_limit() -> None:
    server = Server({"GET /session?limit=5&search=a+%26+%C3%BC%25": [{"id": "ses_1"}]})
    async with server.client as client:
        found = await client.sessions(DIR, search="a & ü%", limit=5)
    assert [session.id for session in found] == ["ses_1"]


POSTED: list[tuple[Callable[[Client], Awaitable[object]], str, object]] = [
    (lambda c: c.reply_permission(DIR, "per_1", "once"), "/permission/per_1/reply", {"reply": "once"}),
    (
        lambda c: c.reply_permission(DIR, "per_1", "reject", message="no", session="ses_1"),
        "/permission/per_1/reply",
        {"reply": "reject", "message": "no"},
    ),
    (
        lambda c: c.answer_question(DIR, "que_1", [("A",), ()]),
        "/question/que_1/reply",
        {"answers": [["A"], []]},
    ),
    (
        lambda c: c.summarize(DIR, "ses_1", ModelRef("p", "m")),
        "/session/ses_1/summarize",
        {"providerID": "p", "modelID": "m"},
    ),
    (
        lambda c: c.prompt_async(DIR, "ses_1", Prompt("hi")),
        "/session/ses_1/prompt_async",
        {"parts": [{"type": "text", "text": "hi"}]},
    ),
]


@pytest.mark.parametrize(("call", "path", "body"), POSTED)
async def test_what_is_posted_is_what_the_api_takes(
    call: Callable[[Client], Awaitable[object]], path: str, body: object
) -> None:
    server = Server({f"POST {path}": True})
    async with server.client as client:
        await call(client)
    assert server.body == body


async def test_a_fork_may_name_where_it_ends() -> None:
    server = Server({"POST /session/ses_1/fork": {"id": "ses_2"}})
    async with server.client as client:
        await client.fork(DIR, "ses_1")
        assert server.body == {}
        assert (await client.fork(DIR, "ses_1", "msg_1")).id == "ses_2"
    assert server.body == {"messageID": "msg_1"}


DONE: list[Callable[[Client], Awaitable[bool]]] = [
    lambda c: c.abort(DIR, "ses_1"),
    lambda c: c.delete_session(DIR, "ses_1"),
    lambda c: c.summarize(DIR, "ses_1", ModelRef("p", "m")),
]


@pytest.mark.parametrize("call", DONE)
async def test_what_the_server_says_it_did_is_told(call: Callable[[Client], Awaitable[bool]]) -> None:
    routes: dict[str, Any] = {"POST /session/ses_1/abort": True, "DELETE /session/ses_1": True}
    async with Server({**routes, "POST /session/ses_1/summarize": True}).client as client:
        assert await call(client) is True


async def test_a_question_can_be_dismissed() -> None:
    server = Server({"POST /question/que_1/reject": True})
    async with server.client as client:
        await client.reject_question(DIR, "que_1")
    assert server.asked[0].content == b""


# What is read


async def test_lists_are_read_into_nouns() -> None:
    routes: dict[str, Any] = {
        "GET /session/status": {"ses_1": {"type": "busy"}},
        "GET /session/ses_1/children": [{"id": "ses_2", "parentID": "ses_1"}],
        "GET /session/ses_1/diff": [{"file": "a", "additions": 1, "deletions": 2, "patch": "…"}],
        "GET /session/ses_1/todo": [{"content": "x", "status": "pending", "priority": "high"}],
        "GET /permission": [{"id": "per_1", "sessionID": "ses_1", "permission": "bash"}],
        "GET /question": [{"id": "que_1", "sessionID": "ses_1", "questions": [{"question": "Q?"}]}],
        "GET /agent": [{"name": "build", "mode": "primary"}, {"nameless": True}],
        "GET /doc": {"openapi": "3.1.0"},
    }
    async with Server(routes).client as client:
        assert await client.status(DIR) == {"ses_1": Busy()}
        assert [(s.id, s.parent) for s in await client.children(DIR, "ses_1")] == [("ses_2", "ses_1")]
        assert await client.diff(DIR, "ses_1") == [FileDiff("a", 1, 2)]
        assert await client.todo(DIR, "ses_1") == [Todo("x", "pending", "high")]
        assert [p.permission for p in await client.permissions(DIR)] == ["bash"]
        assert [q.questions[0].question for q in await client.questions(DIR)] == ["Q?"]
        assert await client.agents(DIR) == [Agent("build", "primary")]
        assert await client.doc() == {"openapi": "3.1.0"}


async def test_messages_are_read_with_their_parts() -> None:
    part = {"id": "prt_1", "sessionID": "ses_1", "messageID": "msg_1", "type": "text", "text": "hi"}
    user: dict[str, Any] = {"info": {"id": "msg_1", "sessionID": "ses_1", "role": "user"}, "parts": [part]}
    routes: dict[str, Any] = {
        "GET /session/ses_1/message": [user, {"info": ANSWERED, "parts": []}],
        "GET /session/ses_1/message?limit=1": [{"info": ANSWERED, "parts": []}],
        "GET /session/ses_1/message/msg_1": user,
        "POST /session/ses_1/message": {"info": ANSWERED, "parts": []},
    }
    async with Server(routes).client as client:
        first, second = await client.messages(DIR, "ses_1")
        assert isinstance(first, UserMessage)
        assert len(first.parts) == 1
        assert isinstance(second, AssistantMessage)
        assert await client.messages(DIR, "ses_1", 1) == [second]
        assert await client.message(DIR, "ses_1", "msg_1") == first
        assert await client.prompt(DIR, "ses_1", Prompt("hi")) == second


PROVIDERS: dict[str, Any] = {
    "providers": [
        {
            "id": "p",
            "models": {
                "m/n": {
                    "id": "other",
                    "name": "M",
                    "limit": {"context": 9, "output": 3},
                    "variants": {"high": {}},
                }
            },
        },
        {"broken": True},
    ],
    "default": {"p": "m/n"},
}


@pytest.mark.parametrize(
    ("config", "default"),
    [
        ({"model": "p/m/n"}, ModelRef("p", "m/n")),
        ({}, None),
        ({"model": "nonsense"}, None),
        ({"model": 5}, None),
    ],
)
async def test_the_catalog_names_the_default_model_only_where_it_is_known(
    config: dict[str, Any], default: ModelRef | None
) -> None:
    routes: dict[str, Any] = {
        "GET /agent": [{"name": "build"}],
        "GET /config/providers": PROVIDERS,
        "GET /config": config,
    }
    async with Server(routes).client as client:
        catalog = await client.catalog(DIR)
    assert catalog.default == default
    assert catalog.models == (Model(ModelRef("p", "m/n"), "M", 9, 3, ("high",)),)
    assert [agent.name for agent in catalog.agents] == ["build"]


@pytest.mark.parametrize("answer", [None, 5, "x", {}, [{}], [[]], {"ses_1": {}}])
async def test_a_wrong_shape_is_a_bad_answer_that_names_the_place(answer: object) -> None:
    server = Server({"GET /permission": answer if isinstance(answer, list) else {"a": answer}})
    async with server.client as client:
        with pytest.raises(BadAnswer, match="GET /permission"):
            await client.permissions(DIR)


async def test_a_wrong_shape_does_not_show_the_server_s_secrets() -> None:
    async with Server({"GET /session/ses_1": {"id": ["hunter22"]}}).client as client:
        with pytest.raises(BadAnswer) as bad:
            await client.session(DIR, "ses_1")
    assert "hunter22" not in str(bad.value)


async def test_an_empty_answer_to_a_prompt_says_what_it_means_in_old_versions() -> None:
    empty = httpx.Response(200, headers={"content-type": "application/json"})
    async with Server({"POST /session/ses_1/message": empty}).client as client:
        with pytest.raises(BadAnswer) as bad:
            await client.prompt(DIR, "ses_1", Prompt("hi"))
    assert "session, agent or model" in bad.value.remedy


async def test_a_prompt_is_not_answered_by_a_user_message() -> None:
    answer: dict[str, Any] = {"info": {"id": "msg_1", "sessionID": "ses_1", "role": "user"}, "parts": []}
    async with Server({"POST /session/ses_1/message": answer}).client as client:
        with pytest.raises(BadAnswer):
            await client.prompt(DIR, "ses_1", Prompt("hi"))


@pytest.mark.parametrize(("directory", "path"), [(None, "/global/event"), (DIR, "/event")])
async def test_listening_hands_on_the_stream(directory: str | None, path: str) -> None:
    stream = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"data: 1\n\n")
    got: list[bytes] = []
    async with Server({f"GET {path}": stream}).client as client:
        await client.listen(directory, got.append)
    assert got == [b"data: 1\n\n"]

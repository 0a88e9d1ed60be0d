"""What the scripted model says is what the real server hears: each kind of reply, on both versions."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from opencode_reactor.model.sessions import Tokens
from opencode_reactor.testing import (
    CONTINUATION,
    Calls,
    Cuts,
    Empty,
    Fails,
    LiveServer,
    ModelRequest,
    Overflow,
    Reasons,
    Reply,
    Says,
    SaysJson,
    Side,
    Stalls,
    bash,
    question,
    task,
)

FULL = Tokens(input=125_000, output=10)  # more than `standard` may hold before the server compacts


class _Talk:
    """One session, driven over plain HTTP: what is tested here is the model, not the client."""

    def __init__(self, client: httpx.AsyncClient, session: str) -> None:
        self.client = client
        self.session = session

    async def get(self, path: str) -> Any:
        return (await self.client.get(path)).raise_for_status().json()

    async def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return (await self.client.post(path, json=body or {})).raise_for_status().json()

    async def ask(self, text: str, model: str = "standard") -> Any:
        body = {
            "model": {"providerID": "scripted", "modelID": model},
            "parts": [{"type": "text", "text": text}],
        }
        return await self.post(f"/session/{self.session}/message", body)

    async def messages(self) -> list[Any]:
        return await self.get(f"/session/{self.session}/message")

    async def appears(self, path: str) -> Any:
        async with asyncio.timeout(10):
            while not (found := await self.get(path)):  # noqa: ASYNC110 - the server tells when asked
                await asyncio.sleep(0.02)
        return found[0]


@asynccontextmanager
async def _talk(live: LiveServer) -> AsyncGenerator[_Talk]:
    async with httpx.AsyncClient(
        base_url=live.url,
        auth=(live.login.username, live.login.password),
        params={"directory": str(live.directory)},
        timeout=30.0,
        trust_env=False,
    ) as client:
        session = (await client.post("/session", json={"title": "live"})).raise_for_status().json()
        yield _Talk(client, session["id"])


def _text(answer: Any) -> str:
    return "".join(part["text"] for part in answer["parts"] if part["type"] == "text")


async def test_each_prompt_reaches_the_model_once(live: LiveServer) -> None:
    live.model.on("a haiku", Says("Old pond.", chunks=3, delay=0.01))
    async with _talk(live) as talk:
        answer = await talk.ask("Write a haiku.", "spare")
    assert _text(answer) == "Old pond."
    (asked,) = live.model.prompts
    assert (asked.prompt, asked.model, asked.directory) == ("Write a haiku.", "spare", str(live.directory))
    assert {"bash", "task"} <= set(asked.tools)


async def test_a_title_call_is_answered_beside_the_script(live: LiveServer) -> None:
    live.model.on("", Says("for the prompt"), once=True)
    async with _talk(live) as talk:
        untitled = await talk.post("/session")
        talk.session = untitled["id"]
        path = f"/session/{talk.session}"
        assert _text(await talk.ask("x")) == "for the prompt"
        async with asyncio.timeout(10):
            while (await talk.get(path))["title"] != "A scripted session":  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
    assert len(live.model.prompts) == 1
    assert Side.TITLE in {request.side for request in live.model.requests}


@pytest.mark.parametrize("reply", [Empty(), Reasons("Let me think.")])
async def test_an_answer_without_text_is_complete_and_has_none(live: LiveServer, reply: Reply) -> None:
    live.model.default(reply)
    async with _talk(live) as talk:
        answer = await talk.ask("x")
    assert _text(answer) == ""
    assert answer["info"]["time"]["completed"]
    assert "error" not in answer["info"]


async def test_an_answer_may_be_cut_off_by_its_length(live: LiveServer) -> None:
    live.model.default(Says('{"title": "No', finish="length"))
    async with _talk(live) as talk:
        answer = await talk.ask("x")
    assert (_text(answer), answer["info"]["finish"]) == ('{"title": "No', "length")


async def test_usage_is_what_the_script_says(live: LiveServer) -> None:
    live.model.default(SaysJson({"ok": True}, tokens=Tokens(input=1000, output=50, cache_read=200)))
    async with _talk(live) as talk:
        answer = await talk.ask("x")
    tokens = answer["info"]["tokens"]
    assert (tokens["input"], tokens["output"], tokens["cache"]["read"]) == (1000, 50, 200)
    assert _text(answer) == '{"ok": true}'


async def test_a_tool_call_asks_runs_and_is_answered_by_the_rules_next_reply(live: LiveServer) -> None:
    live.configure(permission={"bash": "ask"})
    live.model.on("greet", Calls(bash("echo hello > greeting")), Says("Greeted."))
    async with _talk(live) as talk:
        answering = asyncio.create_task(talk.ask("greet them"))
        asked = await talk.appears("/permission")
        assert asked["permission"] == "bash"
        await talk.post(f"/permission/{asked['id']}/reply", {"reply": "once"})
        assert _text(await answering) == "Greeted."
    assert (live.directory / "greeting").read_text() == "hello\n"
    first, second = live.model.asked("greet")
    assert not first.after_tool
    assert second.after_tool


async def test_a_question_is_raised_and_its_answer_reaches_the_model(live: LiveServer) -> None:
    live.model.on("choose", Calls(question("Which colour?", "Red", "Blue")), Says("Chosen."))
    async with _talk(live) as talk:
        answering = asyncio.create_task(talk.ask("choose one"))
        asked = await talk.appears("/question")
        assert [option["label"] for option in asked["questions"][0]["options"]] == ["Red", "Blue"]
        await talk.post(f"/question/{asked['id']}/reply", {"answers": [["Blue"]]})
        assert _text(await answering) == "Chosen."
    assert "Blue" in str(live.model.prompts[-1].messages[-1])


async def test_a_task_call_makes_a_child_session_that_asks_the_model_too(live: LiveServer) -> None:
    live.model.on("delegate", Calls(task("Count the files.")), Says("Delegated."))
    live.model.on("Count the files", Says("Three files."))
    async with _talk(live) as talk:
        assert _text(await talk.ask("delegate it")) == "Delegated."
        (child,) = await talk.get(f"/session/{talk.session}/children")
    assert child["parentID"] == talk.session
    assert len(live.model.asked("Count the files")) == 1
    assert "Three files." in str(live.model.prompts[-1].messages[-1])


async def test_a_refused_login_is_an_error_on_the_message(live: LiveServer) -> None:
    live.model.default(Fails(401))
    async with _talk(live) as talk:
        answer = await talk.ask("x")
    assert answer["info"]["error"]["name"] == "APIError"
    assert answer["info"]["error"]["data"]["statusCode"] == 401
    assert len(live.model.prompts) == 1


@pytest.mark.parametrize(
    "trouble",
    [Fails(429, headers={"retry-after": "1"}), Fails(503, headers={"retry-after": "1"}), Cuts("par")],
)
async def test_what_passes_is_tried_again_by_the_server(live: LiveServer, trouble: Reply) -> None:
    live.model.on("x", trouble, Says("At last."))
    async with _talk(live) as talk:
        # 1.1.65 keeps what came before the cut and joins the new text to it.
        assert _text(await talk.ask("x")).endswith("At last.")
    assert len(live.model.asked("x")) == 2


async def test_a_stall_holds_the_turn_until_it_is_aborted(live: LiveServer) -> None:
    live.model.on("wait", Stalls("So far"))
    async with _talk(live) as talk:
        answering = asyncio.create_task(talk.ask("wait for it"))
        await live.model.wait_for("wait")
        assert talk.session in await talk.get("/session/status")
        await talk.post(f"/session/{talk.session}/abort")
        answer = await answering
    assert answer["info"]["error"]["name"] == "MessageAbortedError"


async def test_an_overflow_is_known_as_one(live: LiveServer) -> None:
    live.configure(compaction=False)
    live.model.default(Overflow())
    async with _talk(live) as talk:
        answer = await talk.ask("x")
    assert answer["info"]["error"]["name"] == "ContextOverflowError"


async def test_a_full_window_makes_the_server_compact_after_a_good_answer(live: LiveServer) -> None:
    live.model.on("report", SaysJson({"good": True}, tokens=FULL))
    live.model.on(CONTINUATION, Says("There is nothing left to do."))
    async with _talk(live) as talk:
        await talk.ask("report")
        said = [_text(message) for message in await talk.messages()]
    assert '{"good": true}' in said
    assert said[-1] == "There is nothing left to do."
    assert len(_compactions(live)) == 1


async def test_a_full_window_in_mid_turn_is_compacted_and_the_turn_goes_on(live: LiveServer) -> None:
    live.configure(permission={"bash": "allow"})
    live.model.on("report", Calls(bash("echo one"), tokens=FULL))
    live.model.on(CONTINUATION, Says("Finished."))
    async with _talk(live) as talk:
        assert _text(await talk.ask("report")) == "Finished."
    assert len(live.model.asked("report")) == 1
    assert len(_compactions(live)) == 1


async def test_a_compaction_can_be_made_to_fail(live: LiveServer) -> None:
    live.model.on("report", Says("Good.", tokens=FULL))
    live.model.on(Side.COMPACTION, Fails(401))
    async with _talk(live) as talk:
        await talk.ask("report")
        errors = [message["info"].get("error", {}).get("name") for message in await talk.messages()]
    assert "APIError" in errors
    assert not live.model.asked(CONTINUATION)


async def test_models_may_answer_differently(live: LiveServer) -> None:
    live.model.on("x", Fails(401), model="standard")
    live.model.on("x", Says("The spare one."), model="spare")
    async with _talk(live) as talk:
        assert "error" in (await talk.ask("x", "standard"))["info"]
        assert _text(await talk.ask("x", "spare")) == "The spare one."


def _compactions(live: LiveServer) -> list[ModelRequest]:
    return [request for request in live.model.requests if request.side is Side.COMPACTION]

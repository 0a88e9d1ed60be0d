import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from opencode_reactor.testing import Cuts, Empty, Fails, ModelRequest, Reply, Says, ScriptedModel, Stalls


async def _ask(model: ScriptedModel, prompt: str, *, stream: bool = False) -> httpx.Response:
    body = {"model": "standard", "stream": stream, "messages": [{"role": "user", "content": prompt}]}
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        return await client.post(f"{model.url}/chat/completions", json=body)


def _text(response: httpx.Response) -> str:
    return response.json()["choices"][0]["message"]["content"]


async def test_prompts_are_answered_and_recorded_in_order() -> None:
    async with ScriptedModel() as model:
        model.on("draft", Says("first"), Says("second"), name="drafting")
        assert [_text(await _ask(model, f"draft {n}")) for n in range(2)] == ["first", "second"]
        assert _text(await _ask(model, "else")) == "Done."
    assert [(r.number, r.prompt, r.rule) for r in model.requests] == [
        (1, "draft 0", "drafting"),
        (2, "draft 1", "drafting"),
        (3, "else", ""),
    ]
    assert [request.prompt for request in model.asked("draft")] == ["draft 0", "draft 1"]


async def test_one_connection_carries_many_requests() -> None:
    async with ScriptedModel() as model, httpx.AsyncClient(trust_env=False) as client:
        for n in range(3):
            body = {"stream": n % 2 == 0, "messages": [{"role": "user", "content": str(n)}]}
            answer = await client.post(f"{model.url}/chat/completions", json=body)
            assert answer.status_code == 200
            assert "connection" not in answer.headers
    assert len(model.requests) == 3


async def test_a_stream_arrives_piece_by_piece() -> None:
    async with ScriptedModel(Says("abcdef", chunks=3, delay=0.01)) as model:
        answer = await _ask(model, "x", stream=True)
    events = [line[6:] for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "abcdef"


async def test_a_failure_keeps_its_status_and_headers() -> None:
    async with ScriptedModel(Fails(429, headers={"retry-after": "1"})) as model:
        answer = await _ask(model, "x")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reset_is_seen_as_a_broken_connection(*, stream: bool) -> None:
    async with ScriptedModel(Cuts("half")) as model:
        with pytest.raises(httpx.ReadError):
            await _ask(model, "x", stream=stream)


async def test_a_plain_close_is_seen_as_a_body_without_an_end() -> None:
    async with ScriptedModel(Cuts("half", reset=False)) as model:
        with pytest.raises(httpx.RemoteProtocolError):
            await _ask(model, "x", stream=True)
        assert model.requests[0].stream


async def test_a_stall_ends_when_the_caller_leaves_and_the_model_lives_on() -> None:
    async with ScriptedModel() as model:
        model.on("stall", Stalls("some", for_=None))
        waiting = asyncio.create_task(_ask(model, "stall", stream=True))
        await model.wait_for("stall")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert _text(await _ask(model, "go on")) == "Done."


async def test_a_bounded_stall_goes_on_by_itself() -> None:
    async with ScriptedModel(Stalls("a", for_=0.05, then="b")) as model:
        began = time.monotonic()
        answer = await _ask(model, "x", stream=True)
    assert time.monotonic() - began >= 0.05
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_closing_ends_whoever_is_still_stalled() -> None:
    async with ScriptedModel(Stalls(for_=None, silent=True)) as model:
        waiting = asyncio.create_task(_ask(model, "x"))
        await model.wait_for("x")
    with pytest.raises(httpx.TransportError):
        await waiting


async def test_waiting_for_a_prompt_sees_those_before_and_after() -> None:
    async with ScriptedModel() as model:
        await _ask(model, "x one")
        assert (await model.wait_for("x")).prompt == "x one"
        waiting = asyncio.create_task(model.wait_for("x", 2))
        await _ask(model, "y")
        await _ask(model, "x two")
        assert (await waiting).prompt == "x two"
        with pytest.raises(TimeoutError):
            await model.wait_for("never", within=0.01)


def test_in_a_thread_it_answers_a_blocking_caller() -> None:
    with ScriptedModel(Says("hello")) as model:
        answer = httpx.post(f"{model.url}/chat/completions", json={"messages": []}, trust_env=False)
        assert _text(answer) == "hello"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{model.url}/models", trust_env=False)


async def test_in_a_thread_prompts_can_be_waited_for_from_another_loop() -> None:
    with ScriptedModel() as model:
        waiting = asyncio.create_task(model.wait_for("x"))
        await _ask(model, "x")
        assert (await waiting).prompt == "x"


async def test_clearing_forgets_rules_and_requests() -> None:
    async with ScriptedModel() as model:
        model.on("x", Empty())
        await _ask(model, "x")
        model.clear()
        model.default(Says("anew"))
        assert _text(await _ask(model, "x")) == "anew"
        assert [request.number for request in model.requests] == [1]


async def test_what_a_script_raises_is_answered_and_told_at_the_end() -> None:
    def broken(_: ModelRequest) -> Reply:
        raise KeyError("tag")

    with pytest.RaisesGroup(KeyError):
        async with ScriptedModel(broken) as model:
            answer = await _ask(model, "x")
            assert answer.status_code == 500
            assert "KeyError('tag')" in answer.json()["error"]["message"]


async def test_models_are_listed_and_other_routes_are_unknown() -> None:
    async with ScriptedModel() as model, httpx.AsyncClient(trust_env=False, base_url=model.url) as client:
        listed = (await client.get("/models")).json()["data"]
        assert {"standard", "small", "tiny", "large"} <= {entry["id"] for entry in listed}
        assert (await client.get("/other")).status_code == 404
        assert (await client.post("/embeddings", json={})).status_code == 404


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
async def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    async with ScriptedModel() as model, httpx.AsyncClient(trust_env=False, base_url=model.url) as client:
        answer = await client.post("/chat/completions", content=body)
        assert answer.status_code == 400
    assert not model.requests


@pytest.mark.parametrize(
    "noise", [b"", b"\x16\x03\x01 no http\r\n\r\n", b"POST /v1/chat/completions HTTP/1.1\r\nhost"]
)
async def test_noise_ends_its_own_connection_only(noise: bytes) -> None:
    async with ScriptedModel() as model:
        port = int(model.url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall(noise)
        assert _text(await _ask(model, "x")) == "Done."


async def test_a_body_sent_after_leave_to_go_on_is_read() -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b'{"messages": [{"role": "user", "content": "'
        yield b"x" * 200_000
        yield b'"}]}'

    async with ScriptedModel() as model, httpx.AsyncClient(trust_env=False, base_url=model.url) as client:
        answer = await client.post("/chat/completions", content=content(), headers={"expect": "100-continue"})
        assert answer.status_code == 200
    assert len(model.requests[0].prompt) == 200_000

import json
from typing import Any

import pytest

from opencode_reactor.model.sessions import Json, Tokens
from opencode_reactor.testing import (
    Calls,
    Cuts,
    Empty,
    Fails,
    Overflow,
    Reasons,
    Reply,
    Says,
    SaysJson,
    Stalls,
    bash,
    question,
    task,
)
from opencode_reactor.testing.completions import Drop, End, Head, Pause, Send, Step, split, steps, usage
from opencode_reactor.testing.requests import read_request


def _steps(reply: Reply, *, stream: bool = True) -> list[Step]:
    body: dict[str, Json] = {"model": "standard", "stream": stream}
    return list(steps(reply, read_request(3, 5000, body, {})))


def _chunks(reply: Reply) -> list[dict[str, Any]]:
    sent = [step.content.decode() for step in _steps(reply) if isinstance(step, Send)]
    assert all(event.startswith("data: ") and event.endswith("\n\n") for event in sent)
    return [json.loads(event[6:]) for event in sent if "[DONE]" not in event]


def _whole(reply: Reply) -> dict[str, Any]:
    head, body, end = _steps(reply, stream=False)
    assert isinstance(head, Head)
    assert isinstance(body, Send)
    assert end == End()
    return json.loads(body.content)


def test_text_streams_in_chunks_and_ends_with_finish_usage_and_done() -> None:
    done = _steps(Says("abcdef", chunks=3))
    assert done[0] == Head(
        200, {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    )
    assert done[-2:] == [Send(b"data: [DONE]\n\n"), End()]
    chunks = _chunks(Says("abcdef", chunks=3))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert [delta.get("content") for delta in deltas] == ["", "ab", "cd", "ef", None]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["prompt_tokens"] == 100
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-3"}


def test_a_delay_stands_before_each_chunk() -> None:
    assert _steps(Says("abcd", chunks=2, delay=0.5)).count(Pause(0.5)) == 2
    assert _steps(Says("abcd", chunks=2, delay=0.5), stream=False)[0] == Pause(1.0)


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter"])
def test_the_finish_reason_is_the_scripts(finish: Any) -> None:
    assert _chunks(Says("x", finish=finish))[-2]["choices"][0]["finish_reason"] == finish
    assert _whole(Says("x", finish=finish))["choices"][0]["finish_reason"] == finish


def test_json_is_said_as_text() -> None:
    message = _whole(SaysJson({"title": "Grüße"}))["choices"][0]["message"]
    assert json.loads(message["content"]) == {"title": "Grüße"}


def test_tool_calls_come_in_one_chunk_after_the_text() -> None:
    chunks = _chunks(Calls(bash("ls"), question("Which?", "A", "B"), task("Do it"), text="Look:"))
    assert chunks[1]["choices"][0]["delta"]["content"] == "Look:"
    calls = chunks[2]["choices"][0]["delta"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["bash", "question", "task"]
    assert [call["id"] for call in calls] == ["call_3_0", "call_3_1", "call_3_2"]
    assert json.loads(calls[0]["function"]["arguments"])["command"] == "ls"
    asked = json.loads(calls[1]["function"]["arguments"])["questions"][0]
    assert [option["label"] for option in asked["options"]] == ["A", "B"]
    assert chunks[3]["choices"][0]["finish_reason"] == "tool_calls"
    assert _whole(Calls(bash("ls")))["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "bash"


def test_reasoning_alone_has_no_content() -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in _chunks(Reasons("hm")) if chunk["choices"]]
    assert {"reasoning_content": "hm"} in deltas
    assert not any(delta.get("content") for delta in deltas)
    assert _whole(Reasons("hm"))["choices"][0]["message"]["reasoning_content"] == "hm"


def test_an_empty_completion_still_finishes() -> None:
    assert [chunk["choices"][0]["delta"] for chunk in _chunks(Empty()) if chunk["choices"]] == [
        {"role": "assistant", "content": ""},
        {},
    ]
    assert _whole(Empty())["choices"][0]["message"]["content"] is None


def test_an_error_has_its_status_headers_and_the_providers_words() -> None:
    head, body, end = _steps(Fails(429, headers={"Retry-After": "2"}))
    assert head == Head(429, {"content-type": "application/json", "retry-after": "2"})
    assert isinstance(body, Send)
    assert json.loads(body.content)["error"]["type"] == "rate_limit_error"
    assert end == End()


def test_an_errors_body_may_be_anything() -> None:
    assert _steps(Fails(502, body="<html>Bad gateway</html>"))[1] == Send(b"<html>Bad gateway</html>")
    assert _steps(Fails(418, body={"short": 1}))[1] == Send(b'{"short": 1}')


def test_an_overflow_speaks_the_words_that_opencode_knows() -> None:
    head, body, _ = _steps(Overflow(limit=1000))
    assert isinstance(head, Head)
    assert head.status == 400
    assert isinstance(body, Send)
    assert "maximum context length is 1000 tokens" in json.loads(body.content)["error"]["message"]


def test_a_stall_waits_in_the_middle_and_then_goes_on() -> None:
    done = _steps(Stalls("abc", for_=2.0, then="def"))
    pause = done.index(Pause(2.0))
    assert any(b'"content": "ab"' in step.content for step in done[:pause] if isinstance(step, Send))
    assert any(b'"content": "de"' in step.content for step in done[pause:] if isinstance(step, Send))
    assert done[-1] == End()


def test_a_silent_stall_waits_before_the_head() -> None:
    done = _steps(Stalls(for_=None, silent=True))
    assert done[0] == Pause(None)
    assert isinstance(done[1], Head)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_ends_without_an_end(*, stream: bool, reset: bool) -> None:
    done = _steps(Cuts("abc", reset=reset), stream=stream)
    assert done[-1] == Drop(reset=reset)
    assert End() not in done


def test_a_stall_without_streaming_leaves_half_a_body() -> None:
    assert _steps(Stalls("abc", for_=1.0), stream=False)[-2:] == [Pause(1.0), Drop(reset=False)]


def test_usage_is_what_the_script_says() -> None:
    told = usage(Tokens(input=7, output=5, reasoning=2, cache_read=3, cache_write=1), "ignored")
    assert told["prompt_tokens"] == 11
    assert told["completion_tokens"] == 7
    assert told["total_tokens"] == 18
    assert told["prompt_tokens_details"] == {"cached_tokens": 3}
    assert told["completion_tokens_details"] == {"reasoning_tokens": 2}


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        ("abcdef", 4, ("ab", "cd", "ef")),
        ("abc", 10, ("a", "b", "c")),
        ("abc", 0, ("abc",)),
        ("", 3, ()),
    ],
)
def test_text_is_split_without_loss(text: str, pieces: int, expected: tuple[str, ...]) -> None:
    assert split(text, pieces) == expected

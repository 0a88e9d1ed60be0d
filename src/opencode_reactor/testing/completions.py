"""How a reply looks on the wire of an OpenAI-compatible provider: a reply becomes a list of steps.

Pure: the listener carries the steps out. Shapes after the chat completions API, as
`@ai-sdk/openai-compatible` reads them (reasoning under `reasoning_content`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ..model.sessions import Json, Tokens
from .replies import (
    Call,
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
)
from .requests import ModelRequest

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes of the body, flushed at once."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence, in seconds; None: until the other side goes away."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection ends here without an end of the body: by RST or by FIN."""

    reset: bool


@dataclass(frozen=True, slots=True)
class End:
    """The body is complete."""


Step: TypeAlias = Head | Send | Pause | Drop | End

_STATUS_WORDS = {
    400: ("Bad request.", "invalid_request_error"),
    401: ("Incorrect API key provided.", "invalid_request_error"),
    403: ("You are not allowed to use this model.", "permission_error"),
    404: ("The model does not exist.", "invalid_request_error"),
    429: ("Rate limit reached. Please try again later.", "rate_limit_error"),
    500: ("The server had an error while processing your request.", "server_error"),
    503: ("The engine is currently overloaded.", "service_unavailable"),
}


@dataclass(frozen=True, slots=True)
class _Completion:
    """What a completion holds, before it is put on the wire."""

    texts: tuple[str, ...] = ()
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    finish: str = "stop"
    delay: float = 0.0
    tokens: Tokens | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)


@dataclass(frozen=True, slots=True)
class _Wire:
    """One completion's id, model and format."""

    request: ModelRequest
    head: Head = field(default_factory=lambda: Head(200, {"content-type": SSE, "cache-control": "no-cache"}))

    @property
    def id(self) -> str:
        return f"chatcmpl-{self.request.number}"

    def chunk(self, delta: Mapping[str, Json], finish: str | None = None) -> Send:
        choice: dict[str, Json] = {"index": 0, "delta": delta, "finish_reason": finish}
        return self.event({"choices": [choice]})

    def event(self, content: Mapping[str, Json]) -> Send:
        head: dict[str, Json] = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.request.at // 1000,
            "model": self.request.model,
        }
        return Send(b"data: " + json.dumps({**head, **content}).encode() + b"\n\n")

    def whole(self, completion: _Completion) -> Send:
        message: dict[str, Json] = {"role": "assistant", "content": completion.text or None}
        if completion.reasoning:
            message["reasoning_content"] = completion.reasoning
        if completion.calls:
            message["tool_calls"] = self.calls(completion.calls)
        choice: dict[str, Json] = {"index": 0, "message": message, "finish_reason": completion.finish}
        body: dict[str, Json] = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.request.at // 1000,
            "model": self.request.model,
            "choices": [choice],
            "usage": usage(completion.tokens, completion.text),
        }
        return Send(json.dumps(body).encode())

    def calls(self, calls: Sequence[Call]) -> list[Json]:
        return [
            {
                "index": index,
                "id": f"call_{self.request.number}_{index}",
                "type": "function",
                "function": {"name": call.tool, "arguments": json.dumps(dict(call.arguments))},
            }
            for index, call in enumerate(calls)
        ]


def steps(reply: Reply, request: ModelRequest) -> Iterator[Step]:
    """What to do on the wire, in order; the last step is `End` or `Drop`."""
    match reply:
        case Fails():
            yield from _failure(reply)
        case Overflow():
            yield from _overflow(reply)
        case Stalls() | Cuts():
            yield from _broken(reply, _Wire(request))
        case _:
            yield from _complete(_completion(reply), _Wire(request))


def usage(tokens: Tokens | None, text: str) -> dict[str, Json]:
    """The usage object. Unsaid, its input side is small and fixed, so that nothing compacts by chance."""
    spent = tokens or Tokens(input=100, output=max(1, len(text) // 4))
    prompt = spent.input + spent.cache_read + spent.cache_write
    completion = spent.output + spent.reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": spent.cache_read},
        "completion_tokens_details": {"reasoning_tokens": spent.reasoning},
    }


def error_body(message: str, *, type_: str, code: str | None = None) -> dict[str, Json]:
    """The provider's error object."""
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


def _completion(reply: Says | SaysJson | Reasons | Empty | Calls) -> _Completion:
    match reply:
        case Says():
            texts = split(reply.text, reply.chunks)
            return _Completion(texts, delay=reply.delay, tokens=reply.tokens, finish=reply.finish)
        case SaysJson():
            return _Completion(split(reply.text, 2), tokens=reply.tokens)
        case Reasons():
            return _Completion(reasoning=reply.text, tokens=reply.tokens)
        case Empty():
            return _Completion(tokens=reply.tokens)
        case Calls():
            texts = split(reply.text, 1)
            return _Completion(texts, calls=reply.calls, finish="tool_calls", tokens=reply.tokens)


def split(text: str, pieces: int) -> tuple[str, ...]:
    """Cut text into at most `pieces` pieces of like length; nothing for no text."""
    size = max(1, -(-len(text) // max(1, pieces)))
    return tuple(text[start : start + size] for start in range(0, len(text), size))


def _complete(completion: _Completion, wire: _Wire) -> Iterator[Step]:
    if not wire.request.stream:
        if completion.delay:
            yield Pause(completion.delay * len(completion.texts))
        yield Head(200, {"content-type": JSON})
        yield wire.whole(completion)
        yield End()
        return
    yield wire.head
    yield wire.chunk({"role": "assistant", "content": ""})
    if completion.reasoning:
        yield wire.chunk({"reasoning_content": completion.reasoning})
    for text in completion.texts:
        if completion.delay:
            yield Pause(completion.delay)
        yield wire.chunk({"content": text})
    if completion.calls:
        yield wire.chunk({"tool_calls": wire.calls(completion.calls)})
    yield from _finish(completion, wire)


def _finish(completion: _Completion, wire: _Wire) -> Iterator[Step]:
    yield wire.chunk({}, finish=completion.finish)
    yield wire.event({"choices": [], "usage": usage(completion.tokens, completion.text)})
    yield Send(b"data: [DONE]\n\n")
    yield End()


def _broken(reply: Stalls | Cuts, wire: _Wire) -> Iterator[Step]:
    """Streams that do not go as they should. Asked without streaming, there is just half a body."""
    if isinstance(reply, Stalls) and reply.silent:
        yield Pause(reply.for_)
        yield from _complete(_Completion(split(reply.after + reply.then, 2)), wire)
        return
    if wire.request.stream:
        yield wire.head
        yield wire.chunk({"role": "assistant", "content": ""})
        for text in split(reply.after, 2):
            yield wire.chunk({"content": text})
    else:
        yield Head(200, {"content-type": JSON})
        yield Send(b'{"id":')
    if isinstance(reply, Cuts):
        yield Drop(reset=reply.reset)
        return
    yield Pause(reply.for_)
    if not wire.request.stream:
        yield Drop(reset=False)
        return
    for text in split(reply.then, 2):
        yield wire.chunk({"content": text})
    yield from _finish(_Completion((reply.after, reply.then)), wire)


def _failure(reply: Fails) -> Iterator[Step]:
    words, type_ = _STATUS_WORDS.get(reply.status, ("The request failed.", "api_error"))
    body = reply.body if reply.body is not None else error_body(reply.message or words, type_=type_)
    yield Head(reply.status, {"content-type": JSON, **{k.lower(): v for k, v in reply.headers.items()}})
    yield Send(body.encode() if isinstance(body, str) else json.dumps(body).encode())
    yield End()


def _overflow(reply: Overflow) -> Iterator[Step]:
    words = (
        f"This model's maximum context length is {reply.limit} tokens. However, your messages resulted in "
        f"{reply.limit + 1} tokens. Please reduce the length of the messages."
    )
    yield Head(400, {"content-type": JSON})
    body = error_body(words, type_="invalid_request_error", code="context_length_exceeded")
    yield Send(json.dumps(body).encode())
    yield End()

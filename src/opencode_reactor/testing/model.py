"""The scripted model: an OpenAI-compatible provider on loopback whose replies a script chooses."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from ..clock import Clock, SystemClock
from ..model.sessions import Json
from .completions import JSON, End, Head, Send, Step, error_body, steps
from .config import MODELS, opencode_config
from .listener import Heard, Listener
from .replies import Answer, Fails, Says
from .requests import ModelRequest, read_request
from .script import Match, Rule, Script

T = TypeVar("T")


class ScriptedModel(AbstractAsyncContextManager["ScriptedModel"], AbstractContextManager["ScriptedModel"]):
    """A model provider for tests and the demo: no network, no account, and it says what the script says.

    `async with` serves in the running event loop. Plain `with` serves in a thread of its own, for tests
    that block their loop or use several. Rules may be added and requests read from any thread.

        model.on("Draft the notes", Says("not JSON"), SaysJson({"title": "Notes"}))
        model.on(re.compile(r"^Review"), Fails(429, headers={"retry-after": "1"}), Says("Fine."))
        model.on(Side.COMPACTION, Fails(500))

    Rules are tried in order. A rule's replies are used in turn and the last one repeats; with `once` the
    rule is spent after its last reply. The reply after a tool's result is the rule's next one. What no
    rule matches gets `default`. What a script's own function raises is answered with a 500 and raised when
    the model closes.
    """

    def __init__(self, default: Answer | None = None, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._script = Script(default or Says("Done."))
        self._requests: list[ModelRequest] = []
        self._errors: list[Exception] = []
        self._waiting: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self._listener = Listener(self._answer)
        self._thread: _Thread | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        self._port = await self._listener.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._listener.close()
        self._tell(error)

    def __enter__(self) -> Self:
        self._thread = _Thread()
        self._port = self._thread.run(self._listener.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.run(self._listener.close())
            self._thread.stop()
        self._tell(error)

    @property
    def url(self) -> str:
        """The provider's base URL, for OpenCode's `baseURL`. Only while the model is open."""
        return f"http://127.0.0.1:{self._port}/v1"

    def on(
        self, match: Match, *answers: Answer, model: str | None = None, once: bool = False, name: str = ""
    ) -> Rule:
        """Add a rule. `match`: text in the last user message, a pattern, a `Side`, or a predicate.

        `model` restricts it to one of the models; `name` stands in `ModelRequest.rule`.
        """
        if not answers:
            msg = "a rule needs a reply"
            raise ValueError(msg)
        rule = Rule(match, answers, name=name or _name(match), model=model, once=once)
        with self._lock:
            self._script.add(rule)
        return rule

    def default(self, answer: Answer) -> None:
        """What is answered where no rule matches."""
        with self._lock:
            self._script.default = answer

    def clear(self) -> None:
        """Forget rules and requests: the next test begins."""
        with self._lock:
            self._script.clear()
            self._requests.clear()

    @property
    def requests(self) -> Sequence[ModelRequest]:
        """Everything asked so far, side calls included, in order of arrival."""
        with self._lock:
            return tuple(self._requests)

    @property
    def prompts(self) -> Sequence[ModelRequest]:
        """What was asked in the conversations themselves: without titles, summaries and compactions."""
        return tuple(request for request in self.requests if request.side is None)

    def asked(self, text: str) -> Sequence[ModelRequest]:
        """The prompts whose last user message holds `text`."""
        return tuple(request for request in self.prompts if text in request.prompt)

    async def wait_for(self, text: str, count: int = 1, *, within: float = 20.0) -> ModelRequest:
        """Wait until `text` was prompted `count` times; returns that request.

        Raises TimeoutError after `within` seconds.
        """
        loop = asyncio.get_running_loop()
        news = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(news.set)

        with self._lock:
            self._waiting.append(wake)
        try:
            async with asyncio.timeout(within):
                while len(found := self.asked(text)) < count:
                    await news.wait()
                    news.clear()
            return found[count - 1]
        finally:
            with self._lock:
                self._waiting.remove(wake)

    def opencode_config(
        self, *, permission: Mapping[str, Json] | None = None, compaction: bool = True
    ) -> dict[str, Json]:
        """OpenCode's configuration for this model; see `config.opencode_config`."""
        return opencode_config(self.url, permission=permission, compaction=compaction)

    def _answer(self, heard: Heard) -> Iterable[Step]:
        if heard.method == "GET" and heard.path.endswith("/models"):
            return _json(
                200, {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]}
            )
        if heard.method != "POST" or not heard.path.endswith("/chat/completions"):
            return _json(404, error_body(f"No such route: {heard.path}", type_="invalid_request_error"))
        try:
            body = cast("Json", json.loads(heard.body))
        except ValueError:
            body = None
        if not isinstance(body, Mapping):
            return _json(400, error_body("The body is no JSON object.", type_="invalid_request_error"))
        return self._complete(body, heard.headers)

    def _complete(self, body: Mapping[str, Json], headers: Mapping[str, str]) -> Iterable[Step]:
        with self._lock:
            request = read_request(len(self._requests) + 1, self._clock.now(), body, headers)
            try:
                rule, reply = self._script.choose(request)
            except Exception as error:  # noqa: BLE001 - the author's function; told when the model closes
                self._errors.append(error)
                rule, reply = "", Fails(500, f"The script failed: {error!r}")
            request = replace(request, rule=rule)
            self._requests.append(request)
            for wake in self._waiting:
                wake()
        return steps(reply, request)

    def _tell(self, error: BaseException | None) -> None:
        """Raise what the script's own functions raised, unless something else is being raised."""
        if self._errors and error is None:
            raise ExceptionGroup("the script failed", self._errors)


class _Thread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-model", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _json(status: int, body: Mapping[str, Json]) -> list[Step]:
    return [Head(status, {"content-type": JSON}), Send(json.dumps(body).encode()), End()]


def _name(match: Match) -> str:
    if isinstance(match, str):
        return str(match)
    return match.pattern if isinstance(match, re.Pattern) else getattr(match, "__name__", "predicate")

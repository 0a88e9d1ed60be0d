"""The typed client: OpenCode's routes as methods that take and return frozen nouns.

Every call names the project directory: it selects the server's instance, and in 1.1 the session itself is
only known under its own (opencode-server 5). It is sent as given: absolute and normalised, because 1.1 takes
`/x` and `/x/` for two.

Every method may raise Unreachable, LoginRefused, Refused (NotFound) and BadAnswer; what else is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import anyio
import httpx
from pydantic import OnErrorOmit, TypeAdapter, ValidationError

from ..errors import BadAnswer, Unreachable
from ..model.sessions import (
    Agent,
    AssistantMessage,
    Catalog,
    FileDiff,
    Health,
    Json,
    Message,
    Model,
    ModelRef,
    PermissionRequest,
    PermissionRule,
    QuestionRequest,
    Session,
    Status,
    Todo,
)
from .dialect import Dialect, choose_dialect
from .messages import message_from_wire
from .prompt import Prompt
from .shapes import (
    AgentShape,
    FileDiffShape,
    HealthShape,
    PermissionShape,
    ProvidersShape,
    QuestionRequestShape,
    SessionShape,
    StatusShape,
    TodoShape,
)
from .transport import Call, Login, Transport

T = TypeVar("T")

_HEALTH_DEADLINES = (2.0, 2.0, 5.0)
_HEALTH_PAUSE = 0.2
_TURN_DEADLINE = 6 * 3600.0
_SUMMARY_DEADLINE = 600.0
_DOC_DEADLINE = 60.0  # 1.18 builds it when it is first asked for: half a megabyte, seconds of work
_STREAM_DEADLINE = 5.0
_INSTANCE_DEADLINE = 20.0
"""A directory's first stream waits for its instance: plugins and MCP servers start before it answers."""

_STATUSES = TypeAdapter(dict[str, StatusShape])
_SESSIONS = TypeAdapter(list[SessionShape])
_PERMISSIONS = TypeAdapter(list[PermissionShape])
_QUESTIONS = TypeAdapter(list[QuestionRequestShape])
_AGENTS = TypeAdapter(list[OnErrorOmit[AgentShape]])
_TODOS = TypeAdapter(list[TodoShape])
_DIFFS = TypeAdapter(list[FileDiffShape])
_OBJECT = TypeAdapter(dict[str, Any])


class Client:
    """One OpenCode server. Use it as `async with Client(url, login=…) as client`.

    `url` is the server's id everywhere: normalised, without credentials.
    """

    def __init__(
        self,
        url: str,
        *,
        login: Login | None = None,
        timeout: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`timeout` is how long an ordinary call may take to begin its answer, in seconds.

        Raises ConfigError where `url` is no http(s) URL.
        """
        self._transport = Transport(url, login, transport)
        self.timeout = timeout
        self._dialect: Dialect | None = None
        self.url = self._transport.url

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._transport.__aexit__(*exc)

    @property
    def dialect(self) -> Dialect:
        """What the server speaks; known once `connect` has returned."""
        if self._dialect is None:
            msg = "connect() chooses the dialect: call it first"
            raise RuntimeError(msg)
        return self._dialect

    async def connect(self) -> Dialect:
        """Ask the version and choose the dialect; ask again whenever the server may have been replaced.

        Tries a few times with short deadlines: a request that arrives while a server starts is never
        answered, not even later (opencode-server 2.6). Raises UnsupportedVersion.
        """
        *first, last = _HEALTH_DEADLINES
        for deadline in first:
            try:
                return await self._choose(deadline)
            except Unreachable:
                await anyio.sleep(_HEALTH_PAUSE)
        return await self._choose(last)

    async def _choose(self, deadline: float) -> Dialect:
        health = await self._health(deadline)
        if self._dialect is None or self._dialect.version.text != health.version:
            self._dialect = choose_dialect(health.version)
        return self._dialect

    async def health(self) -> Health:
        """Whether the server is well, and its version."""
        return await self._health(self.timeout)

    async def _health(self, deadline: float) -> Health:
        call = Call("GET", "/global/health", deadline=deadline)
        return self._read(call, await self._transport.json(call), HealthShape.model_validate).noun()

    # Sessions

    async def status(self, directory: str) -> dict[str, Status]:
        """The sessions of this directory's instance that are not idle."""
        shapes = await self._get(directory, "/session/status", _STATUSES.validate_python)
        return {session: shape.noun() for session, shape in shapes.items()}

    async def create_session(
        self,
        directory: str,
        *,
        title: str,
        permissions: Sequence[PermissionRule] = (),
        metadata: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> Session:
        """A new session. Servers before 1.15.13 drop `metadata` in silence."""
        rules = [{"permission": r.permission, "pattern": r.pattern, "action": r.action} for r in permissions]
        body = {"title": title, "permission": rules, "metadata": metadata, "parentID": parent}
        return await self._post(
            directory, "/session", {name: value for name, value in body.items() if value}, _session
        )

    async def session(self, directory: str, session_id: str) -> Session:
        """One session."""
        return await self._get(directory, f"/session/{_id(session_id)}", _session)

    async def sessions(
        self, directory: str, *, search: str | None = None, limit: int = 1000
    ) -> list[Session]:
        """The directory's sessions, newest first, whose title contains `search`.

        A narrowing, not a proof: case, `%` and `_` in `search` are treated differently by version, so compare
        titles again. Directories outside of any git repository share one list. Without `limit` 1.18 stops at
        100.
        """
        query = {"limit": str(limit)} | ({"search": search} if search else {})
        return await self._get(directory, f"/session?{urlencode(query)}", _sessions)

    async def children(self, directory: str, session_id: str) -> list[Session]:
        """The sessions that this one started as subagents."""
        return await self._get(directory, f"/session/{_id(session_id)}/children", _sessions)

    async def delete_session(self, directory: str, session_id: str) -> bool:
        """Delete a session and its children. NotFound says that it was gone (1.18; 1.1 answers True)."""
        return await self._done("DELETE", directory, f"/session/{_id(session_id)}")

    async def abort(self, directory: str, session_id: str) -> bool:
        """Stop the session's turn. True also where there was none, or no such session."""
        return await self._done("POST", directory, f"/session/{_id(session_id)}/abort")

    async def fork(self, directory: str, session_id: str, message: str | None = None) -> Session:
        """A copy of the session, up to but without `message` where one is named."""
        body = {"messageID": message} if message else {}
        return await self._post(directory, f"/session/{_id(session_id)}/fork", body, _session)

    async def summarize(self, directory: str, session_id: str, model: ModelRef) -> bool:
        """Compact the session, and return when that is done. True also where the summary failed."""
        return await self._done(
            "POST",
            directory,
            f"/session/{_id(session_id)}/summarize",
            {"providerID": model.provider, "modelID": model.model},
            _SUMMARY_DEADLINE,
        )

    async def diff(self, directory: str, session_id: str) -> list[FileDiff]:
        """The files that the session changed."""
        shapes = await self._get(directory, f"/session/{_id(session_id)}/diff", _DIFFS.validate_python)
        return [shape.noun() for shape in shapes]

    async def todo(self, directory: str, session_id: str) -> list[Todo]:
        """The model's own list."""
        shapes = await self._get(directory, f"/session/{_id(session_id)}/todo", _TODOS.validate_python)
        return [shape.noun() for shape in shapes]

    # Messages

    async def messages(self, directory: str, session_id: str, limit: int | None = None) -> list[Message]:
        """The session's messages, oldest first; the last `limit` of them.

        1.1 answers an empty list where there is no such session.
        """
        query = "" if limit is None else f"?limit={limit}"
        return await self._get(directory, f"/session/{_id(session_id)}/message{query}", _messages)

    async def message(self, directory: str, session_id: str, message_id: str) -> Message:
        """One message."""
        path = f"/session/{_id(session_id)}/message/{_id(message_id)}"
        return await self._get(directory, path, message_from_wire)

    async def prompt(self, directory: str, session_id: str, prompt: Prompt) -> AssistantMessage:
        """Send a prompt and wait for the turn's last message. If we leave, the turn goes on.

        Raises BadAnswer where 1.1 does not know the session, agent or model: it then answers nothing.
        """
        path = f"/session/{_id(session_id)}/message"
        call = Call("POST", path, directory, prompt.body(), _TURN_DEADLINE, long=True)
        message = self._read(call, await self._transport.json(call), message_from_wire)
        if not isinstance(message, AssistantMessage):
            raise BadAnswer(f"{call}: the server answered with a user message")
        return message

    async def prompt_async(self, directory: str, session_id: str, prompt: Prompt) -> None:
        """Send a prompt. That this returns proves nothing: the server answers before it stores (6.2)."""
        path = f"/session/{_id(session_id)}/prompt_async"
        await self._transport.json(Call("POST", path, directory, prompt.body(), self.timeout))

    # Asks

    async def permissions(self, directory: str) -> list[PermissionRequest]:
        """The permissions that wait in this directory. Those of aborted turns stay listed (6.6)."""
        shapes = await self._get(directory, "/permission", _PERMISSIONS.validate_python)
        return [shape.noun() for shape in shapes]

    async def questions(self, directory: str) -> list[QuestionRequest]:
        """The questions that wait in this directory. Those of aborted turns stay listed (6.6)."""
        shapes = await self._get(directory, "/question", _QUESTIONS.validate_python)
        return [shape.noun() for shape in shapes]

    async def reply_permission(
        self, directory: str, request_id: str, reply: str, *, message: str = "", session: str = ""
    ) -> None:
        """Answer a permission `once`, `always` or `reject`; a reject without a `message` ends the turn.

        NotFound says that nobody waits (any more); 1.1 does not say so. No supported version needs `session`.
        """
        del session
        body = {"reply": reply} | ({"message": message} if message else {})
        await self._done("POST", directory, f"/permission/{_id(request_id)}/reply", body)

    async def answer_question(
        self, directory: str, request_id: str, answers: Sequence[Sequence[str]]
    ) -> None:
        """Answer a question: the chosen labels, for each of its questions. NotFound: nobody waits."""
        body = {"answers": [list(labels) for labels in answers]}
        await self._done("POST", directory, f"/question/{_id(request_id)}/reply", body)

    async def reject_question(self, directory: str, request_id: str) -> None:
        """Dismiss a question; the turn ends. NotFound: nobody waits."""
        await self._done("POST", directory, f"/question/{_id(request_id)}/reject")

    # What the server offers

    async def agents(self, directory: str) -> list[Agent]:
        """The agents, hidden ones too."""
        shapes = await self._get(directory, "/agent", _AGENTS.validate_python)
        return [shape.noun() for shape in shapes]

    async def providers(self, directory: str) -> list[Model]:
        """The models of every provider that is set up."""
        return list((await self._get(directory, "/config/providers", ProvidersShape.model_validate)).models())

    async def catalog(self, directory: str) -> Catalog:
        """Agents, models, and the model a prompt without one gets.

        That is known only where the configuration names it: else the server takes what its own user chose
        last.
        """
        agents = await self.agents(directory)
        models = await self.providers(directory)
        named = (await self.config(directory)).get("model")
        try:
            default = ModelRef.parse(named) if isinstance(named, str) else None
        except ValueError:
            default = None
        return Catalog(tuple(agents), tuple(models), default)

    async def config(self, directory: str) -> dict[str, Json]:
        """The merged configuration of the directory. It may hold secrets: never to be logged."""
        return await self._get(directory, "/config", _OBJECT.validate_python)

    async def doc(self) -> dict[str, Json]:
        """The server's OpenAPI document."""
        call = Call("GET", "/doc", deadline=_DOC_DEADLINE)
        return self._read(call, await self._transport.json(call), _OBJECT.validate_python)

    # The stream

    async def listen(self, directory: str | None, feed: Callable[[bytes], None]) -> None:
        """Hand `feed` every piece of `/event`, or of `/global/event` where `directory` is None, as it comes.

        Returns when the server ends the stream. Silence is not noticed here.
        """
        path = "/global/event" if directory is None else "/event"
        deadline = _STREAM_DEADLINE if directory is None else _INSTANCE_DEADLINE
        await self._transport.stream(Call("GET", path, directory or "", deadline=deadline, long=True), feed)

    # How it is asked

    async def _get(self, directory: str, path: str, read: Callable[[Any], T]) -> T:
        call = Call("GET", path, directory, None, self.timeout)
        return self._read(call, await self._transport.json(call), read)

    async def _post(self, directory: str, path: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        call = Call("POST", path, directory, body, self.timeout)
        return self._read(call, await self._transport.json(call), read)

    async def _done(
        self,
        method: str,
        directory: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        deadline: float | None = None,
    ) -> bool:
        call = Call(method, path, directory, body, deadline or self.timeout, long=deadline is not None)
        return await self._transport.json(call) is not False

    def _read(self, call: Call, answer: Any, read: Callable[[Any], T]) -> T:
        try:
            return read(answer)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(step) for step in first["loc"])
            raise BadAnswer(
                f"{call} at {self.url}: not what the API promises: {first['msg']} at {place or 'the top'}"
            ) from error


def _id(name: str) -> str:
    return quote(name, safe="")


def _session(value: Any) -> Session:
    return SessionShape.model_validate(value).noun()


def _sessions(value: Any) -> list[Session]:
    return [shape.noun() for shape in _SESSIONS.validate_python(value)]


def _messages(value: Any) -> list[Message]:
    values = TypeAdapter(list[Any]).validate_python(value)
    return [message_from_wire(message) for message in values]

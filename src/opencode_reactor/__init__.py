"""opencode-reactor: an always-on control plane for OpenCode servers.

This file is the façade: what is listed here is public, all else may move. Names are looked up when they are
first used, so that a command that only reads the store imports neither httpx nor pydantic; `__init__.pyi`
says the same to type checkers, and a test holds the two together.
"""

from importlib import import_module

_HOMES = {
    "Ask": ".model.asks",
    "AskKind": ".model.asks",
    "AskState": ".model.asks",
    "Attempt": ".model.runs",
    "Client": ".opencode",
    "Context": ".handling",
    "Event": ".model.events",
    "Failure": ".model.runs",
    "FileEdited": ".model.events",
    "GlobalDisposed": ".model.events",
    "Input": ".pipeline.parts",
    "Login": ".opencode",
    "MessagePartDelta": ".model.events",
    "MessagePartRemoved": ".model.events",
    "MessagePartUpdated": ".model.events",
    "MessageRemoved": ".model.events",
    "MessageUpdated": ".model.events",
    "ModelRef": ".model.sessions",
    "NotFound": ".errors",
    "PermissionAsked": ".model.events",
    "PermissionReplied": ".model.events",
    "Pipeline": ".pipeline.definition",
    "Prompt": ".opencode",
    "Question": ".model.sessions",
    "QuestionAsked": ".model.events",
    "QuestionRejected": ".model.events",
    "QuestionReplied": ".model.events",
    "Reactor": ".app",
    "ReactorError": ".errors",
    "Reject": ".handling",
    "Reply": ".model.asks",
    "Retry": ".handling",
    "Run": ".model.runs",
    "RunState": ".model.runs",
    "ServerConnected": ".model.events",
    "ServerHeartbeat": ".model.events",
    "ServerInstanceDisposed": ".model.events",
    "ServerSettings": ".settings",
    "SessionCompacted": ".model.events",
    "SessionCreated": ".model.events",
    "SessionDeleted": ".model.events",
    "SessionDiff": ".model.events",
    "SessionError": ".model.events",
    "SessionIdle": ".model.events",
    "SessionStatus": ".model.events",
    "SessionUpdated": ".model.events",
    "Settings": ".settings",
    "Stage": ".pipeline.parts",
    "StageRun": ".model.runs",
    "StageState": ".model.runs",
    "TodoUpdated": ".model.events",
    "Tokens": ".model.sessions",
    "ToolPart": ".model.sessions",
    "ToolState": ".model.sessions",
    "UnknownEvent": ".model.events",
    "Until": ".app",
    "WaitingOn": ".model.runs",
    "ask_id": ".model.ask_ids",
    "load_pipeline": ".pipeline.loading",
    "load_settings": ".settings",
    "on": ".handling",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""`reactor handlers`: what is loaded."""

from __future__ import annotations

from typing import Any

from ..errors import HandlerError
from ..handling import Handler, load
from .fence import complain
from .options import Options
from .output import Column
from .parser import Asked


def handlers(options: Options, _asked: Asked) -> int:
    """List what is loaded."""
    out = options.output
    loaded = load(options.settings().handlers)
    if out.json:
        for handler in loaded.handlers:
            out.emit("handler", shape(handler))
    elif loaded.handlers:
        out.table(_HEADS, [_row(handler) for handler in loaded.handlers])
    elif not loaded.problems:
        out.remark("no handlers: put files into ./handlers or .opencode/handlers, or set `handlers`")
    for problem in loaded.problems:
        complain(problem)
    return HandlerError.exit_code if loaded.problems else 0


def shape(handler: Handler) -> dict[str, Any]:
    """One handler as a JSON line."""
    return {
        "name": handler.name,
        "events": str(handler.selector).split(", "),
        "live": handler.live,
        "directory": handler.directory,
        "filtered": handler.where is not None,
        "retries": handler.retries,
        "timeout": handler.timeout,
        "place": handler.place,
        "summary": handler.summary,
    }


def _row(handler: Handler) -> list[str]:
    how = "live" if handler.live else f"durable, {handler.retries} retries"
    return [handler.name, str(handler.selector), how, handler.place, handler.summary]


_HEADS = (
    Column("name"),
    Column("events", share=True),
    Column("delivery"),
    Column("place", share=True),
    Column("summary", share=True),
)

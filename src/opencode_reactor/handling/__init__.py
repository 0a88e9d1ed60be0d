"""What a handler is: marking, filters, loading, and the context it is called with. Calls nobody itself."""

from __future__ import annotations

from .context import Actions, Context, Origin, make_context
from .loader import default_paths, load
from .marking import on
from .outcome import Reject, Retry
from .registry import Handler, Loaded, Registry, collect, handler_of

__all__ = [
    "Actions",
    "Context",
    "Handler",
    "Loaded",
    "Origin",
    "Registry",
    "Reject",
    "Retry",
    "collect",
    "default_paths",
    "handler_of",
    "load",
    "make_context",
    "on",
]

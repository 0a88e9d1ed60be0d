"""Talking to an OpenCode server: the only room with httpx and with the wire's shapes."""

from .client import Client
from .dialect import Dialect, ServerVersion, choose_dialect
from .payload import payload_of
from .prompt import Prompt
from .transport import Login
from .wire import ask_event, event_from_payload, event_from_wire

__all__ = [
    "Client",
    "Dialect",
    "Login",
    "Prompt",
    "ServerVersion",
    "ask_event",
    "choose_dialect",
    "event_from_payload",
    "event_from_wire",
    "payload_of",
]

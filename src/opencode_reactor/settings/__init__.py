"""The configuration: `reactor.toml`, the environment, and what holds without either.

Read with the standard library alone: every command needs the configuration, and pydantic would cost each of
them 100 ms and more at the start, and knows no line numbers. A secret's text is in no message, no repr and
no log.
"""

from __future__ import annotations

from .load import find_file, load_settings
from .values import LogSettings, Secret, ServerSettings, Settings, duration, normal_url

__all__ = [
    "LogSettings",
    "Secret",
    "ServerSettings",
    "Settings",
    "duration",
    "find_file",
    "load_settings",
    "normal_url",
]

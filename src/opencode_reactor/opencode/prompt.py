"""What is sent to a session (opencode-server 6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.sessions import ModelRef


@dataclass(frozen=True, slots=True)
class Prompt:
    """One message to a session. With `message` and `part`, ids chosen by us, to send again is harmless.

    `tools` switches tools on and off by name. The server keeps that as the session's permission rules, *in
    place of* those the session was made with (seen on 1.1.65 and 1.18.33).
    """

    text: str
    message: str | None = None
    part: str | None = None
    model: ModelRef | None = None
    agent: str | None = None
    variant: str | None = None
    system: str | None = None
    tools: Mapping[str, bool] = field(default_factory=dict[str, bool])

    def body(self) -> dict[str, Any]:
        """The request's body."""
        part = {"type": "text", "text": self.text} | ({"id": self.part} if self.part else {})
        optional = {
            "messageID": self.message,
            # Under `model` and nowhere else: at the top level it is dropped in silence.
            "model": {"providerID": self.model.provider, "modelID": self.model.model} if self.model else None,
            "agent": self.agent,
            "variant": self.variant,
            "system": self.system,
            "tools": dict(self.tools) or None,
        }
        return {"parts": [part]} | {name: value for name, value in optional.items() if value is not None}

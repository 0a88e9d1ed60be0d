"""OpenCode's configuration for the scripted model: one provider, no account, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping

from ..model.sessions import Json

PROVIDER = "scripted"

MODELS: Mapping[str, tuple[int, int]] = {
    "standard": (128_000, 8_000),
    "spare": (128_000, 8_000),  # a fallback
    "large": (1_000_000, 16_000),  # where an overflow may go
    "tiny": (16_000, 2_000),  # compacts soon
    "small": (128_000, 8_000),  # OpenCode's own side calls
}
"""Name -> context window and output limit, in tokens."""


def opencode_config(
    url: str, *, permission: Mapping[str, Json] | None = None, compaction: bool = True
) -> dict[str, Json]:
    """The content of `opencode.json` (or OPENCODE_CONFIG_CONTENT) for a model at `url`.

    `permission` is OpenCode's own object, `{"bash": "ask", …}`; None leaves the server's defaults.
    With `compaction=False` the server never compacts by itself.
    """
    config: dict[str, Json] = {
        "$schema": "https://opencode.ai/config.json",
        "model": f"{PROVIDER}/standard",
        "small_model": f"{PROVIDER}/small",
        "enabled_providers": [PROVIDER],
        "share": "disabled",
        "autoupdate": False,
        "snapshot": False,
        "compaction": {"auto": compaction},
        "provider": {PROVIDER: _provider(url)},
    }
    if permission is not None:
        config["permission"] = dict(permission)
    return config


def _provider(url: str) -> dict[str, Json]:
    models: dict[str, Json] = {
        name: {
            "name": name.capitalize(),
            "tool_call": True,
            "reasoning": True,
            "limit": {"context": context, "output": output},
            "cost": {"input": 1, "output": 2},
        }
        for name, (context, output) in MODELS.items()
    }
    return {
        # Bundled with OpenCode (measured on 1.1.65 and 1.18.33): nothing is fetched for it.
        "npm": "@ai-sdk/openai-compatible",
        "name": "Scripted",
        # The key is no secret: without any, OpenCode gives up before it asks.
        "options": {"baseURL": url, "apiKey": "scripted"},
        "models": models,
    }

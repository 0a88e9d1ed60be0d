"""One line in the log for every tool call that ended, as it ends: what agents do, at a glance."""

from __future__ import annotations

from opencode_reactor import Context, MessagePartUpdated, ToolPart, ToolState, on

LENGTH = 120
"""Characters of a title or error that are logged."""

ENDED = frozenset({ToolState.COMPLETED, ToolState.ERROR})


def ended(event: MessagePartUpdated) -> bool:
    """Whether the part is a tool call that is over."""
    return isinstance(event.part, ToolPart) and event.part.state in ENDED


# Live: a line about the past is worth no row in the store, and servers send hundreds of parts a second.
@on(MessagePartUpdated, where=ended, live=True)
async def log_tools(event: MessagePartUpdated, ctx: Context) -> None:
    """Log the tool and its title, or why it failed."""
    part = event.part
    if not isinstance(part, ToolPart):
        return
    if part.state is ToolState.ERROR:
        ctx.log.warning("tool failed", tool=part.tool, error=part.error[:LENGTH])
    else:
        ctx.log.info("tool ended", tool=part.tool, title=part.title[:LENGTH])

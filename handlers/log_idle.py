"""One line in the log when a session has come to rest: the root's, not each of its subagents'."""

from __future__ import annotations

from opencode_reactor import Context, NotFound, SessionIdle, on


@on(SessionIdle, retries=1)
async def log_idle(event: SessionIdle, ctx: Context) -> None:
    """Look the session up and log its title. Idle is a hint: by now it may be busy again, or gone."""
    try:
        session = await ctx.client.session(event.directory, event.session)
    except NotFound:
        return
    if session.parent is None:
        ctx.log.info("session is idle", title=session.title, directory=session.directory)

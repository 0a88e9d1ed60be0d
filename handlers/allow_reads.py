"""Let agents read files without asking, except where the name says that a secret is in them.

OpenCode by itself asks only before it reads `.env` files and what MCP servers offer; neither is allowed here.
This is for servers whose configuration says `read: ask`: the harmless rest does not wait for a person then.
What it does not allow stays open for the next handler, or for a person. Delete this file to be asked always.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from opencode_reactor import Context, PermissionAsked, on

SECRETS = (
    ".env*",
    "*.env",
    "*.env.*",
    ".ssh",
    ".aws",
    ".gnupg",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.kdbx",
    "*credential*",
    "*password*",
    "*secret*",
    "*token",
    "*token.*",
    "auth.json",
)
"""File and folder names, in lower case, that are never allowed."""


def harmless(pattern: str, directory: str) -> bool:
    """Whether this names one file inside the project that does not look like a secret.

    Older servers name files from the root, newer ones from the top of the worktree. Globs, `mcp:…` and
    drive letters say more than one file, or another place: a person decides.
    """
    path = PurePosixPath(pattern)
    if not path.parts or set(pattern) & set("*?[:~\\") or ".." in path.parts:
        return False
    if path.is_absolute() and not (directory and path.is_relative_to(directory)):
        return False
    return not any(fnmatchcase(part.casefold(), secret) for part in path.parts for secret in SECRETS)


def harmless_read(event: PermissionAsked) -> bool:
    """Whether everything that is asked for may be read."""
    return (
        event.permission == "read"
        and bool(event.patterns)
        and all(harmless(pattern, event.directory) for pattern in event.patterns)
    )


@on(PermissionAsked, where=harmless_read, timeout=10)
async def allow_reads(event: PermissionAsked, ctx: Context) -> None:
    """Answer `once` to a read of an ordinary file in the project."""
    await ctx.reply(event, "once")
    ctx.log.info("read allowed", files=event.patterns)

"""Every error this package raises, as one tree; each has an owner and says what to do next.

ReactorError
 ├─ UsageError             the author's or operator's input is wrong (exit code 2)
 │   ├─ PipelineError      a pipeline file or value
 │   ├─ ConfigError        reactor.toml or the environment
 │   ├─ HandlerError       a handler file
 │   ├─ NotKnown           no run, ask or delivery of that name
 │   └─ StoreError         the store cannot be used as it is
 │       └─ SchemaTooNew   a newer reactor wrote it
 ├─ ServerError            the OpenCode server (exit code 4)
 │   ├─ Unreachable        no connection, no answer in time
 │   ├─ LoginRefused       401 from the server itself
 │   ├─ UnsupportedVersion outside the dialects this package speaks
 │   ├─ BadAnswer          an answer that is not what the API promises (HTML, broken JSON)
 │   └─ Refused            a 4xx or 5xx with the server's own words
 │       └─ NotFound       404
 ├─ Conflict               the row changed since it was read: look again
 └─ Fenced                 the lease on the server is not ours any more: let go

Foreign exceptions (httpx, sqlite3, pydantic, OSError) are mapped in the room that met them, the cause
chained. No message holds a secret.
"""

from __future__ import annotations


class ReactorError(Exception):
    """The root. `message` is one sentence; `place` names a file and line; `remedy` says what to do next."""

    exit_code: int = 1

    def __init__(self, message: str, *, place: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        head = f"{self.place}: {self.message}" if self.place else self.message
        return f"{head}\n  {self.remedy}" if self.remedy else head


class UsageError(ReactorError):
    """What was typed or written by the author or operator is wrong; nothing was sent."""

    exit_code = 2


class PipelineError(UsageError):
    """A pipeline cannot be loaded or started as it is."""


class ConfigError(UsageError):
    """The configuration cannot be used as it is."""


class HandlerError(UsageError):
    """A handler file cannot be loaded, or marks something that is no handler."""


class NotKnown(UsageError):
    """Nothing in the store bears that id, or more than one thing does."""


class StoreError(UsageError):
    """The store cannot be opened or written: not a database, a read-only folder, a full disk."""


class SchemaTooNew(StoreError):
    """A newer reactor migrated this store; an older one must not touch it."""


class ServerError(ReactorError):
    """The OpenCode server could not be used."""

    exit_code = 4


class Unreachable(ServerError):
    """No connection, or no answer before the deadline. Says nothing about what the server did."""


class LoginRefused(ServerError):
    """The server answered 401: user name or password are wrong. Never retried."""


class UnsupportedVersion(ServerError):
    """The server's version speaks a dialect this package does not know."""


class BadAnswer(ServerError):
    """The answer is not what the API promises: wrong content type, broken JSON, a wrong shape."""


class Refused(ServerError):
    """The server answered with a 4xx or 5xx. `status` is the code, the message holds its own words."""

    def __init__(self, message: str, *, status: int, place: str = "", remedy: str = "") -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.status = status


class NotFound(Refused):
    """The server answered 404: no such session, message or ask."""


class Conflict(ReactorError):
    """A guarded write found another version of the row. The caller reads again and decides anew."""


class Fenced(ReactorError):
    """A write carried an epoch that is over: another reactor owns this server now."""

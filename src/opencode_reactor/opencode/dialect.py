"""What a server version speaks. Chosen by the version it states, never by probing.

An unknown route answers 200 HTML from 1.14 on and is proxied to the internet before (opencode-server 11), so
a probe proves nothing and may leave the machine. Borders: opencode-server 1. Versions 1.4 to 1.13 were never
published where the borders were measured; a border that fell into that gap is placed at 1.14.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import UnsupportedVersion

_VERSION = re.compile(r"v?([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})(?:[-+].*)?")


@dataclass(frozen=True, slots=True, order=True)
class ServerVersion:
    """A server's version; compared by its three numbers, a pre-release like the release it leads to."""

    major: int
    minor: int
    patch: int
    text: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> ServerVersion:
        """Read `1.18.33`, `v1.18.33`, `1.18.33-beta.1`. Raises UnsupportedVersion on anything else."""
        match = _VERSION.fullmatch(text.strip())
        if match is None:
            raise UnsupportedVersion(
                f"the server calls itself version {text[:40]!r}, which is no OpenCode release", remedy=_REMEDY
            )
        major, minor, patch = (int(number) for number in match.groups())
        return cls(major, minor, patch, text.strip()[:40])

    def __str__(self) -> str:
        return self.text or f"{self.major}.{self.minor}.{self.patch}"


_OLDEST = ServerVersion(1, 1, 58)  # 1.1.65 is what is tested; 1.1.58 was measured to behave alike
_BEYOND = ServerVersion(2, 0, 0)  # another protocol altogether
_REMEDY = "Supported are OpenCode 1.1.65 up to, not including, 2.0."

_DELTAS = ServerVersion(1, 2, 1)
_SHORT_HEARTBEAT = ServerVersion(1, 2, 27)
_QUESTION_RULE = ServerVersion(1, 3, 2)
_EVENT_IDS = ServerVersion(1, 14, 0)
_LATE_LISTENER = ServerVersion(1, 15, 0)
_METADATA = ServerVersion(1, 15, 13)
_BROKEN_EVENT = (ServerVersion(1, 15, 0), ServerVersion(1, 15, 3))
_UNSORTED_IDS = ServerVersion(1, 18, 18)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The switches of one server version. Durations in seconds."""

    version: ServerVersion

    event_ids: bool
    """Events bear ids of their own, and the global stream repeats the durable ones as `sync` frames."""
    directory_stream: bool
    """`/event` may be listened to besides `/global/event`: what comes on both has one id."""
    heartbeat: float
    """How often a stream sends at least a heartbeat."""
    settle: float
    """How long after `server.connected` the global stream may still lose what happens (2.5)."""
    deltas: bool
    """Text streams as `message.part.delta`; before, as growing `message.part.updated`."""
    metadata: bool
    """A session keeps the metadata it was made with; before, it is dropped in silence."""
    question_rule: bool
    """A session rule `question: deny` takes the tool away; before, it does nothing."""
    sorted_ids: bool
    """Message ids must sort by time: one out of order is ignored or answered for ever (6.3)."""
    capped_retries: bool
    """The server gives a failing provider up after five tries; before, it tries for ever (7.2)."""
    follows_session: bool
    """Session routes work whatever directory is sent; before, they do nothing and answer 200."""
    unknown_is_404: bool
    """An unknown session or ask is answered 404; before, 200, 204 or an empty body (6.2)."""
    prompt_grace: float = 5.0
    """How long after a 204 a missing user message or status means nothing (4)."""
    finish_grace: float = 2.0
    """How long after the first idle a failed or aborted message may still lack its completion (2.10)."""

    @property
    def silence(self) -> float:
        """Seconds without a byte after which a stream is taken for dead."""
        return 2.5 * self.heartbeat


def choose_dialect(text: str) -> Dialect:
    """The dialect of a server that states this version.

    Raises UnsupportedVersion below 1.1.58, from 2.0 on, and for what is no version.
    """
    version = ServerVersion.parse(text)
    if not _OLDEST <= version < _BEYOND:
        raise UnsupportedVersion(f"OpenCode {version} is not supported", remedy=_REMEDY)
    broken_event = _BROKEN_EVENT[0] <= version < _BROKEN_EVENT[1]
    return Dialect(
        version=version,
        event_ids=version >= _EVENT_IDS,
        # 1.15.0 leaves messages, parts and new sessions out of /event; 1.15.3 is known to be whole again.
        directory_stream=version >= _EVENT_IDS and not broken_event,
        heartbeat=10.0 if version >= _SHORT_HEARTBEAT else 30.0,
        settle=0.25 if version >= _LATE_LISTENER else 0.0,
        deltas=version >= _DELTAS,
        metadata=version >= _METADATA,
        question_rule=version >= _QUESTION_RULE,
        sorted_ids=version < _UNSORTED_IDS,
        capped_retries=version >= _UNSORTED_IDS,
        follows_session=version >= _DELTAS,
        unknown_is_404=version >= _METADATA,
    )

"""Bytes of an event stream, to frames, to events: the hot path.

Peek, then validate: the type and the id are read from a frame's first bytes, and what is a double, a `sync`
twin or wanted by nobody is dropped before any JSON is decoded. Nothing here waits: a slow reader makes the
server's memory grow (opencode-server 2.7). What a stream looks like: 2.1 and 2.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ..clock import Clock
from ..errors import BadAnswer
from ..model.events import EVENTS_BY_NAME, Event, GlobalDisposed, ServerConnected, ServerInstanceDisposed
from .transport import plain_json
from .wire import canonical_name, event_from_wire

Frame = dict[str, Any]

_MAX_FRAME = 128 * 1024 * 1024

# Anchored at the frame's start and only over strings: what matches is structure, never a text that looks like
# it. Every version writes its keys in one of these orders; any other frame is decoded whole.
_HEAD = re.compile(
    rb'\s*\{(?:"(?:directory|project|workspace)":"[^"\\]*+(?:\\.[^"\\]*+)*+",)*+'
    rb'(?:"payload":\{)?(?:"id":"([^"\\]*+)",)?"type":"([^"\\]*+)"'
)
_NAMES = {name.encode(): kind.type for name, kind in EVENTS_BY_NAME.items()}
"""Names as they stand on the wire to the one name of the event."""
_EMPTY: Frame = {}
_CONTROL = frozenset({ServerConnected.type, ServerInstanceDisposed.type, GlobalDisposed.type})


class FrameSplitter:
    """Cuts a byte stream into the data of its frames.

    Lines end at LF, CR or CRLF and nowhere else: U+2028 and its like are text. Comments, and fields other
    than `data`, are dropped. Linear in the size of a frame however it is cut into pieces.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        """The pieces of a line whose end has not come yet."""
        self._data: list[bytes] = []
        """The data lines of the frame being read."""
        self._size = 0
        self._after_cr = False
        self._started = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The frames that this piece completes. Raises BadAnswer where a frame never ends."""
        if not (self._line or self._data) and _is_one_frame(piece):
            self._started, self._after_cr = True, False
            return [piece[6:-2]]
        if self._after_cr and piece:
            self._after_cr = False
            if piece[:1] == b"\n":  # the second half of a CRLF that was cut in two
                piece = piece[1:]
        if not piece:
            return []
        frames: list[bytes] = []
        lines = piece.splitlines()
        ended = piece[-1:] in {b"\n", b"\r"}
        self._after_cr = piece[-1:] == b"\r"
        rest = b"" if ended else lines.pop()
        if lines and self._line:
            lines[0] = b"".join((*self._line, lines[0]))
            self._line.clear()
        for line in lines:
            self._end_line(line, frames)
        if rest:
            self._line.append(rest)
        self._bound(len(piece), complete=bool(frames))
        return frames

    def _end_line(self, line: bytes, frames: list[bytes]) -> None:
        if not self._started:
            self._started = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                frames.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            self._data.append(b"")

    def _bound(self, added: int, *, complete: bool) -> None:
        if not (self._line or self._data):
            self._size = 0
        else:
            self._size = added if complete else self._size + added
        if self._size > _MAX_FRAME:
            raise BadAnswer(f"the server sent an event of more than {_MAX_FRAME >> 20} MiB")


def _is_one_frame(piece: bytes) -> bool:
    """Whether this is exactly one frame as OpenCode writes it, which nearly every piece is."""
    return (
        piece.startswith(b"data: ")
        and piece.find(b"\n") == len(piece) - 2
        and piece.endswith(b"\n\n")
        and b"\r" not in piece
    )


class Seen:
    """The last events, so that one that comes a second time, on whatever stream, is known. Bounded.

    Two generations: the older is forgotten whole when the younger is full.
    """

    def __init__(self, size: int = 16_384) -> None:
        self._half = max(1, size // 2)
        self._young: set[object] = set()
        self._old: set[object] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._young or key in self._old

    def add(self, key: object) -> bool:
        """Remember it. False where it was known already."""
        if key in self:
            return False
        if len(self._young) >= self._half:
            self._old, self._young = self._young, set()
        self._young.add(key)
        return True


@dataclass(slots=True)
class Tally:
    """What became of the frames; each is counted once."""

    events: int = 0
    """Delivered."""
    unwanted: int = 0
    """Nobody asked for this type."""
    twins: int = 0
    """`sync` frames, which repeat a plain event under the same id."""
    duplicates: int = 0
    """The event had come before, on this or another stream or in a list."""
    broken: int = 0
    """No JSON object."""


@dataclass(frozen=True, slots=True)
class Sink:
    """What every stream of one server shares: where events go, and what is known of them."""

    server: str
    deliver: Callable[[Event], None]
    wanted: Callable[[str], bool]
    """Asked with an event's canonical wire name."""
    clock: Clock
    seen: Seen
    tally: Tally


class EventReader:
    """One connection: takes its bytes, delivers its events. Never waits."""

    def __init__(
        self, sink: Sink, *, connection: str, directory: str = "", control: Callable[[str, str], None]
    ) -> None:
        """`connection` is a name no other connection ever had. `directory` is empty for `/global/event`.

        `control(type, directory)` is told, wanted or not, that the stream begins (`server.connected`) and
        that instances were disposed.
        """
        self._sink = sink
        self._connection = connection
        self._directory = directory
        self._control = control
        self._splitter = FrameSplitter()
        self._count = 0
        self.heard = sink.clock.monotonic()
        """When the last byte came, by `clock.monotonic`."""

    def feed(self, piece: bytes) -> None:
        """Take a piece of the stream. Raises BadAnswer where a frame never ends."""
        self.heard = self._sink.clock.monotonic()
        for data in self._splitter.feed(piece):
            self._take(data)

    def _take(self, data: bytes) -> None:
        tally = self._sink.tally
        head = _HEAD.match(data)
        frame = _decode(data) if head is None else _EMPTY
        if frame is None:
            tally.broken += 1
            return
        name, event_id = _name_and_id(frame) if head is None else _peeked(head)
        if name == "sync":
            tally.twins += 1
        elif name not in _CONTROL and not self._wants(name):
            tally.unwanted += 1
        elif event_id and not self._sink.seen.add((event_id, name)):
            tally.duplicates += 1
        elif (whole := frame or _decode(data)) is None:
            tally.broken += 1
        else:
            self._read(whole, name, event_id)

    def _wants(self, name: str) -> bool:
        # Each connection has its own heartbeats; those of the global stream are enough for a handler.
        return self._sink.wanted(name) and not (self._directory and name.startswith("server."))

    def _read(self, frame: Frame, name: str, event_id: str) -> None:
        sink = self._sink
        self._count += 1
        made = f"{self._connection}.{self._count}"
        event = event_from_wire(
            frame,
            server=sink.server,
            directory=self._directory,
            received=sink.clock.now(),
            connection=made,
        )
        # An ask has an id of its own beside the frame's, under which a list may have brought it already.
        if event.id not in {event_id, made} and not sink.seen.add((event.id, name)):
            sink.tally.duplicates += 1
            return
        if name in _CONTROL:
            self._control(name, event.directory)
            if not self._wants(name):
                sink.tally.unwanted += 1
                return
        sink.tally.events += 1
        sink.deliver(event)


def _peeked(head: re.Match[bytes]) -> tuple[str, str]:
    event_id, name = head.groups(b"")
    known = _NAMES.get(name)
    return (
        known if known is not None else name.decode("utf-8", "replace"),
        event_id.decode("utf-8", "replace"),
    )


def _decode(data: bytes) -> Frame | None:
    try:
        value = plain_json(data)
    except (ValueError, RecursionError):
        return None
    return cast("Frame", value) if isinstance(value, dict) else None


def _name_and_id(frame: Frame) -> tuple[str, str]:
    payload = frame.get("payload", frame)
    payload = cast("Frame", payload) if isinstance(payload, dict) else {}
    name, event_id = payload.get("type"), payload.get("id")
    return (
        canonical_name(name) if isinstance(name, str) else "",
        event_id if isinstance(event_id, str) else "",
    )

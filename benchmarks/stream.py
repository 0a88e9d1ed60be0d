"""What reading a server's event stream costs: processor seconds per 100,000 events, beside the usual road.

A recorded capture is sent again and again, with new ids, over a loopback socket by another process, one HTTP
chunk an event as OpenCode sends it. Each reader reads all of it, by turns; only this process's time counts.

    python benchmarks/stream.py [--events 50000] [--rounds 3] [--capture tests/captures/…/….jsonl]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path

import anyio
import httpx
from httpx_sse import aconnect_sse

from opencode_reactor.clock import SystemClock
from opencode_reactor.model.events import Event
from opencode_reactor.opencode import Client
from opencode_reactor.opencode.stream import EventReader, Seen, Sink, Tally
from opencode_reactor.opencode.wire import event_from_wire
from opencode_reactor.reactor.engine import WANTED

CAPTURE = Path(__file__).parent.parent / "tests" / "captures" / "1.18.33" / "happy_json.global.jsonl"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = 64 * 1024

_ID = re.compile(rb'"evt_\w{6}')
_DELTA = b'"type":"message.part.delta"'


# The sender, in a process of its own.


@dataclass(frozen=True, slots=True)
class Stream:
    """What is sent: a capture over and over, `events` in all, each of its text deltas `deltas` times."""

    capture: Path
    events: int
    deltas: int

    def frames(self) -> list[bytes]:
        """One round of it, as it stood on the wire."""
        found: list[bytes] = []
        for line in self.capture.read_text(encoding="utf-8").splitlines():
            data = json.dumps(json.loads(line)["data"], separators=(",", ":")).encode()
            found += [b"data: " + data + b"\n\n"] * (self.deltas if _DELTA in data else 1)
        return found

    def body(self) -> bytes:
        """All of it, an HTTP chunk an event. Each has an id of its own: a double would be dropped unread."""
        numbered = enumerate(islice(cycle(self.frames()), self.events))
        chunks = (_ID.sub(b'"evt_%06x' % number, frame) for number, frame in numbered)
        return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"

    def __str__(self) -> str:
        frames = self.frames()
        mean = statistics.fmean(len(frame) for frame in frames)
        deltas = sum(_DELTA in frame for frame in frames) / len(frames)
        return (
            f"{self.capture.stem} ({self.capture.parent.name}): {mean:.0f} bytes an event, "
            f"{deltas:.0%} of them text deltas"
        )


def send(pipe: Connection, stream: Stream) -> None:
    """Serve the stream to each connection in turn, until the process is ended."""
    body = stream.body()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(PIECE)
                connection.sendall(HEAD + body)


# The readers.


async def raw(url: str, _events: int) -> None:
    """Nothing but the bytes: what the socket itself costs."""
    stream = await anyio.connect_tcp("127.0.0.1", httpx.URL(url).port or 0)
    async with stream:
        await stream.send(b"GET /global/event HTTP/1.1\r\nhost: localhost\r\n\r\n")
        while not (await stream.receive(PIECE)).endswith(b"0\r\n\r\n"):
            pass


def reactor(wanted: Callable[[str], bool]) -> Callable[[str, int], Awaitable[None]]:
    """The reactor's own reader, for someone who wants these types."""

    async def read(url: str, events: int) -> None:
        delivered: list[str] = []

        def deliver(event: Event) -> None:
            delivered.append(event.type)

        tally = Tally()
        async with Client(url) as client:
            sink = Sink(client.url, deliver, wanted, SystemClock(), Seen(), tally)
            reader = EventReader(sink, connection="benchmark", control=lambda _type, _directory: None)
            await client.listen(None, reader.feed)
        # A duplicate here would be an event that cost nothing; the asks of a capture may be some.
        taken = tally.events + tally.unwanted + tally.twins + tally.duplicates
        assert (taken, tally.broken) == (events, 0), tally
        assert len(delivered) == tally.events
        assert tally.duplicates < events / 50, tally

    return read


def usual(*, validated: bool) -> Callable[[str, int], Awaitable[None]]:
    """The usual road: httpx's stream, httpx-sse, JSON, and pydantic on everything, by our own shapes."""

    async def read(url: str, events: int) -> None:
        count = 0
        async with (
            httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client,
            aconnect_sse(client, "GET", "/global/event") as source,
        ):
            async for frame in source.aiter_sse():
                event = frame.json()
                if validated:
                    event_from_wire(event, server=url, directory="", received=0, connection=f"b.{count}")
                count += 1
        assert count == events, count

    return read


READERS: dict[str, Callable[[str, int], Awaitable[None]]] = {
    "the socket alone": raw,
    "the reactor, for pipelines": reactor(WANTED.__contains__),
    "the reactor, for everything": reactor(lambda _type: True),
    "httpx, httpx-sse, json": usual(validated=False),
    "the same, all validated": usual(validated=True),
}


def measure(stream: Stream, rounds: int) -> dict[str, list[float]]:
    """Processor seconds per 100,000 events, of each reader in each round."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    sender = spawn.Process(target=send, args=(there, stream), daemon=True)
    sender.start()
    try:
        url = f"http://127.0.0.1:{here.recv()}"
        figures: dict[str, list[float]] = {name: [] for name in READERS}
        for _ in range(rounds):
            for name, reader in READERS.items():
                before = time.process_time()
                anyio.run(reader, url, stream.events)
                figures[name].append((time.process_time() - before) * 100_000 / stream.events)
        return figures
    finally:
        sender.kill()
        sender.join()


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description="Processor seconds per 100,000 events.")
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--capture", type=Path, default=CAPTURE)
    chosen = parser.parse_args()
    if chosen.events < 1000 or chosen.rounds < 1:
        parser.error("at least 1000 events and 1 round")
    # A recorded answer has four deltas, a real one some hundred.
    for deltas in (1, 50):
        tell(Stream(chosen.capture, chosen.events, deltas), chosen.rounds)


def tell(stream: Stream, rounds: int) -> None:
    """Measure one stream and print its table."""
    print(f"\n{stream}")
    print(f"{'processor seconds per 100,000 events':40}{'median':>8}{'best':>8}{'ratio':>8}")
    figures = measure(stream, rounds)
    whole = statistics.median(list(figures.values())[-1])
    for name, seconds in figures.items():
        median = statistics.median(seconds)
        print(f"{name:40}{median:>8.2f}{min(seconds):>8.2f}{median / whole:>8.2f}")


if __name__ == "__main__":
    main()

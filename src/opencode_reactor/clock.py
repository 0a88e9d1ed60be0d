"""The one place that reads the clock. Everything else is handed a `Clock`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is stored and shown, monotonic time for measuring how long something took."""

    def now(self) -> int:
        """Wall time, milliseconds since the epoch: OpenCode's own unit."""
        ...

    def monotonic(self) -> float:
        """Seconds that only go forward, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Wall time, milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        return time.monotonic()

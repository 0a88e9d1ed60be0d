"""How long to wait before trying again: exponential, capped, jittered so that crowds disperse."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: `first * factor ** (tries - 1)`, at most `cap`, then spread by `jitter`.

    The jitter only shortens (a delay lies in `[1 - jitter, 1]` of its nominal value), so `cap` is
    a true bound.
    """

    first: float = 0.5
    factor: float = 2.0
    cap: float = 30.0
    jitter: float = 0.5

    def delay(self, tries: int, random: Random) -> float:
        """Seconds to wait after the `tries`-th failure in a row (the first is 1)."""
        # The exponent is bounded before the power is taken: a daemon may count failures for months.
        nominal = min(self.cap, self.first * self.factor ** min(tries - 1, 60))
        return nominal * (1 - self.jitter * random.random())

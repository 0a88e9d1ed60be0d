"""A seat: the one place that may touch a connection, whoever hands it its orders.

`worker` puts one into a thread, for an event loop; `immediate` calls one directly, for who has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

from ..errors import StoreError
from .driver import Rows, Unit

Outcome: TypeAlias = Rows | Exception


class Order(NamedTuple):
    """One unit to be carried out."""

    unit: Unit
    writes: bool


class Seat(Protocol):
    """What carries out orders. Every method blocks, and is called in one thread, one at a time."""

    def open(self) -> None:
        """Get ready. Raises StoreError, SchemaTooNew; `close` is due all the same."""
        ...

    def carry_out(self, orders: Sequence[Order]) -> list[Outcome]:
        """Carry out orders, in sequence; one outcome for each."""
        ...

    def changed(self) -> bool:
        """Whether anything was committed, by anybody, since this was last asked."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def closed(where: str) -> StoreError:
    """What an order is answered that comes after the end."""
    return StoreError("the store is closed", place=where)

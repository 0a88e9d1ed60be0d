"""The seam between the store and a database: what a driver is asked, as data.

A unit is a tuple of statements that stand or fall together. A statement names its SQL (`sql/*.sql`), brings
its parameters, and may say how many rows it must touch and what it means if it does not: so a compare-and-set
and its answer travel together, and a driver may carry out many units in one commit. A later driver
(PostgreSQL) brings its own connection, clock, placeholders and wake-up; nothing above this seam changes.
Named tuples here: every command makes these classes as it starts, and frozen ones take five times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from ..errors import ReactorError

Value: TypeAlias = "str | int | float | None"
"""What a column holds; JSON travels as text."""

Params: TypeAlias = Mapping[str, Value]


class Row(Protocol):
    """One row, read by column name."""

    def __getitem__(self, column: str, /) -> Any: ...


Rows: TypeAlias = list[list[Row]]
"""What a unit brought: for each of its statements the rows it returned."""


class Expect(NamedTuple):
    """How many rows a statement must touch, and which error (with which words) it is if it does not."""

    rows: int
    error: type[ReactorError]
    message: str
    remedy: str = ""


class Statement(NamedTuple):
    """One named statement with its parameters."""

    name: str
    params: Params = {}  # noqa: RUF012  read only, as its type says
    expect: Expect | None = None


Unit: TypeAlias = tuple[Statement, ...]


class Driver(Protocol):
    """One database. Its methods belong to the event loop it was opened in, and never block it.

    (But for `immediate`, which is for who has no event loop.)
    """

    @property
    def url(self) -> str:
        """Where the store is, as `--store` takes it; without secrets."""
        ...

    async def open(self) -> None:
        """Get ready: make and migrate the store where need be. Raises StoreError, SchemaTooNew.

        `aclose` is due even if this raises.
        """
        ...

    def now(self) -> int:
        """The store's clock, epoch milliseconds: what `clock_ms()` says in SQL."""
        ...

    async def read(self, unit: Unit) -> Rows:
        """Carry out statements that only read, on one snapshot. Raises StoreError."""
        ...

    async def write(self, unit: Unit) -> Rows:
        """Carry out a unit whole or not at all; durable when this returns.

        Raises the error of the first expectation that was not met, Conflict where a unique key is taken,
        StoreError where the database cannot do it. A cancelled caller does not know whether the unit was
        carried out, as after a crash: it reads again.
        """
        ...

    async def hold(self, server: str, owner: str) -> bool:
        """Show from now on that this owner of a server lives, for as long as this driver does.

        False where somebody else shows it already. A driver that cannot show it says True: others then wait
        for the lease to run out.
        """
        ...

    async def let_go(self, server: str, owner: str) -> None:
        """Show it no longer."""
        ...

    async def gone(self, server: str, owner: str) -> bool:
        """Whether that owner surely lives no more, or has let go; False wherever that cannot be known."""
        ...

    async def sweep(self, server: str) -> None:
        """Forget those who are gone, now that the lease was taken from them."""
        ...

    def changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back in the event loop after commits, this process's and others'; returns the way to stop.

        A hint: several commits may give one call, and a call may come for nothing.
        """
        ...

    async def aclose(self) -> None:
        """Carry out what was asked before, then let go of everything. A second call does nothing."""
        ...

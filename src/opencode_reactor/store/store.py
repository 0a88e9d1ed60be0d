"""The store: what the reactor must not forget, as nouns. The only room with SQL.

Every method is one transaction. A write by an owner names its lease and stands only if that lease does; a
version or a state that moved on is a Conflict. What is returned is a snapshot: nothing mutable is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

from ..clock import Clock
from ..errors import Conflict, Fenced, NotKnown, StoreError
from ..model.asks import Ask, AskState, Closed, Reply
from ..model.deliveries import Delivery
from ..model.runs import Command, CommandKind, Head, JournalEntry, Lease, Run, RunKey, RunState
from .ask_rows import ask_params, delivery_params, read_ask, read_delivery
from .columns import dump
from .driver import Driver, Expect, Row, Statement, Value
from .run_rows import read_command, read_entry, read_head, read_lease, read_runs
from .units import adding, beside, commanding, fenced, saving
from .words import ambiguous, standing, unknown

KEEP_DONE = 7 * 24 * 60 * 60_000
"""How long a done delivery is remembered, ms: an event found again within this time is not handled again."""

_ABOVE = "\U0010ffff"
"""Sorts after every text that goes on from a prefix."""


class Store:
    """One store, open. Its methods belong to the event loop it was opened in."""

    def __init__(self, driver: Driver, store_id: str, clock: Clock) -> None:
        self._driver = driver
        self._clock = clock
        self.store_id = store_id
        self._held: dict[tuple[str, str], int] = {}
        """The epochs of our leases, by server and owner: a lease that is over must not end a later one's."""

    @property
    def url(self) -> str:
        """Where the store is, as `--store` takes it."""
        return self._driver.url

    def now(self) -> int:
        """The store's clock, epoch ms."""
        return self._driver.now()

    def changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back in the event loop after commits, anybody's; only a hint. Returns the way to stop."""
        return self._driver.changed(callback)

    async def aclose(self) -> None:
        """Carry out what was asked before, then close."""
        await self._driver.aclose()

    # Leases

    async def take_lease(self, server: str, owner: str, ttl: int) -> Lease | None:
        """Own a server for `ttl` ms, under a new epoch; None while somebody else does.

        A holder that is seen to be gone is not waited for. `owner` names one holder in all the world: none
        that is told from another by its name alone.
        """
        taking = await self._taking(server, owner, ttl)
        # Shown before the row says so: a holder that does not show that it lives looks gone.
        if taking is None or not await self._driver.hold(server, owner):
            return None
        before = self._clock.monotonic()
        rows: Sequence[Row] = ()
        try:
            (rows,) = await self._driver.write((taking,))
        finally:
            if not rows and (server, owner) not in self._held:
                await self._driver.let_go(server, owner)
        if not rows:
            return None
        lease = read_lease(rows[0], before + ttl / 1000)
        self._held[server, owner] = lease.epoch
        await self._driver.sweep(server)
        return lease

    async def _taking(self, server: str, owner: str, ttl: int) -> Statement | None:
        """How the lease is to be had now: as a free one, from a holder that is gone, or not at all."""
        params: dict[str, Value] = {"server": server, "owner": owner, "ttl": ttl}
        standing = await self.lease(server)
        if standing is None or standing.owner == owner:
            return Statement("take_lease", params)
        if await self._driver.gone(server, standing.owner):
            # The epoch was read before the holder was looked for: if another is faster, this takes nothing.
            return Statement("take_over_lease", {**params, "epoch": standing.epoch})
        return None

    async def renew_lease(self, lease: Lease, ttl: int) -> Lease:
        """Own it for another `ttl` ms from now. Raises Fenced where it ran out or was taken over."""
        before = self._clock.monotonic()
        rows = await self._write(
            "renew_lease", server=lease.server, owner=lease.owner, epoch=lease.epoch, ttl=ttl
        )
        if not rows:
            await self._over(lease)
            raise Fenced(f"the lease on {lease.server} (epoch {lease.epoch}) ran out or was taken over")
        return read_lease(rows[0], before + ttl / 1000)

    async def drop_lease(self, lease: Lease) -> None:
        """Let go, so that another may take it at once; a lease that is over already is none to drop."""
        try:
            await self._write("drop_lease", server=lease.server, owner=lease.owner, epoch=lease.epoch)
        finally:
            await self._over(lease)

    async def _over(self, lease: Lease) -> None:
        if self._held.get((lease.server, lease.owner)) == lease.epoch:
            del self._held[lease.server, lease.owner]
            await self._driver.let_go(lease.server, lease.owner)

    async def lease(self, server: str) -> Lease | None:
        """Who owns a server now; `expires` is not known to anybody but the holder, and 0 here."""
        rows = await self._read("standing_lease", server=server)
        return read_lease(rows[0], 0.0) if rows else None

    # Runs

    async def add_run(self, run: Run, entries: Sequence[JournalEntry] = ()) -> Run:
        """Keep a new run, as revision 1. Raises Conflict where the id is taken."""
        rows = await self._driver.write(adding(run, entries))
        return _stamped(run, rows[0][0])

    async def save_run(
        self,
        before: Run,
        after: Run,
        *,
        lease: Lease,
        entries: Sequence[JournalEntry] = (),
        asks: Sequence[Ask] = (),
        commands: Sequence[int] = (),
    ) -> Run:
        """Put the run's next version in the place of the one it was decided on, and all that goes with it.

        Asks are added if absent, commands marked as taken. Raises Fenced, Conflict (another version stands,
        or a command was taken), ValueError where `after` is another run.
        """
        unit = (*saving(before, after, lease), *beside(after, lease, entries, asks, commands))
        rows = await self._driver.write(unit)
        return _stamped(after, rows[1][0])

    async def run(self, id_or_prefix: str) -> Run:
        """A run by its id or the beginning of it. Raises NotKnown where none or several begin so."""
        found = await self._run(id_or_prefix)
        if found is None:
            rows = await self._read("run_ids_between", prefix=id_or_prefix, above=id_or_prefix + _ABOVE)
            ids = [row["id"] for row in rows] if id_or_prefix else []
            if len(ids) > 1:
                raise ambiguous("run", id_or_prefix, ids)
            found = await self._run(ids[0]) if ids else None
        if found is None:
            near = await self._read("newest_run_ids")
            raise unknown("run", id_or_prefix, [row["id"] for row in near], "reactor runs")
        return found

    async def _run(self, run: str) -> Run | None:
        params: dict[str, Value] = {"run": run}
        names = ("run", "stages_of_run", "attempts_of_run")
        rows = await self._driver.read(tuple(Statement(name, params) for name in names))
        with self._legible():
            found = read_runs(*rows)
        return found[0] if found else None

    async def runs(self, *, state: Collection[RunState] | None = None, limit: int = 50) -> list[Run]:
        """Runs, newest first, whole; `state` None: in any state."""
        states = [str(word) for word in (RunState if state is None else state)]
        names = ("runs_in", "stages_of_runs_in", "attempts_of_runs_in")
        # State by state, each along an index, on one snapshot: a list of states would walk through all runs.
        unit = (Statement(name, {"state": word, "limit": limit}) for name in names for word in states)
        rows = await self._driver.read(tuple(unit))
        runs, stages, attempts = (chain(*rows[n * len(states) : (n + 1) * len(states)]) for n in range(3))
        newest = sorted(runs, key=lambda row: (row["created"], row["id"]), reverse=True)[:limit]
        with self._legible():
            return read_runs(newest, stages, attempts)

    async def heads(
        self,
        *,
        state: Collection[RunState] | None = None,
        server: str | None = None,
        directory: str | None = None,
        limit: int = 50,
    ) -> list[Head]:
        """Runs as a list shows them, newest first; None: any state, server, directory."""
        states = [str(word) for word in (RunState if state is None else state)]
        where: dict[str, Value] = {"server": server, "directory": directory, "limit": limit}
        rows = await self._driver.read(tuple(Statement("heads_in", {**where, "state": s}) for s in states))
        newest = sorted(chain(*rows), key=lambda row: (row["created"], row["id"]), reverse=True)[:limit]
        with self._legible():
            return [read_head(row) for row in newest]

    async def live_runs(self, server: str) -> list[RunKey]:
        """Every run of a server that is not over, oldest first, and when it wants to be looked at."""
        return [RunKey(row["id"], row["wake_at"]) for row in await self._read("live_runs", server=server)]

    async def journal(
        self, run_id: str, *, stage: str | None = None, attempt: int | None = None, after: int = 0
    ) -> list[JournalEntry]:
        """A run's history, oldest first, from behind the entry `after`."""
        rows = await self._read("journal", run=run_id, stage=stage, attempt=attempt, after=after)
        with self._legible():
            return [read_entry(row) for row in rows]

    async def owner_of(self, server: str, session: str) -> tuple[str, str, int] | None:
        """The run, stage and attempt whose (root) session that is; None where it is nobody's."""
        rows = await self._read("owner_of", server=server, session=session)
        return (rows[0]["run"], rows[0]["stage"], rows[0]["number"]) if rows else None

    # Commands

    async def add_command(self, run_id: str, kind: CommandKind, *, stage: str = "", by: str = "") -> Command:
        """Keep a person's word to a run until it is obeyed. Raises NotKnown."""
        rows = await self._driver.write(commanding(run_id, kind, stage, by))
        return read_command(rows[0][0])

    async def commands(self, run_id: str) -> list[Command]:
        """What a run was told and has not obeyed yet, oldest first."""
        return [read_command(row) for row in await self._read("commands", run=run_id)]

    async def commanded_runs(self, server: str) -> list[str]:
        """The ids of runs that were told something, final ones too."""
        return [row["id"] for row in await self._read("commanded_runs", server=server)]

    # Asks

    async def add_ask(self, ask: Ask) -> Ask:
        """Keep an ask if it is new; the one that stands, either way."""
        unit = (Statement("add_ask", ask_params(ask)), Statement("ask", {"id": ask.id}))
        rows = await self._driver.write(unit)
        return self._ask(rows[1])

    async def ask(self, id_or_prefix: str) -> Ask:
        """An ask by its id, the beginning of it, or the server's own request id. Raises NotKnown."""
        rows = await self._read("asks_called", id=id_or_prefix)
        if not rows and id_or_prefix:
            rows = await self._read("asks_between", prefix=id_or_prefix, above=id_or_prefix + _ABOVE)
        if not rows:
            near = await self._read("newest_ask_ids")
            raise unknown("ask", id_or_prefix, [row["id"] for row in near], "reactor inbox")
        if len(rows) > 1:
            raise ambiguous("ask", id_or_prefix, [row["id"] for row in rows])
        return self._ask(rows)

    async def asks(
        self,
        *,
        server: str | None = None,
        run: str | None = None,
        states: Collection[AskState] = (AskState.OPEN,),
    ) -> list[Ask]:
        """Asks in those states, oldest first; of a server or run, or of all."""
        rows = await self._read("asks", server=server, run=run, **_states(states))
        with self._legible():
            return [read_ask(row) for row in rows]

    async def answer_ask(
        self,
        ask: Ask,
        *,
        by: str,
        reply: Reply | None = None,
        answers: Sequence[Sequence[str]] = (),
        message: str = "",
    ) -> Ask:
        """Decide an open ask. Raises Conflict where somebody was first, saying who; NotKnown."""
        rows = await self._write(
            "answer_ask",
            id=ask.id,
            reply=None if reply is None else reply.value,
            answers=dump(answers),
            message=message,
            answered_by=by,
        )
        if rows:
            return self._ask(rows)
        raise Conflict(standing(await self.ask(ask.id)))

    async def close_ask(self, ask: Ask, as_: Closed) -> Ask:
        """End an ask; one that is closed already stays as it was closed. Raises NotKnown."""
        gone = Expect(1, NotKnown, f"no ask {ask.id} in the store")
        unit = (
            Statement("close_ask", {"id": ask.id, "closed_as": as_.value}),
            Statement("ask", {"id": ask.id}, gone),
        )
        return self._ask((await self._driver.write(unit))[1])

    def _ask(self, rows: Sequence[Row]) -> Ask:
        with self._legible():
            return read_ask(rows[0])

    # Deliveries

    async def add_deliveries(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Keep those that are new to their handler; only these are returned, with their ids, in order."""
        if not deliveries:
            return []
        unit = tuple(Statement("add_delivery", delivery_params(delivery)) for delivery in deliveries)
        return [read_delivery(row) for rows in await self._driver.write(unit) for row in rows]

    async def delivery(self, number: int) -> Delivery | None:
        """One delivery, whatever its state; None where there is none of that number (any more)."""
        rows = await self._read("delivery", id=number)
        with self._legible():
            return read_delivery(rows[0]) if rows else None

    async def pending_deliveries(self, server: str, *, after: int = 0, limit: int = 2**62) -> list[Delivery]:
        """What durable handlers still have before them, in the order it came: a page above the id `after`."""
        rows = await self._read("pending_deliveries", server=server, after=after, limit=limit)
        with self._legible():
            return [read_delivery(row) for row in rows]

    async def finish_delivery(self, number: int, *, lease: Lease | None = None) -> None:
        """It was handled. Done deliveries are forgotten after a week. Raises Fenced if a lease is named."""
        done = Statement("finish_delivery", {"id": number})
        prune = Statement("prune_deliveries", {"keep": KEEP_DONE})
        await self._driver.write(fenced(lease, done, prune))

    async def postpone_delivery(
        self, number: int, *, tries: int, not_before: int, error: str, lease: Lease | None = None
    ) -> None:
        """It failed and is to be tried again at `not_before`, epoch ms. Raises Fenced if a lease is named."""
        params: dict[str, Value] = {"id": number, "tries": tries, "not_before": not_before, "error": error}
        await self._driver.write(fenced(lease, Statement("postpone_delivery", params)))

    async def bury_delivery(self, number: int, *, tries: int, error: str, lease: Lease | None = None) -> None:
        """It is given up and kept for a person to see. Raises Fenced if a lease is named."""
        params: dict[str, Value] = {"id": number, "tries": tries, "error": error}
        await self._driver.write(fenced(lease, Statement("bury_delivery", params)))

    async def dead_deliveries(self) -> list[Delivery]:
        """What was given up, oldest first."""
        rows = await self._read("dead_deliveries")
        with self._legible():
            return [read_delivery(row) for row in rows]

    async def revive_delivery(self, number: int) -> None:
        """Try a dead one again, as if for the first time. Raises NotKnown."""
        await self._dead("revive_delivery", number)

    async def drop_delivery(self, number: int) -> None:
        """Forget a dead one. Raises NotKnown."""
        await self._dead("drop_delivery", number)

    async def _dead(self, name: str, number: int) -> None:
        expect = Expect(1, NotKnown, f"no dead delivery {number}", "`reactor dead` lists them.")
        await self._driver.write((Statement(name, {"id": number}, expect),))

    async def _read(self, name: str, **params: Value) -> list[Row]:
        return (await self._driver.read((Statement(name, params),)))[0]

    async def _write(self, name: str, **params: Value) -> list[Row]:
        return (await self._driver.write((Statement(name, params),)))[0]

    @contextmanager
    def _legible(self) -> Generator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise StoreError(
                f"a row of the store cannot be read ({error})",
                place=self.url,
                remedy="It was changed by another program or a newer reactor: upgrade, or restore a copy.",
            ) from error


def _stamped(run: Run, row: Row) -> Run:
    return replace(run, rev=row["rev"], created=row["created"], updated=row["updated"])


def _states(states: Collection[AskState]) -> dict[str, Value]:
    """A list as three parameters, "" for none: both databases can then use an index."""
    words = [*map(str, states), "", "", ""]
    return {f"state{n}": words[n] for n in range(3)}

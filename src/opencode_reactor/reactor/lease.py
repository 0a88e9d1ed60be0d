"""Holding a server: taking, renewing and losing the lease that lets this reactor act on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import structlog

from ..clock import Clock
from ..errors import Fenced, StoreError
from ..model.runs import Lease
from ..store import Store

DROP_WITHIN = 2.0
"""Seconds a leaving holder takes to say so; whoever waits sees it gone in any case."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Terms:
    """How a lease is held; client-go's 15/10/2 in spirit.

    `ttl` is what it lasts, in ms; the rest is in seconds: between renewals, between tries where one failed or
    somebody else holds it, and the end of a lease that is never spent on a call.
    """

    ttl: int = 15_000
    renew_every: float = 5.0
    retry_every: float = 0.5
    margin: float = 2.0


class LeaseKeeper:
    """Takes the lease on one server and keeps it while `while_held` runs; ends that at once if it is lost."""

    def __init__(
        self, store: Store, server: str, owner: str, clock: Clock, terms: Terms | None = None
    ) -> None:
        """`owner` must be this keeper's alone: by one name two keepers would take it from each other."""
        self._store = store
        self._server = server
        self._owner = owner
        self._clock = clock
        self._terms = terms or Terms()
        self._lease: Lease | None = None
        self._answered = False

    @property
    def lease(self) -> Lease:
        """The lease as it stands. Raises Fenced where it is not held."""
        if self._lease is None:
            raise Fenced(f"this reactor does not hold the lease on {self._server}")
        return self._lease

    def check(self, deadline: float) -> Lease:
        """The lease, if it outlasts a call of `deadline` seconds; else Fenced: no call goes out on less.

        OpenCode checks no epoch, so a call in flight when the lease ends cannot be fenced; this bounds it.
        """
        lease = self.lease
        if lease.expires - self._clock.monotonic() < deadline + self._terms.margin:
            raise Fenced(f"too little is left of the lease on {self._server} for a call of {deadline:g} s")
        return lease

    async def hold(self, while_held: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, run `while_held` under it; return when that does or the lease is lost.

        Raises what `while_held` raises, in a group, and StoreError where the store never answered.
        """
        taken = self._lease = await self._take()
        log.debug("lease taken", server=self._server, epoch=taken.epoch)
        try:
            async with anyio.create_task_group() as group:

                async def held() -> None:
                    await while_held()
                    group.cancel_scope.cancel()

                group.start_soon(held)
                await self._renew(taken)
                self._lease = None  # before anything under it hears of it: nothing more goes out
                group.cancel_scope.cancel()
        finally:
            self._lease = None
            await self._drop(taken)

    async def _drop(self, lease: Lease) -> None:
        """Let go of what is left of the lease, so that another may take it at once."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(DROP_WITHIN):
            try:
                await self._store.drop_lease(lease)
            except StoreError as error:
                log.warning("lease not dropped", server=self._server, error=str(error))

    async def _take(self) -> Lease:
        told = False
        while True:
            pause = self._terms.retry_every
            try:
                lease = await self._store.take_lease(self._server, self._owner, self._terms.ttl)
            except StoreError as error:
                # One that never answered is the operator's to mend; one that did is away for a while.
                if not self._answered:
                    raise
                log.warning("lease not taken", server=self._server, error=str(error))
                pause = self._terms.renew_every
            else:
                self._answered = True
                if lease is not None:
                    return lease
                if not told:
                    told = True
                    log.info("another reactor serves it, waiting for its end", server=self._server)
            await anyio.sleep(pause)

    async def _renew(self, lease: Lease) -> None:
        """Renew until the lease is lost: taken over, or run out before the store answered."""
        pause = self._terms.renew_every
        while True:
            with anyio.move_on_after(lease.expires - self._clock.monotonic()) as left:
                await anyio.sleep(pause)
                try:
                    lease = self._lease = await self._store.renew_lease(lease, self._terms.ttl)
                    pause = self._terms.renew_every
                except Fenced:
                    log.warning("lease lost", server=self._server)
                    return
                except StoreError as error:
                    log.warning("lease not renewed", server=self._server, error=str(error))
                    pause = self._terms.retry_every
            if left.cancelled_caught:
                log.warning("lease ran out", server=self._server)
                return

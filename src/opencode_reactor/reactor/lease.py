"""Holding a server: taking, renewing and losing the lease that lets this reactor act on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import structlog

from ..clock import Clock
from ..errors import Fenced, StoreError, Unreachable
from ..model.runs import Lease
from ..store import Store

TTL = 15_000
"""ms a lease lasts; client-go's 15/10/2 in spirit."""
RENEW_EVERY = 5.0
"""Seconds between renewals."""
RETRY_EVERY = 1.0
"""Seconds between tries to take a lease that somebody else holds."""
MARGIN = 2.0
"""Seconds of a lease that are never spent on a call."""

log = structlog.get_logger()


class LeaseKeeper:
    """Takes the lease on one server and keeps it while `while_held` runs; ends that at once if it is lost."""

    def __init__(self, store: Store, server: str, owner: str, clock: Clock) -> None:
        self._store = store
        self._server = server
        self._owner = owner
        self._clock = clock
        self._lease: Lease | None = None

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
        if lease.expires - self._clock.monotonic() < deadline + MARGIN:
            raise Fenced(f"too little is left of the lease on {self._server} for a call of {deadline:g} s")
        return lease

    async def hold(self, while_held: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, run `while_held` under it; return when that does or the lease is lost."""
        self._lease = await self._take()
        log.debug("lease taken", server=self._server, epoch=self._lease.epoch)
        try:
            async with anyio.create_task_group() as group:

                async def held() -> None:
                    await while_held()
                    group.cancel_scope.cancel()

                async def renewing() -> None:
                    await self._renew()
                    group.cancel_scope.cancel()

                group.start_soon(held)
                group.start_soon(renewing)
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        """Drop what is left of the lease, so that another may take it at once."""
        lease, self._lease = self._lease, None
        if lease is not None:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self._store.drop_lease(lease)

    async def _take(self) -> Lease:
        while True:
            lease = await self._store.take_lease(self._server, self._owner, TTL)
            if lease is not None:
                return lease
            await anyio.sleep(RETRY_EVERY)

    async def _renew(self) -> None:
        """Renew until the lease is lost. A store that does not answer leaves what is left of it, no more."""
        while self._lease is not None:
            await anyio.sleep(RENEW_EVERY)
            try:
                self._lease = await self._store.renew_lease(self._lease, TTL)
            except Fenced:
                log.warning("lease lost", server=self._server)
                self._lease = None
            except (StoreError, Unreachable) as error:
                log.warning("lease not renewed", server=self._server, error=str(error))
                if self._lease.expires <= self._clock.monotonic():
                    self._lease = None  # by now somebody else may hold it

"""`reactor dead`: deliveries to handlers that were given up."""

from __future__ import annotations

from enum import StrEnum

from ..errors import UsageError
from ..model.deliveries import Delivery
from ..store import Store
from . import shapes
from .opened import in_store, served
from .options import Options
from .output import Column
from .parser import Asked
from .text import ago


class Deed(StrEnum):
    """What can be done with a dead delivery."""

    RETRY = "retry"
    DROP = "drop"


def dead(options: Options, asked: Asked) -> None:
    """List dead deliveries, or act on one."""
    if asked.deed is None:
        _list(options)
    elif asked.number is None:
        raise UsageError(
            f"`reactor dead {asked.deed}` needs the delivery's number", remedy="`reactor dead` lists them"
        )
    else:
        in_store(options, lambda store: _act(options, store, Deed(asked.deed), asked.number))


async def _act(options: Options, store: Store, deed: Deed, number: int) -> None:
    known = {delivery.id: delivery for delivery in await store.dead_deliveries()}
    await (store.revive_delivery(number) if deed is Deed.RETRY else store.drop_delivery(number))
    idle = (
        await served(options, store, known[number].server) if deed is Deed.RETRY and number in known else ""
    )
    if options.output.json:
        options.output.emit("delivery", {"id": number, "deed": deed, "served": not idle})
        return
    options.output.line(f"delivery {number} {'is tried again' if deed is Deed.RETRY else 'is dropped'}")
    if idle:
        options.output.remark(idle)


def _list(options: Options) -> None:
    async def listed(store: Store) -> tuple[list[Delivery], int]:
        return await store.dead_deliveries(), store.now()

    found, now = in_store(options, listed)
    out = options.output
    if out.json:
        for delivery in found:
            out.emit("delivery", shapes.delivery(delivery))
    elif found:
        rows = [
            [str(d.id), d.handler, d.name, d.lane, str(d.tries), ago(d.created, now), d.error] for d in found
        ]
        out.table(_HEADS, rows)
    else:
        out.remark("no dead deliveries")


_HEADS = (
    Column("id", right=True),
    Column("handler"),
    Column("event"),
    Column("session"),
    Column("tries", right=True),
    Column("created"),
    Column("error", share=True),
)

"""From a URL to an open store."""

from __future__ import annotations

from pathlib import Path

from ..clock import Clock
from ..errors import StoreError
from .driver import Driver, Statement
from .sqlite_open import MEMORY, Place
from .store import Store

_FORMS = "Write sqlite:///absolute/path, a plain path, or sqlite://:memory:."


async def open_store(url: str, *, clock: Clock, patience: int = 5_000) -> Store:
    """Open the store at `sqlite:///absolute/path`, a plain path or `sqlite://:memory:`; make it if need be.

    `patience` is how long to wait for another program's lock, ms. A store in a read-only place can be read.
    Raises StoreError (with place and remedy), SchemaTooNew.
    """
    # Late: asyncio is half the start of a command that only reads the store, and opens it by `immediate`.
    from .sqlite import SqliteDriver  # noqa: PLC0415

    return await store_on(SqliteDriver(Place.at(path_of(url), patience), clock), clock)


async def store_on(driver: Driver, clock: Clock) -> Store:
    """The store behind a driver, which is opened, and closed again if that fails."""
    try:
        await driver.open()
        rows = await driver.read((Statement("store_id"),))
    except BaseException:
        await driver.aclose()
        raise
    return Store(driver, rows[0][0]["value"], clock)


def path_of(url: str) -> str:
    """The absolute path of the file, or `:memory:`. Raises StoreError."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "sqlite", url
    if scheme != "sqlite":
        # No more of it than that: what follows may hold a password.
        raise StoreError(f"no store can be had by {scheme}://", remedy=_FORMS)
    if rest.lstrip("/") == MEMORY:
        return MEMORY
    if not rest.strip("/") or "\0" in rest:
        raise StoreError("the store's URL names no file", place=url, remedy=_FORMS)
    try:
        return str(Path(rest).expanduser().absolute())
    except RuntimeError as error:
        raise StoreError(f"the store's path cannot be read: {error}", place=url, remedy=_FORMS) from error

"""One store over drivers: the only room with SQL."""

from .opening import open_store
from .store import Store

__all__ = ["Store", "open_store"]

"""Lock files: how the end of a lease's holder is seen at once instead of when the lease runs out.

A holder keeps a lock on a file of its own, named after server and owner, from before its lease can be read
until the lease is over or the process is. The kernel lets go of the lock of whoever dies, so a file that can
be locked says: that owner is gone. A file that is missing, or cannot be asked, says nothing, and the lease's
own time counts. The lock is the fast detector, the row is the truth: only the row gives any right.

One file for each owner, not one for each server: who takes over from a frozen holder could not lock the
server's file, and would look gone as soon as the frozen one died. flock, not POSIX locks: those vanish when
the process closes the file anywhere, and do not keep two stores of one process apart.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path


class LockFiles:
    """The locks of one open store, in a folder that all stores on the same database share.

    Every method is a handful of system calls on a local disk and never waits for a lock. They are not handed
    to a thread: a caller cancelled in mid-air would leave a lock behind that nobody knows of.
    """

    def __init__(self, folder: Path | None) -> None:
        """`folder` is made when it is needed; None: no locks here, leases alone."""
        self._folder = folder
        self._held: dict[Path, int] = {}

    def hold(self, server: str, owner: str) -> bool:
        """Lock the owner's file until `let_go`; False where another store holds it.

        Where no lock can be had at all this is True, and others wait for the lease to run out.
        """
        path = self._path(server, owner)
        if self._folder is None or path is None or path in self._held:
            return True
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            file = _open_locked(path)
        except OSError:
            return True
        if file is None:
            return False
        self._held[path] = file
        return True

    def let_go(self, server: str, owner: str) -> None:
        """Unlock; the file stays, so that whoever finds the lease standing sees at once that it is over."""
        path = self._path(server, owner)
        if path is not None and path in self._held:
            os.close(self._held.pop(path))

    def gone(self, server: str, owner: str) -> bool:
        """Whether that owner has surely let go, or died."""
        path = self._path(server, owner)
        if path is None:
            return False
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError:
            return False
        try:
            # Shared: two who ask at once are no holder to one another.
            return _lock(file, shared=True)
        except OSError:
            return False
        finally:
            os.close(file)

    def sweep(self, server: str) -> None:
        """Remove the files of owners that are gone, once the lease is had.

        Not before: the lease of one that is gone may just be coming to stand, and its file is what tells.
        """
        if self._folder is None:
            return
        for path in self._folder.glob(f"{_digest(server)}-*.lock"):
            with suppress(OSError):
                _remove_unlocked(path)

    def close(self) -> None:
        """Let go of everything."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _path(self, server: str, owner: str) -> Path | None:
        return self._folder and self._folder / f"{_digest(server)}-{_digest(owner)}.lock"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:20]


def _open_locked(path: Path) -> int | None:
    """The file, made, locked and sure to bear its name; None where somebody else has the lock."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            locked = _lock(file, shared=False)
        except OSError:
            # An unlocked file would call a living holder gone.
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        if locked and os.fstat(file).st_nlink:
            return file
        os.close(file)  # else it was swept away between the opening and the lock
        if not locked:
            return None


def _remove_unlocked(path: Path) -> None:
    file = os.open(path, os.O_RDWR)
    try:
        if _lock(file, shared=False):
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


if sys.platform == "win32":

    def _lock(file: int, *, shared: bool) -> bool:
        """Windows has no lock that others may read through and that ends with its process: none is had."""
        raise OSError(f"no lock on {file} (shared: {shared})")

else:
    import fcntl

    def _lock(file: int, *, shared: bool) -> bool:
        """Whether the lock could be had without waiting. Raises OSError where the file system has none."""
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

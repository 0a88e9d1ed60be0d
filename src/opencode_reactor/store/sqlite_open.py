"""Getting at a SQLite store: its folder and file, its connections, its schema. Everything here blocks."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ..clock import Clock
from ..errors import SchemaTooNew, StoreError
from .queries import NEWEST, migration
from .sqlite_errors import code, mapped, not_a_store

MEMORY = ":memory:"

_OURS = 0x6F637278
"""SQLite's `application_id` of our files ("ocrx"): tells them from any other program's database."""

_SMALLEST = 512
"""Bytes: no SQLite database is smaller, but for an empty one."""

_MAKING = threading.Lock()
"""Held while a file is made. POSIX drops all of a process's locks on a file as soon as the process closes the
file anywhere: no other store in it may have it open yet (https://www.sqlite.org/howtocorrupt.html, 2.2). For
the same reason nothing here opens a store but SQLite."""

_SERIAL_KEY = "INTEGER PRIMARY KEY AUTOINCREMENT"
"""AUTOINCREMENT: an id is never used again, even after the newest rows were pruned."""

_BETWEEN = 20
"""Milliseconds between two tries to open."""


class Place(NamedTuple):
    """Where a SQLite store is: an absolute path or `:memory:`. `patience` bounds the wait for locks, ms."""

    path: str
    patience: int
    read_only: bool = False

    @classmethod
    def at(cls, path: str, patience: int) -> Place:
        """Look whether there is a store that we may only read: WAL needs to write in its folder too."""
        # Not Path.is_file: that raises where a folder on the way may not be entered. And asked first: a file
        # that another opener makes between the two questions must not look like one we may not write.
        is_there = os.path.isfile(path)  # noqa: PTH113
        can_write = os.access(path, os.W_OK) and os.access(Path(path).parent, os.W_OK)
        return cls(path, patience, read_only=is_there and not can_write)

    @property
    def url(self) -> str:
        """As `--store` takes it."""
        return f"sqlite://{self.path}"

    @property
    def in_memory(self) -> bool:
        """Whether it lives only as long as its one connection."""
        return self.path == MEMORY


def prepare(place: Place) -> None:
    """Make the folder (0700) and the file (0600) where they are missing. Raises StoreError."""
    if place.in_memory:
        return
    path = Path(place.path)
    try:
        if path.is_dir():
            raise StoreError(
                "the store is to be a file, this is a folder",
                place=place.path,
                remedy=f"Name a file in it: --store {path / 'reactor.db'}",
            )
        if path.exists() and not path.is_file():
            raise StoreError("the store is to be a file, this is a device or a pipe", place=place.path)
        _make_folder(path.parent)
        _make_file(path)
        size = path.stat().st_size
    except OSError as error:
        raise StoreError(
            f"the store cannot be made: {_reason(error)}",
            place=error.filename or place.path,
            remedy="Make its folder writable, or name another file with --store.",
        ) from error
    # SQLite itself takes a file of one byte for a new database and writes over it.
    if 0 < size < _SMALLEST:
        raise not_a_store(place.path)


def _reason(error: OSError) -> str:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return "this is a file, and a folder is needed here"
    return error.strerror or str(error)


def _make_folder(folder: Path) -> None:
    missing = [folder, *folder.parents]
    for each in reversed(missing):
        if not each.is_dir():
            # Another process may make it between the look and the call.
            each.mkdir(mode=0o700, exist_ok=True)


def _make_file(path: Path) -> None:
    with _MAKING, suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def connect(place: Place, clock: Clock, *, writes: bool) -> sqlite3.Connection:
    """A connection with our settings, for the calling thread. Raises StoreError."""
    # The first switch to WAL, and an opening beside another process's last closing, answer "busy" at once:
    # https://www.sqlite.org/wal.html, "Sometimes Queries Return SQLITE_BUSY In WAL Mode".
    for _ in range(place.patience // _BETWEEN):
        try:
            return _connect(place, clock, writes=writes)
        except sqlite3.Error as error:
            if code(error) != sqlite3.SQLITE_BUSY:
                raise mapped(error, place.path) from error
            time.sleep(_BETWEEN / 1000)
    try:
        return _connect(place, clock, writes=writes)
    except sqlite3.Error as error:
        raise mapped(error, place.path) from error


def _connect(place: Place, clock: Clock, *, writes: bool) -> sqlite3.Connection:
    db = _open(place)
    try:
        db.row_factory = sqlite3.Row
        db.create_function("clock_ms", 0, clock.now)
        db.execute("PRAGMA foreign_keys = ON")
        if not writes:
            db.execute("PRAGMA query_only = ON")
        elif db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            db.execute("PRAGMA journal_mode = WAL")
        # FULL, though WAL: a lost commit would be a forgotten prompt. It costs 0.2 ms.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        db.execute(f"PRAGMA busy_timeout = {place.patience}")
    except BaseException:
        db.close()
        raise
    return db


def _open(place: Place) -> sqlite3.Connection:
    # Until it is open the loop above is patient, not SQLite: both together would wait for minutes.
    patience = _BETWEEN / 1000
    if not place.read_only:
        return sqlite3.connect(place.path, timeout=patience, isolation_level=None, cached_statements=256)
    # Without a writable folder SQLite can make no index of the WAL; where there is no WAL, none is needed.
    frozen = "" if Path(f"{place.path}-wal").exists() else "&immutable=1"
    uri = f"file:{quote(place.path)}?mode=ro{frozen}"
    return sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None)


def migrate(db: sqlite3.Connection, place: Place) -> None:
    """Bring the schema to `NEWEST`. Raises SchemaTooNew, StoreError; safe beside another process's."""
    try:
        if _version(db, place) == NEWEST:
            return
        if place.read_only:
            raise StoreError("an older reactor wrote this store, and it is read-only", place=place.path)
        db.execute("BEGIN IMMEDIATE")
        try:
            # Asked again under the lock: another process may have been first.
            for number in range(_version(db, place) + 1, NEWEST + 1):
                _apply(db, number)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise mapped(error, place.path) from error


def _version(db: sqlite3.Connection, place: Place) -> int:
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return 0
    if db.execute("PRAGMA application_id").fetchone()[0] != _OURS or "meta" not in tables:
        raise StoreError(
            "this database belongs to another program",
            place=place.path,
            remedy="Name another file with --store.",
        )
    row = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    version = int(row[0]) if row and row[0].isdecimal() else -1
    if version < 1:
        raise StoreError("the store does not say which schema it has: it is damaged", place=place.path)
    if version > NEWEST:
        raise SchemaTooNew(
            f"a newer reactor wrote this store (schema {version}, this one knows {NEWEST})",
            place=place.path,
            remedy="Upgrade opencode-reactor, or name another file with --store.",
        )
    return version


def _apply(db: sqlite3.Connection, number: int) -> None:
    if number == 1:
        db.execute(f"PRAGMA application_id = {_OURS}")
        db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        # Not a clock's or dice's business: an identity, made once, part of every id this store gives out.
        db.execute("INSERT INTO meta (key, value) VALUES ('store_id', ?)", (os.urandom(16).hex(),))
    for statement in statements(migration(number)):
        db.execute(statement)
    db.execute(
        "INSERT INTO meta (key, value) VALUES ('schema_version', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (str(number),),
    )


def statements(script: str) -> Iterator[str]:
    """The single statements of a script. (`executescript` would commit the transaction around it.)"""
    piece = ""
    for line in re.sub(r"^--.*\n", "", script, flags=re.MULTILINE).splitlines(keepends=True):
        piece += line
        if sqlite3.complete_statement(piece):
            yield piece.replace("SERIAL_KEY", _SERIAL_KEY)
            piece = ""
    if piece.strip():
        msg = f"an unfinished statement: {piece.strip()}"
        raise ValueError(msg)

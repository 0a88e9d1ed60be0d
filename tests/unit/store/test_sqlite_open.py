from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import SchemaTooNew, StoreError
from opencode_reactor.model.runs import Run
from opencode_reactor.store import Store, open_store
from opencode_reactor.store.sqlite_open import statements


async def opened(path: Path, patience: int = 200) -> Store:
    return await open_store(str(path), clock=SystemClock(), patience=patience)


async def made(path: Path) -> Path:
    store = await opened(path)
    await store.add_run(Run("r1", "p", "s", "/", "{}" * 9_000), [])
    await store.aclose()
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def set_mode(path: Path, bits: int) -> None:
    path.chmod(bits)


def names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


@contextmanager
def ordinary_user() -> Generator[None]:
    """Permissions do not bind root: go on as `nobody`, who may."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter (pytest's own is its owner's)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


async def test_the_folders_and_files_it_makes_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "one" / "two" / "reactor.db"
    store = await opened(path)
    await store.add_run(Run("r1", "p", "s", "/", "{}"), [])
    assert [mode(folder) for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]
    assert {mode(file) for file in path.parent.iterdir()} == {0o600}
    await store.aclose()
    assert names(path.parent) == ["reactor.db"]


async def test_the_mode_of_a_folder_that_was_there_is_left_alone(tmp_path: Path) -> None:
    set_mode(tmp_path, 0o755)
    await made(tmp_path / "reactor.db")
    assert mode(tmp_path) == 0o755


async def test_a_lost_commit_is_a_forgotten_prompt_so_the_file_is_in_wal_mode(tmp_path: Path) -> None:
    path = await made(tmp_path / "reactor.db")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "reactor.db"
    path.touch()
    await made(path)
    assert path.stat().st_size > 0


async def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="this is a folder") as caught:
        await opened(tmp_path)
    assert caught.value.place == str(tmp_path)
    assert str(tmp_path / "reactor.db") in caught.value.remedy


@pytest.mark.parametrize(
    "text", ["x", "name: release-notes\n" * 9, "\0" * 4096, "SQLite format 3\0 and no more"]
)
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.yaml"
    path.write_text(text)
    with pytest.raises(StoreError) as caught:
        await opened(path)
    assert caught.value.place == str(path)
    assert caught.value.remedy
    assert path.read_text() == text


async def test_a_file_where_a_folder_is_needed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made") as caught:
        await opened(tmp_path / "file" / "reactor.db")
    assert caught.value.remedy


@pytest.mark.parametrize("path", ["/dev/null", "fifo"])
async def test_a_device_or_pipe_is_refused(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StoreError, match="a device or a pipe"):
        await opened(tmp_path / path)


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000 + "x"])
async def test_a_path_the_system_refuses_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="cannot be made"):
        await opened(tmp_path / name)


async def test_another_programs_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE meta (key TEXT, value TEXT)")
        db.commit()
    with pytest.raises(StoreError, match="another program"):
        await opened(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("meta",)]


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = await made(tmp_path / "reactor.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
        db.commit()
    with pytest.raises(SchemaTooNew, match="schema 99") as caught:
        await opened(path)
    assert caught.value.place == str(path)
    assert "Upgrade" in caught.value.remedy


@pytest.mark.parametrize("change", ["DELETE FROM meta", "UPDATE meta SET value = 'one'"])
async def test_a_store_that_does_not_say_its_schema_is_refused(tmp_path: Path, change: str) -> None:
    path = await made(tmp_path / "reactor.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"{change} WHERE key = 'schema_version'")
        db.commit()
    with pytest.raises(StoreError, match="which schema"):
        await opened(path)


async def test_a_damaged_head_is_refused_at_once(tmp_path: Path) -> None:
    path = await made(tmp_path / "reactor.db")
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xa5" * 3996
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged") as caught:
        await opened(path)
    assert "recover" in caught.value.remedy


async def test_a_damaged_body_is_met_when_it_is_read(tmp_path: Path) -> None:
    path = await made(tmp_path / "reactor.db")
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'run'").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    store = await opened(path)
    with pytest.raises(StoreError, match="damaged"):
        await store.runs()
    await store.aclose()


async def test_a_word_no_reactor_wrote_is_a_store_that_cannot_be_read(tmp_path: Path) -> None:
    path = await made(tmp_path / "reactor.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE run SET state = 'elsewhere'")
        db.commit()
    store = await opened(path)
    for reading in (store.run("r1"), store.runs(state=["elsewhere"])):  # pyright: ignore[reportArgumentType]
        with pytest.raises(StoreError, match="cannot be read"):
            await reading
    await store.aclose()


async def test_a_store_in_a_read_only_folder_can_be_read_and_not_written(open_folder: Path) -> None:
    path = await made(open_folder / "reactor.db")
    path.chmod(0o444)
    set_mode(open_folder, 0o555)
    with ordinary_user():
        store = await opened(path)
        assert (await store.run("r1")).id == "r1"
        assert len(await store.runs()) == 1
        with pytest.raises(StoreError, match="read-only") as caught:
            await store.add_run(Run("r2", "p", "s", "/", "{}"), [])
        await store.aclose()
    assert caught.value.place == str(path)
    assert "writable" in caught.value.remedy
    assert names(open_folder) == ["reactor.db"]


async def test_a_new_store_in_a_read_only_folder_is_refused(open_folder: Path) -> None:
    set_mode(open_folder, 0o555)
    with ordinary_user(), pytest.raises(StoreError, match="cannot be made: Permission denied") as caught:
        await opened(open_folder / "sub" / "reactor.db")
    assert "--store" in caught.value.remedy


async def test_a_store_of_another_user_is_refused(open_folder: Path) -> None:
    path = await made(open_folder / "reactor.db")
    path.chmod(0o000)
    with ordinary_user(), pytest.raises(StoreError, match="cannot be opened"):
        await opened(path)


async def test_a_failed_opening_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(StoreError):
        await opened(tmp_path)
    assert set(threading.enumerate()) == before


async def test_a_store_that_another_program_locks_whole_is_refused_in_the_end(tmp_path: Path) -> None:
    path = await made(tmp_path / "reactor.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked") as caught:
            await opened(path)
    assert caught.value.remedy


def test_a_script_is_split_at_its_statements_ends() -> None:
    script = "-- a; comment\nCREATE TABLE a (id SERIAL_KEY);\nCREATE INDEX b\n    ON a (id);\n"
    assert [s.split()[1] for s in statements(script)] == ["TABLE", "INDEX"]
    assert "AUTOINCREMENT" in next(statements(script))


def test_a_script_with_an_unfinished_statement_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="unfinished"):
        list(statements("CREATE TABLE a (id INTEGER"))

from __future__ import annotations

import errno
import stat
import subprocess
from pathlib import Path

import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.store import lockfiles, open_store
from opencode_reactor.store.lockfiles import LockFiles

SERVER = "http://127.0.0.1:4096"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reactor.db-leases"


def test_an_owner_lives_from_hold_to_let_go(folder: Path) -> None:
    ours, theirs = LockFiles(folder), LockFiles(folder)
    assert ours.hold(SERVER, "ada")
    assert not theirs.gone(SERVER, "ada")
    ours.let_go(SERVER, "ada")
    assert theirs.gone(SERVER, "ada")
    assert theirs.gone(SERVER, "ada"), "asking takes nothing"


def test_the_folder_and_its_files_are_ours_alone_and_betray_no_address(folder: Path) -> None:
    locks = LockFiles(folder)
    locks.hold(SERVER, "ada")
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "127.0.0.1" not in file.name
    assert file.stat().st_size == 0
    locks.close()


def test_of_an_owner_without_a_file_nothing_is_known(folder: Path) -> None:
    locks = LockFiles(folder)
    assert not locks.gone(SERVER, "ada")
    locks.hold(SERVER, "bob")
    assert not locks.gone(SERVER, "ada")
    assert not locks.gone("http://other", "bob")
    locks.close()


def test_one_owner_is_held_by_one_store(folder: Path) -> None:
    ours, theirs = LockFiles(folder), LockFiles(folder)
    assert ours.hold(SERVER, "ada")
    assert ours.hold(SERVER, "ada"), "holding again is holding"
    assert not theirs.hold(SERVER, "ada")
    ours.close()
    assert theirs.hold(SERVER, "ada")
    theirs.close()


def test_the_next_holder_sweeps_away_who_is_gone_and_nobody_else(folder: Path) -> None:
    living, dead, elsewhere, last = (LockFiles(folder) for _ in range(4))
    living.hold(SERVER, "living")
    elsewhere.hold("http://other", "elsewhere")
    elsewhere.close()
    for n in range(5):
        dead.hold(SERVER, f"dead{n}")
    dead.close()
    last.hold(SERVER, "last")
    assert len(list(folder.iterdir())) == 8
    last.sweep(SERVER)
    assert len(list(folder.iterdir())) == 3
    assert not last.gone(SERVER, "living")
    assert last.gone("http://other", "elsewhere")
    living.close()
    last.close()


def test_a_file_swept_away_before_it_was_locked_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = vars(lockfiles)["_lock"], False

    def late(file: int, *, shared: bool) -> bool:
        nonlocal swept
        if not swept:
            swept = True
            for path in folder.iterdir():
                path.unlink()
        return lock(file, shared=shared)

    monkeypatch.setattr(lockfiles, "_lock", late)
    ours, theirs = LockFiles(folder), LockFiles(folder)
    assert ours.hold(SERVER, "ada")
    assert not theirs.gone(SERVER, "ada")
    ours.let_go(SERVER, "ada")
    assert theirs.gone(SERVER, "ada")


def test_where_the_file_system_has_no_locks_leases_alone_decide(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_file: int, *, shared: bool) -> bool:
        raise OSError(errno.ENOLCK, f"none (shared: {shared})")

    monkeypatch.setattr(lockfiles, "_lock", none)
    locks = LockFiles(folder)
    assert locks.hold(SERVER, "ada")
    assert not locks.gone(SERVER, "ada")
    assert list(folder.iterdir()) == [], "an unlocked file would call a living holder gone"
    locks.let_go(SERVER, "ada")


def test_where_no_folder_can_be_made_leases_alone_decide(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    locks = LockFiles(tmp_path / "file" / "leases")
    assert locks.hold(SERVER, "ada")
    assert not locks.gone(SERVER, "ada")
    locks.close()


def test_without_a_folder_there_are_no_locks() -> None:
    locks = LockFiles(None)
    assert locks.hold(SERVER, "ada")
    assert not locks.gone(SERVER, "ada")
    locks.let_go(SERVER, "ada")
    locks.close()


def test_a_lock_is_not_handed_on_to_programs_we_start(folder: Path) -> None:
    ours, theirs = LockFiles(folder), LockFiles(folder)
    ours.hold(SERVER, "ada")
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        ours.close()
        assert theirs.gone(SERVER, "ada")
        child.kill()


def test_no_file_stays_open(folder: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    ours, theirs = LockFiles(folder), LockFiles(folder)
    for n in range(20):
        ours.hold(SERVER, f"o{n}")
        theirs.hold(SERVER, f"o{n}")
        theirs.gone(SERVER, f"o{n}")
        ours.let_go(SERVER, f"o{n}")
    ours.hold(SERVER, "last")
    ours.close()
    assert len(list(Path("/dev/fd").iterdir())) == before


async def test_a_store_in_memory_keeps_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite://:memory:", clock=SystemClock())
    assert await store.take_lease(SERVER, "ada", 15_000) is not None
    assert await store.take_lease(SERVER, "bob", 15_000) is None
    await store.aclose()
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240  nothing else runs here

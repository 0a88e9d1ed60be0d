from __future__ import annotations

from pathlib import Path

import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import StoreError
from opencode_reactor.store import open_store


async def opened_at(url: str) -> str:
    store = await open_store(url, clock=SystemClock())
    await store.aclose()
    return store.url


async def test_a_url_and_a_plain_path_name_the_same_store(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/a store?.db"
    assert await opened_at(url) == url
    assert await opened_at(f"{tmp_path}/a store?.db") == url
    assert (tmp_path / "a store?.db").is_file()


async def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert await opened_at("reactor.db") == f"sqlite://{tmp_path}/reactor.db"
    assert await opened_at("sqlite://sub/reactor.db") == f"sqlite://{tmp_path}/sub/reactor.db"


async def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert await opened_at("~/reactor.db") == f"sqlite://{tmp_path}/reactor.db"


@pytest.mark.parametrize("url", [":memory:", "sqlite://:memory:", "sqlite:///:memory:"])
async def test_memory_is_spelled_in_three_ways(url: str) -> None:
    assert await opened_at(url) == "sqlite://:memory:"


@pytest.mark.parametrize("url", ["postgresql://ada:secret@db/reactor", "mysql://x", "http://x/y.db", "://x"])
async def test_another_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError, match="no store can be had by") as caught:
        await open_store(url, clock=SystemClock())
    assert "secret" not in str(caught.value)
    assert "sqlite:///" in caught.value.remedy


@pytest.mark.parametrize(
    "url", ["", "/", "sqlite://", "sqlite:///", "sqlite:///a\0b", "~nobody-of-that-name/x.db"]
)
async def test_a_url_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(StoreError):
        await open_store(url, clock=SystemClock())

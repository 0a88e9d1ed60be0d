"""The launcher with the real program: restart, kill, a taken port, a dead owner."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from opencode_reactor.errors import Unreachable
from opencode_reactor.opencode.server import OpenCodeServer
from opencode_reactor.testing import LiveServer

OWNER = """
import sys, time
from pathlib import Path
from opencode_reactor.opencode.binary import Binary
from opencode_reactor.opencode.server import OpenCodeServer
with OpenCodeServer(Binary(Path(sys.argv[1]), sys.argv[2]), home=Path(sys.argv[3])) as server:
    print(server.url, flush=True)
    time.sleep(60)
"""


def _get(live: LiveServer, path: str) -> Any:
    answer = httpx.get(
        live.url + path,
        params={"directory": str(live.directory)},
        auth=(live.login.username, live.login.password),
        timeout=5.0,
        trust_env=False,
    )
    return answer.raise_for_status().json()


def _create(live: LiveServer) -> str:
    answer = httpx.post(
        f"{live.url}/session",
        params={"directory": str(live.directory)},
        json={"title": "kept"},
        auth=(live.login.username, live.login.password),
        timeout=10.0,
        trust_env=False,
    )
    return answer.raise_for_status().json()["id"]


async def test_the_server_is_of_the_version_that_was_asked_for(live: LiveServer) -> None:
    assert _get(live, "/global/health")["version"] == live.version


def test_it_refuses_who_does_not_know_the_password(live: LiveServer) -> None:
    answer = httpx.get(f"{live.url}/global/health", auth=("opencode", "guess"), timeout=5.0, trust_env=False)
    assert answer.status_code == 401


async def test_a_session_outlives_a_kill_and_a_restart(own_live: LiveServer) -> None:
    session = _create(own_live)
    await own_live.kill9()
    with pytest.raises(httpx.ConnectError):
        _get(own_live, "/global/health")
    await own_live.restart()
    assert _get(own_live, f"/session/{session}")["title"] == "kept"
    await own_live.restart()
    assert [found["id"] for found in _get(own_live, "/session")] == [session]


async def test_a_taken_port_is_told_as_such(live: LiveServer) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        server = OpenCodeServer(live.server.binary, port=holder.getsockname()[1])
        with pytest.raises(Unreachable, match="is taken"), server:
            pass


async def test_nothing_is_fetched_from_the_network(live: LiveServer) -> None:
    _create(live)
    folder = live.server.home / "config" / "opencode"
    assert not list((folder / "node_modules").iterdir())
    # Where 1.1.65 and 1.18.33 would keep what they fetched.
    assert not list(live.server.home.glob(".npm")) + list(live.server.home.glob("cache/.bun"))


def test_the_server_goes_when_its_owner_is_killed(live: LiveServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", OWNER, str(live.server.binary.path), live.version, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        assert httpx.get(f"{url}/global/health", timeout=5.0, trust_env=False).status_code == 401
        owner.send_signal(signal.SIGKILL)
    assert _closes(url)


def _closes(url: str) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            httpx.get(f"{url}/global/health", timeout=1.0, trust_env=False)
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    return False

"""The launcher, against small programs that stand where `opencode` would: for what the real one won't do."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from opencode_reactor.errors import Unreachable
from opencode_reactor.opencode.binary import Binary
from opencode_reactor.opencode.server import OpenCodeServer

SERVES = """
import base64, http.server, json, os, signal, sys
{prelude}
port = int(sys.argv[sys.argv.index("--port") + 1])
login = os.environ["OPENCODE_SERVER_USERNAME"] + ":" + os.environ["OPENCODE_SERVER_PASSWORD"]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.headers.get("authorization") == "Basic " + base64.b64encode(login.encode()).decode()
        told = json.dumps({{"args": sys.argv[1:], "environment": dict(os.environ), "pid": os.getpid()}})
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(told.encode())
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", port), Handler)
print(f"opencode server listening on http://127.0.0.1:{{port}}", flush=True)
server.serve_forever()
"""


def _program(folder: Path, text: str) -> Binary:
    (folder / "program.py").write_text(text)
    path = folder / "opencode"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/program.py" "$@"\n')
    path.chmod(0o755)
    return Binary(path, "1.18.33")


def _serving(folder: Path, prelude: str = "") -> Binary:
    return _program(folder, SERVES.format(prelude=prelude))


def _told(server: OpenCodeServer) -> dict[str, Any]:
    login = (server.login.username, server.login.password)
    return httpx.get(server.url, auth=login, trust_env=False).raise_for_status().json()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie whose parent is gone is not running either; who reaps it is not our concern.
    return " Z " not in Path(f"/proc/{pid}/stat").read_text() if Path("/proc/self").exists() else True


def _gone(pid: int) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if not _lives(pid):
            return True
        time.sleep(0.01)
    return False


def _noted(note: Path) -> int:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if note.exists() and note.read_text().endswith("."):
            return int(note.read_text().rstrip("."))
        time.sleep(0.01)
    raise TimeoutError


async def test_the_server_runs_inside_and_is_gone_outside(tmp_path: Path) -> None:
    async with OpenCodeServer(_serving(tmp_path)) as server:
        told = _told(server)
        assert told["pid"] == server.pid
        home = server.home
        assert home.is_dir()
    assert server.pid is None
    assert not home.exists()
    with pytest.raises(httpx.ConnectError):
        _told(server)


def test_the_password_is_in_the_environment_and_not_on_the_command_line(tmp_path: Path) -> None:
    with OpenCodeServer(_serving(tmp_path)) as server:
        told = _told(server)
        assert told["args"] == ["serve", "--hostname", "127.0.0.1", "--port", str(server.port)]
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert server.login.password not in shown
        assert server.login.password not in repr(server.login)


def test_the_persons_environment_stays_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    monkeypatch.setenv("OPENCODE_CONFIG", "/somewhere")
    with OpenCodeServer(
        _serving(tmp_path), config={"share": "disabled"}, environment={"EXTRA": "1"}
    ) as server:
        environment = _told(server)["environment"]
        assert environment["HOME"] == str(server.home)
        assert environment["XDG_DATA_HOME"].startswith(str(server.home))
        assert environment["OPENCODE_CONFIG_CONTENT"] == '{"share": "disabled"}'
        assert environment["EXTRA"] == "1"
        assert not {"ANTHROPIC_API_KEY", "OPENCODE_CONFIG"} & environment.keys()


def test_a_restart_keeps_address_login_and_home(tmp_path: Path) -> None:
    with OpenCodeServer(_serving(tmp_path)) as server:
        before = (server.url, server.login, server.home, server.pid)
        (server.home / "kept").touch()
        server.restart()
        assert (server.url, server.login, server.home) == before[:3]
        assert server.pid not in {None, before[3]}
        assert (server.home / "kept").exists()
        assert _told(server)["pid"] == server.pid


def test_a_killed_server_can_be_started_again(tmp_path: Path) -> None:
    with OpenCodeServer(_serving(tmp_path)) as server:
        pid = server.pid
        server.kill9()
        assert server.pid is None
        with pytest.raises(httpx.ConnectError):
            _told(server)
        server.kill9()  # twice is harmless
        server.start()
        assert server.pid not in {None, pid}


def test_no_plugin_package_is_fetched_for_a_new_home(tmp_path: Path) -> None:
    with OpenCodeServer(_serving(tmp_path)) as server:
        folder = server.home / "config" / "opencode"
        wanted = {"@opencode-ai/plugin": "1.18.33"}
        assert (folder / "node_modules").is_dir()
        assert json.loads((folder / "package.json").read_text())["dependencies"] == wanted
        lock = json.loads((folder / "package-lock.json").read_text())
        assert lock["packages"][""]["dependencies"] == wanted


def test_a_configuration_folder_of_the_persons_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config" / "opencode").mkdir(parents=True)
    with OpenCodeServer(_serving(tmp_path), home=tmp_path):
        assert not list((tmp_path / "config" / "opencode").iterdir())


def test_a_given_home_is_left_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with OpenCodeServer(_serving(tmp_path), home=home) as server:
        assert server.home == home
    assert home.is_dir()


def test_a_server_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    binary = _serving(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with OpenCodeServer(binary) as server:
        pid = server.pid
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert pid is not None
    assert _gone(pid)


def test_what_the_server_started_goes_with_it(tmp_path: Path) -> None:
    prelude = (
        "import subprocess; child = subprocess.Popen(['sleep', '60']); open(sys.path[0] + '/child', 'w')"
        ".write(str(child.pid))"
    )
    with OpenCodeServer(_serving(tmp_path, prelude)):
        child = int((tmp_path / "child").read_text())
        assert _lives(child)
    assert _gone(child)


def test_when_its_owner_is_killed_the_server_goes_too(tmp_path: Path) -> None:
    owner_text = (
        "import sys, time; from pathlib import Path\n"
        "from opencode_reactor.opencode.binary import Binary\n"
        "from opencode_reactor.opencode.server import OpenCodeServer\n"
        "with OpenCodeServer(Binary(Path(sys.argv[1]), '1.18.33'), home=Path(sys.argv[2])) as server:\n"
        "    print(server.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", owner_text, str(_serving(tmp_path).path), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert _lives(pid)
        owner.send_signal(signal.SIGKILL)
    assert _gone(pid)


def test_a_server_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    binary = _program(tmp_path, "print('bad config'); raise SystemExit(3)")
    with pytest.raises(Unreachable, match="ended at once, exit code 3") as caught, OpenCodeServer(binary):
        pass
    assert "bad config" in caught.value.remedy


def test_a_server_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    binary = _program(tmp_path, "import time; print('still loading', flush=True); time.sleep(60)")
    server = OpenCodeServer(binary, deadline=0.5)
    with pytest.raises(Unreachable, match="did not start in time") as caught:
        server.__enter__()
    assert "still loading" in caught.value.remedy
    assert server.pid is None
    assert not server.home.exists()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    text = "import time; print('opencode server listening on x', flush=True); time.sleep(60)"
    server = OpenCodeServer(_program(tmp_path, text), deadline=0.5)
    with pytest.raises(Unreachable, match=r"did not answer within 0\.5 s"), server:
        pass


def test_a_binary_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(Unreachable, match="exit code 127") as caught,
        OpenCodeServer(Binary(tmp_path / "no", "1.18.33")),
    ):
        pass
    assert "not found" in caught.value.remedy


def test_a_taken_port_of_ones_own_choice_is_told(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port: int = holder.getsockname()[1]
        server = OpenCodeServer(_serving(tmp_path), port=port)
        with pytest.raises(Unreachable, match=f"port {port} is taken"), server:
            pass


def test_a_port_taken_in_between_is_replaced(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        server = OpenCodeServer(_serving(tmp_path))
        server.port = holder.getsockname()[1]
        with server:
            assert server.port != holder.getsockname()[1]
            assert _told(server)["pid"] == server.pid


async def test_a_cancelled_start_leaves_nothing_behind(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    text = (
        f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid()) + '.'); "
        "print('loading', flush=True); time.sleep(60)"
    )
    server = OpenCodeServer(_program(tmp_path, text))

    async def enter() -> None:
        async with server:
            pytest.fail("it never gets ready")

    async with anyio.create_task_group() as group:
        group.start_soon(enter)
        await anyio.to_thread.run_sync(_noted, note)
        group.cancel_scope.cancel()
    assert server.pid is None
    assert _gone(_noted(note))
    assert not server.home.exists()


def test_only_the_last_lines_are_kept(tmp_path: Path) -> None:
    with OpenCodeServer(_serving(tmp_path, "print('\\n'.join(f'line {n}' for n in range(500)))")) as server:
        lines = server.output.splitlines()
    assert len(lines) == 40
    assert lines[-2] == "line 499"

"""A real `opencode serve` that this process owns: own home, own port, own password, gone when we are gone.

POSIX only. What a child of the server detaches from its group (1.1.65's and 1.18.33's `bash` tool does) is
the server's own to end; after a kill -9 it may live on, as it does without us.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import anyio
import httpx

from ..errors import Unreachable
from ..model.sessions import Json
from .binary import Binary
from .transport import Login

_READY = "opencode server listening on"
_GRACE = 2.0  # seconds; some versions ignore SIGTERM while they install plugins in the background
_PROBE = 2.0  # seconds; a request in the first moments may never be answered
_KEPT_LINES = 40
_PORTS = 3  # a free port may be taken by another between our look and the server's start

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

# The shell becomes the server (same process id), beside a guard in its group that holds the reading end of a
# pipe. When we die, in whatever way, the pipe closes and the guard kills the group. The guard lets go of the
# server's output, else its end would never be seen, and outlives it so that the group's id stays ours.
_LAUNCH = """
exec 3<&0 </dev/null
(trap '' INT TERM HUP; read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 &
exec "$@" 3<&-
"""

# Handed on as they are. Nothing else is: an API key in the owner's environment would add a provider.
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TMPDIR", "TZ", "USER", "LOGNAME", "SHELL")

_QUIET = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
}


class OpenCodeServer(AbstractAsyncContextManager["OpenCodeServer"], AbstractContextManager["OpenCodeServer"]):
    """Starts the server on entry, ends it on exit. Works with `async with` and with plain `with`.

    `config` becomes OPENCODE_CONFIG_CONTENT. `home` keeps the server's files (default: a temporary folder,
    removed at the end). `environment` is added to the little that is handed on. `deadline` is how long a
    start may take, in seconds. The password travels in the environment, never on the command line.
    """

    def __init__(
        self,
        binary: Binary,
        *,
        config: Mapping[str, Json] | None = None,
        home: Path | None = None,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        deadline: float = 30.0,
    ) -> None:
        self.binary = binary
        self.login = Login(password=secrets.token_urlsafe(24))
        self.config = dict(config or {})
        self.deadline = deadline
        self.port = port or _free_port()
        self._port_is_fixed = port is not None
        self._lock = threading.Lock()
        self._removed = False
        self._environment = dict(environment or {})
        self._own_home = home is None
        # Short: some of the server's sockets live below it, and their paths may have 104 bytes.
        self.home = home or Path(tempfile.mkdtemp(prefix="oc-"))
        self._running: _Running | None = None

    async def __aenter__(self) -> Self:
        try:
            await anyio.to_thread.run_sync(self.start, abandon_on_cancel=True)
        except BaseException:
            self._remove()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._remove)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def url(self) -> str:
        """The base URL, the same before and after a restart."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process and group id; None while it does not run."""
        return self._running.child.pid if self._running and self._running.child.poll() is None else None

    @property
    def output(self) -> str:
        """The last lines the server wrote."""
        return self._running.output if self._running else ""

    def start(self) -> None:
        """Start and wait until it answers; blocks. Raises Unreachable with the server's last words."""
        for tries in range(1, _PORTS + 1):
            try:
                self._start()
            except _PortTaken as error:
                if self._port_is_fixed or tries == _PORTS:
                    msg = f"port {self.port} is taken: opencode serve could not start"
                    raise Unreachable(
                        msg, remedy="End what listens there, or choose another port."
                    ) from error
                self.port = _free_port()
            else:
                # What was reached once stays the address, whatever happens to this process.
                self._port_is_fixed = True
                return

    def _start(self) -> None:
        until = time.monotonic() + self.deadline
        with self._lock:
            if self._removed:
                msg = "the server was closed while it started"
                raise Unreachable(msg)
            _seed_plugins(self.home / "config" / "opencode", self.binary.version)
            self._running = running = _Running(self._command(), self._environ(), self.home)
        try:
            running.wait_ready(until)
            self._probe(until)
        except BaseException as error:
            running.kill()
            # The server's own words for it differ with its version and may be just "Unexpected error".
            if isinstance(error, Unreachable) and _is_taken(self.port):
                raise _PortTaken from error
            raise

    def terminate(self) -> None:
        """End it as an operator would: SIGTERM, then SIGKILL for whatever is left of its group."""
        if self._running:
            self._running.terminate()

    def kill9(self) -> None:
        """SIGKILL to the whole group: the server gets no chance to write anything."""
        if self._running:
            self._running.kill()

    def restart(self) -> None:
        """End it if it still runs, and start it again on the same port, home and password; blocks."""
        self.terminate()
        self.start()

    def _command(self) -> list[str]:
        serve = [str(self.binary.path), "serve", "--hostname", "127.0.0.1", "--port", str(self.port)]
        return ["/bin/sh", "-c", _LAUNCH, "opencode", *serve]

    def _environ(self) -> dict[str, str]:
        home = self.home
        return {
            **{name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ},
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_STATE_HOME": str(home / "state"),
            **_QUIET,
            "OPENCODE_CONFIG_CONTENT": json.dumps(self.config),
            "OPENCODE_SERVER_USERNAME": self.login.username,
            "OPENCODE_SERVER_PASSWORD": self.login.password,
            **self._environment,
        }

    def _probe(self, until: float) -> None:
        """Ask for its health. The line it printed says the routes are there; this proves the login works."""
        problem: Exception | None = None
        while time.monotonic() < until:
            try:
                answer = httpx.get(
                    f"{self.url}/global/health",
                    auth=(self.login.username, self.login.password),
                    timeout=_PROBE,
                    trust_env=False,
                )
                answer.raise_for_status()
            except httpx.HTTPError as error:
                problem = error
            else:
                return
        msg = f"opencode serve started on {self.url} and did not answer within {self.deadline:g} s"
        raise Unreachable(msg, remedy=self.output) from problem

    def _remove(self) -> None:
        with self._lock:
            self._removed = True
        self.terminate()
        if self._own_home:
            shutil.rmtree(self.home, ignore_errors=True)


class _PortTaken(Exception):
    """The server found its port in use."""


class _Running:
    """One started process group and what it wrote."""

    def __init__(self, command: list[str], environment: Mapping[str, str], home: Path) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._news = threading.Condition()
        self._ready = False
        self._ending = threading.Lock()
        self._lifeline: int | None
        reading, self._lifeline = os.pipe()
        try:
            self.child = subprocess.Popen(  # noqa: S603 - the binary is the caller's choice
                command,
                cwd=home,
                env=dict(environment),
                stdin=reading,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._lifeline)
            msg = f"cannot start {command[4]}: {error.strerror}"
            raise Unreachable(msg) from error
        finally:
            os.close(reading)
        assert self.child.stdout is not None
        self._pump_thread = threading.Thread(target=self._pump, args=(self.child.stdout,), daemon=True)
        self._pump_thread.start()

    @property
    def output(self) -> str:
        """The last lines it wrote."""
        with self._news:
            return "\n".join(self._lines)

    def wait_ready(self, until: float) -> None:
        """Wait for the line that says its routes are there."""
        with self._news:
            while not self._ready:
                if time.monotonic() >= until:
                    msg = "opencode serve did not start in time"
                    raise Unreachable(msg, remedy=self.output)
                if self.child.poll() is not None and not self._pump_thread.is_alive():
                    msg = f"opencode serve ended at once, exit code {self.child.returncode}"
                    raise Unreachable(msg, remedy=self.output)
                # The end of the process is no event of the condition, hence the short wait.
                self._news.wait(0.05)

    def terminate(self) -> None:
        """SIGTERM to the server alone, then the same as `kill`."""
        with suppress(ProcessLookupError):
            self.child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(_GRACE)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the group, guard included. Harmless when all are gone."""
        with self._ending:
            if self._lifeline is None:
                return
            # The guard lives, so the group's id cannot have gone to strangers.
            with suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
            os.close(self._lifeline)
            self._lifeline = None

    def _pump(self, stdout: IO[bytes]) -> None:
        # Read to the end, always: a full pipe would stop the server.
        with stdout:
            for line in stdout:
                text = _COLOURS.sub("", line.decode(errors="replace").rstrip())
                with self._news:
                    self._lines.append(text)
                    self._ready = self._ready or text.startswith(_READY)
                    self._news.notify_all()


def _seed_plugins(folder: Path, version: str) -> None:
    """Let the server believe that its plugin package is installed, unless the folder was there before.

    Else it fetches it from the npm registry in the background, on every new home: not offline, a second of
    processor time, and on some versions deaf to SIGTERM meanwhile. 1.1.65 looks into package.json, 1.18.33
    into the lock file, both for a node_modules folder.
    """
    if folder.exists():
        return
    (folder / "node_modules").mkdir(parents=True)
    wanted = {"dependencies": {"@opencode-ai/plugin": version}}
    (folder / "package.json").write_text(json.dumps(wanted), encoding="utf-8")
    lock = {"lockfileVersion": 3, "packages": {"": wanted}}
    (folder / "package-lock.json").write_text(json.dumps(lock), encoding="utf-8")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        # Else what is left of closed connections would count as well.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def _free_port() -> int:
    # `--port 0` would not do: the server then prefers 4096, where the person's own may want to be.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

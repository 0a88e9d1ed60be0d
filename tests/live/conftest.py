"""Real OpenCode servers for the live tests: each test runs on the newest and on the oldest version.

`live` shares one server per version and gives each test its own project and model. `own_live` starts a server
for the one test that kills or restarts it. Everything is synchronous and serves in threads of its own, so
that no test's event loop, and no blocking call in a test, can stop it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from opencode_reactor.errors import ConfigError
from opencode_reactor.opencode.binary import NEWEST, OLDEST, Binary, find_binary
from opencode_reactor.opencode.server import OpenCodeServer
from opencode_reactor.testing import LiveServer, ScriptedModel, make_project

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(params=[NEWEST, OLDEST])
def version(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Callable[[str], OpenCodeServer]]:
    """The server of a version, started when it is first asked for and again when a test left it dead."""
    started: dict[str, OpenCodeServer] = {}
    with ExitStack() as stack:

        def of_version(version: str) -> OpenCodeServer:
            if version not in started:
                started[version] = stack.enter_context(OpenCodeServer(_binary(version)))
            server = started[version]
            if server.pid is None:
                server.start()
            return server

        yield of_version


@pytest.fixture
def live(
    version: str, shared_server: Callable[[str], OpenCodeServer], tmp_path: Path
) -> Iterator[LiveServer]:
    server = shared_server(version)
    with ScriptedModel() as model:
        directory = make_project(tmp_path / "project", model.opencode_config())
        yield LiveServer(version, server, model, directory)
        _quieten(server, directory)


@pytest.fixture
def own_live(version: str, tmp_path: Path) -> Iterator[LiveServer]:
    with ScriptedModel() as model, OpenCodeServer(_binary(version)) as server:
        directory = make_project(tmp_path / "project", model.opencode_config())
        yield LiveServer(version, server, model, directory)


def _binary(version: str) -> Binary:
    try:
        return find_binary(version, start=HERE)
    except ConfigError:
        # Never skipped in silence: a green run without the real server would prove nothing.
        pytest.fail(f"opencode {version} is not in .opencode-bin: run `make test`", pytrace=False)


def _quieten(server: OpenCodeServer, directory: Path) -> None:
    """Stop what a test left running: before 1.18 a failing turn is retried for ever."""
    if server.pid is None:
        return
    with (
        suppress(httpx.TransportError),
        httpx.Client(
            base_url=server.url,
            auth=(server.login.username, server.login.password),
            params={"directory": str(directory)},
            timeout=5.0,
            trust_env=False,
        ) as client,
    ):
        for session in client.get("/session/status").json():
            client.post(f"/session/{session}/abort")
        client.post("/instance/dispose")

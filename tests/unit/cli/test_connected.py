from __future__ import annotations

import pytest

from opencode_reactor.cli.connected import client_of
from opencode_reactor.settings import Secret, ServerSettings, normal_url


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:4096/",
        "HTTP://LocalHost",
        "https://Host.example:443/open/code/",
        "http://host:80//",
        "http://[::1]:4096",
        "http://h\u00f6st.example",
        "http://host/a%20b",
    ],
)
def test_settings_and_client_name_a_server_alike(url: str) -> None:
    """Runs are kept under the one name and served under the other."""
    named = normal_url(url)
    assert client_of(ServerSettings("a", named)).url == named
    assert client_of(ServerSettings("a", url)).url == named


def test_a_client_hides_its_password() -> None:
    client = client_of(ServerSettings("a", "http://a", "me", Secret("hidden")))
    assert "hidden" not in repr(client)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError, validate

from opencode_reactor.errors import ConfigError
from opencode_reactor.settings import (
    LogSettings,
    Secret,
    Settings,
    duration,
    load_settings,
    normal_url,
)
from opencode_reactor.settings.keys import config_schema

Written = Callable[..., Settings]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Loads a reactor.toml with the given text, under a home without any other."""

    def load(text: str, **environ: str) -> Settings:
        (tmp_path / "reactor.toml").write_text(text, encoding="utf-8")
        return load_settings(
            None, environ={"XDG_CONFIG_HOME": str(tmp_path / "none"), **environ}, cwd=tmp_path
        )

    return load


def refusal(written: Written, text: str, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        written(text, **environ)
    return caught.value


def test_without_a_file_one_local_server_is_known_with_the_login_from_the_environment(tmp_path: Path) -> None:
    environ = {
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_STATE_HOME": "/state",
        "OPENCODE_SERVER_PASSWORD": "word",
    }
    settings = load_settings(None, environ=environ, cwd=tmp_path)
    (server,) = settings.servers
    assert (server.url, server.username, server.password) == (
        "http://127.0.0.1:4096",
        "opencode",
        Secret("word"),
    )
    assert settings.store == "sqlite:///state/opencode-reactor/reactor.db"
    assert settings.handlers == ()
    assert settings.ask_expiry is None
    assert settings.source is None


def test_without_any_variable_the_folders_are_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load_settings(None, environ={}, cwd=tmp_path)
    assert settings.store == f"sqlite://{tmp_path}/.local/state/opencode-reactor/reactor.db"
    file = tmp_path / ".config" / "opencode-reactor" / "reactor.toml"
    file.parent.mkdir(parents=True)
    file.write_text("concurrency = 3")
    assert load_settings(None, environ={}, cwd=tmp_path).source == file


@pytest.mark.parametrize(
    ("platform", "folder"), [("darwin", "Library/Application Support"), ("win32", "AppData/Local")]
)
def test_other_systems_have_one_folder_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, folder: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", platform)
    file = tmp_path / folder / "opencode-reactor" / "reactor.toml"
    file.parent.mkdir(parents=True)
    file.write_text("concurrency = 3")
    settings = load_settings(None, environ={}, cwd=tmp_path)
    assert settings.source == file
    assert settings.store == f"sqlite://{file.parent}/reactor.db"
    told = load_settings(None, environ={"LOCALAPPDATA": str(tmp_path / "local")}, cwd=tmp_path)
    assert (told.source == file) == (platform == "darwin")


def test_default_handler_folders_are_those_that_exist(tmp_path: Path) -> None:
    (tmp_path / ".opencode" / "handlers").mkdir(parents=True)
    settings = load_settings(None, environ={"XDG_CONFIG_HOME": str(tmp_path)}, cwd=tmp_path)
    assert settings.handlers == (tmp_path / ".opencode" / "handlers",)


@pytest.mark.parametrize("missing", range(5))
def test_the_first_file_found_is_in_force(tmp_path: Path, missing: int) -> None:
    named, variable = tmp_path / "named.toml", tmp_path / "variable.toml"
    places = [
        named,
        variable,
        tmp_path / "reactor.toml",
        tmp_path / ".opencode" / "reactor.toml",
        tmp_path / "home" / "opencode-reactor" / "reactor.toml",
    ]
    for number, place in enumerate(places[missing:], missing):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"concurrency = {number + 1}")
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    if missing < 2:
        environ["REACTOR_CONFIG"] = str(variable)
    settings = load_settings(named if missing == 0 else None, environ=environ, cwd=tmp_path)
    assert settings.concurrency == missing + 1
    assert settings.source == places[missing]


@pytest.mark.parametrize("how", ["--config", "$REACTOR_CONFIG"])
def test_a_named_file_that_does_not_exist_is_an_error(tmp_path: Path, how: str) -> None:
    gone = tmp_path / "gone.toml"
    with pytest.raises(ConfigError, match="does not exist") as caught:
        load_settings(
            gone if how == "--config" else None,
            environ={} if how == "--config" else {"REACTOR_CONFIG": str(gone)},
            cwd=tmp_path,
        )
    assert how in caught.value.message


def test_every_key_is_read(written: Written, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    settings = written(
        """
store = "state/reactor.db"
handlers = ["mine"]
questions = "reject"
ask_expiry = "1h30m"
concurrency = 3
log = {level = "debug", format = "json"}
[servers.home]
url = "http://127.0.0.1:4096/"
[servers.work]
url = "https://Work.Example:443/opencode/"
username = "me"
password = "{env:WORD}"
directories = ["/srv/app/"]
[permissions]
"*" = "ask"
read = "allow"
[permissions.bash]
"git *" = "allow"
"git push*" = "ask"
""",
        WORD="hidden",
    )
    home, work = settings.servers
    assert (home.name, home.url) == ("home", "http://127.0.0.1:4096")
    assert (work.url, work.username, work.directories) == (
        "https://work.example/opencode",
        "me",
        ("/srv/app",),
    )
    assert work.password is not None
    assert work.password.reveal() == "hidden"
    assert settings.store == str(tmp_path / "state/reactor.db")
    assert settings.handlers == (tmp_path / "mine",)
    assert list(settings.permissions) == ["*", "read", "bash"]
    assert settings.permissions["bash"] == {"git *": "allow", "git push*": "ask"}
    assert (settings.questions, settings.ask_expiry, settings.concurrency) == ("reject", 5_400_000, 3)
    assert settings.log == LogSettings("debug", "json")


def test_a_secret_may_come_from_a_file_beside_the_configuration(written: Written, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("from a file\n")
    settings = written('[servers.a]\nurl = "http://a"\npassword = "{file:word}"')
    assert settings.servers[0].password == Secret("from a file")


def test_a_secret_is_shown_by_no_repr(written: Written) -> None:
    settings = written('[servers.a]\nurl = "http://a"\npassword = "{env:WORD}"', WORD="hidden")
    assert "hidden" not in repr(settings)
    assert "hidden" not in f"{settings.servers[0].password}"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('\nstroe = "x"', 2, "did you mean store?"),
        ('[servers.a]\nurl = "http://a"\nuser-name = "b"', 3, "did you mean username?"),
        ('[servers.a]\nurl = "http://a"\n[log]\nlevle = "info"', 4, "did you mean level?"),
        ('[log]\nlevel = "inof"', 2, "did you mean info?"),
        ("nonsense = 1", 1, "known here: servers, store"),
        ("concurrency = 0", 1, "concurrency must be a whole number from 1"),
        ("concurrency = true", 1, "concurrency must be a whole number from 1"),
        ("store = 5", 1, "store must be a string"),
        ('servers = ["http://a"]', 1, "write [servers.NAME]"),
        ('[servers.a]\nusername = "x"', 1, "servers.a must be a table with a url"),
        ('[servers.a]\nurl = "ftp://a"', 2, "'ftp://a' is no server's URL"),
        ('[servers.a]\nurl = "http://a:99999"', 2, "no valid port"),
        ('ask_expiry = "soon"', 1, "ask_expiry must be a duration"),
        ("ask_expiry = 5", 1, "ask_expiry must be a string"),
        ('handlers = "mine"', 1, "handlers must be a list of paths"),
        ('handlers = [\n  "gone",\n]', 1, "gone does not exist"),
        ('[servers.a]\nurl = "http://a"\ndirectories = ["here"]', 3, "absolute paths"),
        ("[permissions]\nread = 1", 2, "permissions.read must be allow"),
        ("a = \n", 1, "this is not TOML: Invalid value"),
        ('store = "x"\nstore = "y"', 2, "this is not TOML"),
        ('[servers.a]\nurl = "http://a"\npassword = "{env:NOT_SET}"', 3, "the environment has no NOT_SET"),
        ('[servers.a]\nurl = "http://a"\npassword = "{file:gone}"', 3, "gone cannot be read: No such file"),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_remedy(
    written: Written, tmp_path: Path, text: str, line: int, said: str
) -> None:
    error = refusal(written, text)
    assert error.place == f"{tmp_path / 'reactor.toml'}:{line}"
    assert said in f"{error.message} {error.remedy}"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "reactor.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_settings(None, environ={}, cwd=tmp_path)


@pytest.mark.parametrize("url", ["http://me:hidden@a", "http://hidden@a", "ftp://hidden:@a"])
def test_a_url_with_credentials_is_refused_without_quoting_them(written: Written, url: str) -> None:
    error = refusal(written, f'[servers.a]\nurl = "{url}"')
    assert "hidden" not in str(error)
    assert "username and password under [servers.NAME]" in error.remedy


def test_what_a_variable_turned_into_is_in_no_complaint(written: Written) -> None:
    for text in ('[servers.a]\nurl = "{env:WORD}"', 'ask_expiry = "{env:WORD}"', 'questions = "{env:WORD}"'):
        assert "hidden" not in str(refusal(written, text, WORD="hidden word"))


def test_a_server_is_found_by_name_or_by_url_in_any_spelling(written: Written) -> None:
    settings = written(
        '[servers.a]\nurl = "http://A.example:80"\nusername = "me"\n[servers.b]\nurl = "http://b"'
    )
    assert settings.server(None, {}).name == "a"
    assert settings.server("b", {}).url == "http://b"
    assert settings.server("http://a.example/", {}).username == "me"


def test_a_url_nobody_configured_gets_the_login_from_the_environment(written: Written) -> None:
    server = written("").server(
        "http://c:1", {"OPENCODE_SERVER_USERNAME": "u", "OPENCODE_SERVER_PASSWORD": "p"}
    )
    assert (server.url, server.username, server.password) == ("http://c:1", "u", Secret("p"))


def test_an_unknown_server_name_is_refused_with_the_known_ones(written: Written) -> None:
    settings = written('[servers.a]\nurl = "http://a"')
    with pytest.raises(ConfigError, match="no server is named 'x'") as caught:
        settings.server("x", {})
    assert "name one of a" in caught.value.remedy


@pytest.mark.parametrize(
    ("written_as", "normal"),
    [
        ("http://HOST/", "http://host"),
        ("https://host:443/a/b//", "https://host/a/b"),
        ("http://[::1]:4096", "http://[::1]:4096"),
        ("http://127.0.0.1:4096/", "http://127.0.0.1:4096"),
    ],
)
def test_a_server_has_one_spelling(written_as: str, normal: str) -> None:
    assert normal_url(written_as) == normal


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("90s", 90_000),
        ("20m", 1_200_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        ("500ms", 500),
        ("1.5s", 1500),
    ],
)
def test_durations_are_read(text: str, milliseconds: int) -> None:
    assert duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "5 s", "-5s", "5x", "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        duration(text)


def valid(instance: Any) -> bool:
    try:
        validate(instance, config_schema())
    except ValidationError:
        return False
    return True


def test_the_schema_takes_what_is_taken_and_refuses_what_is_refused() -> None:
    Draft202012Validator.check_schema(config_schema())
    assert valid(
        {"servers": {"a": {"url": "http://a"}}, "permissions": {"*": "ask", "bash": {"git *": "allow"}}}
    )
    assert not valid({"stroe": ""})
    assert not valid({"servers": {"a": {}}})
    assert not valid({"permissions": {"*": "perhaps"}})
    assert not valid({"concurrency": 0})

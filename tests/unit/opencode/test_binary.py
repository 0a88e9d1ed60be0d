import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from opencode_reactor.errors import ConfigError
from opencode_reactor.opencode.binary import (
    NEWEST,
    OLDEST,
    Machine,
    find_binary,
    install_binary,
    is_supported,
    main,
    packages,
    version_of,
)

LINUX = Machine("linux", "x64", musl=False, avx2=True)


@pytest.fixture(autouse=True)
def bare_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No opencode and no npm but those a test puts there."""
    path = tmp_path / "path"
    path.mkdir()
    for tool in ("sh", "cat", "mkdir", "chmod", "sleep", "cp", "rm", "ln"):
        found = shutil.which(tool)
        assert found
        (path / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.delenv("REACTOR_OPENCODE", raising=False)
    return path


def _executable(path: Path, version: str, *, exit_code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


def _npm(folder: Path, body: str) -> None:
    """An `npm` that is told what to do: `$3` is the folder of `--prefix`."""
    (folder / "npm").write_text(f'#!/bin/sh\nprefix="$3"\n{body}\n')
    (folder / "npm").chmod(0o755)


def _delivers(*names: str, version: str = NEWEST) -> str:
    lines = [
        f'mkdir -p "$prefix/node_modules/{name}/bin"\n'
        f"printf '#!/bin/sh\\necho {version}\\n' > \"$prefix/node_modules/{name}/bin/opencode\"\n"
        f'chmod +x "$prefix/node_modules/{name}/bin/opencode"'
        for name in names
    ]
    return "\n".join(lines)


def _everywhere() -> str:
    """Every platform's package, so that the test passes on each."""
    processors, systems = ("x64", "arm64"), ("linux", "darwin")
    return _delivers(*(f"opencode-{system}-{processor}" for system in systems for processor in processors))


def test_the_named_executable_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _executable(tmp_path / ".opencode-bin" / NEWEST / "opencode", NEWEST)
    named = _executable(tmp_path / "mine", "1.15.13")
    monkeypatch.setenv("REACTOR_OPENCODE", str(named))
    found = find_binary(start=tmp_path)
    assert (found.path, found.version) == (named, "1.15.13")


@pytest.mark.parametrize("version", ["0.9.0", "1.0.185", "2.0.1"])
def test_a_named_executable_of_an_unsupported_version_is_refused(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REACTOR_OPENCODE", str(_executable(tmp_path / "mine", version)))
    with pytest.raises(ConfigError, match=f"names opencode {version}") as caught:
        find_binary(start=tmp_path)
    assert "Unset REACTOR_OPENCODE" in caught.value.remedy


def test_a_named_executable_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REACTOR_OPENCODE", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="does not run"):
        find_binary(start=tmp_path)
    monkeypatch.setenv("REACTOR_OPENCODE", str(_executable(tmp_path / "other", "hello world")))
    with pytest.raises(ConfigError, match="is no opencode"):
        find_binary(start=tmp_path)


def test_fetched_ones_are_found_from_folders_below_and_the_newest_first(tmp_path: Path) -> None:
    for version in ("1.9.0", NEWEST, OLDEST):
        _executable(tmp_path / ".opencode-bin" / version / "opencode", version)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_binary(start=below).version == NEWEST
    assert find_binary(OLDEST, start=below).path == tmp_path / ".opencode-bin" / OLDEST / "opencode"


def test_what_is_no_version_in_the_folder_is_passed_by(tmp_path: Path) -> None:
    _executable(tmp_path / ".opencode-bin" / ".fetching-x" / "opencode", NEWEST)
    _executable(tmp_path / ".opencode-bin" / "2.1.0" / "opencode", "2.1.0")
    with pytest.raises(ConfigError, match="no opencode"):
        find_binary(start=tmp_path)


def test_one_on_the_path_serves_if_its_version_does(bare_surroundings: Path, tmp_path: Path) -> None:
    _executable(bare_surroundings / "opencode", "1.16.2")
    assert find_binary(start=tmp_path).version == "1.16.2"
    with pytest.raises(ConfigError, match=rf"is opencode 1\.16\.2; {NEWEST} is needed"):
        find_binary(NEWEST, start=tmp_path)
    _executable(bare_surroundings / "opencode", "2.0.0")
    with pytest.raises(ConfigError, match=r"is opencode 2\.0\.0"):
        find_binary(start=tmp_path)


def test_where_there_is_none_the_way_to_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="or later was found") as caught:
        find_binary(start=tmp_path)
    assert "make test" in caught.value.remedy
    assert f"opencode-ai@{NEWEST}" in caught.value.remedy


def test_a_version_is_fetched_into_its_folder_and_nothing_else_is_left(
    bare_surroundings: Path, tmp_path: Path
) -> None:
    _npm(bare_surroundings, _everywhere())
    folder = tmp_path / "a folder" / "bin"
    found = install_binary(NEWEST, folder)
    assert found.path == folder / NEWEST / "opencode"
    assert version_of(found.path) == NEWEST
    assert [path.name for path in folder.iterdir()] == [NEWEST]
    assert [path.name for path in (folder / NEWEST).iterdir()] == ["opencode"]


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    path = _executable(tmp_path / NEWEST / "opencode", NEWEST)
    assert install_binary(NEWEST, tmp_path).path == path  # there is no npm here


def test_a_folder_may_be_named_from_here(
    bare_surroundings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _npm(bare_surroundings, _everywhere())
    monkeypatch.chdir(tmp_path)
    assert install_binary(NEWEST, Path("bin")).path == tmp_path / "bin" / NEWEST / "opencode"


def test_two_fetches_at_once_do_not_harm_each_other(bare_surroundings: Path, tmp_path: Path) -> None:
    _npm(bare_surroundings, _everywhere() + "\nsleep 0.2")
    found: list[Path] = []
    fetches = [
        threading.Thread(target=lambda: found.append(install_binary(NEWEST, tmp_path).path)) for _ in range(3)
    ]
    for fetch in fetches:
        fetch.start()
    for fetch in fetches:
        fetch.join()
    assert found == [tmp_path / NEWEST / "opencode"] * 3
    assert version_of(found[0]) == NEWEST
    assert not list(tmp_path.glob(".fetching-*"))


def test_without_npm_the_remedy_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="npm was not found") as caught:
        install_binary(NEWEST, tmp_path)
    assert "Install Node.js" in caught.value.remedy


def test_npms_own_words_are_kept_when_it_fails(bare_surroundings: Path, tmp_path: Path) -> None:
    complaint = "echo 'npm warn old thing' >&2; echo 'npm error network ECONNREFUSED' >&2; exit 1"
    _npm(bare_surroundings, complaint)
    with pytest.raises(ConfigError, match="ECONNREFUSED") as caught:
        install_binary(NEWEST, tmp_path)
    assert "warn" not in caught.value.message
    assert "registry" in caught.value.remedy
    assert not list(tmp_path.glob(".fetching-*"))


def test_an_executable_that_does_not_run_here_is_passed_over(bare_surroundings: Path, tmp_path: Path) -> None:
    broken = 'printf "#!/bin/sh\\nexit 132\\n" > "$prefix/node_modules/opencode-linux-x64/bin/opencode"'
    _npm(bare_surroundings, _delivers("opencode-linux-x64", "opencode-linux-x64-baseline") + "\n" + broken)
    assert version_of(install_binary(NEWEST, tmp_path, machine=LINUX).path) == NEWEST


@pytest.mark.parametrize(
    ("delivered", "complaint"),
    [("true", ""), (_delivers("opencode-linux-x64", version="1.2.3"), "opencode-linux-x64 is version 1.2.3")],
)
def test_where_nothing_runs_here_it_is_told(
    delivered: str, complaint: str, bare_surroundings: Path, tmp_path: Path
) -> None:
    _npm(bare_surroundings, delivered)
    with pytest.raises(ConfigError, match="no executable that runs on this machine") as caught:
        install_binary(NEWEST, tmp_path, machine=LINUX)
    assert caught.value.remedy == complaint
    assert not (tmp_path / NEWEST).exists()


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (LINUX, ["", "-baseline", "-musl", "-baseline-musl"]),
        (replace(LINUX, avx2=False), ["-baseline", "", "-baseline-musl", "-musl"]),
        (replace(LINUX, musl=True), ["-musl", "-baseline-musl", "", "-baseline"]),
    ],
)
def test_the_package_follows_the_machine(machine: Machine, expected: list[str]) -> None:
    assert packages(machine) == [f"opencode-linux-x64{end}" for end in expected]


def test_other_machines_have_fewer_packages() -> None:
    arm = replace(LINUX, processor="arm64", avx2=False)
    assert packages(arm) == ["opencode-linux-arm64", "opencode-linux-arm64-musl"]
    assert packages(replace(arm, system="darwin")) == ["opencode-darwin-arm64"]
    assert packages(replace(LINUX, system="darwin")) == [
        "opencode-darwin-x64",
        "opencode-darwin-x64-baseline",
    ]


def test_what_is_in_the_way_is_told_and_kept(bare_surroundings: Path, tmp_path: Path) -> None:
    _npm(bare_surroundings, _everywhere())
    (tmp_path / NEWEST).mkdir()
    (tmp_path / NEWEST / "something").write_text("mine")
    with pytest.raises(ConfigError, match=f"cannot put opencode {NEWEST} into"):
        install_binary(NEWEST, tmp_path)
    assert (tmp_path / NEWEST / "something").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot put"):
        install_binary(NEWEST, tmp_path / "file")


def test_what_is_supported_follows_the_dialects() -> None:
    assert is_supported(OLDEST)
    assert is_supported(NEWEST)
    assert not is_supported("2.0.0")
    assert not is_supported("unknown")


def test_the_version_is_asked_with_a_home_that_is_not_the_persons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "opencode"
    path.write_text('#!/bin/sh\nmkdir -p "$HOME/.local/share/opencode"\necho 1.2.3\n')
    path.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert version_of(path) == "1.2.3"
    assert not list(home.iterdir())


def test_from_make_it_fetches_and_finds(
    bare_surroundings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _npm(bare_surroundings, _everywhere())
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2  # nothing there yet: a ConfigError's exit code
    assert main([NEWEST, ".opencode-bin"]) == 0
    assert main([]) == 0
    assert main(["one"]) == 2
    assert capsys.readouterr().out.count(f"opencode {NEWEST}: ") == 2

"""The `opencode` executable: find one that is supported, or fetch a pinned one with npm.

For the Makefile: `python -m opencode_reactor.opencode.binary VERSION FOLDER` fetches, without arguments it
says which one would be used.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, ReactorError, UnsupportedVersion
from .dialect import ServerVersion, choose_dialect

NEWEST = "1.18.33"
OLDEST = "1.1.65"
FOLDER = ".opencode-bin"
VARIABLE = "REACTOR_OPENCODE"

_VERSION = re.compile(r"v?\d+\.\d+\.\d+")
_NPM_TIME = 600.0  # seconds; some hundred megabytes over a slow line
_ASK_TIME = 20.0  # seconds; the first start of a binary on a cold disk


@dataclass(frozen=True, slots=True)
class Binary:
    """An executable and the version it says it is."""

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides which build runs. Names as in the npm packages: linux, darwin; x64, arm64."""

    system: str
    processor: str
    musl: bool
    avx2: bool

    @classmethod
    def here(cls) -> Machine:
        """The machine this runs on."""
        names = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}
        processor = platform.machine().lower()
        return cls(
            system=platform.system().lower(),
            processor=names.get(processor, processor),
            musl=platform.libc_ver()[0] != "glibc" and any(Path("/lib").glob("ld-musl-*")),
            avx2=_has_avx2(),
        )


def find_binary(version: str | None = None, *, start: Path | None = None) -> Binary:
    """The executable to use: `$REACTOR_OPENCODE`, then `.opencode-bin/VERSION/`, then `opencode` on PATH.

    `.opencode-bin` is looked for in `start` (the working directory) and the folders above it. Without
    `version` any supported one will do, the newest fetched one first. Raises ConfigError with the way to
    get one.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return _named(Path(named), version)
    for path in _fetched(start or Path.cwd(), version):
        return Binary(path, path.parent.name)
    on_path = shutil.which("opencode")
    if on_path is None:
        msg = f"no opencode {version or f'{OLDEST} or later'} was found"
        raise ConfigError(msg, remedy=_remedy(version))
    said = version_of(Path(on_path))
    if not _fits(said, version):
        msg = f"{on_path} is opencode {said}; {version or f'{OLDEST} or later, below 2,'} is needed"
        raise ConfigError(msg, remedy=_remedy(version))
    return Binary(Path(on_path), said)


def install_binary(version: str, folder: Path, *, machine: Machine | None = None) -> Binary:
    """Fetch opencode-ai@VERSION into `folder`/VERSION/ with npm, unless it is there; returns it.

    Two of these at once do not harm each other: each works in a folder of its own and renames. Raises
    ConfigError where npm is missing or fails, nothing fetched runs here, or the folder cannot be written.
    """
    folder = folder.resolve()  # npm runs in another working directory
    executable = folder / version / "opencode"
    if not executable.is_file():
        try:
            _install(version, executable.parent, machine or Machine.here())
        except OSError as error:
            msg = f"cannot put opencode {version} into {folder}: {error.strerror}"
            raise ConfigError(
                msg, remedy="Is there something in the way? Else choose another folder."
            ) from error
    return Binary(executable, version)


def version_of(path: Path) -> str:
    """What `--version` prints. Raises ConfigError where it is no working opencode."""
    # An own HOME, always: even `--version` creates folders and may start a log.
    with tempfile.TemporaryDirectory(prefix="oc-") as home:
        try:
            answer = subprocess.run(  # noqa: S603 - the path is the caller's choice
                [path, "--version"],
                env={"PATH": os.environ.get("PATH", ""), "HOME": home},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_ASK_TIME,
                check=True,
            )
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
            msg = f"{path} does not run: {error}"
            raise ConfigError(msg) from error
    words = answer.stdout.split()
    if not (words and _VERSION.match(words[-1])):
        msg = f"{path} is no opencode: --version printed {answer.stdout[:100]!r}"
        raise ConfigError(msg)
    return words[-1].removeprefix("v")


def is_supported(version: str) -> bool:
    """Whether this package speaks that version's dialect."""
    try:
        choose_dialect(version)
    except UnsupportedVersion:
        return False
    return True


def packages(machine: Machine) -> list[str]:
    """The npm packages that hold an executable for a machine, the best first. Pure.

    The plain build needs AVX2, the baseline build does not; the other ones follow in case the look at the
    machine erred. The names are the same from 1.1.65 to 1.18.33.
    """
    builds = ["", "-baseline"] if machine.avx2 else ["-baseline", ""]
    libraries = ["-musl", ""] if machine.musl else ["", "-musl"]
    return [
        f"opencode-{machine.system}-{machine.processor}{build}{library}"
        for library in (libraries if machine.system == "linux" else [""])
        for build in (builds if machine.processor == "x64" else [""])
    ]


def _named(path: Path, version: str | None) -> Binary:
    said = version_of(path)
    if not _fits(said, version):
        msg = f"${VARIABLE} names opencode {said}; {version or f'{OLDEST} or later, below 2,'} is needed"
        raise ConfigError(msg, remedy=f"Unset {VARIABLE}, or name another executable.")
    return Binary(path, said)


def _fetched(start: Path, version: str | None) -> Iterator[Path]:
    for place in (start, *start.parents):
        found = [path for path in (place / FOLDER).glob("*/opencode") if _fits(path.parent.name, version)]
        yield from sorted(found, key=lambda path: ServerVersion.parse(path.parent.name), reverse=True)


def _fits(said: str, wanted: str | None) -> bool:
    return said == wanted if wanted else is_supported(said)


def _remedy(version: str | None) -> str:
    return (
        f"In the repository, `make test` fetches it. Else: npm install -g opencode-ai@{version or NEWEST}, "
        f"or let {VARIABLE} name an executable."
    )


def _install(version: str, place: Path, machine: Machine) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that the last step is a rename on one file system.
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=place.parent) as name:
        work = Path(name)
        _npm_install(version, work)
        chosen = _choose(work / "node_modules", version, machine)
        ready = work / "ready"
        ready.mkdir()
        chosen.rename(ready / "opencode")
        try:
            ready.rename(place)
        except OSError:
            # Another install was first: its folder is as good as ours.
            if not (place / "opencode").is_file():
                raise


def _npm_install(version: str, work: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        msg = "npm was not found: it is needed to fetch opencode"
        raise ConfigError(msg, remedy="Install Node.js with npm, or let an opencode be on PATH.")
    command = [npm, "install", "--prefix", str(work), "--no-audit", "--no-fund", "--ignore-scripts"]
    command += ["--no-save", "--no-package-lock", "--loglevel", "error", f"opencode-ai@{version}"]
    try:
        # Not its own folder's parents: a package.json above would be taken for the project.
        subprocess.run(  # noqa: S603
            command,
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_NPM_TIME,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        msg = f"npm could not fetch opencode-ai@{version}: {_last_words(error.stderr)}"
        raise ConfigError(
            msg, remedy="Is the npm registry reachable (`npm ping`)? Then run it again."
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"npm could not fetch opencode-ai@{version}: {error}"
        raise ConfigError(msg) from error


def _last_words(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if "error" in line.lower()]
    return "; ".join(lines[:3]) or "no reason given"


def _choose(modules: Path, version: str, machine: Machine) -> Path:
    """The first executable that runs here. npm 11 runs no postinstall, so nobody has chosen for us."""
    complaints: list[str] = []
    for name in packages(machine):
        path = modules / name / "bin" / "opencode"
        if not path.is_file():
            continue
        try:
            said = version_of(path)
        except ConfigError as error:
            complaints.append(error.message)
            continue
        if said == version:
            return path
        complaints.append(f"{name} is version {said}")
    msg = f"opencode-ai@{version} has no executable that runs on this machine"
    raise ConfigError(msg, remedy="\n  ".join(complaints))


def _has_avx2() -> bool:
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True  # no Linux: the plain build is tried first, the baseline one if it does not run


def main(arguments: list[str]) -> int:
    """Fetch VERSION into FOLDER, or find one; say where it is."""
    try:
        match arguments:
            case []:
                binary = find_binary()
            case [version, folder]:
                binary = install_binary(version, Path(folder))
            case _:
                sys.stderr.write("usage: python -m opencode_reactor.opencode.binary [VERSION FOLDER]\n")
                return 2
    except ReactorError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"opencode {binary.version}: {binary.path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

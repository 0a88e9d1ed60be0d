"""Handler files: found, imported, and what is wrong with them said in a sentence each, with its place."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from ..errors import HandlerError
from .outcome import line_in, shorten
from .registry import Handler, Loaded, collect, duplicate

DEFAULT_FOLDERS = ("handlers", ".opencode/handlers")

_PASSED_OVER = ("_", "test_", "conftest")


def default_paths(root: Path) -> list[Path]:
    """The folders handlers are looked for without configuration, as far as they exist below `root`."""
    return [folder for name in DEFAULT_FOLDERS if (folder := root / name).is_dir()]


def load(paths: Iterable[str | Path]) -> Loaded:
    """Load files, and folders of files: not their subfolders, nor names that begin with `_` or `test_`.

    A file's trouble is its own: the others are loaded. Names are told in the order of `paths`.
    """
    handlers: dict[str, Handler] = {}
    problems: list[HandlerError] = []
    files, missing = _files(paths)
    problems += missing
    for folder in {file.resolve().parent for file in files}:
        _renew_package(folder)
    for file in files:
        loaded = _load_file(file)
        problems += loaded.problems
        for handler in loaded.handlers:
            if (twin := handlers.setdefault(handler.name, handler)) is not handler:
                problems.append(duplicate(handler, twin))
    return Loaded(tuple(handlers.values()), tuple(problems))


def _files(paths: Iterable[str | Path]) -> tuple[list[Path], list[HandlerError]]:
    found: dict[Path, Path] = {}
    problems: list[HandlerError] = []
    for path in map(Path, paths):
        try:
            files = _below(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            problems.append(_unreadable(path, error))
            continue
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values()), problems


def _below(path: Path) -> list[Path]:
    if path.is_dir():
        # Listed with scandir underneath, which says so when the folder may not be read; glob would be silent.
        inside = sorted(child for child in path.iterdir() if child.suffix == ".py" and child.is_file())
        return [file for file in inside if not file.name.startswith(_PASSED_OVER)]
    path.stat()
    return [path]


def _unreadable(path: Path, error: OSError | ValueError) -> HandlerError:
    if isinstance(error, FileNotFoundError):
        return HandlerError("there is no such file or folder", place=str(path))
    reason = getattr(error, "strerror", None) or str(error)
    return HandlerError(f"cannot be read: {reason}", place=str(path))


def _load_file(file: Path) -> Loaded:
    try:
        loaded = collect(_import(file))
    except HandlerError as problem:
        return Loaded(problems=(problem,))
    if not loaded.handlers and not loaded.problems:
        remedy = "mark an async function with @on(…); a file that others only import starts with _"
        return Loaded(problems=(HandlerError("holds no handler", place=f"{file}:1", remedy=remedy),))
    return loaded


class _FreshSource(SourceFileLoader):
    """Always compiles what the file says now, and leaves no `__pycache__` in the author's folder."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - importlib's signature
        return self.source_to_code(self.get_data(self.path), self.path)


def _import(file: Path) -> ModuleType:
    """Run the file as a module of its own. Raises HandlerError for whatever goes wrong in it."""
    name = f"{_package(file.parent)}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file, loader=_FreshSource(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        # A half-made module must not be found by the next import of that name.
        del sys.modules[name]
        raise _import_problem(file, error) from error
    return module


def _package(folder: Path) -> str:
    digest = sha256(str(folder.resolve()).encode(errors="surrogateescape")).hexdigest()[:12]
    return f"_reactor_handlers_{digest}"


def _renew_package(folder: Path) -> None:
    """A private package for the folder, so that files of the same name in two folders do not meet.

    Its path makes `from ._shared import x` work; nothing is added to `sys.path`. What an earlier load left
    behind is forgotten: what the files say now counts.
    """
    name = _package(folder)
    for stale in [known for known in sys.modules if known.startswith(f"{name}.")]:
        del sys.modules[stale]
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def _import_problem(file: Path, error: BaseException) -> HandlerError:
    match error:
        case HandlerError():
            line, sentence, remedy = line_in(error, str(file)), error.message, error.remedy
        case SyntaxError() if error.filename == str(file):
            line, sentence, remedy = error.lineno, f"is not valid Python: {error.msg}", ""
        case ModuleNotFoundError():
            line, sentence = line_in(error, str(file)), f"needs the module {error.name!r}, which is not there"
            remedy = "install it where the reactor is installed"
        case OSError() if line_in(error, str(file)) is None:
            return _unreadable(file, error)
        case _:
            text = shorten(str(error))
            named = f"{type(error).__name__}: {text}" if text else type(error).__name__
            line, sentence, remedy = line_in(error, str(file)), f"cannot be imported: {named}", ""
    return HandlerError(sentence, place=f"{file}:{line or 1}", remedy=remedy)

"""`reactor check`: load everything and say what is wrong, with file and line; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, HandlerError, PipelineError, ReactorError
from ..handling import load as load_handlers
from ..pipeline.loading import load as load_pipeline
from ..pipeline.policy import parse
from ..settings import Settings
from .fence import complain
from .options import Options
from .parser import Asked

YAML = (".yaml", ".yml", ".json")
PASSED_OVER = ("_", "test_", "conftest")


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one thing that was looked at: what it is, or what is wrong with it."""

    place: str
    fact: str = ""
    problem: ReactorError | None = None


def check(options: Options, asked: Asked) -> int:
    """Load everything; say what is wrong."""
    out = options.output
    wrong = 0
    for found in _everything(options, [Path(path) for path in asked.paths]):
        problem = found.problem
        wrong += problem is not None
        if out.json:
            message, remedy = (problem.message, problem.remedy) if problem else ("", "")
            shape = {"place": problem.place if problem and problem.place else found.place, "ok": not problem}
            out.emit("check", {**shape, "fact": found.fact, "message": message, "remedy": remedy})
        elif problem is None:
            out.line(f"ok  {found.place}: {found.fact}")
        else:
            complain(problem)
    return ConfigError.exit_code if wrong else 0


def _everything(options: Options, paths: list[Path]) -> Iterator[Found]:
    try:
        settings = options.settings()
        yield _configuration(settings)
    except ConfigError as error:
        yield Found("the configuration", problem=error)
        settings = None
    if not paths:
        yield from _handlers(settings.handlers if settings else ())
        paths = [folder for folder in [Path("pipelines")] if folder.is_dir()]
    for path in paths:
        yield from _path(path)


def _configuration(settings: Settings) -> Found:
    place = str(settings.source or "the configuration")
    try:
        parse(settings.permissions)
    except PipelineError as error:
        return Found(place, problem=ConfigError(f"permissions: {error.message}", place=place))
    servers = ", ".join(f"{server.name} ({server.url})" for server in settings.servers)
    return Found(place, f"servers {servers}; store {settings.store}")


def _handlers(paths: tuple[Path, ...]) -> Iterator[Found]:
    loaded = load_handlers(paths)
    for handler in loaded.handlers:
        yield Found(handler.place, f"handler {handler.name} on {handler.selector}")
    for problem in loaded.problems:
        yield Found(problem.place, problem=problem)


def _path(path: Path) -> Iterator[Found]:
    if path.is_dir():
        inside = sorted(p for p in path.iterdir() if p.suffix in {".py", ".yaml", ".yml"})
        for file in inside:
            if not file.name.startswith(PASSED_OVER):
                yield from _path(file)
        if not inside:
            problem = PipelineError("holds no pipeline and no handler", place=str(path))
            yield Found(str(path), problem=problem)
    elif path.suffix == ".py":
        yield from _python(path)
    else:
        yield _pipeline(str(path))


def _python(path: Path) -> Iterator[Found]:
    """A Python file holds handlers, or pipelines: which, its names say; both are looked for."""
    handlers = list(_handlers((path,)))
    if all(_holds_none(found) for found in handlers):
        pipeline = _pipeline(str(path))
        nothing = pipeline.problem is not None and "defines no pipeline" in pipeline.problem.message
        problem = HandlerError("holds no handler and no pipeline", place=f"{path}:1")
        yield Found(str(path), problem=problem) if nothing else pipeline
    else:
        yield from handlers


def _holds_none(found: Found) -> bool:
    return found.problem is not None and found.problem.message == "holds no handler"


def _pipeline(ref: str) -> Found:
    try:
        pipeline = load_pipeline(ref)
    except PipelineError as error:
        return Found(ref, problem=error)
    names = ", ".join(stage.name for stage in pipeline.stages)
    return Found(ref, f"pipeline {pipeline.name}: {names}")

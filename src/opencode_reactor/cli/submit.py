"""`reactor submit`: a run for whoever serves the server, checked whole before it is stored."""

from __future__ import annotations

from pathlib import Path
from random import SystemRandom

from ..clock import SystemClock
from ..errors import UsageError
from ..model.runs import JournalEntry, JournalKind, Run
from ..pipeline.loading import load
from ..reactor.submission import make_run
from ..store import Store
from . import shapes
from .opened import in_store, person, served
from .options import Options
from .parser import Asked


def submit(options: Options, asked: Asked) -> None:
    """Keep a run for whoever serves its server."""
    pipeline, inputs = load(asked.pipeline), inputs_of(asked.input)
    server = options.chosen_server(options.settings())
    run = make_run(
        pipeline,
        inputs,
        server=server.url,
        directory=options.directory(server),
        clock=SystemClock(),
        random=SystemRandom(),
    )
    entry = JournalEntry(JournalKind.SUBMITTED, f"submitted by {person()}", at=run.created)

    async def queued(store: Store) -> tuple[Run, str]:
        return await store.add_run(run, [entry]), await served(options, store, run.server)

    kept, idle = in_store(options, queued)
    if options.output.json:
        options.output.emit("run.submitted", {"run": shapes.run_line(kept), "served": not idle})
        return
    options.output.line(kept.id)
    if idle:
        options.output.remark(idle)


def inputs_of(texts: list[str] | None) -> dict[str, str]:
    """Inputs as they were typed. `KEY=@FILE` reads a file. Raises UsageError."""
    inputs: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"-i {text}: this is no input", remedy="write -i KEY=VALUE")
        if key in inputs:
            raise UsageError(f"-i {key}: given twice", remedy="give each input once")
        inputs[key] = _read(key, Path(value[1:])) if value[:1] == "@" else value
    return inputs


def _read(key: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"-i {key}: {path} cannot be read: {reason}", remedy="correct the path") from error

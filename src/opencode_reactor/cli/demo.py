"""`reactor demo`: the sample pipeline on a real OpenCode server, with a scripted model, offline.

Nothing in it is played: the server, the stream, the store and the gate are those of every other run. Only the
model follows a script, which misbehaves on purpose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

import anyio

from ..app import Reactor, Until
from ..clock import SystemClock
from ..model.asks import Ask, AskState
from ..model.runs import JournalEntry, Run, RunState
from ..model.shared import Tokens
from ..opencode.binary import find_binary
from ..opencode.server import OpenCodeServer
from ..pipeline.definition import Pipeline
from ..pipeline.loading import load_pipeline
from ..settings import LogSettings, Secret, ServerSettings, Settings
from ..store import open_store
from ..testing import Calls, Fails, Says, SaysJson, ScriptedModel, bash, make_project
from .logs import configure_logs
from .options import Options
from .output import Output
from .parser import Asked
from .progress import progress
from .run import Shown, exit_code
from .runs import stages_table
from .text import clean, one_line

FEATURES = ["search across projects", "a dark theme"]
FIXES = ["no crash on an empty file"]


def demo(options: Options, asked: Asked) -> int:
    """Run the sample pipeline and say what could be seen."""
    out = options.output
    configure_logs(LogSettings(), least="error", verbose=options.verbose, quiet=options.quiet)
    with ExitStack() as stack:
        folder = _folder(asked.keep, stack)
        binary = find_binary()
        out.remark(f"Starting OpenCode {binary.version} and a scripted model on loopback …")
        model = stack.enter_context(ScriptedModel())
        misbehave(model)
        server = stack.enter_context(OpenCodeServer(binary))
        project = make_project(folder / "project", model.opencode_config())
        login = server.login
        reached = ServerSettings("demo", server.url, login.username, Secret(login.password))
        settings = Settings(servers=(reached,), store=str(folder / "store.db"))
        last = _run(options, settings, project)
        entries, asks = anyio.run(_record, settings, last)
        if out.json:
            return exit_code(last)
        stages_table(last, out, SystemClock().now())
        _tell(last, entries, asks, out)
        if asked.keep is not None:
            out.line(f"Kept: reactor explain {last.id} --store {settings.store}")
    return exit_code(last)


def misbehave(model: ScriptedModel) -> None:
    """What the model does: one tool call that needs permission, one bad answer, one rate limit."""
    spent = Tokens(input=900, output=120)
    model.on(
        "Survey the commits",
        Calls(bash("git log --oneline"), tokens=spent),
        SaysJson({"features": FEATURES, "fixes": FIXES}, tokens=spent),
    )
    notes = [f"There is now {feature}." for feature in FEATURES]
    model.on("Describe these features", Says("Sure! Here are the features you asked for.", tokens=spent))
    model.on("JSON", SaysJson({"title": "What is new", "notes": notes}, tokens=spent))
    model.on(
        "Describe these fixes",
        Fails(429, "Too many requests", headers={"retry-after": "2"}),
        Says("An empty file no longer crashes it.", tokens=spent),
    )
    model.on("Write the release notes", Says(_NOTES, chunks=8, delay=0.1, tokens=spent))


_NOTES = """\
What is new: search across projects and a dark theme.
Fixed: an empty file no longer crashes it."""


def sample() -> Pipeline:
    """The sample pipeline, as it is shipped."""
    with as_file(files("opencode_reactor.cli").joinpath("demo.yaml")) as path:
        return load_pipeline(path)


def _folder(keep: Path | None, stack: ExitStack) -> Path:
    if keep is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reactor-demo-")))
    keep.mkdir(parents=True, exist_ok=True)
    return keep.resolve()


def _run(options: Options, settings: Settings, project: Path) -> Run:
    reactor = Reactor(settings, handlers=())
    shown = Shown(progress(options.output, verbose=bool(options.verbose)))

    async def followed() -> Run:
        return await reactor.run(
            sample(), directory=str(project), listener=shown.take, until=Until(escalated=True)
        )

    with shown.progress:
        last = anyio.run(followed)
    shown.progress.ended(last)
    return last


async def _record(settings: Settings, last: Run) -> tuple[list[JournalEntry], list[Ask]]:
    store = await open_store(settings.store, clock=SystemClock())
    try:
        return await store.journal(last.id), await store.asks(run=last.id, states=tuple(AskState))
    finally:
        await store.aclose()


def _tell(last: Run, entries: Sequence[JournalEntry], asks: Sequence[Ask], out: Output) -> None:
    """What happened on the way, from the run's own record."""
    out.line()
    for ask in asks:
        out.line(f"asked     {one_line(ask.title)} -> {ask.reply} by {ask.answered_by}")
    for entry in entries:
        if "asked again in the same session" in entry.what:
            out.line(f"repaired  {entry.stage}: {one_line(entry.what, 90)}")
        elif entry.what.startswith("waits: provider"):
            out.line(f"waited    {entry.stage}: the provider's rate limit")
    proofs = sum(len(a.evidence) for s in last.stages for a in s.attempts)
    out.line(f"proved    {len(last.stages)} stages on {proofs} pieces of evidence")
    if last.state is RunState.SUCCEEDED:
        out.line()
        out.line(clean(last.stage("notes").text))
    else:
        out.line(f"the run is {last.state}: {one_line(last.detail)}")

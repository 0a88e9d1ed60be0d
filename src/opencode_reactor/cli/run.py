"""`reactor run` and `reactor prompt`: one run, followed to its end, with an exit code that can be trusted."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from ..app import ASKS, Reactor, Until
from ..clock import SystemClock
from ..errors import PipelineError, ReactorError, UsageError
from ..model.asks import Ask
from ..model.runs import JournalEntry, Run, RunState
from ..pipeline.definition import Pipeline
from ..pipeline.loading import load
from .logs import configure_logs
from .options import Options
from .parser import Asked
from .progress import Progress, progress
from .refused import refused
from .runs import stages_table
from .shapes import plain
from .stopping import Stopped, unless_stopped
from .submit import inputs_of
from .text import clean, one_line

FAILED = 1
WAITS_FOR_A_PERSON = 3
INTERRUPTED = 130
PROMPT = "prompt"
"""Name of the pipeline and of the stage that `reactor prompt` runs."""


def run(options: Options, asked: Asked) -> int:
    """Run a pipeline to its end."""
    pipeline, inputs = load(asked.pipeline), inputs_of(asked.input)
    last = _follow(options, asked, pipeline, inputs)
    if last is None:
        return INTERRUPTED
    if not options.output.json:
        stages_table(last, options.output, SystemClock().now())
        _conclude(last, options)
    return exit_code(last)


def prompt(options: Options, asked: Asked) -> int:
    """Run a pipeline of one stage and print its answer."""
    text = sys.stdin.read() if asked.text == ["-"] else " ".join(asked.text)
    if not text.strip():
        raise UsageError("the prompt is empty", remedy="say what to ask")
    last = _follow(options, asked, prompt_pipeline(asked), {"text": text})
    if last is None:
        return INTERRUPTED
    ended = last.state is RunState.SUCCEEDED
    if ended and (what := refused(options, last, last.stage(PROMPT).attempts[-1])):
        options.output.remark(f"run {last.id}: no success, refused: {'; '.join(what)}")
        options.output.remark(f"`{options.typed(f'reactor show -v {last.id}')}` has the answer")
        return FAILED
    if not options.output.json:
        _print_answer(last, options)
    return exit_code(last)


def prompt_pipeline(asked: Asked) -> Pipeline:
    """The pipeline of one stage. Its text is an input: braces in it are no template."""
    names = ("agent", "model", "variant", "timeout", "attempts", "check")
    stage: dict[str, Any] = {name: value for name in names if (value := getattr(asked, name)) is not None}
    if asked.output is not None:
        stage["output"] = str(asked.output.absolute())
    stage |= {"name": PROMPT, "prompt": "{{ inputs.text }}"}
    tree = {"name": PROMPT, "inputs": {"text": {"type": "string"}}, "stages": [stage]}
    try:
        return Pipeline.model_validate(tree).inlined()
    except PipelineError as error:
        # Nobody wrote this pipeline: what is wrong is wrong with an option.
        option = error.place.rpartition(".")[2]
        place = f"--{option}" if option in {*names, "output"} else error.place
        raise UsageError(error.message, place=place, remedy=error.remedy) from error


def exit_code(last: Run) -> int:
    """0 succeeded, 1 failed or cancelled, 3 waits for a person."""
    if last.state is RunState.SUCCEEDED:
        return 0
    return FAILED if last.state.final else WAITS_FOR_A_PERSON


def _follow(options: Options, asked: Asked, pipeline: Pipeline, inputs: Mapping[str, str]) -> Run | None:
    """The run's last snapshot; None if it was interrupted."""
    settings = options.settings()
    configure_logs(settings.log, least="warning", verbose=options.verbose, quiet=options.quiet)
    server = options.chosen_server(settings)
    directory = options.directory(server)
    reactor = Reactor(settings)
    attended = sys.stderr.isatty() and sys.stdin.isatty()
    until = Until(asked=asked.no_wait, escalated=not asked.wait and not attended)
    shown = Shown(progress(options.output, verbose=bool(options.verbose), typed=options.typed))

    async def followed() -> Run:
        return await reactor.run(
            pipeline, dict(inputs), server=server, directory=directory, listener=shown.take, until=until
        )

    try:
        with shown.progress:
            last = anyio.run(unless_stopped, followed)
        shown.progress.ended(last)
    except (Stopped, KeyboardInterrupt):
        _say_interrupted(shown.last, options)
        return None
    except ReactorError:
        _say_kept(shown.last, options)
        raise
    return last


class Shown:
    """Passes snapshots on to the progress and remembers the last: what is said if it ends early."""

    def __init__(self, shown: Progress) -> None:
        self.progress = shown
        self.last: Run | None = None

    def take(self, run: Run, asks: Sequence[Ask], entries: Sequence[JournalEntry]) -> None:
        """The listener of a run."""
        self.last = run
        for entry in entries:
            self.progress.note(entry)
        self.progress.update(run, asks)


def _say_interrupted(last: Run | None, options: Options) -> None:
    if last is None:
        options.output.remark("reactor: interrupted, nothing was started")
    else:
        options.output.remark(f"reactor: interrupted; {_kept(last, options)}")


def _say_kept(last: Run | None, options: Options) -> None:
    if last is not None and not last.state.final:
        options.output.remark(f"reactor: {_kept(last, options)}")


def _kept(last: Run, options: Options) -> str:
    return f"run {last.id} stays where it is: `{options.serve(last.server)}` goes on with it"


def _conclude(last: Run, options: Options) -> None:
    say, typed = options.output.remark, options.typed
    reason = one_line(": ".join(filter(None, (last.failure, last.detail))))
    say("")
    waits = f" ({last.waiting_on})" if last.waiting_on else ""
    say(f"run {last.id}: {last.state}{waits}{f': {reason}' if reason else ''}")
    if last.state is RunState.SUCCEEDED:
        return
    why = f"`{typed(f'reactor explain {last.id}')}` says why"
    retry, serve = typed(f"reactor retry {last.id}"), options.serve(last.server)
    if last.state.final:
        say(f"{why}; `{retry}` and `{serve}` go on")
    else:
        how = typed("reactor inbox") if last.waiting_on in ASKS else retry
        say(f"it waits for a person: `{how}`, then `{serve}`; {why}")


def _print_answer(last: Run, options: Options) -> None:
    stage = last.stage(PROMPT)
    if last.state is not RunState.SUCCEEDED:
        _conclude(last, options)
    elif stage.output is not None:
        options.output.line(json.dumps(plain(stage.output), indent=2, ensure_ascii=False))
    else:
        options.output.line(clean(stage.text))

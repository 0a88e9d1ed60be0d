"""What each command takes, and its help: a function per command, `add_NAME`, whose docstring is the help.

Apart from the commands themselves, so that help and usage errors need nothing else to be imported.
"""

from __future__ import annotations

from pathlib import Path

from .parser import Parser, count

RUN = "a run's id, or its beginning"


def add_run(parser: Parser) -> None:
    """Run one pipeline to its end, with live progress on a terminal.

    Exit code 0: succeeded; 1: failed or cancelled; 3: waits for a person. An open ask is waited for
    (answer it from another terminal: `reactor inbox`). A run that was escalated to a person is waited
    for on a terminal only, or with --wait. Interrupted, the run stays resumable by `reactor serve`.
    """
    _add_pipeline(parser)
    _add_waiting(parser)


def add_prompt(parser: Parser) -> None:
    """Send one prompt and print the answer: a pipeline of one stage, without a file.

    Exit code 0 only with proof: an empty answer, a refused permission, a wrong shape or a failed check
    is no success. With --output the answer is the JSON that fits the schema.
    """
    parser.add_argument("text", nargs="+", metavar="TEXT", help="what to ask; - reads it from stdin")
    parser.add_argument("--output", type=Path, metavar="SCHEMA", help="the answer's JSON Schema, a file")
    parser.add_argument("--agent", metavar="NAME", help="the agent that answers")
    parser.add_argument("--model", metavar="PROVIDER/MODEL", help="the model that answers")
    parser.add_argument("--variant", metavar="NAME", help="the model's variant")
    parser.add_argument("--timeout", metavar="TIME", help="how long an attempt may take, as in 20m")
    parser.add_argument("--attempts", type=count, metavar="N", help="how many attempts there may be")
    parser.add_argument("--check", action="append", metavar="COMMAND", help="must exit 0; repeatable")
    _add_waiting(parser)


def add_serve(_parser: Parser) -> None:
    """Care for all configured servers until stopped: handlers, queued runs, asks, expiries.

    --server serves one alone; --dir watches a project directory from the start. Started beside another
    `reactor serve` or `reactor run` on the same store it waits for its turn. What is under way when it
    stops goes on when it is started again.
    """


def add_submit(parser: Parser) -> None:
    """Queue a run for the daemon (`reactor serve`) and print its id.

    The pipeline with every file it names, and the inputs, are checked and kept now: what is edited
    later does not change the run.
    """
    _add_pipeline(parser)


def add_demo(parser: Parser) -> None:
    """Run the sample pipeline on a real `opencode serve` with a scripted model: offline, without an account.

    Four stages, two of them side by side; the model answers once in prose where JSON is due, asks for one
    permission, and meets one rate limit. Needs an OpenCode binary: `opencode` on PATH, or `make demo`
    fetches one.
    """
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="leave the project and the store there, to look at"
    )


def add_runs(parser: Parser) -> None:
    """List runs, newest first.

    --server and --dir show those of one server or one project directory.
    """
    states = ("queued", "running", "waiting", "succeeded", "failed", "cancelled")
    parser.add_argument(
        "--state", action="append", choices=states, help="only runs in this state; repeatable"
    )
    parser.add_argument("--limit", type=count, default=50, metavar="N", help="at most this many (50)")


def add_show(parser: Parser) -> None:
    """Show one run with its stages; with -v their whole answers too."""
    parser.add_argument("run", metavar="RUN", help=RUN)


def add_explain(parser: Parser) -> None:
    """Why a run stands where it stands.

    For every attempt what was decided, done and found, with times and the evidence of the completion
    gate; then what is missing now, what happens next and when, and who drives the run.
    """
    parser.add_argument("run", metavar="RUN", help=RUN)


def add_events(parser: Parser) -> None:
    """Print the server's events as they come, from now on.

    Without --follow it ends after --for (10s), or after --limit events. Streaming text deltas and
    heartbeats are left out unless --type asks for them, as in --type '*'.
    """
    parser.add_argument("-f", "--follow", action="store_true", help="until interrupted")
    parser.add_argument("--for", dest="span", default="10s", metavar="TIME", help="how long, else (10s)")
    parser.add_argument("--limit", type=count, metavar="N", help="end after so many events")
    parser.add_argument("--type", action="append", metavar="GLOB", help="only types that match; repeatable")
    parser.add_argument("--session", metavar="ID", help="only this session and its subagents")


def add_inbox(_parser: Parser) -> None:
    """What waits for a person, over all servers and sessions, oldest first."""


def add_reply(parser: Parser) -> None:
    """Answer a permission (once, always, reject) or an approval (once, reject); reject dismisses a question.

    A refused permission does not end the turn: the model reads who refused it, and with -m why. A dismissed
    question does end it, and is followed up as an answer without text. `always` holds for the server's whole
    directory until the server restarts.
    """
    _add_ask(parser)
    parser.add_argument(
        "word", choices=("once", "always", "reject"), metavar="once|always|reject", help="the answer"
    )
    parser.add_argument("-m", "--message", default="", metavar="TEXT", help="what the model is told with it")


def add_answer(parser: Parser) -> None:
    """Answer a question with the labels it offers, or in your own words where it takes them.

    One question: each argument is one label. Several questions: one argument for each, in their
    order; several labels for one of them are joined by commas. `reactor inbox` shows the labels.
    """
    _add_ask(parser)
    parser.add_argument("labels", nargs="+", metavar="LABEL", help="an offered label, or your own words")


def add_cancel(parser: Parser) -> None:
    """Stop a run: what is under way is aborted, nothing further is sent."""
    parser.add_argument("run", metavar="RUN", help=RUN)


def add_retry(parser: Parser) -> None:
    """Let a failed, cancelled or escalated run go on where it stopped: succeeded stages are not repeated."""
    parser.add_argument("run", metavar="RUN", help=RUN)
    parser.add_argument("--stage", default="", help="only this one; else every stage that failed or waits")


def add_dead(parser: Parser) -> None:
    """Handler deliveries that were given up: list them, retry one, or drop it."""
    parser.add_argument(
        "deed", nargs="?", choices=("retry", "drop"), metavar="retry|drop", help="left out: list them"
    )
    parser.add_argument("number", nargs="?", type=count, metavar="ID", help="the delivery's number")


def add_check(parser: Parser) -> None:
    """Load pipelines, handlers and the configuration; say everything that is wrong, with file and line.

    Without PATH: the configuration, the handlers it names, and ./pipelines. Exit code 2 if anything is
    wrong. Nothing is sent and no server is asked.
    """
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="pipelines (YAML or Python), handlers, folders of them"
    )


def add_handlers(_parser: Parser) -> None:
    """List the handlers of the configured folders: events, place, how they are delivered.

    Exit code 2 if one of them cannot be loaded.
    """


def add_doctor(_parser: Parser) -> None:
    """Try everything, a line each: Python, configuration, store, handlers; for each server whether it is
    reachable, login, version and dialect, event stream, agents and models. Where one fails, the mend.

    Exit code 0: all is well; 2: something here is to be mended; 4: a server is.
    """


def add_schema(parser: Parser) -> None:
    """Print the JSON Schema of pipeline files or of reactor.toml, for editors.

    In a pipeline file: `# yaml-language-server: $schema=PATH` on its first line.
    """
    parser.add_argument(
        "kind",
        nargs="?",
        choices=("pipeline", "config"),
        metavar="pipeline|config",
        default="pipeline",
        help="of a pipeline file (the default) or of reactor.toml",
    )


def _add_ask(parser: Parser) -> None:
    parser.add_argument("ask", metavar="ASK", help="an ask's id, its beginning, or OpenCode's own id of it")


def _add_pipeline(parser: Parser) -> None:
    parser.add_argument(
        "pipeline", metavar="PIPELINE", help="a YAML file, flow.py, flow.py:name or module:name"
    )
    parser.add_argument(
        "-i",
        "--input",
        action="append",
        metavar="KEY=VALUE",
        help="an input of the pipeline, KEY=@FILE to read it from a file; repeatable",
    )


def _add_waiting(parser: Parser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--wait", action="store_true", help="wait for a person however long, off a terminal too"
    )
    group.add_argument("--no-wait", action="store_true", help="end with 3 as soon as a person is needed")

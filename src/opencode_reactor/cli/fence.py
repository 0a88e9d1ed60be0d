"""The one place where errors become exit codes and lines on stderr. No traceback for what was expected."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import ReactorError, UsageError
from .root import entry, overview

INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended: the reader went away, nothing is wrong."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Prints every error itself."""
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - the outermost fence: nothing may end as a traceback
        return _answer(error, verbose=_verbose(arguments))
    return code


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(overview())
        return 0
    if arguments[0] in {"-V", "--version"}:
        from importlib.metadata import version

        print(f"opencode-reactor {version('opencode-reactor')}")
        return 0
    known = entry(arguments[0])
    from .command import built

    code: object = built(known).main(
        args=list(arguments[1:]), prog_name=f"reactor {known.name}", standalone_mode=False
    )
    return code if isinstance(code, int) else 0


def complain(error: ReactorError) -> None:
    """One expected error on stderr: place, sentence, remedy."""
    _say(str(error))


def _answer(error: BaseException, *, verbose: bool) -> int:
    leaves = list(_leaves(error))
    if verbose:
        import traceback

        traceback.print_exception(error)
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return INTERRUPTED
    if all(_pipe_broke(leaf) for leaf in leaves):
        return _reader_gone()
    expected = {str(leaf): leaf for leaf in leaves if isinstance(leaf, ReactorError)}
    for leaf in expected.values():
        complain(leaf)
    unexpected = [leaf for leaf in leaves if not isinstance(leaf, ReactorError)]
    if unexpected:
        return _confess(unexpected[0], verbose=verbose)
    return next(iter(expected.values())).exit_code


def _confess(error: BaseException, *, verbose: bool) -> int:
    from typer import Abort
    from typer.exceptions import TyperException

    if isinstance(error, (Abort, EOFError)):
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0
    if isinstance(error, TyperException):
        return _say_usage(error)
    _say(f"unexpected {type(error).__name__}: {' '.join(str(error).split())}")
    if not verbose:
        print("  this is a defect of reactor: the same command with -v shows where", file=sys.stderr)
    return 1


def _say_usage(error: Any) -> int:
    _say(" ".join(error.format_message().replace("Value error, ", "").split()))
    context = getattr(error, "ctx", None)
    if context is not None:
        print(f"  {context.command_path} --help says what is known", file=sys.stderr)
    return UsageError.exit_code


def _say(text: str) -> None:
    # Late: most command lines meet no error.
    from .text import clean

    print(f"reactor: error: {clean(text)}", file=sys.stderr, flush=True)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """What a task group's error is made of."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            yield from _leaves(inner)  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield error


def _pipe_broke(error: BaseException) -> bool:
    # typer answers a broken pipe with an exit of its own.
    return isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError)


def _verbose(arguments: Sequence[str]) -> bool:
    return any(a == "--verbose" or (a[:1] == "-" and a[1:2] != "-" and "v" in a) for a in arguments)


def _reader_gone() -> int:
    # Python flushes stdout once more at exit, and would complain about it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE

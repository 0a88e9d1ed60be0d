"""The one place where errors become exit codes and lines on stderr. No traceback for what was expected."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from ..errors import ReactorError
from .root import entry, overview, split

INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended: the reader went away, nothing is wrong."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Prints every error itself."""
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - the outermost fence: nothing may end as a traceback
        return answer(error, verbose=_verbose(arguments))
    return code


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"} or list(arguments) == ["help"]:
        print(overview())
        return 0
    if arguments[0] in {"-V", "--version"}:
        from importlib.metadata import version

        print(f"opencode-reactor {version('opencode-reactor')}")
        return 0
    if arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    ahead, named, rest = split(arguments)
    known = entry(named)
    from .call import call

    return call(known, [*ahead, *rest])


_EXPECTED = (ReactorError, KeyboardInterrupt, BrokenPipeError, SystemExit)


def complain(error: ReactorError) -> None:
    """One expected error on stderr: place, sentence, remedy."""
    _say(str(error))


def answer(error: BaseException, *, verbose: int) -> int:
    """Say on stderr what an error means and return the exit code for it.

    `verbose` 1: with the traceback of what was not expected; 2: with every traceback.
    """
    leaves = list(_leaves(error))
    if verbose > 1 or (verbose and not all(isinstance(leaf, _EXPECTED) for leaf in leaves)):
        import traceback

        traceback.print_exception(error)
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return INTERRUPTED
    if all(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        return _reader_gone()
    expected = {str(leaf): leaf for leaf in leaves if isinstance(leaf, ReactorError)}
    for leaf in expected.values():
        complain(leaf)
    unexpected = [leaf for leaf in leaves if not isinstance(leaf, ReactorError)]
    if unexpected:
        return _confess(unexpected[0], verbose=verbose)
    return next(iter(expected.values())).exit_code


def _confess(error: BaseException, *, verbose: int) -> int:
    if isinstance(error, SystemExit):
        # argparse's, after it printed the help.
        return error.code if isinstance(error.code, int) else 0
    _say(f"unexpected {type(error).__name__}: {' '.join(str(error).split())}")
    if not verbose:
        print("  this is a defect of reactor: the same command with -v shows where", file=sys.stderr)
    return 1


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


def _verbose(arguments: Sequence[str]) -> int:
    short = [a for a in arguments if a[:1] == "-" and a[1:2] != "-"]
    return list(arguments).count("--verbose") + sum(a.count("v") for a in short)


def _reader_gone() -> int:
    # Python flushes stdout once more at exit, and would complain about it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE

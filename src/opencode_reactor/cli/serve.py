"""`reactor serve`: the daemon."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace

import anyio

from ..app import Reactor
from ..settings import ServerSettings, Settings
from .logs import configure_logs
from .options import Options
from .parser import Asked

INTERRUPTED = 130


def serve(options: Options, _asked: Asked) -> int:
    """Care for servers until stopped."""
    settings = options.settings()
    configure_logs(settings.log, least=settings.log.level, verbose=options.verbose, quiet=options.quiet)
    servers = _servers(options, settings)
    reactor = Reactor(settings)
    urls = ", ".join(server.url for server in servers)
    options.output.remark(f"reactor: serving {urls}; runs are kept in {settings.store}; stop with Ctrl-C")
    stopped = _Stop()
    try:
        anyio.run(reactor.serve, servers)
    except KeyboardInterrupt:
        options.output.remark("reactor: stopped; what was under way goes on at the next start")
        return 0 if stopped.by_term else INTERRUPTED
    return 0


def _servers(options: Options, settings: Settings) -> Sequence[ServerSettings]:
    chosen = settings.servers if options.server is None else (options.chosen_server(settings),)
    if options.dir is None:
        return chosen
    return [replace(s, directories=(*s.directories, options.directory(s))) for s in chosen]


class _Stop:
    """SIGTERM ends the daemon as Ctrl-C does; only the exit code differs: a supervisor asked for it."""

    def __init__(self) -> None:
        self.by_term = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, _number: int, _frame: object) -> None:
        self.by_term = True
        signal.raise_signal(signal.SIGINT)

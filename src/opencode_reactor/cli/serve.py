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
from .stopping import Stopped, unless_stopped

INTERRUPTED = 130


def serve(options: Options, _asked: Asked) -> int:
    """Care for servers until stopped."""
    settings = options.settings()
    configure_logs(settings.log, least=settings.log.level, verbose=options.verbose, quiet=options.quiet)
    servers = _servers(options, settings)
    reactor = Reactor(settings)
    urls = ", ".join(server.url for server in servers)
    options.output.remark(f"reactor: serving {urls}; runs are kept in {settings.store}; stop with Ctrl-C")
    try:
        anyio.run(unless_stopped, lambda: reactor.serve(servers))
    except (Stopped, KeyboardInterrupt) as stop:
        options.output.remark("reactor: stopped; what was under way goes on at the next start")
        # A supervisor asked for it: to it this is no failure.
        return 0 if isinstance(stop, Stopped) and stop.number == signal.SIGTERM else INTERRUPTED
    return 0


def _servers(options: Options, settings: Settings) -> Sequence[ServerSettings]:
    chosen = settings.servers if options.server is None else (options.chosen_server(settings),)
    if options.dir is None:
        return chosen
    return [replace(s, directories=(*s.directories, options.directory(s))) for s in chosen]

"""What holds for every test."""

import signal

# `make test` runs the suites side by side, and a shell starts its background jobs with SIGINT ignored, which
# every process below inherits. Tests of Ctrl-C need it as a terminal gives it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""Text for people: hostile text made harmless, times and amounts made short.

Titles, answers, failures and command lines come from models and servers: they are data, never markup, and
never a control sequence of the terminal they are shown on.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ..model.shared import Tokens

_ESCAPES = (
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: window titles, links, the clipboard
    r"|\x1b[PX^_].*?(?:\x1b\\|$)"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor, clearing
    r"|\x1b[ -/]*[0-~]?"
)
# Controls, and what reorders the text around it so that it reads as something else.
_CONTROLS = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


def clean(text: str) -> str:
    """The text without control characters and terminal sequences; line ends and tabs stay."""
    if text.isprintable():
        # Most is: then no expression need be compiled, a millisecond of a command's start.
        return text
    text = re.sub(_ESCAPES, "", text.replace("\r\n", "\n").replace("\r", "\n"), flags=re.DOTALL)
    return re.sub(_CONTROLS, "\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str, width: int = 0) -> str:
    """The text cleaned, on one line, at most `width` columns wide (0: as long as it is)."""
    folded = " ".join(clean(text).split())
    if not width or columns(folded) <= width:
        return folded
    kept, room = "", width - 1
    for char in folded:
        room -= columns(char)
        if room < 0:
            break
        kept += char
    return f"{kept}…"


def columns(text: str) -> int:
    """How many columns a terminal needs for the text."""
    if text.isascii():
        return len(text)
    # Late: a megabyte of tables that most texts need not.
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def iso(milliseconds: int | None) -> str | None:
    """Epoch milliseconds as ISO 8601 in UTC, as every JSON line has its times; None stays None."""
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock_time(milliseconds: int) -> str:
    """The local time of day, for lines that are read side by side."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().strftime("%H:%M:%S")


def moment(milliseconds: int) -> str:
    """The local date and time, to the second."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(milliseconds: int) -> str:
    """A length of time in at most two units: `0.4 s`, `12 s`, `3 m 05 s`, `2 h 10 m`, `3 d 4 h`."""
    if milliseconds < 10_000:
        return f"{max(milliseconds, 0) / 1000:.1f} s"
    seconds = milliseconds // 1000
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} m {seconds:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def ago(milliseconds: int, now: int) -> str:
    """How long ago, or how far ahead."""
    return f"in {span(milliseconds - now)}" if milliseconds > now else f"{span(now - milliseconds)} ago"


def amount(tokens: Tokens) -> str:
    """All tokens, short: `812`, `12.3k`, `1.2M`; empty where there were none."""
    total = tokens.total
    if total < 1000:
        return str(total) if total else ""
    return f"{total / 1000:.1f}k" if total < 1_000_000 else f"{total / 1_000_000:.1f}M"


def price(cost: float) -> str:
    """US dollars; empty where nothing was charged."""
    return f"${cost:.4f}" if 0 < cost < 0.01 else f"${cost:.2f}" if cost else ""

"""What a command writes: JSON lines or text on stdout, as was asked for, and remarks on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TextIO

from ..clock import Clock, SystemClock
from .text import columns, iso, one_line


class Format(StrEnum):
    """default: text, with colour on a terminal · json: one object a line."""

    DEFAULT = "default"
    JSON = "json"


class Cell(NamedTuple):
    """A piece of text in a table, with a rich style for terminals. Its text is data, never markup."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A table's column. `share` columns give way where the terminal is narrow; `right` aligns numbers."""

    title: str
    right: bool = False
    share: bool = False


STYLES = {
    "succeeded": "green",
    "allow": "green",
    "failed": "bold red",
    "cancelled": "dim",
    "skipped": "dim",
    "pending": "dim",
    "queued": "dim",
    "waiting": "yellow",
    "running": "cyan",
}


def state_cell(state: str, waiting_on: str | None = None) -> Cell:
    """A state in its colour, with what it waits for."""
    return Cell(f"{state}: {waiting_on}" if waiting_on else state, STYLES.get(state, ""))


class Output:
    """One command's output. `quiet` drops remarks, never results."""

    def __init__(self, form: Format, *, quiet: bool = False, clock: Clock | None = None) -> None:
        self.form = form
        self.quiet = quiet
        self._clock = clock or SystemClock()
        self._out: TextIO = sys.stdout
        self._err: TextIO = sys.stderr

    @property
    def json(self) -> bool:
        """Whether programs read this."""
        return self.form is Format.JSON

    @property
    def terminal(self) -> bool:
        """Whether a person sees stdout at once."""
        return not self.json and self._out.isatty()

    def emit(self, type_: str, shape: dict[str, Any]) -> None:
        """One JSON line. Flushed, since whoever follows a run reads it line by line."""
        line = {"type": type_, "time": iso(self._clock.now()), **shape}
        # Escaped where the stream could not carry it, lone surrogates of hostile text included.
        ascii_only = (self._out.encoding or "").lower().replace("-", "") != "utf8"
        text = json.dumps(line, ensure_ascii=ascii_only, separators=(",", ":"))
        if not ascii_only:
            text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        print(text, file=self._out, flush=True)

    def line(self, text: str = "") -> None:
        """A line of result."""
        print(text, file=self._out)

    def flush(self) -> None:
        """Hand over what was written: somebody reads along."""
        self._out.flush()

    def remark(self, text: str) -> None:
        """A line for the person beside the result: on stderr, and not at all with -q."""
        if not self.quiet:
            print(text, file=self._err, flush=True)

    def table(self, heads: Sequence[Column], rows: Sequence[Sequence[Cell | str]]) -> None:
        """A table: ruled and coloured on a terminal, aligned text elsewhere."""
        cells = [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in rows]
        if self.terminal:
            self._rich_table(heads, cells)
        else:
            self._plain_table(heads, cells)

    def _plain_table(self, heads: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        texts = [[h.title.upper() for h in heads], *([one_line(c.text, 120) for c in row] for row in rows)]
        widths = [max(columns(row[i]) for row in texts) for i in range(len(heads))]
        for row in texts:
            padded = [_padded(text, widths[i], right=heads[i].right) for i, text in enumerate(row)]
            self.line("  ".join(padded).rstrip())

    def _rich_table(self, heads: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for head in heads:
            table.add_column(head.title, justify="right" if head.right else "left", no_wrap=not head.share)
        for row in rows:
            # A column that may wrap is one that rich may narrow; its cells then end in an ellipsis instead.
            table.add_row(
                *(Text(one_line(c.text), style=c.style, no_wrap=True, overflow="ellipsis") for c in row)
            )
        Console(file=self._out).print(table)


def _padded(text: str, width: int, *, right: bool) -> str:
    gap = " " * (width - columns(text))
    return gap + text if right else text + gap

"""What the store says when a name leads nowhere, or somebody was first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ..errors import NotKnown
from ..model.asks import Ask, AskState


def unknown(noun: str, name: str, newest: Sequence[str], listing: str) -> NotKnown:
    """Nothing bears that name; near ones are sought in `newest`, `listing` is the command that shows all."""
    # Late: only who mistyped needs it, and every command imports this module.
    from difflib import get_close_matches  # noqa: PLC0415

    near = get_close_matches(name, newest, n=3, cutoff=0.6)
    remedy = f"Did you mean {' or '.join(near)}? " if near else ""
    return NotKnown(f"no {noun} is called {name!r}", remedy=f"{remedy}`{listing}` lists them.")


def ambiguous(noun: str, prefix: str, ids: Sequence[str]) -> NotKnown:
    """Several begin so."""
    shown = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
    return NotKnown(f"{prefix!r} is the beginning of several {noun}s: {shown}", remedy="Type more of the id.")


def standing(ask: Ask) -> str:
    """Why an ask cannot be answered any more: who was first, when and how."""
    if ask.state is AskState.CLOSED and not ask.answered_by:
        how = "" if ask.closed_as is None else f" ({ask.closed_as})"
        return f"ask {ask.id} was closed {_when(ask.closed)}{how}"
    said = ask.reply.value if ask.reply is not None else "; ".join(", ".join(a) for a in ask.answers)
    return f"ask {ask.id} was answered by {ask.answered_by} {_when(ask.answered)}: {said}"


def _when(ms: int | None) -> str:
    if ms is None:
        return "before"
    return f"at {datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"

"""Ids of our messages, chosen before they are sent: the same attempt always has the same ones.

The forms are the server's own (`msg_` + 12 hex digits of time + 14 of base 62; measured, 1.1.58 to 1.18.33):
an id out of order is ignored or answered for ever before 1.18.18.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from ..model.sessions import Message

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FIRST = "0" * 12
_TIME_DIGITS = 12


def first_ids(store_id: str, attempt_id: str) -> tuple[str, str]:
    """Message and part id of a fresh session's first prompt: they sort before anything the server makes.

    Unique per server as long as store ids are: the digest carries 83 bits.
    """
    tail = _tail(f"{store_id}|{attempt_id}|1")
    return f"msg_{_FIRST}{tail}", f"prt_{_FIRST}{tail}"


def follow_up_ids(store_id: str, attempt_id: str, turn: int, messages: Iterable[Message]) -> tuple[str, str]:
    """Ids of a later message in the same session: just behind the last one there.

    The server's ids begin with its clock, so one tick more than the last of them sorts after everything that
    exists and before everything the server will make, whatever our own clock says.
    """
    tail = _tail(f"{store_id}|{attempt_id}|{turn}")
    last = max((_time_of(m.id) for m in messages), default=0)
    # The last tick has no successor in twelve digits; the longer tail then still sorts behind.
    time = f"{min(last + 1, 16**_TIME_DIGITS - 1):0{_TIME_DIGITS}x}"
    return f"msg_{time}{tail}", f"prt_{time}{tail}"


def _time_of(message_id: str) -> int:
    try:
        return int(message_id.removeprefix("msg_")[:_TIME_DIGITS], 16)
    except ValueError:
        return 0  # not of the server's making: nothing to sort behind


def _tail(seed: str) -> str:
    number = int.from_bytes(sha256(seed.encode()).digest()[:16], "big")
    digits: list[str] = []
    for _ in range(14):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(digits)

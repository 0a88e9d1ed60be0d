"""A delivery: one event on its way to one durable handler, until it is done or dead."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeliveryState(StrEnum):
    """pending: to be handled (again) · done · dead: given up, kept for `reactor dead`."""

    PENDING = "pending"
    DONE = "done"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one handler; (handler, server, event) is unique, so an event found twice is one delivery.

    `event` is the event's id, `name` its wire name, `payload` the event as JSON, as `opencode/` read it and
    can read it again. `lane` is the session (or "" where there is none): deliveries of one handler and lane
    are handled in the order of `id`.
    """

    id: int
    handler: str
    server: str
    event: str
    name: str
    lane: str
    directory: str
    payload: str
    state: DeliveryState = DeliveryState.PENDING
    tries: int = 0
    not_before: int = 0
    error: str = ""
    created: int = 0
    recovered: bool = False

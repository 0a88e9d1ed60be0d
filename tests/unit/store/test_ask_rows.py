from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.model.asks import Ask
from opencode_reactor.model.deliveries import Delivery, DeliveryState
from opencode_reactor.store.ask_rows import ask_params, delivery_params, read_ask, read_delivery


def every_field(noun: type[Any]) -> st.SearchStrategy[Any]:
    """Values of all fields, those with defaults too: one that the rows forget does not come back."""
    wanted: dict[str, Any] = {f.name: ... for f in fields(noun)}
    return st.builds(noun, **wanted)


@given(every_field(Ask))
def test_every_ask_comes_back_as_it_was(ask: Ask) -> None:
    assert read_ask(ask_params(ask)) == ask


@given(every_field(Delivery))
def test_every_delivery_comes_back_with_the_id_and_state_the_store_gave(delivery: Delivery) -> None:
    row = {**delivery_params(delivery), "id": 4, "state": "dead"}
    assert read_delivery(row) == replace(delivery, id=4, state=DeliveryState.DEAD)

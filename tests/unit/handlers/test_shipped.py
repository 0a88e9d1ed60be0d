from __future__ import annotations

from typing import Any

from opencode_reactor.handling import Registry


async def test_all_shipped_handlers_load_side_by_side_and_say_what_they_do(stage: Any) -> None:
    loaded = stage.load()
    assert loaded.problems == ()
    assert all(handler.summary for handler in loaded.handlers)


async def test_between_them_they_react_to_idle_to_parts_to_permissions_and_to_questions(stage: Any) -> None:
    registry = Registry(stage.load().handlers)
    for name in ("session.idle", "message.part.updated", "permission.asked", "question.asked"):
        assert registry.wants(name)
    for older in ("permission.updated", "question.updated"):
        assert registry.wants(older)

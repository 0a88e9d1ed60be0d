from __future__ import annotations

import json
from typing import Any

from opencode_reactor.model.ask_ids import ask_id

# As 1.1.65 and 1.18.33 sent it (captures `question`); the newer one also has the event's id.
RECORDED = (
    '{"directory": "/project", "payload": {"type": "question.asked", "properties": {'
    '"id": "que_204086de3001qRTuYAvEgYMF0y", "sessionID": "ses_dfbf7923effeRqhenQ810Q1IW6", '
    '"questions": [{"question": "Which?", "header": "Pick", "options": ['
    '{"label": "A", "description": "a"}, {"label": "B", "description": "b"}]}], '
    '"tool": {"messageID": "msg_204086dc9001YoBnXTz2AyS7sc", "callID": "call_c20"}}}}'
)


def with_questions(*questions: dict[str, Any]) -> str:
    frame = json.loads(RECORDED)
    frame["payload"]["properties"]["questions"] = questions
    return json.dumps(frame)


async def test_a_person_is_told_what_is_asked_and_how_to_answer(stage: Any) -> None:
    await stage.play("announce_questions", RECORDED)
    ask = ask_id(stage.server, "que_204086de3001qRTuYAvEgYMF0y")
    assert stage.acted.calls == [("notify", f"Which? [A | B] - answer with: reactor answer {ask} LABEL")]


async def test_the_same_question_heard_twice_is_told_once_even_under_another_name(stage: Any) -> None:
    renamed = RECORDED.replace("question.asked", "question.updated")
    await stage.play("announce_questions", RECORDED, renamed)
    await stage.play("announce_questions", RECORDED)
    assert len(stage.acted.calls) == 1


async def test_several_questions_need_several_labels(stage: Any) -> None:
    free: dict[str, Any] = {"question": "Why?", "header": "Why", "options": []}
    await stage.play("announce_questions", with_questions(free, free))
    ((_, text),) = stage.acted.calls
    assert text.startswith("Why?; Why? - answer with: reactor answer a")
    assert text.endswith(" LABEL LABEL")


async def test_what_a_model_wrote_can_neither_move_the_cursor_nor_fill_the_screen(stage: Any) -> None:
    wild = {
        "question": "Sure?\n\x1b[2J\x07" + "y" * 5000,
        "header": "h",
        "options": [{"label": "yes\r\nno", "description": ""}],
    }
    await stage.play("announce_questions", with_questions(wild))
    ((_, text),) = stage.acted.calls
    assert text.isprintable()
    assert "[yes no]" in text
    assert len(text) < 300

"""Recognition on the final messages real servers sent, and the playbook's rows."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opencode_reactor.model.runs import Failure
from opencode_reactor.model.sessions import (
    AssistantMessage,
    MessageError,
    ReasoningPart,
    Retrying,
    StepStartPart,
    TextPart,
    ToolPart,
    ToolState,
)
from opencode_reactor.opencode.messages import message_from_wire
from opencode_reactor.pipeline.failures import (
    PLAYBOOK,
    REPAIRABLE,
    answer_text,
    playbook,
    recognise,
    recognise_retry,
    retry_after,
    ruled_out,
)
from opencode_reactor.pipeline.plan import Answer, StagePlan

CAPTURES = Path(__file__).parents[2] / "captures" / "final_messages.json"
RECORDED: list[dict[str, Any]] = json.loads(CAPTURES.read_text(encoding="utf-8"))
F = Failure


def recorded(scenario: str) -> Iterator[tuple[str, list[AssistantMessage]]]:
    """The completed assistant messages of a scenario, by version, oldest first."""
    for record in RECORDED:
        if record["scenario"] == scenario:
            messages = [message_from_wire(m) for m in record["messages"]]
            assistants = [m for m in messages if isinstance(m, AssistantMessage) and m.completed]
            if assistants:
                yield record["version"], assistants


# The class of the last completed message; None where there is an answer to be read.
FINAL: Mapping[str, Failure | None] = {
    "abort_bash": F.INTERRUPTED,
    "abort_midstream": F.INTERRUPTED,
    "bad_tool": None,
    "big_usage": None,
    "config_patch": F.INTERRUPTED,
    "conn_refused": F.PROVIDER_UNAVAILABLE,
    "content_filter": F.CONTENT_FILTERED,
    "ctx_overflow_compaction_off": F.CONTEXT_OVERFLOW,
    "error_400": F.INVALID_REQUEST,
    "error_401": F.AUTH_FAILED,
    "error_403": F.AUTH_FAILED,
    "error_404": F.INVALID_REQUEST,
    "error_429_recovers": None,
    "finish_length": None,
    "global_dispose": F.INTERRUPTED,
    "happy_json": None,
    "instance_dispose": F.INTERRUPTED,
    "no_text": F.OUTPUT_MISSING_TEXT,
    "not_json": None,
    "permission_abort": F.INTERRUPTED,
    "permission_once": None,
    "permission_reject": F.OUTPUT_MISSING_TEXT,
    "permission_reject_msg": None,
    "provider_auth_missing_key": F.AUTH_FAILED,
    "question_abort": F.INTERRUPTED,
    "question_reject": F.OUTPUT_MISSING_TEXT,
    "reason_only": F.OUTPUT_MISSING_TEXT,
    "retry_abort": F.INTERRUPTED,
    "stream_error_then_ok_CUT": None,
    "write_file": None,
}


@pytest.mark.parametrize(("scenario", "failure"), FINAL.items(), ids=FINAL)
def test_the_last_message_real_servers_sent_has_its_class(scenario: str, failure: Failure | None) -> None:
    versions = list(recorded(scenario))
    assert versions
    for version, messages in versions:
        found = recognise(messages[-1])
        assert (found[0] if found else None) is failure, f"{version}: {messages[-1]}"


def test_an_overflow_is_recognised_on_the_message_or_on_the_summary_that_failed() -> None:
    found = {version: recognise(messages[-1]) for version, messages in recorded("ctx_overflow")}
    assert [found[v] and found[v][0] for v in ("1.1.58", "1.1.65", "1.18.33")] == [F.CONTEXT_OVERFLOW] * 3  # type: ignore[index]


def test_exhausted_retries_end_in_provider_unavailable_with_and_without_a_status() -> None:
    classes = {
        (m.error.status, found[0])
        for _, messages in recorded("retry_exhaustion_700s")
        for m in messages
        if m.error and (found := recognise(m))
    }
    assert classes >= {(500, F.PROVIDER_UNAVAILABLE), (None, F.PROVIDER_UNAVAILABLE)}


def test_a_structured_answer_the_server_could_not_get_is_not_json() -> None:
    # 1.1.58 ignores the format and answers in prose.
    found = {v: recognise(messages[-1]) for v, messages in recorded("structured_model") if v != "1.1.58"}
    assert {v: f[0] for v, f in found.items() if f} == dict.fromkeys(found, F.OUTPUT_NOT_JSON)
    assert found


def test_an_overload_in_mid_stream_is_the_providers() -> None:
    ((_, messages),) = [(v, m) for v, m in recorded("stream_error_then_ok_STR") if v == "1.1.58"]
    assert recognise(messages[-1]) == (
        F.PROVIDER_UNAVAILABLE,
        'UnknownError: "overloaded mid stream"',
    )


def test_the_servers_own_retries_are_classed_by_text_because_there_is_nothing_else() -> None:
    classes = {
        r["scenario"]: recognise_retry(Retrying(s["attempt"], s["message"], s["next"]))[0]
        for r in RECORDED
        for s in r["retries"]
    }
    assert classes["error_429"] is F.RATE_LIMITED
    assert classes["error_429_retry_after"] is F.RATE_LIMITED
    for scenario in ("error_500", "error_503", "error_529", "stream_cut", "conn_refused"):
        assert classes[scenario] is F.PROVIDER_UNAVAILABLE


def test_the_servers_own_reason_for_a_retry_goes_before_its_text() -> None:
    status = Retrying(1, "come back later", 0, reason="free_tier_limit")
    assert recognise_retry(status)[0] is F.RATE_LIMITED


ERRORS = [
    (MessageError("APIError", "slow down", 429), F.RATE_LIMITED),
    (MessageError("APIError", "You exceeded your current quota", 400), F.RATE_LIMITED),
    (MessageError("APIError", "no", 403, body="rate limit"), F.AUTH_FAILED),
    (MessageError("APIError", "no", 500, body='{"type":"FreeUsageLimitError"}'), F.RATE_LIMITED),
    (MessageError("APIError", "too large", 413), F.CONTEXT_OVERFLOW),
    (MessageError("APIError", "the prompt is too long", 400), F.CONTEXT_OVERFLOW),
    (MessageError("APIError", "no", 422), F.INVALID_REQUEST),
    (MessageError("APIError", "no", 408), F.PROVIDER_UNAVAILABLE),
    (MessageError("APIError", "no", 529), F.PROVIDER_UNAVAILABLE),
    (MessageError("APIError", "no answer", retryable=True), F.PROVIDER_UNAVAILABLE),
    (MessageError("APIError", "no answer"), F.UNKNOWN),
    (MessageError("UnknownError", "Malformed_HTTP_Response"), F.PROVIDER_UNAVAILABLE),
    (MessageError("UnknownError", "Model not found: a/b."), F.INVALID_REQUEST),
    (MessageError("UnknownError", "boom"), F.UNKNOWN),
    (MessageError("BrandNewError", ""), F.UNKNOWN),
    (MessageError("MessageOutputLengthError"), F.OUTPUT_NOT_JSON),
    (MessageError("ContentFilterError", "no"), F.CONTENT_FILTERED),
]


def answer(**changes: Any) -> AssistantMessage:
    return replace(AssistantMessage("msg_2", "ses_1", "msg_1", 1, completed=2, finish="stop"), **changes)


@pytest.mark.parametrize(("error", "failure"), ERRORS, ids=[f"{e.name}-{e.status}-{f}" for e, f in ERRORS])
def test_errors_are_classed_top_down(error: MessageError, failure: Failure) -> None:
    found = recognise(answer(error=error))
    assert found is not None
    assert found[0] is failure
    assert found[1].removeprefix("truncated: ").startswith(error.name)


def test_a_megabyte_of_an_error_stays_one_line() -> None:
    found = recognise(answer(error=MessageError("UnknownError", "x\n" * 500_000)))
    assert found is not None
    assert len(found[1]) < 400
    assert "\n" not in found[1]


def test_only_text_after_the_last_step_is_the_answer() -> None:
    def text(words: str, **marks: bool) -> TextPart:
        return TextPart("prt", "ses_1", "msg_2", words, **marks)

    step = StepStartPart("prt", "ses_1", "msg_2")
    parts = (
        step,
        text("half"),
        step,
        text("  "),
        text("whole"),
        text("sum", synthetic=True),
        text("no", ignored=True),
    )
    assert answer_text(answer(parts=parts)) == "whole"
    assert recognise(answer(parts=parts)) is None
    assert answer_text(answer(parts=(step, text("half"), step))) == ""


def test_a_content_filter_wins_over_the_text_it_left() -> None:
    part = TextPart("prt", "ses_1", "msg_2", "so far so")
    found = recognise(answer(finish="content-filter", parts=(part,)))
    assert found is not None
    assert found[0] is F.CONTENT_FILTERED


def test_missing_text_says_what_was_there_instead() -> None:
    thought = ReasoningPart("prt", "ses_1", "msg_2", "thinking hard")
    assert recognise(answer(parts=(thought,))) == (F.OUTPUT_MISSING_TEXT, "the answer is reasoning only")
    ((_, messages),) = [(v, m) for v, m in recorded("permission_reject") if v == "1.18.33"]
    found = recognise(messages[-1])
    assert found is not None
    assert found[1].startswith("the turn ended at a refused bash: The user rejected permission")


@pytest.mark.parametrize("before", ["", "Error: "])
def test_a_tool_call_that_a_rule_refused_is_told_from_one_that_failed(before: str) -> None:
    text = (
        f"{before}The user has specified a rule which prevents you from using this specific tool call. Here"
    )
    refused = ToolPart("prt_1", "ses_1", "msg_2", "bash", "call_1", ToolState.ERROR, error=text)
    failed = replace(refused, error="exit 1")
    printed = replace(refused, state=ToolState.COMPLETED, error="", output=text)
    assert ruled_out([answer(parts=(failed, printed, refused))]) == [refused]
    assert ruled_out(message for _, found in recorded("permission_reject") for message in found) == []


WAITS: list[tuple[dict[str, str], int | None]] = [
    ({"retry-after-ms": "1500", "retry-after": "9"}, 1500),
    ({"retry-after": "7"}, 7000),
    ({"retry-after": "0.5"}, 500),
    ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30_000),
    ({"retry-after": "Thu, 01 Jan 1970 00:00:05 GMT"}, 4_998),  # against the message's own completion, 2 ms
    ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "-5"}, None),
    ({"retry-after": "1e400"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "wait"), WAITS)
def test_the_providers_own_wait_is_read_in_all_its_forms(headers: dict[str, str], wait: int | None) -> None:
    error = MessageError("APIError", "slow down", 429, headers=headers)
    assert retry_after(answer(error=error)) == wait


def test_without_an_error_nobody_asked_to_wait() -> None:
    assert retry_after(answer()) is None


def test_the_recorded_retry_after_is_read() -> None:
    errors = [m for r in RECORDED for m in r["messages"] if "responseHeaders" in str(m)]
    assert errors
    for wire in errors:
        message = message_from_wire(wire)
        assert isinstance(message, AssistantMessage)
        assert retry_after(message) in (None, 2000, 5000)


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failure_has_a_row(failure: Failure) -> None:
    waits = failure in {F.PENDING_PERMISSION, F.PENDING_QUESTION}
    assert bool(PLAYBOOK[failure]) is not waits
    assert Answer.REPAIR not in PLAYBOOK[failure] or failure in REPAIRABLE


ROWS = {
    F.OUTPUT_NOT_JSON: "repair fresh",
    F.OUTPUT_MISSING_TEXT: "repair escalate",
    F.TIMEOUT: "fresh",
    F.RATE_LIMITED: "park",
    F.PROVIDER_UNAVAILABLE: "park",
    F.AUTH_FAILED: "escalate",
    F.CONTEXT_OVERFLOW: "fresh larger escalate",
    F.INVALID_REQUEST: "stop",
    F.INTERRUPTED: "escalate",
    F.SERVER_LOST: "fresh",
    F.PROMPT_LOST: "fresh",
    F.CONTENT_FILTERED: "escalate",
    F.CHECK_FAILED: "repair fresh",
    F.BUDGET_EXCEEDED: "stop",
    F.UNKNOWN: "fresh escalate",
}


@pytest.mark.parametrize(("failure", "row"), ROWS.items(), ids=ROWS)
def test_the_row_begins_as_the_design_says(failure: Failure, row: str) -> None:
    answers = row.split()
    assert [str(a) for a in PLAYBOOK[failure][: len(answers)]] == answers


def test_a_stages_own_row_goes_before_the_default() -> None:
    stage = StagePlan("draft", playbook={F.TIMEOUT: (Answer.STOP,)})
    assert playbook(stage, F.TIMEOUT) == (Answer.STOP,)
    assert playbook(stage, F.UNKNOWN) == PLAYBOOK[F.UNKNOWN]

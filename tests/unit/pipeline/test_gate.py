"""The completion gate on what real servers left in their sessions, and on what they might.

`captures/sessions.json` holds every session of 73 recorded scenarios as it stood when the recording ended:
its messages and parts, its status, the asks nobody had answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.model.asks import Ask, AskKind
from opencode_reactor.model.events import (
    MessagePartDelta,
    MessagePartRemoved,
    MessagePartUpdated,
    MessageUpdated,
    SessionIdle,
    SessionStatus,
)
from opencode_reactor.model.runs import Failure, Turn, TurnKind, WaitingOn
from opencode_reactor.model.sessions import (
    AssistantMessage,
    Busy,
    CompactionPart,
    Idle,
    Json,
    Message,
    MessageError,
    Part,
    ReasoningPart,
    Retrying,
    Status,
    StepFinishPart,
    StepStartPart,
    TextPart,
    Tokens,
    ToolPart,
    ToolState,
    UserMessage,
)
from opencode_reactor.opencode.messages import message_from_wire
from opencode_reactor.opencode.wire import event_from_wire
from opencode_reactor.pipeline.facts import Seen
from opencode_reactor.pipeline.gate import (
    Asking,
    Passed,
    Quiet,
    Refuted,
    Unsent,
    Verdict,
    Whole,
    Working,
    answers_in,
    find_turn,
    judge,
    window_of,
)

CAPTURES = Path(__file__).parents[2] / "captures"
SESSIONS: list[dict[str, Any]] = json.loads((CAPTURES / "sessions.json").read_text(encoding="utf-8"))
OBJECT: Mapping[str, Json] = {"type": "object"}
OLD, NEW = "1.1.58", "1.18.33"


# What real servers left behind


def recorded(scenario: str, version: str) -> list[tuple[Turn, Seen]]:
    """Every prompt of a scenario's root sessions, with all of its session, in the order of the recording."""
    (record,) = (r for r in SESSIONS if (r["scenario"], r["version"]) == (scenario, version))
    roots = [s for s in record["sessions"] if "parent" not in s]
    return [
        (turn, Seen(1, status_of(s), messages))
        for s in roots
        for messages in [messages_of(s)]
        for turn in prompts_in(messages)
    ]


def messages_of(session: dict[str, Any]) -> tuple[Message, ...]:
    return tuple(
        message_from_wire(
            {
                "info": {**m, "sessionID": session["id"]},
                "parts": [{**p, "sessionID": session["id"], "messageID": m["id"]} for p in m["parts"]],
            }
        )
        for m in session["messages"]
    )


def status_of(session: dict[str, Any]) -> Status | None:
    match session.get("status"):
        case None:
            return None
        case {"type": "retry", "attempt": attempt, "message": message, "next": until}:
            return Retrying(attempt, message, until)
        case _:
            return Busy()


def prompts_in(messages: Sequence[Message]) -> Iterator[Turn]:
    """As if each message of a person had been ours."""
    for message in messages:
        texts = [p for p in message.parts if isinstance(p, TextPart) and not p.synthetic]
        if isinstance(message, UserMessage) and texts:
            yield Turn(1, TurnKind.FIRST, texts[0].text, message.id, texts[0].id)


def word(verdict: Verdict) -> str:
    """The verdict in one word; a failure's own."""
    return str(verdict.failure) if isinstance(verdict, Refuted) else type(verdict).__name__.lower()


F = Failure
P, W, Q = "passed", "working", "quiet"

# For each prompt of a scenario the verdict where any text will do: one tuple for both versions, or one each.
EXPECTED: Mapping[str, tuple[str, ...] | dict[str, tuple[str, ...]]] = {
    "abort_bash": (F.INTERRUPTED,),
    "abort_midstream": (F.INTERRUPTED,),
    "bad_tool": (P,),
    "big_usage": (P,),
    "config_patch": {OLD: (W, W), NEW: (F.INTERRUPTED, F.INTERRUPTED)},
    "conn_refused": {OLD: (F.PROVIDER_UNAVAILABLE,), NEW: (W,)},
    "content_filter": (F.CONTENT_FILTERED,),
    "ctx_overflow": (F.CONTEXT_OVERFLOW,),
    "ctx_overflow_compaction_off": (F.CONTEXT_OVERFLOW,),
    "ctx_overflow_recovers_by_compaction": {OLD: (F.CONTEXT_OVERFLOW,), NEW: (P,)},
    "doom_loop": {NEW: (P,)},
    "error_401": (F.AUTH_FAILED,),
    "error_429": (W,),
    "error_429_recovers": (P,),
    "finish_length": (P,),
    "global_dispose": {OLD: (W, W), NEW: (F.INTERRUPTED, F.INTERRUPTED)},
    "happy_json": (P,),
    "instance_dispose": {OLD: (W, W), NEW: (F.INTERRUPTED, F.INTERRUPTED)},
    "message_id_resend": {NEW: (Q, Q, P, P, P)},
    "no_text": (F.OUTPUT_MISSING_TEXT,),
    "not_json": (P,),
    "permission_abort": {OLD: (Q,), NEW: (F.INTERRUPTED,)},
    "permission_once": (P,),
    "permission_reject": (F.OUTPUT_MISSING_TEXT,),
    "permission_reject_msg": (P,),
    "provider_auth_missing_key": (W, F.AUTH_FAILED),
    "question": (P,),
    "question_abort": {OLD: (Q,), NEW: (F.INTERRUPTED,)},
    "question_reject": (F.OUTPUT_MISSING_TEXT,),
    "reason_only": (F.OUTPUT_MISSING_TEXT,),
    "retry_abort": (F.INTERRUPTED,),
    "retry_exhaustion_700s": {NEW: (F.PROVIDER_UNAVAILABLE, F.PROVIDER_UNAVAILABLE, F.INTERRUPTED)},
    "server_kill9": (W, W, W, W, W),
    "stream_cut": (W,),
    "stream_error_then_ok_CUT": (P,),
    "subagent_permission": (P,),
    "tool_loop": (P,),
    "two_prompts_while_busy": (P, P),
}
CASES = [
    (scenario, version, expected[version] if isinstance(expected, dict) else expected)
    for scenario, expected in EXPECTED.items()
    for version in (expected if isinstance(expected, dict) else (OLD, NEW))
]


@pytest.mark.parametrize(("scenario", "version", "expected"), CASES, ids=[f"{s}-{v}" for s, v, _ in CASES])
def test_a_recorded_session_has_its_verdict(scenario: str, version: str, expected: tuple[str, ...]) -> None:
    found = [word(judge(turn, seen, None).verdict) for turn, seen in recorded(scenario, version)]
    assert found == [str(e) for e in expected]


def test_every_recorded_scenario_is_judged() -> None:
    assert {(r["scenario"], r["version"]) for r in SESSIONS} == {(s, v) for s, v, _ in CASES}


@pytest.mark.parametrize(
    ("scenario", "version", "output"),
    [
        ("happy_json", OLD, {"ok": 1}),
        ("happy_json", NEW, {"ok": 1}),
        ("big_usage", OLD, {"ok": 1}),
        ("big_usage", NEW, {"ok": 1}),
        ("stream_error_then_ok_CUT", NEW, {"ok": True, "pad": "aaaaaaaaaaaaaaaaaaaaa"}),
    ],
)
def test_a_recorded_answer_that_fits_the_contract_is_read(scenario: str, version: str, output: Json) -> None:
    ((turn, seen),) = recorded(scenario, version)
    verdict = judge(turn, seen, OBJECT).verdict
    assert isinstance(verdict, Passed)
    assert verdict.output == output


@pytest.mark.parametrize(
    ("scenario", "version", "detail"),
    [
        ("not_json", OLD, "no JSON in the answer"),
        ("not_json", NEW, "no JSON in the answer"),
        ("finish_length", OLD, "truncated: the JSON cannot be read"),
        ("finish_length", NEW, "truncated: the JSON cannot be read"),
        # 1.1.58 leaves the beginning that was cut off before the answer it then got.
        ("stream_error_then_ok_CUT", OLD, "the JSON cannot be read"),
        ("ctx_overflow_recovers_by_compaction", NEW, "no JSON in the answer"),
    ],
)
def test_a_recorded_answer_that_breaks_the_contract_says_how(
    scenario: str, version: str, detail: str
) -> None:
    ((turn, seen),) = recorded(scenario, version)
    verdict = judge(turn, seen, OBJECT).verdict
    assert isinstance(verdict, Refuted)
    assert (verdict.failure, verdict.detail) == (F.OUTPUT_NOT_JSON, detail)
    assert verdict.complaint


@pytest.mark.parametrize("version", [OLD, NEW])
def test_prose_that_a_compaction_put_behind_a_good_answer_does_not_take_its_place(version: str) -> None:
    ((turn, seen),) = recorded("big_usage", version)
    behind = [m for m in seen.messages if isinstance(m, AssistantMessage) and m.parent != turn.message]
    assert behind, "the recording has a compaction and an answer behind it"
    verdict = judge(turn, seen, None).verdict
    assert isinstance(verdict, Passed)
    assert verdict.text == '{"ok":1}'


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_turn_whose_server_was_killed_never_completes(version: str) -> None:
    """After the restart the status map is empty, and what was there when it died stays as it was."""
    for turn, seen in recorded("server_kill9", version):
        verdict = judge(turn, replace(seen, status=None), None).verdict
        assert isinstance(verdict, Quiet)


def test_each_of_two_prompts_in_one_session_has_its_own_answer() -> None:
    texts: list[str] = []
    for turn, seen in recorded("two_prompts_while_busy", NEW):
        verdict = judge(turn, seen, None).verdict
        assert isinstance(verdict, Passed)
        texts.append(verdict.text)
    assert texts == ['{"a":1}', '{"b":2}']


def test_usage_counts_every_step_of_the_session() -> None:
    ((turn, seen),) = recorded("tool_loop", NEW)
    judgement = judge(turn, seen, None)
    steps = [p for m in seen.messages for p in m.parts if isinstance(p, StepFinishPart)]
    assert len(steps) > 1
    assert judgement.tokens.total == sum(step.tokens.total for step in steps) > 0


# While a recorded stream comes in


class Folded:
    """A session as its events tell it."""

    def __init__(self) -> None:
        self.status: Status | None = None
        self._heads: dict[str, Message] = {}
        self._parts: dict[str, dict[str, Part]] = {}

    def take(self, event: object) -> None:
        match event:
            case MessageUpdated(message=message):
                self._heads[message.id] = message
            case MessagePartUpdated(part=part):
                self._parts.setdefault(part.message, {})[part.id] = part
            case MessagePartDelta(message=message, part=part, delta=delta):
                old = self._parts.get(message, {}).get(part)
                if isinstance(old, TextPart | ReasoningPart):
                    self._parts[message][part] = replace(old, text=old.text + delta)
            case MessagePartRemoved(message=message, part=part):
                self._parts.get(message, {}).pop(part, None)
            case SessionStatus(status=status):
                self.status = None if isinstance(status, Idle) else status
            case SessionIdle():
                self.status = None
            case _:
                pass

    @property
    def messages(self) -> tuple[Message, ...]:
        heads = sorted(self._heads.values(), key=lambda m: (m.created, m.id))
        return tuple(replace(m, parts=tuple(self._parts.get(m.id, {}).values())) for m in heads)


STREAMS = [
    (path, "passed")
    for path in sorted(CAPTURES.glob("*/*.jsonl"))
    if path.name.split(".")[0] in {"happy_json", "big_usage", "permission_once", "question"}
] + [(path, "interrupted") for path in sorted(CAPTURES.glob("*/abort_midstream.*.jsonl"))]


@pytest.mark.parametrize(("path", "end"), STREAMS, ids=[f"{p.parent.name}-{p.stem}" for p, _ in STREAMS])
def test_at_no_moment_of_a_recorded_stream_a_verdict_is_given_that_its_end_takes_back(
    path: Path, end: str
) -> None:
    sessions: dict[str, Folded] = {}
    given: dict[tuple[str, str], list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        event = event_from_wire(json.loads(line)["data"], server="http://s", connection=f"c{number}")
        if event.session_id is None:
            continue
        folded = sessions.setdefault(event.session_id, Folded())
        folded.take(event)
        messages = folded.messages
        for turn in prompts_in(messages):
            verdict = judge(turn, Seen(number, folded.status, messages), None).verdict
            given.setdefault((event.session_id, turn.message), []).append(word(verdict))
    assert given
    for verdicts in given.values():
        assert verdicts[-1] == end
        first = verdicts.index(end)
        assert set(verdicts[:first]) <= {W, Q}
        # A compaction may begin behind an answer that stood: the session is busy again, and ends as it was.
        assert set(verdicts[first:]) <= {end, W, Q}


# What servers might leave behind

TURN = Turn(1, TurnKind.FIRST, "Do it.", "msg_1", "prt_1")
OURS = UserMessage("msg_1", "ses", 1, parts=(TextPart("prt_1", "ses", "msg_1", "Do it."),))


def answer(
    text: str = "done",
    *,
    number: int = 2,
    parent: str = "msg_1",
    finish: str | None = "stop",
    completed: int | None = 9,
    **more: Any,
) -> AssistantMessage:
    message = f"msg_{number}"
    parts = (StepStartPart(f"p{number}a", "ses", message), TextPart(f"p{number}b", "ses", message, text))
    return AssistantMessage(
        message, "ses", parent, number, completed=completed, finish=finish, parts=parts, **more
    )


def user(number: int, *parts: Part) -> UserMessage:
    return UserMessage(f"msg_{number}", "ses", number, parts=parts)


def asked(number: int, *, synthetic: bool = False) -> UserMessage:
    part = TextPart(f"prt_{number}", "ses", f"msg_{number}", "Go on.", synthetic=synthetic)
    return user(number, part)


def compaction(number: int) -> UserMessage:
    return user(number, CompactionPart(f"prt_{number}", "ses", f"msg_{number}", auto=True))


def verdict_on(
    *messages: Message,
    status: Status | None = None,
    contract: Mapping[str, Json] | None = None,
    asks: tuple[Ask, ...] = (),
) -> Verdict:
    return judge(TURN, Seen(10, status, messages, asks), contract).verdict


def test_a_session_without_our_message_was_not_prompted() -> None:
    assert verdict_on() == Unsent(partial=False)
    assert verdict_on(asked(7), answer(parent="msg_7")) == Unsent(partial=False)


def test_our_message_without_its_part_is_half_a_message() -> None:
    bare = replace(OURS, parts=())
    assert find_turn(TURN, (bare,)) is Whole.PARTIAL
    assert verdict_on(bare, answer()) == Unsent(partial=True)


def test_a_part_that_was_put_in_besides_ours_changes_nothing() -> None:
    fuller = replace(OURS, parts=(TextPart("prt_0", "ses", "msg_1", "x", synthetic=True), *OURS.parts))
    assert find_turn(TURN, (fuller,)) is Whole.WHOLE


def test_absent_from_the_status_map_means_nothing_without_an_answer() -> None:
    assert isinstance(verdict_on(OURS), Quiet)


@pytest.mark.parametrize(
    ("status", "answered"),
    [(Busy(), False), (Retrying(2, "Service Unavailable", 99), False)],
)
def test_a_session_that_works_is_not_done(status: Status, answered: bool) -> None:
    verdict = verdict_on(OURS, answer(completed=None), status=status)
    assert isinstance(verdict, Working)
    assert (verdict.status, verdict.answered) == (status, answered)


def test_an_answer_to_another_message_is_none_to_ours() -> None:
    assert isinstance(verdict_on(OURS, asked(2), answer(number=3, parent="msg_2")), Quiet)


def test_what_a_person_wrote_behind_ours_and_what_came_of_it_does_not_touch_our_answer() -> None:
    verdict = verdict_on(OURS, answer("ours"), asked(3), answer("theirs", number=4, parent="msg_3"))
    assert verdict == Passed("ours", None)


def test_a_summary_is_no_answer() -> None:
    assert isinstance(verdict_on(OURS, compaction(2), answer(number=3, parent="msg_2", summary=True)), Quiet)


def test_the_answer_to_a_continuation_behind_a_compaction_counts_as_ours() -> None:
    turn = (
        OURS,
        answer("half", finish="tool-calls"),
        compaction(3),
        answer("so far", number=4, parent="msg_3", summary=True),
        asked(5, synthetic=True),
        answer("the end", number=6, parent="msg_5"),
    )
    assert verdict_on(*turn) == Passed("the end", None)


def test_with_a_contract_the_candidate_that_parses_is_taken() -> None:
    turn = (OURS, answer("prose"), asked(3, synthetic=True), answer('{"a": 1}', number=4, parent="msg_3"))
    assert verdict_on(*turn, contract=OBJECT) == Passed('{"a": 1}', {"a": 1})
    assert verdict_on(*turn) == Passed("prose", None)


def test_of_several_candidates_that_do_not_parse_the_one_under_our_id_is_complained_about() -> None:
    turn = (OURS, answer("first"), asked(3, synthetic=True), answer("second", number=4, parent="msg_3"))
    verdict = verdict_on(*turn, contract=OBJECT)
    assert isinstance(verdict, Refuted)
    assert verdict.text == "first"


def test_the_last_answer_under_our_id_is_the_one() -> None:
    steps = (answer("step", number=2, finish="tool-calls"), answer("end", number=3))
    assert verdict_on(OURS, *steps) == Passed("end", None)


def test_a_turn_that_stands_still_between_two_steps_is_not_over() -> None:
    assert isinstance(verdict_on(OURS, answer("I shall look.", finish="tool-calls")), Quiet)


def test_what_was_said_before_a_refused_tool_is_no_answer() -> None:
    announced = answer("I shall look.", finish="tool-calls")
    refused = ToolPart("t", "ses", "msg_2", "bash", "c1", ToolState.ERROR, error="The user rejected it")
    verdict = verdict_on(OURS, replace(announced, parts=(*announced.parts, refused)))
    assert isinstance(verdict, Refuted)
    assert verdict.failure is F.OUTPUT_MISSING_TEXT
    assert verdict.detail == "the turn ended at a refused bash: The user rejected it"


def test_text_of_an_earlier_step_put_in_or_blank_is_no_answer() -> None:
    message = "msg_2"
    parts: tuple[Part, ...] = (
        TextPart("a", "ses", message, "of an earlier step"),
        StepStartPart("b", "ses", message),
        TextPart("c", "ses", message, "synthetic", synthetic=True),
        TextPart("d", "ses", message, "ignored", ignored=True),
        TextPart("e", "ses", message, " \n"),
        ReasoningPart("f", "ses", message, "thinking"),
    )
    verdict = verdict_on(OURS, replace(answer(), parts=parts))
    assert isinstance(verdict, Refuted)
    assert verdict.failure is F.OUTPUT_MISSING_TEXT
    spoken = (*parts, TextPart("g", "ses", message, "the answer"))
    assert verdict_on(OURS, replace(answer(), parts=spoken)) == Passed("the answer", None)


def test_the_first_idle_after_an_abort_comes_before_completion_and_means_look_again() -> None:
    cut = answer("half", completed=None, finish=None)
    assert isinstance(verdict_on(OURS, cut), Quiet)
    aborted = replace(cut, completed=9, error=MessageError("MessageAbortedError"))
    verdict = verdict_on(OURS, aborted)
    assert isinstance(verdict, Refuted)
    assert verdict.failure is F.INTERRUPTED


def test_an_error_is_a_failure_however_good_the_text_before_it() -> None:
    verdict = verdict_on(
        OURS, answer('{"a": 1}', error=MessageError("APIError", status=500)), contract=OBJECT
    )
    assert isinstance(verdict, Refuted)
    assert verdict.failure is F.PROVIDER_UNAVAILABLE


def test_the_providers_own_wait_comes_with_the_failure() -> None:
    error = MessageError("APIError", status=429, headers={"retry-after": "7"})
    verdict = verdict_on(OURS, answer("", error=error))
    assert isinstance(verdict, Refuted)
    assert (verdict.failure, verdict.retry_after) == (F.RATE_LIMITED, 7000)


def test_where_the_compaction_itself_failed_its_error_is_the_turns() -> None:
    overflow = MessageError("ContextOverflowError", "Session too large to compact")
    turn = (
        OURS,
        answer("", finish=None, completed=9),
        compaction(3),
        answer("", number=4, parent="msg_3", summary=True, finish=None, error=overflow),
    )
    verdict = verdict_on(*turn)
    assert isinstance(verdict, Refuted)
    assert verdict.failure is F.CONTEXT_OVERFLOW


def ask(kind: AskKind) -> Ask:
    return Ask("a1", kind, "http://s", "per_1", session="ses_child")


@pytest.mark.parametrize(
    ("kinds", "waiting_on"),
    [
        ((AskKind.PERMISSION,), WaitingOn.PENDING_PERMISSION),
        ((AskKind.QUESTION,), WaitingOn.PENDING_QUESTION),
        ((AskKind.QUESTION, AskKind.PERMISSION), WaitingOn.PENDING_PERMISSION),
    ],
)
def test_a_turn_with_an_open_ask_in_its_tree_waits_for_the_answer(
    kinds: tuple[AskKind, ...], waiting_on: WaitingOn
) -> None:
    asks = tuple(ask(kind) for kind in kinds)
    assert verdict_on(OURS, answer(completed=None), status=Busy(), asks=asks) == Asking(waiting_on)


def test_nothing_passes_while_an_ask_is_still_being_closed() -> None:
    assert isinstance(verdict_on(OURS, answer(), asks=(ask(AskKind.PERMISSION),)), Quiet)


def test_what_held_and_what_did_not_stands_in_the_evidence_up_to_the_verdict() -> None:
    passed = judge(TURN, Seen(10, None, (OURS, answer('{"a": 1}'))), OBJECT)
    assert all(e.holds for e in passed.evidence)
    assert {e.at for e in passed.evidence} == {10}
    assert [e.check for e in passed.evidence if e.check in {"sent", "idle", "answered", "completed"}] == [
        "sent",
        "idle",
        "answered",
        "completed",
    ]
    refuted = judge(TURN, Seen(10, None, (OURS, answer("prose"))), OBJECT)
    assert [e.check for e in refuted.evidence if not e.holds] == ["contract"]
    working = judge(TURN, Seen(10, Busy(), (OURS, answer())), OBJECT)
    assert [e.check for e in working.evidence if not e.holds] == ["idle"]


def test_what_was_spent_is_counted_whatever_the_verdict() -> None:
    spent = StepFinishPart("p9", "ses", "msg_2", "stop", Tokens(input=5, output=2), 0.25)
    fuller = replace(answer(), parts=(*answer().parts, spent))
    for status in (None, Busy()):
        judgement = judge(TURN, Seen(10, status, (OURS, fuller)), None)
        assert (judgement.tokens.total, judgement.cost) == (7, 0.25)


# Whatever stands in a session


@st.composite
def messages_after_ours(draw: st.DrawFn) -> tuple[Message, ...]:
    messages: list[Message] = [OURS]
    for number in range(2, draw(st.integers(2, 8))):
        parents = [m.id for m in messages if isinstance(m, UserMessage)]
        messages.append(
            draw(
                st.one_of(
                    st.builds(asked, st.just(number), synthetic=st.booleans()),
                    st.builds(compaction, st.just(number)),
                    st.builds(
                        answer,
                        st.sampled_from(["", "prose", '{"a": 1}', "[1"]),
                        number=st.just(number),
                        parent=st.sampled_from([*parents, "msg_elsewhere"]),
                        finish=st.sampled_from([None, "stop", "tool-calls", "length", "content-filter"]),
                        completed=st.sampled_from([None, 9]),
                        summary=st.booleans(),
                        error=st.sampled_from([None, MessageError("MessageAbortedError")]),
                    ),
                )
            )
        )
    return tuple(messages)


@given(
    messages_after_ours(),
    st.sampled_from([None, Busy(), Retrying(1, "x", 2)]),
    st.sampled_from([None, OBJECT]),
    st.booleans(),
)
def test_nothing_passes_but_a_finished_answer_of_an_idle_session(
    messages: tuple[Message, ...],
    status: Status | None,
    contract: Mapping[str, Json] | None,
    asking: bool,
) -> None:
    asks = (ask(AskKind.PERMISSION),) if asking else ()
    judgement = judge(TURN, Seen(10, status, messages, asks), contract)
    verdict = judgement.verdict
    assert isinstance(verdict, Unsent | Asking | Working | Quiet | Passed | Refuted)
    if status is not None:
        assert isinstance(verdict, Working | Asking)
    if not isinstance(verdict, Passed):
        return
    assert status is None
    assert not asks
    window = list(window_of(TURN.message, messages))
    good = [
        m
        for m in answers_in(TURN.message, window)
        if m.completed and not m.error and not m.summary and m.finish not in {None, "tool-calls"}
    ]
    assert verdict.text in {p.text for m in good for p in m.parts if isinstance(p, TextPart)}
    assert (contract is None) == (verdict.output is None)
    assert all(e.holds for e in judgement.evidence)

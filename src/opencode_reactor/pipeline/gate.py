"""The completion gate: whether a turn is over and its answer counts. Every condition leaves evidence.

Rules: nothing is believed because it was announced; `judge` sees only what a look found. The order of the
conditions is the order of the evidence, and the first that fails decides the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import TypeAlias

from ..model.asks import AskKind
from ..model.runs import Evidence, Failure, Turn, WaitingOn
from ..model.sessions import (
    NO_TOKENS,
    AssistantMessage,
    Busy,
    CompactionPart,
    Json,
    Message,
    Retrying,
    StepFinishPart,
    TextPart,
    Tokens,
    UserMessage,
)
from .contract import Parsed, parse
from .facts import Seen
from .failures import answer_text, recognise, retry_after

NOT_FINAL = "tool-calls"
"""The finish of a step that asked for tools: completed, and not the end of the turn."""


@dataclass(frozen=True, slots=True)
class Unsent:
    """Our message is not in the session, or only without its part (the server died while storing it)."""

    partial: bool


@dataclass(frozen=True, slots=True)
class Asking:
    """The turn waits for an answer to an ask in its tree."""

    waiting_on: WaitingOn


@dataclass(frozen=True, slots=True)
class Working:
    """The turn runs, or the server itself retries its provider.

    `answered`: a finished answer is there already, so the turn's end is near, or a compaction goes on.
    """

    status: Busy | Retrying
    answered: bool


@dataclass(frozen=True, slots=True)
class Quiet:
    """Idle, and no finished answer: just begun, just ending, or never to change (the server died)."""

    fact: str


@dataclass(frozen=True, slots=True)
class Passed:
    """The answer counts, the `check` commands aside."""

    text: str
    output: Json


@dataclass(frozen=True, slots=True)
class Refuted:
    """The turn is over and its answer does not count. `complaint` is what the model can be told.

    `retry_after` is the provider's own wait in milliseconds, where it gave one.
    """

    failure: Failure
    detail: str
    text: str = ""
    complaint: str = ""
    retry_after: int | None = None


Verdict: TypeAlias = Unsent | Asking | Working | Quiet | Passed | Refuted


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with what it rests on and what the session has used so far."""

    verdict: Verdict
    evidence: tuple[Evidence, ...]
    tokens: Tokens
    cost: float


def judge(turn: Turn, seen: Seen, contract: Mapping[str, Json] | None) -> Judgement:
    """Weigh one look at an attempt's session against the turn that was sent into it."""
    scale = _Scale(seen.at)
    verdict = scale.weigh(turn, seen, contract)
    steps = [p for m in seen.messages for p in m.parts if isinstance(p, StepFinishPart)]
    tokens = sum((step.tokens for step in steps), NO_TOKENS)
    return Judgement(verdict, tuple(scale.evidence), tokens, sum(step.cost for step in steps))


class _Scale:
    """One judgement in the making: each condition adds its evidence before it may end the matter."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.evidence: list[Evidence] = []

    def weigh(self, turn: Turn, seen: Seen, contract: Mapping[str, Json] | None) -> Verdict:
        ours = find_turn(turn, seen.messages)
        if not self._found("sent", f"our message {turn.message}", holds=ours is Whole.WHOLE):
            return Unsent(partial=ours is Whole.PARTIAL)
        window = list(window_of(turn.message, seen.messages))
        answers = answers_in(turn.message, window)
        if not self._idle(seen):
            if seen.asks:
                return Asking(_waiting_on(seen))
            assert isinstance(seen.status, Busy | Retrying)
            return Working(seen.status, answered=bool(_finished(answers)))
        # Idle and yet asking: an ask that is being closed. It must be gone before anything can pass.
        asked = ", ".join(a.request for a in seen.asks) or "none in the session's tree"
        if not self._found("no open ask", asked, holds=not seen.asks):
            return Quiet("an ask is still open in the session's tree")
        if not self._found("answered", _answers_fact(answers), holds=bool(answers)):
            return Quiet("our message has no answer")
        return self._answer(answers, contract) or self._unfinished(answers[-1], window)

    def _idle(self, seen: Seen) -> bool:
        if isinstance(seen.status, Busy):
            return self._found("idle", "the session is busy", holds=False)
        if isinstance(seen.status, Retrying):
            return self._found("idle", f"the provider is retried: {seen.status.message}", holds=False)
        # The map shows a turn up to a second after its prompt: absent counts only with an answer (below).
        return self._found("idle", "absent from the status map", holds=True)

    def _answer(
        self, answers: list[AssistantMessage], contract: Mapping[str, Json] | None
    ) -> Passed | Refuted | None:
        finished = _finished(answers)
        if not finished:
            return None
        at = finished[0].completed
        self._found("completed", f"{finished[0].id} at {at}, finish {finished[0].finish}", holds=True)
        first = _read(finished[0], contract)
        for message in finished[1:]:
            # A compaction may put prose behind a good answer, or the answer behind an overflow: the one under
            # our own id goes first, then, with a contract, the one that parses.
            if isinstance(first, Passed):
                break
            other = _read(message, contract)
            first = other if isinstance(other, Passed) else first
        what = "contract" if contract is not None else "text"
        fact = f"{len(first.text)} characters" if isinstance(first, Passed) else first.detail
        self._found(what, fact, holds=isinstance(first, Passed))
        return first

    def _unfinished(self, last: AssistantMessage, window: list[Message]) -> Quiet | Refuted:
        # Where a compaction itself failed, its error stands on the summary, not on an answer.
        failed = [m for m in window if isinstance(m, AssistantMessage) and m.summary and m.error]
        last = failed[-1] if failed else last
        if last.completed is None:
            self._found("completed", f"{last.id} is not completed", holds=False)
            return Quiet("the answer is not completed")
        failure = recognise(last)
        how = f"finish {last.finish}" if last.error is None else f"with {last.error.name}"
        self._found("completed", f"{last.id}, {how}", holds=failure is None)
        if failure is None:
            return Quiet("the answer has no finish")
        complaint = "Your turn ended without an answer in text. Answer now, in text."
        return Refuted(failure[0], failure[1], answer_text(last), complaint, retry_after(last))

    def _found(self, check: str, fact: str, *, holds: bool) -> bool:
        self.evidence.append(Evidence(check, holds, fact, self.at))
        return holds


class Whole(Enum):
    """How much of our message the session holds."""

    ABSENT = "absent"
    PARTIAL = "partial"
    WHOLE = "whole"


def find_turn(turn: Turn, messages: tuple[Message, ...]) -> Whole:
    """Whether our message, and our part in it, are in the session."""
    for message in messages:
        if message.id == turn.message:
            return Whole.WHOLE if any(p.id == turn.part for p in message.parts) else Whole.PARTIAL
    return Whole.ABSENT


def window_of(ours: str, messages: tuple[Message, ...]) -> Iterator[Message]:
    """Everything behind our message up to the next message of a person.

    The server's own user messages (a compaction, the synthetic continuation behind it) belong to our turn;
    what a person wrote, and what comes after it, does not.
    """
    index = next(i for i, m in enumerate(messages) if m.id == ours)
    return takewhile(lambda m: isinstance(m, AssistantMessage) or _of_the_server(m), messages[index + 1 :])


def answers_in(ours: str, window: list[Message]) -> list[AssistantMessage]:
    """The last answer under our own id, then the last under each continuation behind it."""
    parents = [ours, *(m.id for m in window if isinstance(m, UserMessage))]
    last: dict[str, AssistantMessage] = {}
    for message in window:
        if isinstance(message, AssistantMessage) and not message.summary:
            last[message.parent] = message
    return [last[parent] for parent in parents if parent in last]


def _finished(answers: list[AssistantMessage]) -> list[AssistantMessage]:
    return [m for m in answers if m.completed and not m.error and m.finish not in {None, NOT_FINAL}]


def _of_the_server(message: UserMessage) -> bool:
    if any(isinstance(p, CompactionPart) for p in message.parts):
        return True
    texts = [p for p in message.parts if isinstance(p, TextPart)]
    return bool(texts) and all(p.synthetic for p in texts)


def _read(message: AssistantMessage, contract: Mapping[str, Json] | None) -> Passed | Refuted:
    text = answer_text(message)
    failure = recognise(message)
    if failure is not None:
        complaint = "Your turn ended without an answer in text. Answer now, in text."
        return Refuted(failure[0], failure[1], text, complaint, retry_after(message))
    if contract is None:
        return Passed(text, None)
    parsed = parse(text, contract)
    if isinstance(parsed, Parsed):
        return Passed(text, parsed.value)
    detail = f"truncated: {parsed.reason}" if message.finish == "length" else parsed.reason
    return Refuted(Failure.OUTPUT_NOT_JSON, detail, text, parsed.complaint)


def _answers_fact(answers: list[AssistantMessage]) -> str:
    return ", ".join(m.id for m in answers) or "no assistant message answers ours"


def _waiting_on(seen: Seen) -> WaitingOn:
    if any(a.kind is AskKind.PERMISSION for a in seen.asks):
        return WaitingOn.PENDING_PERMISSION
    return WaitingOn.PENDING_QUESTION

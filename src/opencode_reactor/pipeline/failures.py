"""Failures: how each is recognised in what the server shows, and the playbook's default answers.

Recognition goes top-down, the first rule that holds wins. The rules come from the answers of real servers
(1.1.58 to 1.18.33): error names, status codes, and, where the server keeps nothing else, its texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import takewhile
from types import MappingProxyType

from ..model.runs import Failure
from ..model.sessions import (
    AssistantMessage,
    Message,
    MessageError,
    ReasoningPart,
    Retrying,
    StepStartPart,
    TextPart,
    ToolPart,
    ToolState,
)
from .plan import Answer, StagePlan

PLAYBOOK: Mapping[Failure, tuple[Answer, ...]] = MappingProxyType(
    {
        Failure.PENDING_PERMISSION: (),
        Failure.PENDING_QUESTION: (),
        Failure.OUTPUT_NOT_JSON: (Answer.REPAIR, Answer.FRESH, Answer.REPAIR, Answer.FRESH),
        Failure.OUTPUT_MISSING_TEXT: (Answer.REPAIR, Answer.ESCALATE),
        Failure.TIMEOUT: (Answer.FRESH,),
        Failure.RATE_LIMITED: (Answer.PARK,),
        Failure.PROVIDER_UNAVAILABLE: (Answer.PARK,),
        Failure.AUTH_FAILED: (Answer.ESCALATE,),
        Failure.CONTEXT_OVERFLOW: (Answer.FRESH, Answer.LARGER, Answer.ESCALATE),
        Failure.INVALID_REQUEST: (Answer.STOP,),
        Failure.INTERRUPTED: (Answer.ESCALATE,),
        Failure.SERVER_LOST: (Answer.FRESH,),
        Failure.PROMPT_LOST: (Answer.FRESH,),
        Failure.CONTENT_FILTERED: (Answer.ESCALATE,),
        Failure.CHECK_FAILED: (Answer.REPAIR, Answer.FRESH, Answer.REPAIR, Answer.FRESH),
        Failure.BUDGET_EXCEEDED: (Answer.STOP,),
        Failure.UNKNOWN: (Answer.FRESH, Answer.ESCALATE),
    }
)
"""What each failure calls for: the n-th answer the n-th time it comes in a row, then the last one again.

The first two are no errors: the attempt waits. `park` becomes `fallback` where the wait is too long.
"""

REPAIRABLE = frozenset({Failure.OUTPUT_NOT_JSON, Failure.OUTPUT_MISSING_TEXT, Failure.CHECK_FAILED})
"""The failures after which the session is sound and the model can be told what is wrong."""


def playbook(stage: StagePlan, failure: Failure) -> tuple[Answer, ...]:
    """The row for this failure in this stage: its own, else the default."""
    return stage.playbook.get(failure) or PLAYBOOK[failure]


def answer_text(message: AssistantMessage) -> str:
    """What the message answers: its text after the last step began, blank and server-made parts aside.

    Earlier steps may hold what is left of failed attempts at a step.
    """
    behind = list(takewhile(lambda p: not isinstance(p, StepStartPart), reversed(message.parts)))
    texts = (p.text for p in reversed(behind) if isinstance(p, TextPart) and not (p.synthetic or p.ignored))
    return "\n".join(text for text in texts if text.strip())


def recognise(message: AssistantMessage) -> tuple[Failure, str] | None:
    """What went wrong with a completed message, and the words for it; None where there is text to be read.

    Whether that text satisfies a contract is not decided here.
    """
    if message.error is not None:
        return _error(message.error)
    if message.finish == "content-filter":
        return Failure.CONTENT_FILTERED, "the provider's content filter stopped the answer"
    if answer_text(message) and not _refused(message):
        return None
    if message.finish is None and not message.parts:
        # What an abort leaves while the server waits to retry its provider (1.14 and later): no error, no
        # event. Nobody of ours aborted, or this would not be asked.
        return Failure.INTERRUPTED, "the turn was stopped while it waited for its provider"
    return Failure.OUTPUT_MISSING_TEXT, _without_text(message)


def recognise_retry(status: Retrying) -> tuple[Failure, str]:
    """Why the server retries its provider, as far as its text tells: it keeps no status code."""
    text = status.message[:_LOOKED_AT]
    limited = status.reason in _LIMITS or _RATE.search(text) or _NUMBER_429.search(text)
    failure = Failure.RATE_LIMITED if limited else Failure.PROVIDER_UNAVAILABLE
    return failure, f"{_short(status.message)} (the server's retry {status.attempt})"


def retry_after(message: AssistantMessage) -> int | None:
    """Milliseconds the provider itself asked us to wait, None where it did not.

    A date is held against the answer's own `date` header, else against the message's completion: both by
    clocks nearer to the provider than ours.
    """
    if message.error is None:
        return None
    headers = message.error.headers
    waits = ((headers.get("retry-after-ms", ""), 1), (headers.get("retry-after", ""), 1000))
    for text, unit in waits:
        if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text.strip()):
            return int(float(text) * unit)
    until = _http_date(headers.get("retry-after", ""))
    since = _http_date(headers.get("date", "")) or message.completed
    return None if until is None or since is None else max(0, until - since)


_LOOKED_AT = 10_000  # characters of a provider's answer; what matters stands at its beginning
_SHOWN = 300
_LIMITS = frozenset({"free_tier_limit", "account_rate_limit"})
_RATE = re.compile(
    r"rate.?limit|too many requests|quota|usage limit|resource.?exhausted|(Free|Go)UsageLimitError",
    re.IGNORECASE,
)
_NUMBER_429 = re.compile(r"\b429\b")
_WINDOW = re.compile(r"maximum context length|prompt is too long|context.?length", re.IGNORECASE)
_AWAY = re.compile(
    r"unable to connect|ECONN|socket|fetch failed|\breset\b|timed out|Malformed_HTTP|overloaded",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(r"\b(Model|Agent|Provider) not found\b|ProviderModelNotFoundError|ModelNotFoundError")
# A tool's error where a rule says deny (1.1.65, 1.18.33); there is no other trace of it.
_RULED_OUT = "has specified a rule which prevents you from using this specific tool call"
_AUTH_STATUS = frozenset({401, 403})
_TOO_LARGE = 413
_BAD_REQUEST = 400


def _error(error: MessageError) -> tuple[Failure, str]:
    return _class_of(error), _told(error)


_BY_NAME: Mapping[str, Failure] = MappingProxyType(
    {
        "ProviderAuthError": Failure.AUTH_FAILED,
        "ContextOverflowError": Failure.CONTEXT_OVERFLOW,
        "MessageAbortedError": Failure.INTERRUPTED,
        "ContentFilterError": Failure.CONTENT_FILTERED,
        "MessageOutputLengthError": Failure.OUTPUT_NOT_JSON,
        "StructuredOutputError": Failure.OUTPUT_NOT_JSON,
    }
)


def _class_of(error: MessageError) -> Failure:
    if error.name == "APIError":
        return _answered(error)
    return _BY_NAME.get(error.name) or _unnamed(error)


def _answered(error: MessageError) -> Failure:
    """An `APIError`: what the provider answered, or that it did not."""
    status, text = error.status, f"{error.message[:_LOOKED_AT]}\n{error.body[:_LOOKED_AT]}"
    if status in _AUTH_STATUS:
        return Failure.AUTH_FAILED
    if status == 429 or _RATE.search(text):
        return Failure.RATE_LIMITED
    if status == _TOO_LARGE or (status == _BAD_REQUEST and _WINDOW.search(text)):
        return Failure.CONTEXT_OVERFLOW
    if status == 408 or (status is not None and status >= 500) or (status is None and error.retryable):
        return Failure.PROVIDER_UNAVAILABLE
    return Failure.UNKNOWN if status is None else Failure.INVALID_REQUEST


def _unnamed(error: MessageError) -> Failure:
    """`UnknownError` and names of later versions: only the text tells."""
    text = error.message[:_LOOKED_AT]
    if _RATE.search(text):
        return Failure.RATE_LIMITED
    if _AWAY.search(text):
        return Failure.PROVIDER_UNAVAILABLE
    return Failure.INVALID_REQUEST if _NOT_FOUND.search(text) else Failure.UNKNOWN


def _told(error: MessageError) -> str:
    head = f"{error.name} {error.status}" if error.status else error.name
    if error.name == "MessageOutputLengthError":
        return f"truncated: {head}"
    return f"{head}: {_short(error.message)}" if error.message else head


def _refused(message: AssistantMessage) -> list[ToolPart]:
    """The tools at which the turn ended: what was said before them announced them and is no answer."""
    if message.finish != "tool-calls":
        return []
    return [p for p in message.parts if isinstance(p, ToolPart) and p.state is ToolState.ERROR]


def ruled_out(messages: Iterable[Message]) -> list[ToolPart]:
    """The tool calls that a rule refused without anybody being asked; the turn goes on after each."""
    parts = (part for message in messages for part in message.parts if isinstance(part, ToolPart))
    return [part for part in parts if part.state is ToolState.ERROR and _RULED_OUT in part.error]


def _without_text(message: AssistantMessage) -> str:
    if refused := _refused(message):
        return f"the turn ended at a refused {refused[-1].tool}: {_short(refused[-1].error)}".rstrip(": ")
    if message.finish == "tool-calls":
        return "the turn ended with a tool call"
    if any(isinstance(p, ReasoningPart) and p.text.strip() for p in message.parts):
        return "the answer is reasoning only"
    return "the answer is empty"


def _short(text: str) -> str:
    line = " ".join(text[:_LOOKED_AT].split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _http_date(text: str) -> int | None:
    """An HTTP date as epoch milliseconds."""
    try:
        moment = parsedate_to_datetime(text)
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None

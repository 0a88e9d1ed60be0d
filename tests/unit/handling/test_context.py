from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from opencode_reactor.handling import Context, Reject, make_context
from opencode_reactor.handling.context import answers_for
from opencode_reactor.model.asks import Ask, AskKind
from opencode_reactor.model.deliveries import Delivery
from opencode_reactor.model.events import Event, GlobalDisposed, PermissionAsked, QuestionAsked
from opencode_reactor.model.sessions import Option, PermissionRequest, Question, QuestionRequest
from opencode_reactor.opencode import Client

SERVER = "http://127.0.0.1:4096"
PICK = Question("Which?", options=(Option("A"), Option("B")), custom=False)
FREE = Question("Why?", options=(Option("because"),))
MANY = Question("What with?", options=(Option("x"), Option("y")), multiple=True, custom=False)


@dataclass
class Noted:
    """The acting side: notes what it was told."""

    calls: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])

    async def reply(self, *said: Any) -> None:
        self.calls.append(("reply", *said))

    async def answer(self, *said: Any) -> None:
        self.calls.append(("answer", *said))

    async def prompt(self, *said: Any) -> None:
        self.calls.append(("prompt", *said))

    async def abort(self, *said: Any) -> None:
        self.calls.append(("abort", *said))

    async def start(self, *said: Any) -> str:
        self.calls.append(("start", *said))
        return "r1"

    async def notify(self, *said: Any) -> None:
        self.calls.append(("notify", *said))


def permission() -> PermissionAsked:
    request = PermissionRequest("per_1", "ses_1", "bash", ("ls",))
    return PermissionAsked(id="evt_1", server=SERVER, directory="/srv", session="ses_1", request=request)


def question(*questions: Question) -> QuestionAsked:
    request = QuestionRequest("que_1", "ses_1", questions)
    return QuestionAsked(id="evt_2", server=SERVER, directory="/srv", session="ses_1", request=request)


def context(event: Event, delivery: Delivery | None = None) -> tuple[Context, Noted]:
    noted = Noted()
    return make_context(event, "tester", delivery, Client(SERVER), noted), noted


def test_a_context_tells_the_occasion_of_the_call() -> None:
    delivery = Delivery(7, "tester", SERVER, "evt_1", "permission.asked", "ses_1", "/srv", "{}", tries=2)
    ctx, _ = context(permission(), delivery)
    assert (ctx.server, ctx.directory, ctx.session, ctx.attempt) == (SERVER, "/srv", "ses_1", 3)
    assert (ctx.origin.delivery, ctx.origin.event, ctx.origin.by) == (7, "evt_1", "handler: tester")
    assert ctx.client.url == SERVER


def test_a_live_call_is_the_first_and_has_no_delivery() -> None:
    ctx, _ = context(permission())
    assert (ctx.attempt, ctx.origin.delivery) == (1, None)


def test_the_log_bears_where_a_line_came_from() -> None:
    ctx, _ = context(permission())
    with capture_logs() as lines:
        ctx.log.info("hello", more=1)
    (line,) = lines
    assert line["server"] == SERVER
    assert (line["session"], line["handler"], line["delivery"], line["more"]) == ("ses_1", "tester", None, 1)


async def test_a_reply_is_passed_on_with_its_origin() -> None:
    event = permission()
    ctx, noted = context(event)
    await ctx.reply(event, "reject", "use git instead")
    assert noted.calls == [("reply", ctx.origin, event, "reject", "use git instead")]


async def test_a_reply_that_does_not_exist_is_rejected_before_anybody_hears_of_it() -> None:
    event = permission()
    ctx, noted = context(event)
    with pytest.raises(Reject, match="no reply"):
        await ctx.reply(event, "yes")
    assert noted.calls == []


async def test_an_answer_is_passed_on_as_labels_per_question() -> None:
    event = question(PICK)
    ctx, noted = context(event)
    await ctx.answer(event, "B")
    assert noted.calls == [("answer", ctx.origin, event, (("B",),))]


async def test_an_ask_that_was_kept_is_answered_as_its_event_would_be() -> None:
    ask = Ask("a1", AskKind.QUESTION, SERVER, "que_1", questions=(PICK, FREE))
    ctx, noted = context(question(PICK, FREE))
    await ctx.answer(ask, "A", "I say so")
    assert noted.calls[0][2:] == (ask, (("A",), ("I say so",)))


@pytest.mark.parametrize(
    ("questions", "labels", "answers"),
    [
        ((MANY,), ("x", "y"), (("x", "y"),)),
        ((MANY,), (["x", "y"],), (("x", "y"),)),
        ((MANY, PICK), (["x", "y"], "A"), (("x", "y"), ("A",))),
        ((FREE,), ("in my own words",), (("in my own words",),)),
    ],
)
def test_labels_that_fit_become_the_servers_shape(
    questions: tuple[Question, ...], labels: tuple[Any, ...], answers: tuple[tuple[str, ...], ...]
) -> None:
    assert answers_for(questions, labels) == answers


@pytest.mark.parametrize(
    ("questions", "labels", "words"),
    [
        ((PICK,), (), "no answer to"),
        ((PICK,), ("A", "B"), "takes one answer"),
        ((PICK,), ("C",), "does not offer 'C'"),
        ((PICK, FREE), ("A",), "2 questions need as many answers, there are 1"),
        ((PICK, FREE), ("A", ()), "no answer to 'Why?'"),
        ((), ("A",), "0 questions"),
    ],
)
def test_labels_that_do_not_fit_are_rejected_in_words(
    questions: tuple[Question, ...], labels: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(Reject) as caught:
        answers_for(questions, labels)
    assert words in caught.value.reason


async def test_prompt_and_abort_mean_the_events_session_unless_another_is_named() -> None:
    ctx, noted = context(permission())
    await ctx.prompt("go on")
    await ctx.prompt("you too", session="ses_2")
    await ctx.abort()
    await ctx.abort("ses_2")
    assert [call[2] for call in noted.calls] == ["ses_1", "ses_2", "ses_1", "ses_2"]


async def test_an_event_without_a_session_needs_one_to_be_named() -> None:
    ctx, noted = context(GlobalDisposed(id="evt_1", server=SERVER))
    assert ctx.session == ""
    with pytest.raises(Reject, match="no session"):
        await ctx.prompt("hello")
    await ctx.prompt("hello", session="ses_2")
    assert [call[2] for call in noted.calls] == ["ses_2"]


async def test_a_run_is_started_and_a_person_told() -> None:
    ctx, noted = context(permission())
    assert await ctx.start("release.yaml", {"tag": "v1"}) == "r1"
    await ctx.start("release.yaml")
    await ctx.notify("done")
    assert noted.calls == [
        ("start", ctx.origin, "release.yaml", {"tag": "v1"}),
        ("start", ctx.origin, "release.yaml", {}),
        ("notify", ctx.origin, "done"),
    ]

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.model.events import (
    EVENT_CLASSES,
    Event,
    FileEdited,
    MessagePartDelta,
    MessagePartRemoved,
    MessagePartUpdated,
    MessageRemoved,
    MessageUpdated,
    PermissionAsked,
    PermissionReplied,
    QuestionAsked,
    QuestionRejected,
    QuestionReplied,
    ServerInstanceDisposed,
    SessionCreated,
    SessionError,
    SessionStatus,
    TodoUpdated,
    UnknownEvent,
)
from opencode_reactor.model.sessions import (
    AssistantMessage,
    Busy,
    Idle,
    MessageError,
    Option,
    PermissionRequest,
    Question,
    QuestionRequest,
    Retrying,
    Todo,
)
from opencode_reactor.opencode.wire import ask_event, canonical_name, event_from_payload, event_from_wire

ASK = {"id": "per_1", "sessionID": "ses_1", "permission": "bash", "patterns": ["ls", 7], "always": ["ls *"]}
OLD_ASK = {
    "id": "per_1",
    "sessionID": "ses_1",
    "type": "bash",
    "messageID": "msg_1",
    "callID": "call_1",
    "title": "ls -l",
    "metadata": {"command": "ls -l"},
    "time": {"created": 1},
}


def read(kind: str, properties: object, **head: Any) -> Event:
    frame = {"type": kind, "properties": properties, **head}
    return event_from_wire(frame, server="http://s", directory="/p", received=5, connection="c.1")


def test_an_event_says_where_and_when_it_was_heard() -> None:
    event = read("session.idle", {"sessionID": "ses_1"}, id="evt_1")
    assert (event.id, event.server, event.directory, event.received) == ("evt_1", "http://s", "/p", 5)
    assert event.session_id == "ses_1"
    assert not event.recovered


def test_the_envelope_names_the_directory() -> None:
    frame = {"directory": "/other", "payload": {"type": "session.idle", "properties": {"sessionID": "s"}}}
    event = event_from_wire(frame, server="http://s", connection="c.1")
    assert (event.directory, event.id) == ("/other", "c.1")


def test_a_disposal_names_its_directory_itself() -> None:
    frame = {"type": "server.instance.disposed", "properties": {"directory": "/gone"}}
    event = event_from_wire(frame, server="http://s", connection="c.1")
    assert isinstance(event, ServerInstanceDisposed)
    assert event.directory == "/gone"


@pytest.mark.parametrize(
    ("status", "noun"),
    [
        ({"type": "busy"}, Busy()),
        ({"type": "idle"}, Idle()),
        ({"type": "retry", "attempt": 2, "message": "Overloaded", "next": 99}, Retrying(2, "Overloaded", 99)),
        (
            {
                "type": "retry",
                "attempt": 1,
                "message": "m",
                "next": 9,
                "action": {"reason": "free_tier_limit"},
            },
            Retrying(1, "m", 9, "free_tier_limit"),
        ),
        ({"type": "retry", "attempt": -1, "next": 10**30, "message": None}, Retrying(0, "", 0)),
        ({"type": "thinking"}, Busy()),
    ],
)
def test_a_status_is_read_and_an_unknown_one_means_that_something_runs(status: Any, noun: object) -> None:
    event = read("session.status", {"sessionID": "ses_1", "status": status})
    assert isinstance(event, SessionStatus)
    assert event.status == noun


def test_a_session_s_own_events_need_no_session_id_beside_it() -> None:
    info = {"id": "ses_2", "parentID": "ses_1", "title": "t", "directory": "/p", "time": {"created": 3}}
    event = read("session.created", {"info": info})
    assert isinstance(event, SessionCreated)
    assert (event.session, event.info.parent, event.info.created) == ("ses_2", "ses_1", 3)


def test_an_error_may_lack_its_session() -> None:
    error = {"name": "APIError", "data": {"message": "m", "statusCode": 429, "isRetryable": True}}
    error["data"]["responseHeaders"] = {"Retry-After": "3", "x": 1}  # type: ignore[index]
    event = read("session.error", {"error": error})
    assert isinstance(event, SessionError)
    assert event.session_id is None
    assert event.error == MessageError("APIError", "m", 429, retryable=True, headers={"retry-after": "3"})


def test_an_error_without_details_is_still_an_error() -> None:
    event = read("session.error", {"sessionID": "ses_1", "error": {"name": "MessageOutputLengthError"}})
    assert isinstance(event, SessionError)
    assert event.error == MessageError("MessageOutputLengthError")


def test_messages_and_parts_bring_their_session_in_every_version() -> None:
    info = {"id": "msg_1", "sessionID": "ses_1", "role": "assistant", "parentID": "msg_0"}
    part = {"id": "prt_1", "sessionID": "ses_1", "messageID": "msg_1", "type": "text", "text": "a"}
    message = read("message.updated", {"info": info})
    updated = read("message.part.updated", {"part": part, "delta": "a"})
    assert isinstance(message, MessageUpdated)
    assert isinstance(message.message, AssistantMessage)
    assert isinstance(updated, MessagePartUpdated)
    assert updated.delta == "a"
    assert {message.session, updated.session} == {"ses_1"}


def test_the_small_events_of_messages_are_read() -> None:
    ids = {"sessionID": "ses_1", "messageID": "msg_1", "partID": "prt_1"}
    common: dict[str, Any] = {"id": "c.1", "server": "http://s", "directory": "/p", "received": 5}
    assert read("message.removed", ids) == MessageRemoved(session="ses_1", message="msg_1", **common)
    assert read("message.part.removed", ids) == MessagePartRemoved(
        session="ses_1", message="msg_1", part="prt_1", **common
    )
    assert read("message.part.delta", {**ids, "field": "text", "delta": "x"}) == MessagePartDelta(
        session="ses_1", message="msg_1", part="prt_1", field="text", delta="x", **common
    )


def test_a_permission_has_two_shapes_and_one_class() -> None:
    new = read("permission.asked", {**ASK, "tool": {"messageID": "msg_1", "callID": "call_1"}}, id="evt_1")
    old = read("permission.updated", OLD_ASK)
    assert isinstance(new, PermissionAsked)
    assert isinstance(old, PermissionAsked)
    assert new.id == old.id == "permission.asked:per_1"
    assert new.request.patterns == ("ls",)
    assert (old.permission, old.request.message, old.request.call) == ("bash", "msg_1", "call_1")
    assert old.metadata == {"command": "ls -l", "title": "ls -l"}


@pytest.mark.parametrize(
    ("pattern", "patterns"), [("a", ("a",)), (["a", "b"], ("a", "b")), (None, ()), (5, ())]
)
def test_the_older_pattern_is_one_or_many(pattern: object, patterns: tuple[str, ...]) -> None:
    event = read("permission.updated", {**OLD_ASK, "pattern": pattern})
    assert isinstance(event, PermissionAsked)
    assert event.patterns == patterns


def test_either_name_may_come_with_either_shape() -> None:
    assert isinstance(read("permission.updated", ASK), PermissionAsked)
    assert isinstance(read("permission.asked", OLD_ASK), PermissionAsked)


def test_a_reply_has_two_shapes_and_one_class() -> None:
    new = read("permission.replied", {"sessionID": "ses_1", "requestID": "per_1", "reply": "once"})
    old = read("permission.replied", {"sessionID": "ses_1", "permissionID": "per_1", "response": "once"})
    assert new == old
    assert isinstance(new, PermissionReplied)
    assert (new.id, new.request, new.reply) == ("permission.replied:per_1", "per_1", "once")


def test_a_question_is_read_with_all_that_can_be_answered() -> None:
    questions = [
        {
            "question": "Which?",
            "header": "Pick",
            "options": [{"label": "A"}, {"nolabel": 1}],
            "multiple": True,
        },
        {"question": "Why?", "custom": False},
    ]
    event = read(
        "question.updated", {"id": "que_1", "sessionID": "ses_1", "questions": questions}, id="evt_1"
    )
    assert isinstance(event, QuestionAsked)
    assert event.id == "question.asked:que_1"
    assert event.questions == (
        Question("Which?", "Pick", (Option("A"),), multiple=True),
        Question("Why?", custom=False),
    )


def test_answers_to_questions_are_read() -> None:
    replied = read("question.replied", {"sessionID": "s", "requestID": "que_1", "answers": [["A"], []]})
    rejected = read("question.rejected", {"sessionID": "s", "requestID": "que_1"})
    assert isinstance(replied, QuestionReplied)
    assert isinstance(rejected, QuestionRejected)
    assert replied.answers == (("A",), ())
    assert {replied.id, rejected.id} == {"question.replied:que_1", "question.rejected:que_1"}


def test_todos_and_files_are_read() -> None:
    todo = read("todo.updated", {"sessionID": "s", "todos": [{"content": "x", "status": "pending"}]})
    edited = read("file.edited", {"file": "/p/a.txt"})
    assert isinstance(todo, TodoUpdated)
    assert isinstance(edited, FileEdited)
    assert (todo.todos, edited.file) == ((Todo("x", "pending"),), "/p/a.txt")


def test_an_unknown_type_is_kept_whole() -> None:
    event = read("workspace.moved", {"sessionID": "ses_1", "deep": {"a": [1, None]}}, id="evt_1", more=1)
    assert isinstance(event, UnknownEvent)
    assert (event.name, event.session_id, event.id) == ("workspace.moved", "ses_1", "evt_1")
    assert event.properties == {"sessionID": "ses_1", "deep": {"a": [1, None]}}


@pytest.mark.parametrize("place", ["info", "part"])
def test_an_unknown_event_s_session_is_found_where_events_have_it(place: str) -> None:
    assert read("message.odd", {place: {"sessionID": "ses_1"}}).session_id == "ses_1"


def test_an_ask_from_a_list_is_the_event_that_would_have_been_heard() -> None:
    heard = read("permission.asked", ASK, id="evt_1")
    assert isinstance(heard, PermissionAsked)
    found = ask_event(heard.request, server="http://s", directory="/p", received=9)
    assert isinstance(found, PermissionAsked)
    assert (found.id, found.request, found.session, found.recovered) == (
        heard.id,
        heard.request,
        "ses_1",
        True,
    )


def test_a_question_from_a_list_is_the_event_that_would_have_been_heard() -> None:
    request = QuestionRequest("que_1", "ses_1", (Question("Which?"),))
    found = ask_event(request, server="http://s", directory="/p", received=9)
    assert isinstance(found, QuestionAsked)
    assert (found.id, found.session, found.recovered) == ("question.asked:que_1", "ses_1", True)


def test_a_request_without_details_is_enough_to_ask() -> None:
    request = PermissionRequest("per_1", "ses_1", "bash")
    found = ask_event(request, server="http://s", directory="/p", received=9)
    assert isinstance(found, PermissionAsked)
    assert found.patterns == ()


def test_older_names_are_the_newer_ones_and_unknown_ones_stay() -> None:
    assert canonical_name("permission.updated") == "permission.asked"
    assert canonical_name("question.updated") == "question.asked"
    assert canonical_name("workspace.moved") == "workspace.moved"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7"])
def test_a_payload_that_is_no_object_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        event_from_payload(text, server="http://s")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# Names that properties really have, so that what is made up comes near to what is read.
FIELDS = re.findall(
    r"\w+",
    "id sessionID messageID partID requestID permissionID info part status error questions answers todos "
    "permission patterns reply role type tool metadata time tokens delta field file callID text state",
)
NAMES = sorted(name for cls in EVENT_CLASSES for name in (cls.type, *cls.aliases))


@given(
    st.sampled_from(NAMES),
    st.dictionaries(
        st.sampled_from(FIELDS),
        JSON | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5),
        max_size=6,
    ),
    JSON,
)
def test_no_properties_whatever_raise(name: str, properties: dict[str, Any], event_id: Any) -> None:
    event = event_from_wire(
        {"type": name, "properties": properties, "id": event_id}, server="http://s", connection="c.1"
    )
    assert event.id
    assert event.server == "http://s"


@given(st.dictionaries(st.sampled_from(["type", "properties", "payload", "id", "directory"]), JSON))
def test_no_frame_whatever_raises(frame: dict[str, Any]) -> None:
    assert isinstance(event_from_wire(frame, server="http://s", connection="c.1"), Event)

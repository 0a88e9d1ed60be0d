import pytest

from opencode_reactor.model.sessions import Json
from opencode_reactor.testing import Side
from opencode_reactor.testing.requests import read_request


def test_a_request_is_read_with_its_last_prompt_system_and_tools() -> None:
    body: dict[str, Json] = {
        "model": "standard",
        "stream": True,
        "messages": [
            {
                "role": "system",
                "content": "You help.\n  Working directory: /srv/my project\n  Platform: linux",
            },
            {"role": "user", "content": "First"},
            {"role": "assistant", "content": "Yes"},
            {"role": "user", "content": [{"type": "text", "text": "Second"}, {"type": "image_url"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "bash"}}],
    }
    request = read_request(7, 1000, body, {"authorization": "Bearer x", "x-session-id": "ses_1"})
    assert (request.number, request.at, request.model, request.stream) == (7, 1000, "standard", True)
    assert request.prompt == "Second"
    assert request.said == "First\n\nSecond"
    assert request.directory == "/srv/my project"
    assert request.tools == ("bash",)
    assert request.session == "ses_1"
    assert len(request.messages) == 3
    assert not request.after_tool
    assert "authorization" not in request.headers


def test_after_a_tool_result_the_prompt_is_still_the_users() -> None:
    body: dict[str, Json] = {
        "messages": [
            {"role": "user", "content": "List the files"},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "tool", "tool_call_id": "call_1_0", "content": "a b c"},
        ]
    }
    request = read_request(1, 0, body, {})
    assert request.prompt == "List the files"
    assert request.after_tool


@pytest.mark.parametrize(
    ("words", "side"),
    [
        ("You are a title generator. You output ONLY a thread title.", Side.TITLE),
        ("Summarize what was done in this conversation.", Side.SUMMARY),
        ("You are a helpful AI assistant tasked with summarizing conversations.", Side.COMPACTION),
        ("You are a context summarization agent.", Side.COMPACTION),
        ("You are opencode, an interactive CLI tool.", None),
    ],
)
def test_side_calls_are_known_by_their_system_prompt(words: str, side: Side | None) -> None:
    body: dict[str, Json] = {"messages": [{"role": "system", "content": words}]}
    assert read_request(1, 0, body, {}).side is side


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": "no list", "tools": 3, "model": None},
        {"messages": [1, "two", None, {"role": 3, "content": {"a": 1}}], "tools": [{}, {"function": "bash"}]},
        {"messages": [{"role": "user", "content": [1, {"type": "text"}, {"type": "text", "text": None}]}]},
    ],
)
def test_a_request_of_any_other_shape_counts_as_empty(body: dict[str, Json]) -> None:
    request = read_request(1, 0, body, {})
    assert request.side is None
    assert not any(request.tools)
    assert request.directory == ""

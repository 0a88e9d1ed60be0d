"""Rules match and decide as OpenCode's do, and nothing is allowed that no rule allows."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.errors import PipelineError
from opencode_reactor.pipeline.plan import Action, Rule
from opencode_reactor.pipeline.policy import decide, matches, parse, session_rules

DESIGN = {"*": "ask", "read": "allow", "bash": {"git *": "allow", "git push*": "ask"}}


def opencode(text: str, pattern: str) -> bool:
    """OpenCode's own matcher (`Wildcard.match` in 1.1.65 and 1.18.33), put into Python's re."""
    text, pattern = text.replace("\\", "/"), pattern.replace("\\", "/")
    escaped = re.sub(r"[.+^${}()|\[\]\\]", r"\\\g<0>", pattern).replace("*", ".*").replace("?", ".")
    if escaped.endswith(" .*"):
        escaped = escaped[:-3] + "( .*)?"
    return re.fullmatch(escaped, text, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("text", "pattern", "held"),
    [
        ("git status", "git *", True),
        ("git", "git *", True),
        ("gitk", "git *", False),
        ("src/a/b.py", "src/*.py", True),
        ("a\nb", "*", True),
        ("abc", "a?c", True),
        ("ac", "a?c", False),
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
        ("src\\a", "src/*", True),
        ("", "*", True),
        ("", "", True),
        ("x", "", False),
    ],
)
def test_wildcards_match_as_in_opencode(text: str, pattern: str, held: bool) -> None:
    assert matches(text, pattern) is held
    assert opencode(text, pattern) is held


@given(st.text("ab *?/\\.\n", max_size=12), st.text("ab *?/\\.\n", max_size=8))
def test_any_text_and_pattern_match_as_in_opencode(text: str, pattern: str) -> None:
    assert matches(text, pattern) == opencode(text, pattern)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    begun = time.perf_counter()
    assert not matches("a" * 2000, "*a" * 50 + "b")
    assert time.perf_counter() - begun < 1


def test_rules_are_read_in_the_authors_order() -> None:
    assert parse(DESIGN) == (
        Rule("*", "*", Action.ASK),
        Rule("read", "*", Action.ALLOW),
        Rule("bash", "git *", Action.ALLOW),
        Rule("bash", "git push*", Action.ASK),
    )
    assert parse("deny") == (Rule("*", "*", Action.DENY),)


@pytest.mark.parametrize(
    ("permission", "patterns", "action"),
    [
        ("read", ["/etc/passwd"], Action.ALLOW),
        ("bash", ["git status"], Action.ALLOW),
        ("bash", ["git push origin"], Action.ASK),
        ("bash", ["git status", "git push"], Action.ASK),
        ("bash", ["git status", "rm -rf /"], Action.ASK),
        ("bash", [], Action.ASK),
        ("edit", ["a.py"], Action.ASK),
    ],
)
def test_the_last_match_decides_and_every_pattern_must_be_allowed(
    permission: str, patterns: list[str], action: Action
) -> None:
    assert decide(parse(DESIGN), permission, patterns).action is action


def test_one_denied_pattern_denies_the_whole_request_and_names_its_rule() -> None:
    rules = parse({"bash": {"*": "allow", "rm *": "deny"}})
    decision = decide(rules, "bash", ["ls", "unknown", "rm -rf x"])
    assert decision.action is Action.DENY
    assert str(decision.rule) == "bash rm *: deny"


def test_always_is_answered_only_where_the_whole_request_is_to_have_it() -> None:
    rules = parse({"bash": {"ls *": "always", "cat *": "allow"}})
    assert decide(rules, "bash", ["ls -l", "ls"]).action is Action.ALWAYS
    assert decide(rules, "bash", ["ls -l", "cat x"]).action is Action.ALLOW


def test_without_rules_everything_is_asked() -> None:
    decision = decide((), "read", ["x"])
    assert (decision.action, decision.rule) == (Action.ASK, None)


RULES = st.lists(
    st.builds(
        Rule,
        st.sampled_from(["*", "bash", "b?sh", "read"]),
        st.text("ab* ?", max_size=4),
        st.sampled_from(Action),
    ),
    max_size=6,
)


@given(RULES, st.sampled_from(["bash", "read", "edit"]), st.lists(st.text("ab ", max_size=4), max_size=4))
def test_nothing_is_allowed_without_a_last_match_that_allows_it(
    rules: list[Rule], permission: str, patterns: list[str]
) -> None:
    decision = decide(rules, permission, patterns)
    for pattern in patterns or ["*"]:
        held = [r for r in rules if opencode(permission, r.permission) and opencode(pattern, r.pattern)]
        last = held[-1].action if held else Action.ASK
        if decision.action in (Action.ALLOW, Action.ALWAYS):
            assert last in (Action.ALLOW, Action.ALWAYS)
        if last is Action.DENY:
            assert decision.action is Action.DENY


def test_the_server_is_told_to_ask_for_whatever_is_not_denied() -> None:
    told = session_rules(parse({"*": "ask", "read": "allow", "bash": {"rm *": "deny", "rm -i *": "always"}}))
    assert [(r.permission, r.pattern, r.action) for r in told] == [
        ("*", "*", "ask"),
        ("read", "*", "ask"),
        ("bash", "rm *", "deny"),
        ("bash", "rm -i *", "ask"),
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"read": "alow"}, "did you mean 'allow'?"),
        ({"bash": {"git *": True}}, "not true or false"),
        (["allow"], "not a list"),
        (None, "not nothing"),
        ({"read": {"~/x": "deny"}}, "write the absolute path"),
        ({"read": {"$HOME/x": "deny"}}, "write the absolute path"),
    ],
)
def test_wrong_rules_are_refused_with_the_right_word(value: object, words: str) -> None:
    with pytest.raises(PipelineError) as refused:
        parse(value)
    assert words in refused.value.message

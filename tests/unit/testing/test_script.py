import re

import pytest

from opencode_reactor.model.sessions import Json
from opencode_reactor.testing import Empty, Fails, ModelRequest, Reply, Says, ScriptedModel, Side
from opencode_reactor.testing.requests import read_request
from opencode_reactor.testing.script import Rule, Script

TITLE = "You are a title generator"


def _request(prompt: str, *, model: str = "standard", system: str = "") -> ModelRequest:
    messages: list[Json] = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    return read_request(1, 0, {"model": model, "messages": messages}, {})


def _script(*rules: Rule) -> Script:
    script = Script(Says("default"))
    for rule in rules:
        script.add(rule)
    return script


def test_the_first_rule_that_matches_answers_and_says_its_name() -> None:
    script = _script(
        Rule("draft", (Says("one"),), name="draft"),
        Rule(re.compile("^Please"), (Says("two"),), name="polite"),
        Rule(lambda request: request.model == "large", (Says("three"),), name="large"),
    )
    assert script.choose(_request("Please draft it")) == ("draft", Says("one"))
    assert script.choose(_request("Please write it")) == ("polite", Says("two"))
    assert script.choose(_request("Write it", model="large")) == ("large", Says("three"))
    assert script.choose(_request("Write it")) == ("", Says("default"))


def test_replies_are_used_in_turn_and_the_last_one_repeats() -> None:
    script = _script(Rule("x", (Fails(429), Says("ok")), name="x"))
    assert [script.choose(_request("x"))[1] for _ in range(3)] == [Fails(429), Says("ok"), Says("ok")]


def test_a_rule_used_once_makes_way_for_the_next() -> None:
    spent = Rule("x", (Says("a"), Says("b")), name="x", once=True)
    script = _script(spent, Rule("x", (Says("later"),), name="y"))
    said = [script.choose(_request("x"))[1] for _ in range(4)]
    assert said == [Says("a"), Says("b"), Says("later"), Says("later")]
    assert spent.spent


def test_a_rule_may_hold_for_one_model_only() -> None:
    script = _script(Rule("x", (Fails(503),), name="x", model="standard"))
    assert script.choose(_request("x", model="standard"))[1] == Fails(503)
    assert script.choose(_request("x", model="spare"))[1] == Says("default")


def test_a_title_call_takes_no_reply_from_a_rule_for_prompts() -> None:
    everything = Rule("", (Says("for the stage"),), name="all")
    anyone = Rule(lambda _: True, (Says("for the stage"),), name="anyone")
    pattern = Rule(re.compile(""), (Says("for the stage"),), name="pattern")
    name, reply = _script(everything, anyone, pattern).choose(_request("x", system=TITLE))
    assert name == ""
    assert isinstance(reply, Says)
    assert reply.text == "A scripted session"
    assert everything.used == anyone.used == pattern.used == 0


def test_a_side_call_can_be_scripted_by_its_kind() -> None:
    script = _script(Rule(Side.TITLE, (Empty(),), name="title"))
    assert script.choose(_request("x", system=TITLE)) == ("title", Empty())
    assert script.choose(_request("title"))[1] == Says("default")


def test_a_reply_may_be_made_from_the_request() -> None:
    def echo(request: ModelRequest) -> Reply:
        return Says(request.prompt.upper())

    script = Script(echo)
    script.add(Rule("loud", (echo,), name="loud"))
    assert script.choose(_request("so loud")) == ("loud", Says("SO LOUD"))
    assert script.choose(_request("quiet")) == ("", Says("QUIET"))


def test_a_rule_without_a_reply_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="a rule needs a reply"):
        ScriptedModel().on("x")

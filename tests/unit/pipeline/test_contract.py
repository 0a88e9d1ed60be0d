"""An answer is read strictly, in linear time, and never by guessing."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.pipeline.contract import (
    MAX_TEXT,
    Fault,
    NoSchema,
    NotJson,
    Parsed,
    Unparsed,
    check_schema,
    instructions,
    parse,
    read_json,
    repair_prompt,
)

OK: dict[str, Any] = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "integer"}}}
ANY: dict[str, Any] = {}


@pytest.mark.parametrize(
    "text",
    [
        '{"ok":1}',
        ' \n{"ok":1}\n',
        'Here it is: {"ok":1}. Enjoy!',
        '```json\n{"ok":1}\n```',
        'First:\n```\n{"ok":1}\n```\nthen {"ok":2}',  # the fence goes before what is loose
        '~~~\n{"ok":1}\n~~~',
        '```bash\nls {"ok":7}\n```\n{"ok":1}'.replace('{"ok":7}', "-l"),
        'see [1] and [2]: {"ok":1}',  # only one of them fits
        'It is {"ok":1}, I repeat {"ok": 1}',  # the same value twice is one
        'use { to open\n\n{"ok":1}',
        'a "quote\n{"ok":1}',
        '{"ok":1,"say":"a } and a { and a \\" too"}',
        '[see {"ok":1} there]',
    ],
)
def test_the_one_value_that_fits_is_found(text: str) -> None:
    outcome = parse(text, OK)
    assert isinstance(outcome, Parsed)
    assert isinstance(outcome.value, dict)
    assert outcome.value["ok"] == 1


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("", Fault.ABSENT, "holds no JSON"),
        ("I cannot do that.", Fault.ABSENT, "holds no JSON"),
        ('{"ok":1', Fault.BROKEN, "line 1 column 8"),
        ('{"ok":1} or {"ok":2}', Fault.AMBIGUOUS, "2 different JSON values"),
        ('```json\n{"ok":1}\n```\n```json\n{"ok":2}\n```', Fault.AMBIGUOUS, "give just one"),
        ('{"ok":"1"}', Fault.UNFIT, "$.ok: '1' is not of type 'integer'"),
        ("{}", Fault.UNFIT, "'ok' is a required property"),
        ('"{\\"ok\\":1}"', Fault.UNFIT, "not of type 'object'"),
        ('{"ok":1,"ok":2}', Fault.BROKEN, "the key 'ok' stands twice"),
        ('{"ok":1,"x":NaN}', Fault.BROKEN, "NaN is no JSON"),
        ('{"ok":1,"x":-Infinity}', Fault.BROKEN, "Infinity"),
        ('{"ok":1,"x":1e999}', Fault.BROKEN, "too large a number"),
        ('{"ok":1,"x":"\\ud800"}', Fault.BROKEN, "surrogate"),
        ('```json\n{"ok":1,}\n```', Fault.BROKEN, "property name"),
        ('{"ok":' + "[" * 70 + "]" * 70 + "}", Fault.BROKEN, "64 levels"),
        ("x" * (MAX_TEXT + 1), Fault.TOO_LARGE, "more than"),
        ('{"ok":' + "9" * 5000 + "}", Fault.BROKEN, "limit"),
    ],
)
def test_what_does_not_fit_is_refused_with_words_a_model_can_act_on(
    text: str, reason: Fault, words: str
) -> None:
    outcome = parse(text, OK)
    assert isinstance(outcome, Unparsed)
    assert outcome.reason is reason
    assert words in outcome.complaint
    assert len(outcome.complaint) < 2000


def test_the_whole_text_as_json_is_taken_even_where_it_is_no_object() -> None:
    assert parse(" 5 ", {"type": "integer"}) == Parsed(5)
    assert parse("```\n5\n```", {"type": "integer"}) == Parsed(5)
    assert parse("null", ANY) == Parsed(None)


def test_complaints_are_few_and_name_their_paths() -> None:
    outcome = parse(json.dumps({"a": ["x"] * 50}), {"properties": {"a": {"items": {"type": "integer"}}}})
    assert isinstance(outcome, Unparsed)
    lines = outcome.complaint.splitlines()
    assert lines[0] == "$.a[0]: 'x' is not of type 'integer'"
    assert lines[-1] == "and more"
    assert len(lines) == 6


def test_of_alternatives_the_nearest_is_complained_about() -> None:
    schema: dict[str, Any] = {"anyOf": [{"type": "string"}, OK]}
    outcome = parse('{"ok":"x"}', schema)
    assert isinstance(outcome, Unparsed)
    assert outcome.complaint == "$.ok: 'x' is not of type 'integer'"


def test_what_could_be_read_and_does_not_fit_is_told_before_what_could_not_be_read() -> None:
    outcome = parse('```\nnot json\n```\nso: {"ok":"x"}', OK)
    assert isinstance(outcome, Unparsed)
    assert outcome.reason is Fault.UNFIT


HOSTILE = {
    "open braces": "{" * 100_000,
    "open pairs": "[{" * 400_000,
    "deep and closed": "[" * 50_000 + "]" * 50_000,
    "wide and deep": '{"ok":' * 990 + "1," * 200_000,
    "escaped quotes": '["\\[\\"' * 100_000,
    "only escapes": '\\"' * 400_000,
    "a fence of one line": "```" + "a" * 300_000 + "`\n",
    "many fences": "```\n" * 200_000,
    "backticks": "`" * 900_000,
    "spaces": " " * 900_000 + "x",
    "many small ones": '{"a":1}' * 100_000,
    "unfinished strings": '{"a":[1,{"b":"' * 60_000,
    "lines": "[\n" * 300_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused_in_time_linear_in_its_length(text: str) -> None:
    begun = time.perf_counter()
    assert isinstance(parse(text, OK), Unparsed)
    assert time.perf_counter() - begun < 5  # a quadratic pass over any of these takes minutes


def test_unique_items_are_compared_by_hashing() -> None:
    schema: dict[str, Any] = {"type": "array", "uniqueItems": True}
    many = json.dumps([{"a": [n, {"b": n}]} for n in range(30_000)])
    begun = time.perf_counter()
    assert isinstance(parse(many, schema), Parsed)
    assert time.perf_counter() - begun < 10
    assert isinstance(parse('[{"a":1,"b":2},{"b":2,"a":1.0}]', schema), Unparsed)
    assert isinstance(parse("[1,true,0,false,null,[],{}]", schema), Parsed)


@given(st.text(max_size=200) | st.text('{}[]",:\\`~\n aé0', max_size=80))
def test_no_text_makes_reading_raise(text: str) -> None:
    for schema in (OK, ANY, {"type": "array"}):
        assert isinstance(parse(text, schema), Parsed | Unparsed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=4))
def test_any_object_is_read_back_bare_fenced_and_in_prose(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    for answer in (text, f"```json\n{json.dumps(value, indent=2)}\n```", f"Here you are:\n{text}\nGood luck"):
        assert parse(answer, {"type": "object"}) == Parsed(value)


def test_a_schema_that_refers_to_itself_for_ever_cannot_blow_the_stack() -> None:
    schema: dict[str, Any] = {"properties": {"a": {"$ref": "#"}}, "$defs": {"x": {"$ref": "#/$defs/x"}}}
    check_schema(schema)
    assert isinstance(parse('{"a":' * 60 + "1" + "}" * 60, schema), Parsed)
    endless: dict[str, Any] = {
        "properties": {"a": {"$ref": "#/$defs/x"}},
        "$defs": {"x": {"$ref": "#/$defs/x"}},
    }
    outcome = parse('{"a":1}', endless)
    assert isinstance(outcome, Unparsed)
    assert "nested too deeply" in outcome.complaint


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, "$.type: 'objekt'"),
        ({"required": "title"}, "is not of type 'array'"),
        ({"$ref": "https://example.com/schema.json"}, "leads outside"),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, "leads outside"),
        ({"$ref": "#/$defs/nowhere"}, "leads nowhere"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"properties": {"a": {"pattern": "("}}}, "'('"),
        ({"patternProperties": {"[": {}}}, "'['"),
        (json.loads('{"not":' * 70 + "{}" + "}" * 70), "64 levels"),
    ],
)
def test_a_schema_that_is_none_is_refused(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(NoSchema) as refused:
        check_schema(schema)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "schema",
    [
        OK,
        {"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"},
        {"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"a": {}},
            "$ref": "#/definitions/a",
        },
    ],
)
def test_a_sound_schema_is_taken(schema: dict[str, Any]) -> None:
    check_schema(schema)
    assert isinstance(parse("1", schema), Parsed | Unparsed)


def test_prompts_carry_the_schema_and_the_complaint() -> None:
    assert json.dumps(OK, indent=2) in instructions(OK)
    repair = repair_prompt("$.ok: 'x' is not of type 'integer'", OK)
    assert "$.ok: 'x' is not of type 'integer'" in repair
    assert json.dumps(OK, indent=2) in repair
    assert "JSON" not in repair_prompt("The answer was empty.", None)


def test_strict_json_names_its_line() -> None:
    with pytest.raises(NotJson) as refused:
        read_json('{\n"a": 1,\n"b": oops}')
    assert refused.value.line == 3

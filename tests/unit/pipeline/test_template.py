"""Templates give text from data, and data never becomes a template."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.errors import PipelineError
from opencode_reactor.pipeline.template import (
    MAX_OUTPUT,
    Unknown,
    render,
    syntax_problem,
    truthy,
    unknown_names,
)

VALUES: dict[str, Any] = {
    "n": 10**9,
    "text": "some text",
    "big": "y" * 900_000,
    "output": {"items": [1, 2], "keys": "k", "a-b": "dash"},
    "nothing": None,
    "yes": True,
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ output.items }}", "[1, 2]"),  # the key, not Python's method
        ("{{ output.keys }}", "k"),
        ("{{ output['a-b'] }}", "dash"),
        ("{% for k, v in output.items %}{% endfor %}", None),
        (
            "{% for x in output.items %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}",
            "1/2:1 2/2:2 ",
        ),
        ("{{ output }}", '{"items": [1, 2], "keys": "k", "a-b": "dash"}'),
        ("{{ nothing }} {{ yes }}", "null true"),
        ("{{ '<ü&>' | tojson }}", '"<ü&>"'),
        ("{{ output.items | length }} {{ output.items | join(', ') }}", "2 1, 2"),
        ("{{ missing | default('x') }}", "x"),
        ("{{ text | upper }} {{ text.split(' ')[0] }}", "SOME TEXT some"),
        ("<b>{{ text }}</b>\n", "<b>some text</b>\n"),  # nothing is escaped, no line end is lost
        ("{{ 'a' | replace('a', 'b') | indent(2) }}", "b"),
        ("{% set x = 1 %}{% if x == 1 %}one{% else %}other{% endif %}", "one"),
    ],
)
def test_a_template_gives_its_text(source: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(PipelineError):
            render(source, VALUES)
    else:
        assert render(source, VALUES) == text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ missing }}", "'missing' is undefined"),
        ("{{ output.nope }}", "has no attribute 'nope'"),
        ("{{ nothing.title }}", "None"),
        ("{{ text.__class__ }}", "unsafe"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ text.upper }}", "a function is no text"),
        ("{{ '{:999999999}'.format(1) }}", "unsafe"),
        ("{{ 'x'['format_map']({}) }}", "unsafe"),
        ("{{ 'a%d' % 1 }}", "with ~, not with %"),
        ("{{ 'x' * n }}", f"more than {MAX_OUTPUT} characters"),
        ("{{ [1] * n }}", f"more than {MAX_OUTPUT} characters"),
        ("{{ 2 ** n }}", "a power over"),
        ("{{ text.ljust(n) }}", "unsafe"),
        ("{{ text | center(n) }}", "No filter named 'center'"),
        ("{{ text | indent(n) }}", f"more than {MAX_OUTPUT} characters"),
        ("{{ big | replace('', big) }}", f"more than {MAX_OUTPUT} characters"),
        ("{{ range(2) | join(big * 2) }}", f"more than {MAX_OUTPUT} characters"),
        ("{{ big }}{{ big }}", f"more than {MAX_OUTPUT} characters"),
        ("{{ range(n) | length }}", "Range too big"),
        ("{{ output.items.append(3) }}", "unsafe"),
        ("{{ output.update({}) }}", "unsafe"),
        ("{{ lipsum() }}", "undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ output.items[9] }}", "no element 9"),
        ("{% include 'x' %}", "{% include %} is not offered"),
        ("{% macro f() %}{% endmacro %}", "{% macro %} is not offered"),
        ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursive loop"),
        ("line\n{{ a", "(line 2 of the text)"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "nested too deeply"),
    ],
)
def test_what_a_template_must_not_do_ends_in_one_error_with_its_place(source: str, words: str) -> None:
    with pytest.raises(PipelineError) as refused:
        render(source, VALUES, place="draft.prompt")
    assert words in refused.value.message
    assert refused.value.place == "draft.prompt"


def test_loops_within_loops_are_bounded_together() -> None:
    begun = time.perf_counter()
    with pytest.raises(PipelineError, match="loops more than"):
        render("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", {})
    assert time.perf_counter() - begun < 10


def test_what_is_rendered_does_not_change_what_was_given() -> None:
    output = {"items": [3, 1, 2]}
    assert render("{{ output.items | sort | join }}", {"output": output}) == "123"
    assert output == {"items": [3, 1, 2]}


ATTACKS = ["{{ 7 * 7 }}", "{% raw %}", "{{ inputs }}", "{# x #}", "{{ ''.__class__ }}", "}}{{ secret }}{{"]


@given(st.text(max_size=60) | st.sampled_from(ATTACKS), st.sampled_from(ATTACKS))
def test_what_a_model_wrote_is_data_whatever_it_looks_like(first: str, second: str) -> None:
    context = {"stages": {"a": {"text": first + second}}, "secret": "never", "inputs": {}}
    assert render("<{{ stages.a.text }}>", context) == f"<{first}{second}>"


@given(st.text(max_size=80) | st.text("{}%#-' \"|()a.[]0", max_size=40))
def test_any_source_renders_or_is_refused_and_nothing_else_escapes(source: str) -> None:
    wrong = syntax_problem(source)
    try:
        text = render(source, {})
    except PipelineError:
        return
    assert wrong is None
    assert isinstance(text, str)


@pytest.mark.parametrize(
    ("expression", "held"),
    [
        ("output.items | length > 1", True),
        ("{{ yes }}", True),
        ("not yes", False),
        ("nothing", False),
        ("'false'", False),
        ("' FALSE '", False),
        ("''", False),
        ("'no'", True),
        ("0", False),
        ("text == 'some text' and yes", True),
    ],
)
def test_a_condition_holds_or_not(expression: str, held: bool) -> None:
    assert truthy(expression, VALUES) is held


@pytest.mark.parametrize(
    "expression", ["missing", "", "yes }} {{ yes", "{% if yes %}", "yes yes", "{{ yes }} or {{ yes }}"]
)
def test_a_condition_that_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(PipelineError):
        truthy(expression, VALUES, place="when")


def test_unknown_names_are_found_with_their_line_and_what_there_is() -> None:
    known = {"inputs": {"tag": None}, "stages": {"a": {"output": {"t": None}, "text": None}}}
    source = (
        "{{ inputs.tga }}{% set q = inputs.tag %}{{ q }}\n"
        "{{ stages['a'].outpt }} {{ nope }} {{ stages.a.text.x }}"
    )
    assert unknown_names(source, known) == [
        Unknown(("inputs", "tga"), ("tag",), 1),
        Unknown(("stages", "a", "outpt"), ("output", "text"), 2),
        Unknown(("nope",), ("inputs", "stages"), 2),
    ]


def test_reading_a_mapping_as_a_whole_needs_no_names() -> None:
    known = {"stages": {"a": {"output": {"t": None}}}}
    source = "{% for k, v in stages.a.output.items() %}{{ k }}{% endfor %}{{ stages }}{{ stages[which] }}"
    assert [u.path for u in unknown_names(source, known)] == [("which",)]


def test_an_expression_knows_the_same_names() -> None:
    assert [
        u.path for u in unknown_names("inputs.a == inputs.b", {"inputs": {"a": None}}, expression=True)
    ] == [("inputs", "b")]


def test_a_syntax_problem_names_its_line() -> None:
    problem = syntax_problem("one\ntwo {{ three")
    assert problem is not None
    assert problem.line == 2
    assert syntax_problem("{{ fine }}") is None
    assert syntax_problem("a b", expression=True) is not None

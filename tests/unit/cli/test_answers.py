from __future__ import annotations

import pytest

from opencode_reactor.cli.answers import labels_for
from opencode_reactor.errors import UsageError
from opencode_reactor.model.sessions import Option, Question

ONE = Question("Which?", options=(Option("SQLite"), Option("PostgreSQL")), custom=False)
MANY = Question(
    "Which ones?", options=(Option("a"), Option("b, c"), Option("d")), multiple=True, custom=False
)
OWN = Question("Why?", options=(Option("because"),))
FREE = Question("What else?")


@pytest.mark.parametrize(
    ("questions", "typed", "answers"),
    [
        ([ONE], ["SQLite"], (("SQLite",),)),
        ([ONE], [" sqlite"], (("SQLite",),)),
        ([MANY], ["a", "d"], (("a", "d"),)),
        ([MANY], ["b, c"], (("b, c",),)),
        ([OWN], ["Own words, as they are"], (("Own words, as they are",),)),
        ([OWN], ["Because"], (("because",),)),
        ([FREE], ["anything"], (("anything",),)),
        ([ONE, MANY], ["sqlite", "a, d"], (("SQLite",), ("a", "d"))),
        ([MANY, OWN], ["b, c", "x, y"], (("b, c",), ("x, y",))),
    ],
)
def test_what_is_typed_becomes_one_answer_for_each_question(
    questions: list[Question], typed: list[str], answers: tuple[tuple[str, ...], ...]
) -> None:
    assert labels_for(questions, typed) == answers


@pytest.mark.parametrize(
    ("questions", "typed", "said"),
    [
        ([ONE], ["Postgres"], "did you mean 'PostgreSQL'?"),
        ([ONE], ["Oracle"], "[SQLite | PostgreSQL]"),
        ([ONE], ["SQLite", "PostgreSQL"], "takes one answer, not 2"),
        ([OWN], ["two", "words"], 'quote it: "two words"'),
        ([ONE], [" "], "an answer is empty"),
        ([MANY, ONE], [",", "SQLite"], "an answer is empty"),
        ([ONE, MANY], ["SQLite"], "2 questions, 1 answers"),
        ([ONE, MANY], ["SQLite", "a, x"], "'x' is not offered"),
    ],
)
def test_what_does_not_answer_is_refused_with_what_is_offered(
    questions: list[Question], typed: list[str], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        labels_for(questions, typed)
    assert said in str(caught.value)


def test_labels_that_differ_only_in_capitals_must_be_typed_exactly() -> None:
    twins = Question("Which?", options=(Option("A"), Option("a")), custom=False)
    assert labels_for([twins], ["a"]) == (("a",),)
    with pytest.raises(UsageError):
        labels_for([twins], [" a"])

"""A pipeline is one model, checked whole when it is made, compiled to a plan with every default applied."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from opencode_reactor.errors import PipelineError
from opencode_reactor.model.runs import Failure
from opencode_reactor.model.sessions import ModelRef
from opencode_reactor.pipeline.definition import (
    Defaults,
    Input,
    Pipeline,
    Spending,
    Stage,
    check_inputs,
    compile_plan,
)
from opencode_reactor.pipeline.parts import milliseconds
from opencode_reactor.pipeline.plan import Action, Answer, Budget, Questions, Rule, StagePlan

CONTRACT: dict[str, Any] = {
    "type": "object",
    "required": ["title"],
    "properties": {"title": {"type": "string"}, "by": {"type": "object", "properties": {"name": {}}}},
}


def stage(name: str = "draft", **keys: Any) -> Stage:
    purpose = {} if "approve" in keys else {"prompt": "Write."}
    return Stage.model_validate({"name": name, **purpose, **keys})


def pipeline(*stages: Stage, **keys: Any) -> Pipeline:
    return Pipeline(name="notes", stages=stages or (stage(),), **keys)


def refused(make: Callable[[], object]) -> str:
    with pytest.raises(PipelineError) as error:
        make()
    return str(error.value)


def test_a_whole_pipeline_compiles_with_defaults_and_overrides() -> None:
    plan = compile_plan(
        pipeline(
            stage("draft", output=CONTRACT, summary="{{ output.title }}", permissions={"edit": "deny"}),
            stage("b", needs=[], agent="plan", model="a/b/c", attempts=1, timeout=1.5, check="make test"),
            stage("sign-off", needs=["draft", "b"], approve="Publish {{ stages.draft.output.title }}?"),
            defaults=Defaults(
                agent="build",
                model="openai/x",
                fallback_models=["y/z"],
                timeout="1h30m",
                patience="500ms",
                budget=Spending(tokens=10),
            ),
            budget=Spending(tokens=100, cost=2),
            permissions={"*": "ask", "bash": {"git *": "always"}},
            questions="reject",
            playbook={"timeout": "escalate", "unknown": ["stop"]},
        )
    )
    draft, b, sign_off = plan.stages
    assert plan.budget == Budget(100, 2.0)
    assert draft == StagePlan(
        name="draft",
        prompt="Write.",
        agent="build",
        model=ModelRef("openai", "x"),
        fallback_models=(ModelRef("y", "z"),),
        timeout=5_400_000,
        patience=500,
        budget=Budget(10),
        permissions=(
            Rule("*", "*", Action.ASK),
            Rule("bash", "git *", Action.ALWAYS),
            Rule("edit", "*", Action.DENY),
        ),
        questions=Questions.REJECT,
        output=CONTRACT,
        summary="{{ output.title }}",
        playbook={Failure.TIMEOUT: (Answer.ESCALATE,), Failure.UNKNOWN: (Answer.STOP,)},
    )
    assert (b.needs, b.agent, b.model, b.attempts, b.timeout) == ((), "plan", ModelRef("a", "b/c"), 1, 1500)
    assert b.checks == ("make test",)
    assert sign_off.needs == ("draft", "b")
    assert sign_off.approve.startswith("Publish")


def test_without_a_word_a_stage_needs_the_one_before_it() -> None:
    plan = compile_plan(pipeline(stage("a"), stage("b"), stage("c", needs=[]), stage("d")))
    assert [(s.name, s.needs) for s in plan.stages] == [("a", ()), ("b", ("a",)), ("c", ()), ("d", ("c",))]


def test_the_plan_puts_every_stage_behind_what_it_needs() -> None:
    plan = compile_plan(
        pipeline(stage("last", needs=["mid"]), stage("mid", needs=["first"]), stage("first", needs=[]))
    )
    assert [s.name for s in plan.stages] == ["first", "mid", "last"]


def test_dicts_and_values_make_the_same_pipeline() -> None:
    plain: dict[str, Any] = {"name": "notes", "stages": [{"name": "draft", "prompt": "Write."}]}
    assert Pipeline.model_validate(plain) == pipeline()


def test_a_pipeline_survives_its_own_spec() -> None:
    whole = pipeline(
        stage("a", output=CONTRACT, needs=[], when=True, check=["x", "y"]),
        stage("b", playbook={"timeout": ["fresh"]}),
        inputs={"tag": Input(default=None), "count": Input(default=3), "must": Input(description="it")},
    )
    assert Pipeline.from_spec(whole.to_spec()) == whole
    assert compile_plan(Pipeline.from_spec(whole.to_spec())) == compile_plan(whole)


@pytest.mark.parametrize("spec", ["", "[]", "{}", '{"name":"x"}', "[" * 10_000])
def test_a_broken_spec_is_one_clear_error(spec: str) -> None:
    assert refused(lambda: Pipeline.from_spec(spec))


def test_files_are_inlined_relative_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "draft.md").write_text("Write about {{ inputs.tag }}.\n", encoding="utf-8")
    (tmp_path / "schema.json").write_text(json.dumps(CONTRACT, indent="\t"), encoding="utf-8")
    named = Pipeline(
        name="notes",
        inputs={"tag": Input()},
        stages=[Stage(name="draft", prompt_file="draft.md", output="schema.json")],
    )
    spec = json.loads(named.to_spec(tmp_path))
    assert spec["stages"] == [
        {"name": "draft", "prompt": "Write about {{ inputs.tag }}.\n", "output": CONTRACT}
    ]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    named = Pipeline(name="notes", stages=[Stage(name="draft", prompt_file="nowhere.md")])
    words = refused(lambda: named.to_spec(tmp_path))
    assert words.startswith("Pipeline.stages[0].prompt_file: ")
    assert str(tmp_path / "nowhere.md") in words


def test_what_a_file_holds_is_checked_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "draft.md").write_text("{{ inputs.tga }}", encoding="utf-8")
    named = Pipeline(name="notes", stages=[Stage(name="draft", prompt_file="draft.md")])
    assert "no input is called 'tga'" in refused(lambda: named.inlined(tmp_path))


WRONG: list[tuple[Callable[[], object], str]] = [
    (
        lambda: Stage.model_validate({"name": "a", "promt": "x"}),
        "Stage.promt: unknown key 'promt' in a stage; did you mean 'prompt'?",
    ),
    (lambda: Pipeline.model_validate({"name": "x", "stages": [{"nam": "a"}]}), "did you mean 'name'?"),
    (lambda: Pipeline(name="x", stages=[]), "'stages' is empty"),
    (lambda: Pipeline(name="x\ny", stages=[stage()]), "is no name: 1 to 100 printable characters"),
    (lambda: stage(model="gpt"), "'gpt' is no model: write provider/model"),
    (lambda: stage(timeout="20 minutes"), "'20 minutes' is no duration"),
    (lambda: stage(attempts=0), "'attempts' must be at least 1"),
    (lambda: stage(attempts=True), "'attempts' must be a whole number, not true or false"),
    (lambda: stage(questions="allow"), "'questions' must be 'ask' or 'reject', not 'allow'"),
    (lambda: stage(output=["a"]), "output is a JSON Schema or the path of one, not a list"),
    (lambda: stage(output={"const": float("nan")}), "cannot be written as JSON"),
    (lambda: stage(check=[1]), "check is a command or a list of commands"),
    (lambda: stage(when=3), "when is an expression in text, not a number"),
    (lambda: Spending(cost=float("inf")), "'cost' must be a finite number"),
    (lambda: Spending(tokens=0), "'tokens' must be more than 0"),
    (lambda: pipeline(stage("a b")), "'a b' is no name for a stage"),
    (lambda: pipeline(stage("a.b")), "'a.b' is no name for a stage"),
    (lambda: pipeline(stage("a"), stage("a")), "there are two stages called 'a'"),
    (lambda: pipeline(stage("draft"), stage("b", needs=["drat"])), "no stage; did you mean 'draft'?"),
    (lambda: pipeline(stage("a", needs=["a"])), "the stages wait for each other: a -> a"),
    (
        lambda: pipeline(stage("a", needs=["c"]), stage("b"), stage("c")),
        "the stages wait for each other: a -> c -> b -> a",
    ),
    (lambda: pipeline(Stage(name="a")), "has nothing to do: give it prompt, prompt_file or approve"),
    (lambda: pipeline(stage("a", prompt=" ")), "'prompt' of stage 'a' is empty"),
    (lambda: pipeline(stage("a", prompt_file="x")), "has both prompt and prompt_file"),
    (lambda: pipeline(stage("a", approve="ok?", model="a/b")), "'model' means nothing there"),
    (lambda: pipeline(stage(output={"type": "objekt"})), "is no JSON Schema: $.type: 'objekt'"),
    (lambda: pipeline(stage(output={"$ref": "http://x/y"})), "leads outside"),
    (lambda: pipeline(permissions={"read": "alow"}), "did you mean 'allow'?"),
    (lambda: pipeline(stage(permissions={"bash": {"*": "maybe"}})), "stages[0].permissions.bash.*"),
    (lambda: pipeline(playbook={"timeot": "fresh"}), "did you mean 'timeout'?"),
    (lambda: pipeline(playbook={"pending_question": "stop"}), "is no failure with an answer"),
    (lambda: pipeline(stage(playbook={"timeout": ["frsh"]})), "did you mean 'fresh'?"),
    (lambda: pipeline(stage(playbook={"timeout": []})), "has no answer at all"),
    (lambda: pipeline(stage(playbook={"auth_failed": "repair"})), "nothing to repair"),
    (lambda: pipeline(inputs={"a b": Input()}), "'a b' is no name for an input"),
    (lambda: pipeline(inputs={"n": Input(type="integer", default="x")}), "is text, not of type integer"),
    (lambda: pipeline(stage(prompt="{{ a")), "template: unexpected end of template"),
    (
        lambda: pipeline(stage(prompt="{{ nope }}")),
        "unknown name 'nope'; templates know inputs, stages and run",
    ),
    (lambda: pipeline(stage(prompt="{{ tag }}"), inputs={"tag": Input()}), "did you mean inputs.tag?"),
    (lambda: pipeline(stage("a"), stage("b", prompt="{{ a.text }}")), "did you mean stages.a?"),
    (lambda: pipeline(stage(prompt="{{ inputs.tga }}"), inputs={"tag": Input()}), "did you mean 'tag'?"),
    (lambda: pipeline(stage("a"), stage("b", prompt="{{ stages.a.txt }}")), "did you mean 'text'?"),
    (lambda: pipeline(stage("a"), stage("b", prompt="{{ stages.c.text }}")), "no stage is called 'c'"),
    (lambda: pipeline(stage("a", prompt="{{ stages.a.text }}")), "stage 'a' cannot see itself"),
    (
        lambda: pipeline(stage("a"), stage("b", needs=[], prompt="{{ stages.a.text }}")),
        "stage 'a' does not come before 'b': add it to its needs",
    ),
    (
        lambda: pipeline(stage("a"), stage("b", prompt="{{ stages.a.output.title }}")),
        "stage 'a' has no output contract",
    ),
    (
        lambda: pipeline(stage("a", output=CONTRACT), stage("b", prompt="{{ stages.a.output.titel }}")),
        "the contract declares no stages.a.output.titel; did you mean 'title'?",
    ),
    (lambda: pipeline(stage(output=CONTRACT, summary="{{ output.by.nam }}")), "did you mean 'name'?"),
    (lambda: pipeline(stage(prompt="{{ output.title }}")), "unknown name 'output'"),
    (lambda: pipeline(stage(prompt="{{ run.idd }}")), "there is no run.idd; did you mean 'id'?"),
    (lambda: pipeline(stage(when="inputs.x")), "no input is called 'x'"),
    (lambda: pipeline(stage(when="a b")), "template: "),
]


@pytest.mark.parametrize(("make", "words"), WRONG, ids=[words[:50] for _, words in WRONG])
def test_a_wrong_pipeline_cannot_be_made(make: Callable[[], object], words: str) -> None:
    assert words in refused(make)


def test_all_problems_are_told_at_once() -> None:
    words = refused(lambda: pipeline(stage("a b", prompt="{{ x }}"), stage("c", needs=["d"])))
    assert [line.partition(": ")[0] for line in words.splitlines()] == [
        "Pipeline.stages[0].name",
        "Pipeline.stages[1].needs[0]",
        "Pipeline.stages[0].prompt",
    ]


def test_upstream_is_transitive_and_names_with_dashes_are_quoted() -> None:
    assert pipeline(
        stage("sign-off-1"),
        stage("b"),
        stage("c", prompt="{{ stages['sign-off-1'].text }}{{ stages.b.state }}"),
    )


def test_an_open_contract_leaves_its_keys_open() -> None:
    more: list[dict[str, Any]] = [{"additionalProperties": True}, {"allOf": [{}]}]
    open_ones: list[dict[str, Any]] = [{}, {"type": "object"}, *({**CONTRACT, **words} for words in more)]
    for schema in open_ones:
        assert pipeline(stage("a", output=schema), stage("b", prompt="{{ stages.a.output.whatever }}"))


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("20m", 1_200_000),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("500ms", 500),
        (2, 2000),
        (0.25, 250),
        ("1.5h", 5_400_000),
    ],
)
def test_durations_are_read(text: str | float, ms: int) -> None:
    assert milliseconds(text) == ms


@pytest.mark.parametrize(
    "wrong", ["", "20", "m", "1x", "-1s", -1, float("nan"), float("inf"), "9999d", True, None, "1h 30"]
)
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        milliseconds(wrong)


INPUTS = pipeline(
    inputs={
        "tag": Input(description="The tag"),
        "tone": Input(default="plain"),
        "count": Input(default=3),
        "whole": Input(type="integer", default=1),
        "dry": Input(default=False),
        "options": Input(type="json", default=None),
    }
)


def test_inputs_get_their_defaults_and_types() -> None:
    given = {"tag": "5", "count": "4.5", "dry": "yes", "options": '{"a": [1]}'}
    assert check_inputs(INPUTS, given) == {
        "tag": "5",
        "tone": "plain",
        "count": 4.5,
        "whole": 1,
        "dry": True,
        "options": {"a": [1]},
    }
    assert check_inputs(INPUTS, {"tag": {"any": "json"}, "dry": True})["tag"] == {"any": "json"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "input 'tag' is missing (The tag): give it with -i tag=…"),
        ({"tga": "1"}, "no input is called 'tga'; did you mean 'tag'?"),
        ({"tag": "1", "count": "many"}, "input 'count': 'many' is no number"),
        ({"tag": "1", "count": "NaN"}, "input 'count': 'NaN' is no number"),
        ({"tag": "1", "whole": "1.5"}, "input 'whole': a number is not of type integer"),
        ({"tag": "1", "dry": "maybe"}, "'maybe' is neither true nor false"),
        ({"tag": "1", "dry": 1}, "a number is not of type boolean"),
        ({"tag": "1", "options": "{"}, "is no JSON"),
    ],
)
def test_wrong_inputs_are_told(given: dict[str, Any], words: str) -> None:
    assert words in refused(lambda: check_inputs(INPUTS, given))


def test_every_wrong_input_is_told_at_once() -> None:
    assert len(refused(lambda: check_inputs(INPUTS, {"a": "1", "count": "x"})).splitlines()) == 3


def test_the_schema_for_editors_describes_every_key_and_takes_what_the_model_takes() -> None:
    schema = Pipeline.model_json_schema()
    Draft202012Validator.check_schema(schema)
    for model in (schema, *schema["$defs"].values()):
        for name, key in model["properties"].items():
            assert key.get("description"), f"{model['title']}.{name}"
    whole = json.loads(INPUTS.to_spec()) | {"permissions": {"*": "ask", "bash": {"git *": "allow"}}}
    whole["stages"] = [
        {"name": "a", "prompt": "x", "timeout": "20m", "check": "y", "needs": [], "when": True}
    ]
    validator: Any = Draft202012Validator(schema)
    assert validator.is_valid(whole)
    wrongs: list[dict[str, Any]] = [
        {"agnet": 1},
        {"permissions": {"read": "maybe"}},
        {"stages": []},
        {"questions": "x"},
    ]
    for wrong in wrongs:
        assert not validator.is_valid(whole | wrong), wrong

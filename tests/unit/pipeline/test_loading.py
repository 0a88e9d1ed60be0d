"""Files are loaded with the line of every problem; hostile ones are refused."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_reactor.errors import PipelineError
from opencode_reactor.pipeline.definition import compile_plan
from opencode_reactor.pipeline.loading import load, load_pipeline

DESIGN = """\
name: release-notes
inputs:
  tag: {description: The tag to describe}
  tone: {default: plain}
defaults:
  agent: build
  model: openai/gpt-5.3-codex
  fallback_models: [anthropic/claude-sonnet-4-5]
  timeout: 20m
  attempts: 3
budget: {tokens: 400000, cost: 5.0}
permissions: {"*": ask, read: allow, bash: {"git *": allow, "git push*": ask}}   # last match wins
questions: ask                       # ask | reject
stages:
  - name: draft
    prompt: Draft the release notes for {{ inputs.tag }} in a {{ inputs.tone }} tone.
    output:                          # the contract: a JSON Schema, inline or a file's path
      type: object
      required: [title, notes]
      properties: {title: {type: string}, notes: {type: array, items: {type: string}}}
    summary: "{{ output.title }}: {{ output.notes | length }} notes"   # what later stages are told
  - name: review
    needs: [draft]                   # left out: the stage before it; []: at once
    agent: plan
    prompt: "Review: {{ stages.draft.summary }}"
    check: ["python -m pytest -q"]   # commands that must exit 0 in the project directory
  - name: sign-off
    approve: Publish {{ stages.draft.output.title }}?
"""


NO_SCHEMA = (
    "is no JSON Schema: $.type: 'objekt' is not one of "
    "['array', 'boolean', 'integer', 'null', 'number', 'object', 'string']"
)


def written(folder: Path, text: str, name: str = "flow.yaml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def refused(file: Path | str) -> list[str]:
    """The lines of the error, the folder taken off."""
    with pytest.raises(PipelineError) as error:
        load(file)
    folder = f"{Path(file).parent}/"
    return str(error.value).replace(folder, "").splitlines()


def test_the_designs_own_pipeline_loads(tmp_path: Path) -> None:
    plan = compile_plan(load(written(tmp_path, DESIGN)))
    assert [s.name for s in plan.stages] == ["draft", "review", "sign-off"]
    assert plan.stages[2].needs == ("review",)


def test_json_is_a_pipeline_file_too_tabs_and_all(tmp_path: Path) -> None:
    text = json.dumps({"name": "x", "stages": [{"name": "a", "prompt": "b"}]}, indent="\t")
    assert load(written(tmp_path, text, "flow.json")).name == "x"
    assert refused(written(tmp_path, text.replace('"x"', '"x",\n"name": "y"'), "two.json")) == [
        "two.json:1: not JSON: the key 'name' stands twice in one object"
    ]


def test_every_problem_of_form_is_told_with_its_line(tmp_path: Path) -> None:
    text = """\
name: notes
inputs:
  tag: {descripton: The tag}
agnet: x
defaults:
  permissions: allow
  attempts: 0
stages:
  - name: draft
    promt: hello
    timeout: 20 min
  - prompt: x
  - hello
"""
    assert refused(written(tmp_path, text)) == [
        "flow.yaml:3: unknown key 'descripton' in an input; did you mean 'description'?",
        "flow.yaml:4: unknown key 'agnet' in the pipeline; did you mean 'agent', a key of defaults?",
        "flow.yaml:6: unknown key 'permissions' in defaults; it is a key of the pipeline",
        "flow.yaml:7: 'attempts' must be at least 1",
        "flow.yaml:10: unknown key 'promt' in a stage; did you mean 'prompt'?",
        "flow.yaml:11: '20 min' is no duration: write 20m, 90s, 1h30m, 500ms or a number of seconds",
        "flow.yaml:12: 'name' is missing in a stage",
        "flow.yaml:13: number 3 of the list must be a mapping, not text",
    ]


def test_every_problem_of_meaning_is_told_with_its_line(tmp_path: Path) -> None:
    text = """\
name: notes
inputs:
  tag:
permissions: {read: allowed}
stages:
  - name: draft
    prompt: |
      hello {{ inputs.tag }}
      {{ inputs.tga }}
    needs: [review]
    output: {type: objekt}
  - name: review
    needs:
      - draft
      - drat
    prompt: "{{ stages.draft.txt }}"
"""
    assert refused(written(tmp_path, text)) == [
        "flow.yaml:4: 'allowed' is no permission: write allow, always, ask, deny; did you mean 'allow'?",
        "flow.yaml:9: no input is called 'tga'; did you mean 'tag'?",
        "flow.yaml:10: the stages wait for each other: draft -> review -> draft",
        f"flow.yaml:11: the output of 'draft' {NO_SCHEMA}",
        "flow.yaml:15: stage 'review' needs 'drat', which is no stage; did you mean 'draft'?",
        "flow.yaml:16: there is no stages.draft.txt; did you mean 'text'?",
    ]


def test_problems_in_a_named_file_are_placed_in_that_file(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    written(tmp_path, "Hello\n{{ inputs.tag }}\n{{ oops", "prompts/draft.md")
    written(tmp_path, '{"type": "objekt"}', "schema.json")
    text = """\
name: notes
stages:
  - {name: a, prompt_file: prompts/draft.md, output: schema.json}
  - {name: b, prompt_file: nowhere.md, output: nowhere.json}
"""
    assert refused(written(tmp_path, text)) == [
        f"schema.json:1: the output of 'a' {NO_SCHEMA}",
        "prompts/draft.md:3: template: unexpected end of template, expected 'end of print statement'.",
        "flow.yaml:4: nowhere.md: there is no such file",
        "flow.yaml:4: nowhere.json: there is no such file",
    ]


def test_a_schema_file_in_yaml_is_taken_and_one_that_is_no_mapping_is_not(tmp_path: Path) -> None:
    written(tmp_path, "type: object\n", "schema.yaml")
    text = "name: n\nstages: [{name: a, prompt: x, output: schema.yaml}]\n"
    assert load_pipeline(written(tmp_path, text)).stages[0].output == {"type": "object"}
    written(tmp_path, "- 1\n", "schema.yaml")
    assert refused(tmp_path / "flow.yaml") == [
        "flow.yaml:2: schema.yaml:1: a JSON Schema is a mapping, not a list"
    ]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "flow.yaml:1: the file is empty"),
        ("# nothing\n", "flow.yaml:1: the file is empty"),
        ("- a\n", "flow.yaml:1: a pipeline is a mapping, not a list"),
        ("name: x\nname: y\n", "flow.yaml:2: the key 'name' stands twice"),
        ("name: x\nstages: [\n", "flow.yaml:3: not YAML: "),
        ("name: x\n\tstages: 1\n", "flow.yaml:2: not YAML: "),
        (
            "name: !!python/object/apply:os.system [x]\n",
            "flow.yaml:1: the tag tag:yaml.org,2002:python/object",
        ),
        ("name: !secret x\n", "flow.yaml:1: the tag !secret is not read here"),
        ("name: !!set {a}\n", "flow.yaml:1: the tag tag:yaml.org,2002:set is not read here"),
        ("name: .nan\n", "flow.yaml:1: .nan is no number that can be kept"),
        ("name: x\n? [a]\n: 1\n", "flow.yaml:2: a key must be text"),
        ("name: &a\n  - *a\n", "nested more than 64 levels deep"),
        ("name: x\n---\nname: y\n", "flow.yaml:2: not YAML: "),
        ("name: *nowhere\n", "flow.yaml:1: not YAML: "),
        ("name: " + "[" * 70 + "]" * 70 + "\n", "nested more than 64 levels deep"),
        ("[" * 20_000, "nested too deeply"),
        (BOMB, "more than 50000 values"),
        ("name: " + "x" * 300_000, "larger than 256 KB"),
        ("%YAML 9.9\n---\na: 1\n", "flow.yaml"),
        ("name: \x01\n", "flow.yaml"),
    ],
)
def test_a_file_that_is_no_pipeline_is_refused_with_its_line(tmp_path: Path, text: str, line: str) -> None:
    found = refused(written(tmp_path, text))
    assert line in found[0]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "flow.yaml"


LINES = st.sampled_from(
    [*DESIGN.splitlines(), "  - x: &a [*a]", "<<: {a: b}", "? [", "  needs: {}", "\t", "stages:"]
)


@given(st.text(max_size=60) | st.lists(LINES, max_size=30).map("\n".join))
def test_any_file_is_a_pipeline_or_one_clear_error(flow: Path, text: str) -> None:
    flow.write_text(text, encoding="utf-8", errors="replace")
    with suppress(PipelineError):
        assert compile_plan(load(flow)).stages


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_bytes(b"name: \xff\xfe")
    assert refused(file) == ["flow.yaml: not UTF-8 text"]


def test_dates_and_yeses_stay_text(tmp_path: Path) -> None:
    text = "name: 2026-01-01\ninputs: {a: {default: yes}, b: {default: 0x10}, c: {default: 1e3}}\n"
    loaded = load(written(tmp_path, text + "stages: [{name: a, prompt: x}]\n"))
    assert loaded.name == "2026-01-01"
    assert [i.default for i in loaded.inputs.values()] == ["yes", 16, 1000.0]


def test_a_file_that_is_not_there_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    written(tmp_path, DESIGN)
    assert refused(tmp_path / "flwo.yaml") == [
        "flwo.yaml: there is no such pipeline file; did you mean 'flow.yaml'?"
    ]
    assert refused(tmp_path) == [f"{tmp_path.name}: this is a folder, not a file"]
    assert refused(written(tmp_path, "", "flow.txt"))[0].startswith("flow.txt: a pipeline is a file in .yaml")


PYTHON = """\
from opencode_reactor.pipeline.definition import Pipeline, Stage

notes = Pipeline(name="notes", stages=[Stage(name="draft", prompt_file="draft.md")])
"""


def test_a_python_file_gives_its_pipeline_and_reads_files_beside_it(tmp_path: Path) -> None:
    written(tmp_path, "Hello", "draft.md")
    loaded = load(written(tmp_path, PYTHON, "flow.py"))
    assert loaded.stages[0].prompt == "Hello"
    assert load(f"{tmp_path / 'flow.py'}:notes") == loaded


def test_several_pipelines_in_one_file_must_be_chosen_from(tmp_path: Path) -> None:
    written(tmp_path, "Hello", "draft.md")
    file = written(tmp_path, PYTHON + "other = Pipeline(name='o', stages=notes.stages)\n", "flow.py")
    assert refused(file) == [
        "flow.py: defines several pipelines (notes, other)",
        "  choose one: flow.py:notes",
    ]
    assert load(f"{file}:other").name == "o"
    assert "did you mean 'other'?" in refused(f"{file}:othr")[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1\n", "flow.py: defines no pipeline"),
        ("x = (\n", "flow.py:1: not Python: '(' was never closed"),
        ("\nimport nowhere_at_all\n", "flow.py:2: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("raise SystemExit(3)\n", "flow.py:1: SystemExit: 3"),
        (
            PYTHON.replace("prompt_file", "promt"),
            "flow.py:3: Stage.promt: unknown key 'promt' in a stage; did you mean 'prompt'?",
        ),
        (PYTHON, "flow.py: Pipeline.stages[0].prompt_file: draft.md: there is no such file"),
    ],
)
def test_a_python_file_that_fails_names_its_own_line(tmp_path: Path, text: str, line: str) -> None:
    assert refused(written(tmp_path, text, "flow.py"))[0].startswith(line)


def test_a_module_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "Hello", "draft.md")
    written(tmp_path, PYTHON, "flow_of_a_module.py")
    monkeypatch.setattr("sys.path", list(sys.path))  # loading puts the current folder in front
    monkeypatch.chdir(tmp_path)
    assert load("flow_of_a_module:notes").stages[0].prompt == "Hello"
    assert refused("flow_of_a_module:note")[0].endswith("called 'note'; did you mean 'notes'?")
    assert "No module named 'nowhere_at_all'" in refused("nowhere_at_all:x")[0]

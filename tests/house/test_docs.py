"""README and docs: what they show can be loaded, what they name exists."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from opencode_reactor.cli import arguments
from opencode_reactor.cli.parser import Parser
from opencode_reactor.cli.root import COMMANDS
from opencode_reactor.handling import load as load_handlers
from opencode_reactor.model.events import EVENTS_BY_NAME
from opencode_reactor.model.runs import Failure
from opencode_reactor.pipeline.definition import Pipeline
from opencode_reactor.pipeline.loading import load, load_pipeline
from opencode_reactor.pipeline.parts import Defaults, Input, Part, Spending, Stage
from opencode_reactor.settings import load_settings
from opencode_reactor.settings.keys import config_schema

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
LINE_LENGTH = 120
"""Columns of running text; tables are as wide as they need to be."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(language: str) -> list[Block]:
    found = [
        Block(page, text[: match.start()].count("\n") + 1, match[1], match[2])
        for page in PAGES
        for text in [page.read_text(encoding="utf-8")]
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]
    return [block for block in found if block.language == language]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_pipeline_loads(block: Block, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(block.text, encoding="utf-8")
    assert load_pipeline(tmp_path / "flow.yaml").stages


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_every_configuration_loads(block: Block, tmp_path: Path) -> None:
    for relative in tomllib.loads(block.text).get("handlers", []):
        if not Path(relative).is_absolute():
            (tmp_path / relative).mkdir()
    # A folder that stands at the top of somebody's machine does not stand on this one.
    text = re.sub(r', "/[^"]*"\]', "]", block.text)
    (tmp_path / "reactor.toml").write_text(text, encoding="utf-8")
    settings = load_settings(environ={"OPENCODE_SERVER_PASSWORD": "secret"}, cwd=tmp_path)
    assert settings.source == tmp_path / "reactor.toml"


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_every_python_block_is_what_it_says_it_is(block: Block, tmp_path: Path) -> None:
    tree = ast.parse(block.text, str(block))
    file = tmp_path / "shown.py"
    file.write_text(block.text, encoding="utf-8")
    if "@on(" in block.text:
        loaded = load_handlers([file])
        assert loaded.problems == ()
        assert loaded.handlers
    elif "anyio.run" not in block.text:
        assert load(file).stages
    for node in ast.walk(tree):  # programs are not run here: what they import must be there
        if isinstance(node, ast.ImportFrom):
            exec(compile(ast.Module([node], []), str(block), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    known = {entry.name for entry in COMMANDS} | {"COMMAND", "help"}
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)reactor ([a-zA-Z]+)", text, re.MULTILINE))
    assert named <= known


@pytest.mark.parametrize("name", [entry.name for entry in COMMANDS])
def test_every_command_and_each_of_its_options_is_described(name: str) -> None:
    page = prose(ROOT / "docs" / "commands.md")
    assert f"`reactor {name}" in page
    parser = Parser(prog=name)
    getattr(arguments, f"add_{name}")(parser)
    options = set(re.findall(r"--[a-z][a-z-]+", parser.format_usage())) - {"--input"}  # told as -i
    assert sorted(option for option in options if option not in page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_points_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """The headings of a page, as they are linked to."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_running_text_is_wrapped(page: Path) -> None:
    long = [line for line in prose(page).splitlines() if len(line) > LINE_LENGTH and line[:1] != "|"]
    assert long == []


def test_every_key_of_pipelines_and_configuration_is_described() -> None:
    pipelines = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    parts: tuple[type[Part], ...] = (Pipeline, Stage, Defaults, Input, Spending)
    keys: set[str] = {key for part in parts for key in part.model_fields}
    assert sorted(key for key in keys if not re.search(rf"\b{key}\b", pipelines)) == []
    configuration = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    schema = config_schema()["properties"]
    told: set[str] = {*schema, *schema["servers"]["additionalProperties"]["properties"]}
    assert sorted(key for key in told if not re.search(rf"\b{key}\b", configuration)) == []


def test_every_failure_and_every_event_has_its_row() -> None:
    failures = prose(ROOT / "docs" / "failures.md")
    assert [str(failure) for failure in Failure if f"`{failure}`" not in failures] == []
    handlers = prose(ROOT / "docs" / "handlers.md")
    assert [name for name in EVENTS_BY_NAME if f"`{name}`" not in handlers] == []
    assert [cls.__name__ for cls in EVENTS_BY_NAME.values() if f"`{cls.__name__}`" not in handlers] == []

"""The façade: what is public, said twice, and said the same."""

import ast
from pathlib import Path

import opencode_reactor

STUB = Path(opencode_reactor.__file__).with_suffix(".pyi")
HOMES: dict[str, str] = vars(opencode_reactor)["_HOMES"]


def test_every_public_name_can_be_had() -> None:
    names = list(HOMES)
    assert names == vars(opencode_reactor)["__all__"]
    for name in names:
        assert getattr(opencode_reactor, name).__name__ == name


def test_the_stub_lists_the_same_names_from_the_same_modules() -> None:
    listed: dict[str, str] = {}
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ImportFrom):
            continue
        listed |= {alias.name: f".{node.module}" for alias in node.names}
    assert listed == HOMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(opencode_reactor, "Manager")

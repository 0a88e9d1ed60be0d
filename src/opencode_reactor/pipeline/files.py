"""The files a pipeline names, read into it: prompts and schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..errors import PipelineError
from .problems import Loc, Problem, is_mapping, kind
from .yamlfile import read_text, read_tree

MAX_PROMPT = 1_000_000
"""Bytes of a prompt's file."""


@dataclass(slots=True)
class Inlined:
    """A pipeline's tree with its files read in; `origins` says which keys came out of which file."""

    tree: Any
    origins: dict[Loc, Path] = field(default_factory=dict[Loc, Path])
    problems: list[Problem] = field(default_factory=list[Problem])


def inline(tree: Any, folder: Path) -> Inlined:
    """Read every `prompt_file` and every `output` that is a path, relative to a folder.

    Works on whatever the author wrote: what is not shaped like a stage is left to be complained about.
    """
    stages = tree.get("stages") if is_mapping(tree) else None
    if not isinstance(stages, (list, tuple)):
        return Inlined(tree)
    inlined = Inlined(None)
    read = [
        _stage(stage, ("stages", i), folder, inlined) for i, stage in enumerate(cast("list[object]", stages))
    ]
    inlined.tree = {**cast("Mapping[str, Any]", tree), "stages": read}
    return inlined


def _stage(stage: object, at: Loc, folder: Path, inlined: Inlined) -> object:
    if not is_mapping(stage):
        return stage
    read = dict(stage)
    named = stage.get("prompt_file")
    if isinstance(named, str) and not {"prompt", "approve"} & stage.keys():
        try:
            read["prompt"] = read_text(folder / named, MAX_PROMPT)
            del read["prompt_file"]
            inlined.origins[*at, "prompt"] = folder / named
        except PipelineError as error:
            inlined.problems.append(Problem((*at, "prompt_file"), str(error)))
    output = stage.get("output")
    if isinstance(output, str):
        try:
            read["output"] = _schema(folder / output)
            inlined.origins[*at, "output"] = folder / output
        except PipelineError as error:
            inlined.problems.append(Problem((*at, "output"), str(error)))
    return read


def _schema(file: Path) -> Mapping[str, object]:
    schema = read_tree(file)
    if not is_mapping(schema.content):
        raise PipelineError(f"a JSON Schema is a mapping, not {kind(schema.content)}", place=schema.place(()))
    return schema.content

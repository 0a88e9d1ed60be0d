"""`reactor schema`: JSON Schemas for editors."""

from __future__ import annotations

import json
from enum import StrEnum

from .options import Options
from .parser import Asked, Parser, words


class Kind(StrEnum):
    """Which file the schema is of."""

    PIPELINE = "pipeline"
    CONFIG = "config"


def add_schema(parser: Parser) -> None:
    """The arguments of `schema`."""
    parser.add_argument(
        "kind",
        nargs="?",
        choices=words(Kind),
        default=Kind.PIPELINE.value,
        help="pipeline: a pipeline file (the default); config: reactor.toml",
    )


def schema(options: Options, asked: Asked) -> None:
    """Print the JSON Schema of pipeline files or of reactor.toml, for editors.

    In a pipeline file: `# yaml-language-server: $schema=PATH` on its first line.
    """
    kind = Kind(asked.kind)
    if kind is Kind.CONFIG:
        from ..settings import config_schema

        document = config_schema()
    else:
        from ..pipeline.definition import Pipeline

        document = Pipeline.model_json_schema()
    if options.output.json:
        options.output.emit("schema", {"of": kind, "schema": document})
    else:
        options.output.line(json.dumps(document, indent=2, ensure_ascii=False))

"""`reactor schema`: JSON Schemas for editors."""

from __future__ import annotations

import json
from enum import StrEnum

from .options import Options
from .parser import Asked


class Kind(StrEnum):
    """Which file the schema is of."""

    PIPELINE = "pipeline"
    CONFIG = "config"


def schema(options: Options, asked: Asked) -> None:
    """Print a schema."""
    kind = Kind(asked.kind)
    if kind is Kind.CONFIG:
        from ..settings.keys import config_schema

        document = config_schema()
    else:
        from ..pipeline.definition import Pipeline

        document = Pipeline.model_json_schema()
    if options.output.json:
        options.output.emit("schema", {"of": kind, "schema": document})
    else:
        options.output.line(json.dumps(document, indent=2, ensure_ascii=False))

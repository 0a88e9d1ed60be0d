"""What authors test their handlers and pipelines with: a scripted model, offline and for free."""

from .config import MODELS, PROVIDER, opencode_config
from .live import LiveServer, make_project
from .model import ScriptedModel
from .replies import (
    Answer,
    Call,
    Calls,
    Cuts,
    Empty,
    Fails,
    Overflow,
    Reasons,
    Reply,
    Says,
    SaysJson,
    Stalls,
    bash,
    question,
    task,
)
from .requests import CONTINUATION, ModelRequest, Side
from .script import Rule

__all__ = [
    "CONTINUATION",
    "MODELS",
    "PROVIDER",
    "Answer",
    "Call",
    "Calls",
    "Cuts",
    "Empty",
    "Fails",
    "LiveServer",
    "ModelRequest",
    "Overflow",
    "Reasons",
    "Reply",
    "Rule",
    "Says",
    "SaysJson",
    "ScriptedModel",
    "Side",
    "Stalls",
    "bash",
    "make_project",
    "opencode_config",
    "question",
    "task",
]

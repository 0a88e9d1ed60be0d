"""Which reply a request gets: rules, tried in order, each with a list of replies used in turn. No I/O.

OpenCode's side calls never reach a rule written for prompts: a title would eat a reply meant for a stage.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from .replies import Answer, Reply, Says
from .requests import ModelRequest, Side

Match: TypeAlias = str | re.Pattern[str] | Side | Callable[[ModelRequest], bool]
"""Text in the last user message, a pattern found in it, a side call, or a predicate over the request."""

_BLAND: dict[Side, Reply] = {
    Side.TITLE: Says("A scripted session", chunks=1),
    Side.SUMMARY: Says("Nothing worth a summary was done.", chunks=1),
    Side.COMPACTION: Says("So far: the user asked for something and it was worked on.", chunks=1),
}


@dataclass(slots=True, eq=False)
class Rule:
    """Replies for the requests that match. The last reply repeats, or with `once` the rule is spent."""

    match: Match
    answers: tuple[Answer, ...]
    name: str
    model: str | None = None
    once: bool = False
    used: int = field(default=0, init=False)

    @property
    def spent(self) -> bool:
        """Whether a `once` rule has given all its replies."""
        return self.once and self.used >= len(self.answers)

    def fits(self, request: ModelRequest) -> bool:
        """Whether this rule answers the request."""
        if self.spent or self.model not in (None, request.model):
            return False
        match self.match:
            case Side():  # before str: a Side is one
                return request.side is self.match
            case str():
                return request.side is None and self.match in request.prompt
            case re.Pattern():
                return request.side is None and self.match.search(request.prompt) is not None
            case predicate:
                return request.side is None and predicate(request)

    def take(self, request: ModelRequest) -> Reply:
        """The next reply of the list."""
        answer = self.answers[min(self.used, len(self.answers) - 1)]
        self.used += 1
        return answer(request) if callable(answer) else answer


class Script:
    """The rules of one model. Mutable and without a lock: its owner sees to that."""

    def __init__(self, default: Answer) -> None:
        self.default = default
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        """Append a rule; earlier ones go first."""
        self._rules.append(rule)

    def clear(self) -> None:
        """Forget every rule."""
        self._rules.clear()

    def choose(self, request: ModelRequest) -> tuple[str, Reply]:
        """The name of the rule that answers (empty: none did) and the reply."""
        for rule in self._rules:
            if rule.fits(request):
                return rule.name, rule.take(request)
        if request.side is not None:
            return "", _BLAND[request.side]
        return "", self.default(request) if callable(self.default) else self.default

"""Permission rules: how they are written, what they match, what they decide. Never allowed by default.

Matching is OpenCode's own (the program text of 1.1.65 and 1.18.33 agrees): `*` is any text, slashes and line
ends included, `?` one character, a trailing ` *` also matches nothing at all, the last match wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import PipelineError
from ..model.sessions import PermissionRule
from .plan import Action, Rule
from .problems import Loc, Problem, hint, is_mapping, kind

_HOME = ("~/", "$HOME")


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules say to one request, and which of them said it; None where no rule matched."""

    action: Action
    rule: Rule | None


def parse(value: object) -> tuple[Rule, ...]:
    """Read rules as people write them: `allow`, `{read: allow}`, `{bash: {"git *": allow}}`, in their order.

    Raises PipelineError, which names every problem.
    """
    found = list(problems(value))
    if found:
        raise PipelineError("; ".join(p.message for p in found))
    return tuple(_rules(value))


def problems(value: object, where: Loc = ()) -> Iterator[Problem]:
    """Everything that is wrong with rules as they were written."""
    if not is_mapping(value):
        yield from _action_problems(value, where)
        return
    for permission, inner in value.items():
        at = (*where, permission)
        if not is_mapping(inner):
            yield from _action_problems(inner, at)
            continue
        for pattern, action in inner.items():
            yield from _action_problems(action, (*at, pattern))
            if pattern.startswith(_HOME):
                # The server expands these in its own configuration only; a rule that silently matches
                # nothing would be a hole where it says deny.
                yield Problem(
                    (*at, pattern), f"{pattern!r}: write the absolute path, it is not expanded here"
                )


def matches(text: str, pattern: str) -> bool:
    """Whether an OpenCode wildcard pattern matches the whole text. Linear in both, whatever they hold."""
    text, pattern = text.replace("\\", "/"), pattern.replace("\\", "/")
    if pattern.endswith(" *") and _wildcard(text, pattern[:-2]):
        return True
    return _wildcard(text, pattern)


def decide(rules: Sequence[Rule], permission: str, patterns: Sequence[str]) -> Decision:
    """What the rules say to a request: allowed only if every pattern is, denied if one is, else asked.

    A request without patterns is held against `*`, so that only a rule for everything allows it.
    """
    each = [_last_match(rules, permission, pattern) for pattern in patterns or ("*",)]
    for action in (Action.DENY, Action.ASK):
        for decision in each:
            if decision.action is action:
                return decision
    # `always` holds for the server's whole directory: only where all of the request is to have it.
    once = [d for d in each if d.action is Action.ALLOW]
    return once[0] if once else each[0]


def session_rules(rules: Sequence[Rule]) -> tuple[PermissionRule, ...]:
    """The rules as the server gets them with a new session, in the same order.

    Only a denial is left to the server. What the pipeline allows is asked for all the same, and answered by
    the reactor, on record; what no rule names, the server's own configuration decides.
    """
    return tuple(
        PermissionRule(r.permission, r.pattern, "deny" if r.action is Action.DENY else "ask") for r in rules
    )


def _last_match(rules: Sequence[Rule], permission: str, pattern: str) -> Decision:
    for rule in reversed(rules):
        if matches(permission, rule.permission) and matches(pattern, rule.pattern):
            return Decision(rule.action, rule)
    return Decision(Action.ASK, None)


def _rules(value: object) -> Iterator[Rule]:
    if not is_mapping(value):
        yield Rule("*", "*", Action(str(value)))
        return
    for permission, inner in value.items():
        patterns = inner if is_mapping(inner) else {"*": inner}
        for pattern, action in patterns.items():
            yield Rule(permission, pattern, Action(str(action)))


def _action_problems(value: object, where: Loc) -> Iterator[Problem]:
    known = [str(a) for a in Action]
    if not isinstance(value, str):
        yield Problem(
            where, f"a permission is {', '.join(known)} or a mapping of patterns, not {kind(value)}"
        )
    elif value not in known:
        yield Problem(where, f"{value!r} is no permission: write {', '.join(known)}{hint(value, known)}")


def _wildcard(text: str, pattern: str) -> bool:
    """Greedy matching that only ever returns to the last star: no pattern makes it explode."""
    at = here = 0
    star, resume = -1, 0
    while at < len(text):
        sign = pattern[here] if here < len(pattern) else ""
        if sign == "*":
            star, resume = here, at
            here += 1
        elif sign and sign in ("?", text[at]):
            at, here = at + 1, here + 1
        elif star >= 0:
            resume += 1
            at, here = resume, star + 1
        else:
            return False
    return not pattern[here:].strip("*")

"""A pipeline with every default applied: the frozen value the machine decides by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..model.runs import Failure
from ..model.sessions import Json, ModelRef


class Action(StrEnum):
    """What a permission rule says. `allow` answers `once`; `always` answers `always`; `ask` asks a person."""

    ALLOW = "allow"
    ALWAYS = "always"
    ASK = "ask"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Rule:
    """One permission rule; `*` and `?` in `permission` and `pattern` are wildcards, the last match wins."""

    permission: str
    pattern: str
    action: Action

    def __str__(self) -> str:
        return f"{self.permission} {self.pattern}: {self.action}"


class Questions(StrEnum):
    """What happens to the model's questions: asked of a person, or refused."""

    ASK = "ask"
    REJECT = "reject"


class Answer(StrEnum):
    """One step of the playbook: what a failure calls for.

    repair: say what is wrong in the same session · fresh: a new attempt in a new session · park: a new
    attempt when the provider's own time or the backoff is over · fallback: a new attempt on the next fallback
    model · larger: a new attempt on a model with a larger window · stop: the stage fails · escalate: the run
    waits for a person.
    """

    REPAIR = "repair"
    FRESH = "fresh"
    PARK = "park"
    FALLBACK = "fallback"
    LARGER = "larger"
    STOP = "stop"
    ESCALATE = "escalate"


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper bounds; None is unbounded. `cost` in US dollars as the server counts it."""

    tokens: int | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage, complete. Either `prompt` or `approve` is set. Times in milliseconds.

    `permissions` are the pipeline's rules followed by the stage's own. `output` is the contract (a JSON
    Schema), None where any text will do. `playbook` overrides rows of the default one.
    """

    name: str
    needs: tuple[str, ...] = ()
    prompt: str = ""
    approve: str = ""
    when: str = ""
    agent: str | None = None
    model: ModelRef | None = None
    fallback_models: tuple[ModelRef, ...] = ()
    variant: str | None = None
    timeout: int = 20 * 60_000
    patience: int = 2 * 60_000
    attempts: int = 3
    budget: Budget = Budget()
    permissions: tuple[Rule, ...] = ()
    questions: Questions = Questions.ASK
    output: Mapping[str, Json] | None = None
    summary: str = ""
    checks: tuple[str, ...] = ()
    playbook: Mapping[Failure, tuple[Answer, ...]] = field(default_factory=dict[Failure, tuple[Answer, ...]])


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole pipeline, complete; `stages` in an order in which every stage follows what it needs."""

    name: str
    stages: tuple[StagePlan, ...]
    budget: Budget = Budget()

    def stage(self, name: str) -> StagePlan:
        """The stage of that name. Raises KeyError."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

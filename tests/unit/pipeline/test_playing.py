"""The playbook as it is played: from one failure, with what came before it, to what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from opencode_reactor.model.runs import (
    Attempt,
    AttemptState,
    Failure,
    Run,
    StageRun,
    StageState,
    Turn,
    TurnKind,
    WaitingOn,
)
from opencode_reactor.model.sessions import Agent, Catalog, Model, ModelRef, Tokens, UserMessage
from opencode_reactor.pipeline.draft import Draft
from opencode_reactor.pipeline.facts import Facts, Seen
from opencode_reactor.pipeline.failures import PLAYBOOK
from opencode_reactor.pipeline.gate import Refuted
from opencode_reactor.pipeline.plan import Answer, Budget, Plan, StagePlan
from opencode_reactor.pipeline.playing import (
    PARK_CAP,
    PARK_FIRST,
    STUCK,
    answer_failure,
    next_model,
    over_budget,
    unknown_words,
)

NOW = 1_000_000
F = Failure
ONE, TWO, THREE = (ModelRef("local", name) for name in ("one", "two", "three"))
STAGE = StagePlan("a", prompt="Do it.", model=ONE, attempts=9)


def attempt(
    number: int = 1, *, state: AttemptState = AttemptState.RUNNING, failure: Failure | None = None
) -> Attempt:
    turn = Turn(1, TurnKind.FIRST, "Do it.", f"msg_{number}", f"prt_{number}")
    return Attempt("r1", "a", number, state, turn, 0, model=ONE, session=f"ses_{number}", failure=failure)


class Played:
    """One stage whose last attempt just failed, behind others that failed before."""

    def __init__(
        self,
        refuted: Refuted,
        *,
        stage: StagePlan = STAGE,
        before: Sequence[Failure] = (),
        last: Attempt | None = None,
        granted: int = 0,
        catalog: Catalog | None = None,
        spread: float = 0.0,
    ) -> None:
        earlier = [
            attempt(n, state=AttemptState.FAILED, failure=failure)
            for n, failure in enumerate(before, start=1)
        ]
        live = replace(last or attempt(), number=len(earlier) + 1)
        record = StageRun("a", StageState.RUNNING, attempts=(*earlier, live), extra_attempts=granted)
        run = Run("r1", "p", "http://s", "/p", "{}", stages=(record,))
        seen = {live.id: Seen(NOW, None, (UserMessage("msg_00000000000900000000000000", "ses", 1),))}
        facts = Facts(NOW, "store", seen=seen, catalog=catalog, spread=spread)
        self.draft = Draft(run, Plan("p", (stage,)), facts)
        answer_failure(self.draft, stage, live, refuted)
        self.stage = self.draft.stage("a")
        self.last = self.stage.attempts[-1]
        self.ended = self.stage.attempts[len(earlier)]

    @property
    def answer(self) -> str:
        """What the playbook did, in one word."""
        if self.stage.state is StageState.FAILED:
            return "stop"
        if self.stage.waiting_on is WaitingOn.PERSON:
            return "escalate"
        return "fresh" if self.ended.state is AttemptState.FAILED else "repair"


def refuted(failure: Failure, text: str = "", **more: int) -> Refuted:
    return Refuted(failure, f"{failure}!", text, "What is wrong.", **more)


# The first time


FIRST: Mapping[Failure, str] = {
    F.OUTPUT_NOT_JSON: "repair",
    F.OUTPUT_MISSING_TEXT: "repair",
    F.CHECK_FAILED: "repair",
    F.TIMEOUT: "fresh",
    F.RATE_LIMITED: "fresh",
    F.PROVIDER_UNAVAILABLE: "fresh",
    F.AUTH_FAILED: "escalate",
    F.CONTEXT_OVERFLOW: "fresh",
    F.INVALID_REQUEST: "stop",
    F.INTERRUPTED: "escalate",
    F.SERVER_LOST: "fresh",
    F.PROMPT_LOST: "fresh",
    F.CONTENT_FILTERED: "escalate",
    F.BUDGET_EXCEEDED: "stop",
    F.UNKNOWN: "fresh",
}


@pytest.mark.parametrize(("failure", "answer"), FIRST.items(), ids=FIRST)
def test_each_failure_has_its_first_answer(failure: Failure, answer: str) -> None:
    played = Played(refuted(failure))
    assert played.answer == answer
    assert played.draft.decision().entries, "every decision is told"
    if answer != "repair":
        assert (played.ended.state, played.ended.failure) == (AttemptState.FAILED, failure)
        assert played.ended.ended == NOW


def test_every_failure_that_can_end_an_attempt_is_tried_here() -> None:
    assert set(FIRST) == {failure for failure, row in PLAYBOOK.items() if row}


# Repairs


def test_a_repair_is_a_new_turn_in_the_same_session_with_ids_behind_what_is_there() -> None:
    played = Played(refuted(F.OUTPUT_NOT_JSON, "prose"))
    repaired = played.ended
    assert (repaired.number, repaired.session, repaired.state) == (1, "ses_1", AttemptState.CREATED)
    assert (repaired.turn.number, repaired.turn.kind, repaired.turn.sent) == (2, TurnKind.REPAIR, None)
    assert repaired.turn.message.startswith("msg_00000000000a")
    assert "What is wrong." in repaired.turn.prompt
    assert (repaired.repairs, repaired.text) == ((F.OUTPUT_NOT_JSON,), "prose")


def test_a_session_is_repaired_once_for_each_failure() -> None:
    once = replace(attempt(), repairs=(F.OUTPUT_NOT_JSON,))
    assert Played(refuted(F.OUTPUT_NOT_JSON, "b"), last=once).answer == "fresh"
    assert Played(refuted(F.CHECK_FAILED), last=once).answer == "repair"


def test_where_there_is_nothing_to_tell_the_model_a_fresh_session_is_begun() -> None:
    silent = replace(refuted(F.OUTPUT_NOT_JSON, "b"), complaint="")
    assert Played(silent).answer == "fresh"


def test_a_session_that_is_being_stopped_is_not_repaired() -> None:
    stopping = attempt(state=AttemptState.ABORTING)
    assert Played(refuted(F.CHECK_FAILED), last=stopping).answer == "fresh"


# Again and again


def test_the_same_refused_text_again_is_left_to_a_person() -> None:
    told = replace(attempt(), text="prose", repairs=(F.OUTPUT_NOT_JSON,))
    assert Played(refuted(F.OUTPUT_NOT_JSON, "prose"), last=told).answer == "escalate"
    assert Played(refuted(F.OUTPUT_NOT_JSON, "other"), last=told).answer == "fresh"


@pytest.mark.parametrize("failure", [F.TIMEOUT, F.SERVER_LOST, F.PROMPT_LOST])
def test_one_failure_so_often_in_a_row_is_left_to_a_person(failure: Failure) -> None:
    assert Played(refuted(failure), before=[failure] * (STUCK - 2)).answer == "fresh"
    stuck = Played(refuted(failure), before=[failure] * (STUCK - 1))
    assert stuck.answer == "escalate"
    assert "3 times in a row" in stuck.stage.detail


def test_another_failure_between_begins_the_count_anew() -> None:
    assert Played(refuted(F.TIMEOUT), before=[F.TIMEOUT, F.TIMEOUT, F.SERVER_LOST]).answer == "fresh"


def test_a_row_is_played_step_by_step_and_its_last_answer_stays() -> None:
    row = (Answer.FRESH, Answer.ESCALATE)
    stage = replace(STAGE, playbook={F.TIMEOUT: row})
    assert Played(refuted(F.TIMEOUT), stage=stage).answer == "fresh"
    assert Played(refuted(F.TIMEOUT), stage=stage, before=[F.TIMEOUT]).answer == "escalate"
    assert Played(refuted(F.TIMEOUT), stage=stage, before=[F.TIMEOUT, F.UNKNOWN]).answer == "fresh"


def test_used_up_attempts_end_the_stage_and_say_so() -> None:
    played = Played(refuted(F.TIMEOUT), stage=replace(STAGE, attempts=2), before=[F.SERVER_LOST])
    assert played.answer == "stop"
    assert "attempt 2 of 2" in played.stage.detail


def test_what_a_person_granted_by_a_retry_is_counted_from_there() -> None:
    stage = replace(STAGE, attempts=2)
    assert Played(refuted(F.TIMEOUT), stage=stage, before=[F.TIMEOUT] * 4, granted=4).answer == "fresh"


def test_a_template_that_fails_on_what_others_told_since_ends_the_stage() -> None:
    played = Played(refuted(F.TIMEOUT), stage=replace(STAGE, prompt="{{ stages.a.output.title }}"))
    assert (played.answer, played.stage.failure) == ("stop", F.INVALID_REQUEST)


# Providers


def test_parked_attempts_wait_longer_each_time_and_not_for_ever() -> None:
    waits = [
        Played(
            refuted(F.PROVIDER_UNAVAILABLE), before=[F.TIMEOUT, *[F.PROVIDER_UNAVAILABLE] * n]
        ).last.not_before
        - NOW
        for n in range(2)
    ]
    assert waits == [PARK_FIRST, PARK_FIRST * 2]
    many = [F.PROVIDER_UNAVAILABLE, F.TIMEOUT] * 40
    stage = replace(STAGE, attempts=99)
    assert Played(refuted(F.PROVIDER_UNAVAILABLE), stage=stage, before=many).last.not_before == NOW + PARK_CAP


def test_the_providers_own_time_goes_before_ours_and_is_spread_a_little() -> None:
    assert Played(refuted(F.RATE_LIMITED, retry_after=7_000)).last.not_before == NOW + 7_000
    spread = Played(refuted(F.RATE_LIMITED, retry_after=8_000), spread=0.5).last.not_before
    assert spread == NOW + 9_000


def test_a_parked_attempt_waits_for_its_provider_and_the_run_wakes_for_it() -> None:
    played = Played(refuted(F.RATE_LIMITED))
    assert played.last.waiting_on is WaitingOn.PROVIDER
    assert played.draft.run.wake_at == played.last.not_before


def test_where_the_wait_is_longer_than_our_patience_the_fallback_is_taken_at_once() -> None:
    stage = replace(STAGE, fallback_models=(TWO,), patience=5_000)
    short = Played(refuted(F.RATE_LIMITED, retry_after=5_000), stage=stage)
    assert (short.last.model, short.last.not_before) == (ONE, NOW + 5_000)
    long = Played(refuted(F.RATE_LIMITED, retry_after=5_001), stage=stage)
    assert (long.last.model, long.last.not_before) == (TWO, 0)


def test_where_there_is_no_fallback_the_wait_is_borne() -> None:
    played = Played(refuted(F.RATE_LIMITED, retry_after=3_600_000))
    assert (played.last.model, played.last.not_before) == (ONE, NOW + 3_600_000)


def test_after_our_own_abort_for_impatience_the_fallback_is_taken() -> None:
    stage = replace(STAGE, fallback_models=(TWO,))
    stopped = replace(attempt(state=AttemptState.ABORTING), aborted=NOW)
    assert Played(refuted(F.PROVIDER_UNAVAILABLE), stage=stage, last=stopped).last.model == TWO


def test_models_follow_one_another_and_the_last_has_no_next() -> None:
    stage = replace(STAGE, fallback_models=(TWO, THREE))
    assert [next_model(stage, model) for model in (ONE, TWO, THREE)] == [TWO, THREE, None]
    assert next_model(stage, ModelRef("local", "unheard")) == TWO
    assert next_model(replace(stage, model=None), None) == TWO
    assert next_model(STAGE, ONE) is None


# Windows


CATALOG = Catalog(
    models=(Model(ONE, context=10), Model(TWO, context=5), Model(THREE, context=90)), default=ONE
)


def test_an_overflow_again_takes_the_largest_window_there_is_among_the_fallbacks() -> None:
    stage = replace(STAGE, fallback_models=(TWO, THREE))
    played = Played(refuted(F.CONTEXT_OVERFLOW), stage=stage, before=[F.CONTEXT_OVERFLOW], catalog=CATALOG)
    assert played.last.model == THREE


@pytest.mark.parametrize(("fallbacks", "catalog"), [((TWO,), CATALOG), ((), CATALOG), ((THREE,), None)])
def test_where_no_larger_window_is_known_a_person_decides(
    fallbacks: tuple[ModelRef, ...], catalog: Catalog | None
) -> None:
    stage = replace(STAGE, fallback_models=fallbacks)
    played = Played(refuted(F.CONTEXT_OVERFLOW), stage=stage, before=[F.CONTEXT_OVERFLOW], catalog=catalog)
    assert played.answer == "escalate"
    assert "no model with a larger window" in played.stage.detail


def test_without_a_model_of_its_own_the_servers_default_is_what_was_too_small() -> None:
    stage = replace(STAGE, model=None, fallback_models=(TWO, THREE))
    last = replace(attempt(), model=None)
    played = Played(
        refuted(F.CONTEXT_OVERFLOW), stage=stage, before=[F.CONTEXT_OVERFLOW], last=last, catalog=CATALOG
    )
    assert played.last.model == THREE


# Budgets


def spent(stage: str, tokens: int, cost: float = 0.0) -> Attempt:
    return replace(attempt(), stage=stage, tokens=Tokens(input=tokens), cost=cost)


def test_a_stage_and_a_run_each_have_their_budget_and_say_what_was_spent() -> None:
    live = spent("a", 60)
    stages = (StageRun("a", attempts=(live,)), StageRun("b", attempts=(spent("b", 50, 0.5),)))
    run = Run("r1", "p", "http://s", "/p", "{}", stages=stages)
    free = Plan("p", (STAGE,))
    assert over_budget(free, STAGE, run, live) is None
    stage = replace(STAGE, budget=Budget(tokens=60))
    assert over_budget(free, stage, run, live) is None
    assert over_budget(free, stage, run, spent("a", 61)) == "stage a used 61 of 60 tokens"
    assert (
        over_budget(Plan("p", (STAGE,), Budget(tokens=109)), STAGE, run, live)
        == "the run used 110 of 109 tokens"
    )
    dear = over_budget(Plan("p", (STAGE,), Budget(cost=0.4)), STAGE, run, live)
    assert dear == "the run cost 0.5000 of 0.4000"


def test_the_attempt_under_way_is_counted_as_measured_now_and_once() -> None:
    run = Run("r1", "p", "http://s", "/p", "{}", stages=(StageRun("a", attempts=(spent("a", 1_000),)),))
    stage = replace(STAGE, budget=Budget(tokens=10))
    assert over_budget(Plan("p", (stage,)), stage, run, spent("a", 5)) is None


# What is refused before anything is sent


OFFERS = Catalog(
    agents=(Agent("build"), Agent("plan", "primary"), Agent("helper", "subagent")),
    models=(Model(ONE), Model(TWO)),
)


@pytest.mark.parametrize(
    ("agent", "model", "said"),
    [
        (None, None, None),
        ("build", ONE, None),
        ("bild", ONE, "the server has no agent bild; did you mean build?"),
        ("helper", ONE, "the server has no agent helper; it has: build, plan"),
        ("build", ModelRef("local", "onne"), "the server has no model local/onne; did you mean local/one?"),
        ("build", ModelRef("x", "y"), "the server has no model x/y; it has: local/one, local/two"),
    ],
)
def test_what_the_server_does_not_offer_is_said_with_the_nearest_it_does(
    agent: str | None, model: ModelRef | None, said: str | None
) -> None:
    stage = replace(STAGE, agent=agent)
    assert unknown_words(stage, replace(attempt(), model=model), OFFERS) == said


def test_of_a_server_that_does_not_tell_what_it_offers_nothing_is_refused() -> None:
    stage = replace(STAGE, agent="anything")
    assert unknown_words(stage, attempt(), None) is None
    assert unknown_words(stage, attempt(), Catalog()) is None

"""Playing the playbook: from a failure to what comes next, and what is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches

from ..errors import PipelineError
from ..model.runs import Attempt, AttemptState, Failure, JournalKind, Run, StageRun, Turn, TurnKind, WaitingOn
from ..model.sessions import Catalog, Json, ModelRef
from .contract import repair_prompt
from .draft import Draft
from .failures import playbook
from .gate import Refuted
from .ids import follow_up_ids
from .plan import Answer, Budget, Plan, StagePlan
from .stages import compose_prompt, escalate, fail_stage, plan_attempt

STUCK = 3
"""The same failure this often in a row: a person has to look, nothing more is spent."""
PARK_FIRST = 2_000
"""ms the first backoff lasts where the provider names no time; doubled each time, up to `PARK_CAP`."""
PARK_CAP = 5 * 60_000
"""ms."""


def answer_failure(draft: Draft, stage: StagePlan, attempt: Attempt, refuted: Refuted) -> None:
    """Choose and carry out the playbook's answer to this failure."""
    record = draft.stage(stage.name)
    again = _refused_before(record, attempt, refuted)
    row = playbook(stage, refuted.failure)
    answer = row[min(_times(record, attempt, refuted.failure), len(row) - 1)]
    if answer is Answer.REPAIR and not _repairable(attempt, refuted):
        answer = Answer.FRESH
    if again and answer in {Answer.REPAIR, Answer.FRESH}:
        _end_attempt(draft, attempt, refuted)
        escalate(draft, stage.name, refuted.failure, f"the same refused answer again: {refuted.detail}")
    elif answer is Answer.REPAIR:
        _repair(draft, stage, attempt, refuted)
    else:
        _end_attempt(draft, attempt, refuted)
        _next(draft, stage, refuted, answer)


def _times(record: StageRun, attempt: Attempt, failure: Failure) -> int:
    """How often this failure was answered in a row before now, follow-ups in one session counted each."""
    times = attempt.repairs.count(failure)
    if len(attempt.repairs) > times:
        return times
    for earlier in reversed(record.attempts[record.extra_attempts : attempt.number - 1]):
        if earlier.failure is not failure:
            break
        times += 1 + earlier.repairs.count(failure)
    return times


def _repairable(attempt: Attempt, refuted: Refuted) -> bool:
    """A follow-up makes sense once a session and failure, and only where the model can be told something."""
    live = attempt.state in {AttemptState.RUNNING, AttemptState.CHECKING}
    return live and bool(refuted.complaint) and refuted.failure not in attempt.repairs


def _refused_before(record: StageRun, attempt: Attempt, refuted: Refuted) -> bool:
    """Whether the very same text was refused before in this stage: asking again would buy it once more."""
    if not refuted.text or refuted.failure is not Failure.OUTPUT_NOT_JSON:
        return False
    earlier = record.attempts[record.extra_attempts : attempt.number - 1]
    return refuted.text in {attempt.text, *(a.text for a in earlier)}


def _repair(draft: Draft, stage: StagePlan, attempt: Attempt, refuted: Refuted) -> None:
    """Say in the same session what is wrong: the next turn, its ids stored before it is sent."""
    number = attempt.turn.number + 1
    seen = draft.facts.seen.get(attempt.id)
    messages = seen.messages if seen else ()
    message, part = follow_up_ids(draft.facts.store_id, attempt.id, number, messages)
    complaint = refuted.complaint
    prompt = complaint if stage.output is None else repair_prompt(complaint, stage.output)
    draft.put(
        replace(
            attempt,
            state=AttemptState.CREATED,
            turn=Turn(number, TurnKind.REPAIR, prompt, message, part),
            repairs=(*attempt.repairs, refuted.failure),
            text=refuted.text,
            quiet_since=None,
        )
    )
    what = f"{refuted.failure}: {refuted.detail}; asked again in the same session"
    draft.note(JournalKind.DECIDED, what, attempt, facts=_proof(attempt))


def _end_attempt(draft: Draft, attempt: Attempt, refuted: Refuted) -> None:
    over = replace(
        attempt,
        state=AttemptState.FAILED,
        ended=draft.facts.now,
        failure=refuted.failure,
        detail=refuted.detail,
        text=refuted.text or attempt.text,
        waiting_on=None,
        waiting_since=None,
    )
    draft.put(over)
    draft.note(JournalKind.DECIDED, f"{refuted.failure}: {refuted.detail}", over, facts=_proof(over))


def _proof(attempt: Attempt) -> dict[str, Json]:
    evidence: list[Json] = [
        {"check": e.check, "holds": e.holds, "fact": e.fact, "at": e.at} for e in attempt.evidence
    ]
    return {"evidence": evidence, "text": attempt.text[:2000]}


def _next(draft: Draft, stage: StagePlan, refuted: Refuted, answer: Answer) -> None:
    """After an ended attempt: another one, a person, or the stage's end."""
    record = draft.stage(stage.name)
    failure, detail = refuted.failure, refuted.detail
    tried = record.attempts[record.extra_attempts :]
    if answer is Answer.STOP:
        fail_stage(draft, stage.name, failure, detail)
    elif answer is Answer.ESCALATE:
        escalate(draft, stage.name, failure, detail)
    elif [a.failure for a in tried[-STUCK:]] == [failure] * STUCK:
        escalate(draft, stage.name, failure, f"{STUCK} times in a row: {detail}")
    elif len(tried) >= stage.attempts:
        fail_stage(draft, stage.name, failure, f"{detail} (attempt {len(tried)} of {stage.attempts})")
    else:
        _another(draft, stage, refuted, answer)


def _another(draft: Draft, stage: StagePlan, refuted: Refuted, answer: Answer) -> None:
    last = draft.stage(stage.name).attempts[-1]
    # Told nothing of the failed one: a fresh session starts from the stage's own prompt and summaries alone.
    try:
        prompt = compose_prompt(draft, stage)
    except PipelineError as error:
        # What other stages have told since is not what the template can use.
        fail_stage(draft, stage.name, Failure.INVALID_REQUEST, str(error))
        return
    match answer:
        case Answer.FALLBACK:
            model = next_model(stage, last.model) or last.model
            plan_attempt(draft, stage, prompt, model)
        case Answer.LARGER:
            larger = _larger_model(stage, last.model, draft.facts.catalog)
            if larger is None:
                escalate(
                    draft, stage.name, refuted.failure, f"no model with a larger window: {refuted.detail}"
                )
            else:
                plan_attempt(draft, stage, prompt, larger)
        case Answer.PARK:
            _park(draft, stage, refuted, prompt)
        case Answer.FRESH | Answer.REPAIR:
            plan_attempt(draft, stage, prompt, last.model)
        case Answer.STOP | Answer.ESCALATE:
            raise AssertionError(answer)


def _park(draft: Draft, stage: StagePlan, refuted: Refuted, prompt: str) -> None:
    """Wait for the provider; where that takes longer than the stage's patience, take the fallback at once."""
    record = draft.stage(stage.name)
    last = record.attempts[-1]
    parked = sum(a.failure is refuted.failure for a in record.attempts[record.extra_attempts :])
    backoff = min(PARK_CAP, PARK_FIRST * 2 ** min(parked - 1, 20))
    # Up to a quarter more, so that runs parked by the same provider do not wake as one.
    wait = int((refuted.retry_after or backoff) * (1 + draft.facts.spread / 4))
    fallback = next_model(stage, last.model)
    given_up = last.aborted is not None  # we already waited as long as patience allows
    if fallback is not None and (given_up or wait > stage.patience):
        plan_attempt(draft, stage, prompt, fallback)
        return
    not_before = draft.facts.now + wait
    planned = plan_attempt(draft, stage, prompt, last.model, not_before)
    draft.put(replace(planned, waiting_on=WaitingOn.PROVIDER, waiting_since=draft.facts.now))
    draft.wake(not_before)


def next_model(stage: StagePlan, model: ModelRef | None) -> ModelRef | None:
    """The fallback after this model; None where there is none left."""
    chain = [stage.model, *stage.fallback_models]
    index = chain.index(model) if model in chain else 0
    return chain[index + 1] if index + 1 < len(chain) else None


def _larger_model(stage: StagePlan, model: ModelRef | None, catalog: Catalog | None) -> ModelRef | None:
    if catalog is None:
        return None
    windows = {m.ref: m.context for m in catalog.models}
    now = windows.get(model or catalog.default or ModelRef("", ""), 0)
    larger = [m for m in stage.fallback_models if windows.get(m, 0) > now]
    return max(larger, key=lambda m: windows[m], default=None)


def over_budget(plan: Plan, stage: StagePlan, run: Run, attempt: Attempt) -> str | None:
    """What was overspent, counting this attempt as just measured; None where all is within bounds."""
    others = [a for s in run.stages for a in s.attempts if a.id != attempt.id]
    own = [a for a in others if a.stage == stage.name]
    return _exceeded(f"stage {stage.name}", stage.budget, [*own, attempt]) or _exceeded(
        "the run", plan.budget, [*others, attempt]
    )


def _exceeded(whose: str, budget: Budget, attempts: Iterable[Attempt]) -> str | None:
    spent = list(attempts)
    tokens = sum(a.tokens.total for a in spent)
    cost = sum(a.cost for a in spent)
    if budget.tokens is not None and tokens > budget.tokens:
        return f"{whose} used {tokens} of {budget.tokens} tokens"
    if budget.cost is not None and cost > budget.cost:
        return f"{whose} cost {cost:.4f} of {budget.cost:.4f}"
    return None


def unknown_words(stage: StagePlan, attempt: Attempt, catalog: Catalog | None) -> str | None:
    """What the server does not offer, with the nearest thing it does: refused before anything is sent."""
    if catalog is None:
        return None
    models = {str(m.ref) for m in catalog.models}
    if attempt.model is not None and models and str(attempt.model) not in models:
        return _unknown("model", str(attempt.model), models)
    agents = {a.name for a in catalog.agents if a.mode != "subagent"}
    if stage.agent is not None and agents and stage.agent not in agents:
        return _unknown("agent", stage.agent, agents)
    return None


def _unknown(what: str, word: str, known: set[str]) -> str:
    near = get_close_matches(word, sorted(known), n=1)
    offer = f"did you mean {near[0]}?" if near else f"it has: {', '.join(sorted(known)[:10])}"
    return f"the server has no {what} {word}; {offer}"

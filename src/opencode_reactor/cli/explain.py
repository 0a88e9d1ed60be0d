"""`reactor explain`: why a run stands where it stands, from its stored evidence, and what happens next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..model.asks import Ask, AskState
from ..model.runs import Attempt, Command, Evidence, JournalEntry, JournalKind, Lease, Run
from ..model.shared import Json
from ..store import Store
from . import shapes
from .opened import in_store
from .options import Options
from .output import Output
from .parser import Asked
from .text import ago, amount, clock_time, iso, moment, one_line, price
from .words import Prospect, keeper, missing, phase, prospects, subject


@dataclass(frozen=True, slots=True)
class Known:
    """Everything the store holds on one run, read in one go."""

    run: Run
    journal: Sequence[JournalEntry]
    asks: Sequence[Ask]
    commands: Sequence[Command]
    lease: Lease | None
    now: int


def explain(options: Options, asked: Asked) -> None:
    """Tell the story of a run."""

    async def read(store: Store) -> Known:
        found = await store.run(asked.run)
        return Known(
            found,
            await store.journal(found.id),
            await store.asks(run=found.id, states=tuple(AskState)),
            await store.commands(found.id),
            await store.lease(found.server),
            store.now(),
        )

    known = in_store(options, read)
    if options.output.json:
        options.output.emit("explanation", _shape(known))
    else:
        _tell(known, options.output)


def _shape(known: Known) -> dict[str, Any]:
    evidence = {
        f"{attempt.stage}.{attempt.number}": [shapes.evidence(e) for e in attempt.evidence]
        for stage in known.run.stages
        for attempt in stage.attempts
    }
    return {
        "run": shapes.whole_run(known.run),
        "evidence": evidence,
        "journal": [shapes.journal(entry) for entry in known.journal],
        "asks": [shapes.ask(ask) for ask in known.asks],
        "missing": list(missing(known.run)),
        "next": [{"what": p.what, "at": iso(p.at), "command": p.command or None} for p in _next(known)],
        "lease": shapes.lease(known.lease),
    }


def _next(known: Known) -> list[Prospect]:
    asks = [ask for ask in known.asks if ask.state is not AskState.CLOSED]
    return list(prospects(known.run, asks, known.commands, known.now))


def _tell(known: Known, out: Output) -> None:
    run = known.run
    out.line(
        f"{run.id}  {one_line(run.pipeline)}  {run.state}{f': {run.waiting_on}' if run.waiting_on else ''}"
    )
    out.line(f"  created {moment(run.created)} ({ago(run.created, known.now)}) for {run.server}")
    if run.detail:
        out.line(f"  {one_line(run.detail)}")
    _entries(out, [e for e in known.journal if not e.stage])
    for stage in run.stages:
        out.line()
        waits = f": {stage.waiting_on}" if stage.waiting_on else ""
        out.line(f"stage {stage.name}  {stage.state}{waits}")
        of_stage = [e for e in known.journal if e.stage == stage.name]
        _entries(out, [e for e in of_stage if not e.attempt])
        for attempt in stage.attempts:
            entries = [e for e in of_stage if e.attempt == attempt.number]
            entries += _told(a for a in known.asks if (a.stage, a.attempt) == (stage.name, attempt.number))
            _attempt(out, attempt, sorted(entries, key=lambda e: e.at), known.now)
    _section(out, "missing now", missing(run))
    _section(out, "next", (_sentence(p, known.now) for p in _next(known)))
    if not run.state.final:
        _section(out, "driven by", [_sentence(keeper(run, known.lease), known.now)])


def _told(asks: Iterable[Ask]) -> Iterator[JournalEntry]:
    """What was asked and who answered it how, as lines of the journal they stand in."""
    for ask in asks:
        yield JournalEntry(JournalKind.OBSERVED, f"{ask.kind} {ask.id}: {subject(ask)}", at=ask.opened)
        if ask.answered is not None:
            said = ask.reply or "; ".join(", ".join(labels) for labels in ask.answers)
            why = f" ({ask.message})" if ask.message else ""
            what = f"{ask.id} answered by {ask.answered_by}: {said}{why}"
            yield JournalEntry(JournalKind.DECIDED, what, at=ask.answered)
        elif ask.closed is not None:
            yield JournalEntry(JournalKind.OBSERVED, f"{ask.id} closed: {ask.closed_as}", at=ask.closed)


def _attempt(out: Output, attempt: Attempt, entries: list[JournalEntry], now: int) -> None:
    used = " ".join(
        filter(None, (amount(attempt.tokens) and f"{amount(attempt.tokens)} tokens", price(attempt.cost)))
    )
    facts = (attempt.session or "", str(attempt.model or ""), used)
    out.line(f"  attempt {attempt.number}  {phase(attempt, now)}  {'  '.join(filter(None, facts))}".rstrip())
    _entries(out, entries)
    # The journal keeps the evidence of each verdict; what was found since then stands on the attempt alone.
    if not any("evidence" in entry.data for entry in entries):
        for evidence in attempt.evidence:
            _evidence(out, evidence, "FAILED" if attempt.state.final else "not yet")


def _entries(out: Output, entries: list[JournalEntry]) -> None:
    for entry in entries:
        out.line(f"    {clock_time(entry.at)}  {entry.kind:9}  {one_line(entry.what)}")
        for evidence in _kept(entry.data):
            _evidence(out, evidence)


def _kept(data: Mapping[str, Json]) -> Iterator[Evidence]:
    found = data.get("evidence")
    for item in found if isinstance(found, Sequence) and not isinstance(found, str) else ():
        if isinstance(item, Mapping):
            at = item.get("at")
            yield Evidence(
                str(item.get("check", "")),
                item.get("holds") is True,
                str(item.get("fact", "")),
                at if isinstance(at, int) else 0,
            )


def _evidence(out: Output, evidence: Evidence, otherwise: str = "FAILED") -> None:
    mark = "holds" if evidence.holds else otherwise
    out.line(f"      {clock_time(evidence.at)}  {mark:7}  {evidence.check}: {one_line(evidence.fact)}")


def _section(out: Output, title: str, lines: Iterator[str] | Sequence[str]) -> None:
    told = list(lines)
    if told:
        out.line()
        out.line(f"{title}:")
        for line in told:
            out.line(f"  {line}")


def _sentence(prospect: Prospect, now: int) -> str:
    when = f", {clock_time(prospect.at)} ({ago(prospect.at, now)})" if prospect.at is not None else ""
    how = f"\n    {prospect.command}" if prospect.command else ""
    return f"{prospect.what}{when}{how}"

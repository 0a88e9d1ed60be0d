"""`reactor inbox`, `reply`, `answer`: what waits for a person, and the person's word."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Conflict, UsageError
from ..model.asks import Ask, AskKind, AskState, Reply
from ..store import Store
from . import shapes
from .answers import labels_for
from .opened import in_store, person, served
from .options import Options
from .output import Column
from .parser import Asked
from .text import ago, one_line
from .words import how_to_answer, subject


def inbox(options: Options, _asked: Asked) -> None:
    """List what waits for a person."""
    url = options.chosen_server(options.settings()).url if options.server else None

    async def waiting(store: Store) -> tuple[list[Ask], int]:
        return await store.asks(server=url), store.now()

    found, now = in_store(options, waiting)
    out = options.output
    if out.json:
        for ask in found:
            out.emit("ask", shapes.ask(ask))
    elif found:
        out.table(_HEADS, [_row(ask, now) for ask in found])
        out.remark("")
        for line in dict.fromkeys(how_to_answer(ask, "ID") for ask in found):
            out.remark(line)
    else:
        out.remark("nothing waits for a person")


def reply(options: Options, asked: Asked) -> None:
    """Answer a permission or an approval."""

    async def answered(store: Store) -> None:
        ask, word = await store.ask(asked.ask), Reply(asked.word)
        _check_word(ask, word)
        await _tell(options, store, ask, _Word(reply=word, message=asked.message))

    in_store(options, answered)


def answer(options: Options, asked: Asked) -> None:
    """Answer a question."""

    async def answered(store: Store) -> None:
        ask = await store.ask(asked.ask)
        if ask.kind is not AskKind.QUESTION:
            article = "an" if ask.kind is AskKind.APPROVAL else "a"
            raise UsageError(f"ask {ask.id} is {article} {ask.kind}", remedy=how_to_answer(ask))
        # Whether the labels fit says nothing any more where somebody was first; the store says who.
        answers = labels_for(ask.questions, asked.labels) if ask.state is AskState.OPEN else ()
        await _tell(options, store, ask, _Word(answers=answers))

    in_store(options, answered)


@dataclass(frozen=True, slots=True)
class _Word:
    """A person's answer."""

    reply: Reply | None = None
    answers: tuple[tuple[str, ...], ...] = ()
    message: str = ""

    def __str__(self) -> str:
        return self.reply or "; ".join(", ".join(labels) for labels in self.answers)


async def _tell(options: Options, store: Store, ask: Ask, word: _Word) -> None:
    try:
        told = await store.answer_ask(
            ask, reply=word.reply, answers=word.answers, message=word.message, by=person()
        )
    except Conflict as conflict:
        raise UsageError(conflict.message, remedy="nothing was changed") from conflict
    idle = await served(options, store, ask.server)
    if options.output.json:
        options.output.emit("ask", {**shapes.ask(told), "served": not idle})
        return
    options.output.line(f"{ask.id} answered: {one_line(str(word))}")
    if idle:
        options.output.remark(idle)


def _check_word(ask: Ask, word: Reply) -> None:
    if ask.kind is AskKind.QUESTION and word is not Reply.REJECT:
        raise UsageError(f"ask {ask.id} is a question", remedy=how_to_answer(ask))
    if ask.kind is AskKind.APPROVAL and word is Reply.ALWAYS:
        raise UsageError(f"ask {ask.id} is an approval: it is given once", remedy=how_to_answer(ask))


def _row(ask: Ask, now: int) -> list[str]:
    where = f"{ask.run}/{ask.stage}" if ask.run else ask.session
    expires = ago(ask.expires, now) if ask.expires is not None else ""
    return [ask.id, ask.kind, where, ago(ask.opened, now), expires, subject(ask)]


_HEADS = (
    Column("id"),
    Column("kind"),
    Column("where"),
    Column("opened"),
    Column("expires"),
    Column("asks", share=True),
)

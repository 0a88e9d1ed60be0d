"""`reactor inbox`, `reply`, `answer`: what waits for a person, and the person's word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ..errors import Conflict, UsageError
from ..model.asks import Ask, AskKind, AskState, Reply
from ..store import Store
from . import shapes
from .answers import labels_for
from .opened import in_store, person, served
from .options import Options
from .output import Column
from .text import ago, one_line
from .words import how_to_answer, subject

AskArgument = Annotated[str, typer.Argument(help="An ask's id, its beginning, or OpenCode's own id of it.")]


def inbox(ctx: typer.Context) -> None:
    """What waits for a person, over all servers and sessions, oldest first."""
    options: Options = ctx.obj
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


def reply(
    ctx: typer.Context,
    ask: AskArgument,
    word: Annotated[Reply, typer.Argument(metavar="once|always|reject", help="The answer.")],
    message: Annotated[str, typer.Option("--message", "-m", help="What the model is told with it.")] = "",
) -> None:
    """Answer a permission (once, always, reject) or an approval (once, reject); reject dismisses a question.

    A permission refused with -m lets the turn go on: the model reads why. Without, the turn just ends.
    `always` holds for the server's whole directory until it restarts.
    """

    async def answered(store: Store) -> None:
        found = await store.ask(ask)
        _check_word(found, word)
        await _tell(ctx.obj, store, found, word, (), message)

    in_store(ctx.obj, answered)


def answer(
    ctx: typer.Context,
    ask: AskArgument,
    labels: Annotated[list[str], typer.Argument(metavar="LABEL…", help="One or more of the offered labels.")],
) -> None:
    """Answer a question with the labels it offers, or in your own words where it takes them.

    One question: each argument is one label. Several questions: one argument for each, in their order;
    several labels for one of them are joined by commas. `reactor inbox` shows questions and labels.
    """

    async def answered(store: Store) -> None:
        found = await store.ask(ask)
        if found.kind is not AskKind.QUESTION:
            raise UsageError(f"ask {found.id} is a {found.kind}", remedy=how_to_answer(found))
        answers = labels_for(found.questions, labels) if found.state is AskState.OPEN else ()
        await _tell(ctx.obj, store, found, None, answers, "")

    in_store(ctx.obj, answered)


async def _tell(
    options: Options,
    store: Store,
    ask: Ask,
    word: Reply | None,
    answers: Sequence[Sequence[str]],
    message: str,
) -> None:
    try:
        told = await store.answer_ask(ask, reply=word, answers=answers, message=message, by=person())
    except Conflict as conflict:
        raise UsageError(conflict.message, remedy="nothing was changed") from conflict
    idle = await served(store, ask.server)
    if options.output.json:
        options.output.emit("ask", {**shapes.ask(told), "served": not idle})
        return
    said = word or "; ".join(", ".join(each) for each in answers)
    options.output.line(f"{ask.id} answered: {one_line(said)}")
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

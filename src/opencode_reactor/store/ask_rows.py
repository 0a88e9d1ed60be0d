"""Rows and nouns of what waits: asks and deliveries. Pure; what is read is made anew.

The readers raise ValueError, KeyError or TypeError on a row that no reactor wrote.
"""

from __future__ import annotations

from typing import Any

from ..model.asks import Ask, AskKind, AskState, Closed, Reply
from ..model.deliveries import Delivery, DeliveryState
from ..model.shared import Option, Question
from .columns import dump, load, read, word
from .driver import Params, Row


def ask_params(ask: Ask) -> Params:
    """The row of an ask."""
    return {
        "id": ask.id,
        "kind": ask.kind.value,
        "server": ask.server,
        "request": ask.request,
        "directory": ask.directory,
        "session": ask.session,
        "root": ask.root,
        "run": ask.run,
        "stage": ask.stage,
        "attempt": ask.attempt,
        "title": ask.title,
        "detail": ask.detail,
        "permission": ask.permission,
        "patterns": dump(ask.patterns),
        "questions": dump([_question(q) for q in ask.questions]),
        "state": ask.state.value,
        "reply": word(ask.reply),
        "answers": dump(ask.answers),
        "message": ask.message,
        "answered_by": ask.answered_by,
        "answered": ask.answered,
        "opened": ask.opened,
        "expires": ask.expires,
        "closed": ask.closed,
        "closed_as": word(ask.closed_as),
        "rev": ask.rev,
    }


def read_ask(row: Row) -> Ask:
    """An ask from its row."""
    return Ask(
        id=row["id"],
        kind=AskKind(row["kind"]),
        server=row["server"],
        request=row["request"],
        directory=row["directory"],
        session=row["session"],
        root=row["root"],
        run=row["run"],
        stage=row["stage"],
        attempt=row["attempt"],
        title=row["title"],
        detail=row["detail"],
        permission=row["permission"],
        patterns=tuple(load(row["patterns"])),
        questions=tuple(_read_question(q) for q in load(row["questions"])),
        state=AskState(row["state"]),
        reply=read(Reply, row["reply"]),
        answers=tuple(tuple(a) for a in load(row["answers"])),
        message=row["message"],
        answered_by=row["answered_by"],
        answered=row["answered"],
        opened=row["opened"],
        expires=row["expires"],
        closed=row["closed"],
        closed_as=read(Closed, row["closed_as"]),
        rev=row["rev"],
    )


def _question(question: Question) -> dict[str, object]:
    return {
        "question": question.question,
        "header": question.header,
        "options": [[o.label, o.description] for o in question.options],
        "multiple": question.multiple,
        "custom": question.custom,
    }


def _read_question(question: dict[str, Any]) -> Question:
    return Question(
        question=question["question"],
        header=question["header"],
        options=tuple(Option(*o) for o in question["options"]),
        multiple=question["multiple"],
        custom=question["custom"],
    )


def delivery_params(delivery: Delivery) -> Params:
    """The row of a new delivery: its id and state are the store's to give."""
    return {
        "handler": delivery.handler,
        "server": delivery.server,
        "event": delivery.event,
        "name": delivery.name,
        "lane": delivery.lane,
        "directory": delivery.directory,
        "payload": delivery.payload,
        "tries": delivery.tries,
        "not_before": delivery.not_before,
        "error": delivery.error,
        "created": delivery.created,
        "recovered": int(delivery.recovered),
    }


def read_delivery(row: Row) -> Delivery:
    """A delivery from its row."""
    return Delivery(
        id=row["id"],
        handler=row["handler"],
        server=row["server"],
        event=row["event"],
        name=row["name"],
        lane=row["lane"],
        directory=row["directory"],
        payload=row["payload"],
        state=DeliveryState(row["state"]),
        tries=row["tries"],
        not_before=row["not_before"],
        error=row["error"],
        created=row["created"],
        recovered=bool(row["recovered"]),
    )

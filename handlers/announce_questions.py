"""Tell a person that a model's question waits, and what to type to answer it."""

from __future__ import annotations

from opencode_reactor import Context, Question, QuestionAsked, ask_id, on

LENGTH = 200
"""Characters of a question that are passed on: a model may write a page."""


@on(QuestionAsked)
async def announce_questions(event: QuestionAsked, ctx: Context) -> None:
    """Notify with the questions, their options and the command that answers."""
    ask = ask_id(event.server, event.request.id)
    asked = "; ".join(wording(question) for question in event.questions)
    await ctx.notify(
        f"{asked} - answer with: reactor answer {ask} {' '.join('LABEL' for _ in event.questions)}"
    )


def wording(question: Question) -> str:
    """The question and its options on one line; what a model wrote may hold anything."""
    options = " | ".join(plain(option.label) for option in question.options)
    return f"{plain(question.question)} [{options}]" if options else plain(question.question)


def plain(text: str) -> str:
    """Printable, on one line, and short."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= LENGTH else f"{line[: LENGTH - 1]}…"

"""From what a person typed to the answers a question takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..model.shared import Question


def labels_for(questions: Sequence[Question], typed: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """One answer, a list of labels, for each question. Raises UsageError, which says what is offered.

    One question takes each argument as one label. Several questions take one argument each; an argument that
    is no label itself is split at its commas where the question takes several.
    """
    if len(questions) == 1:
        return (_checked(questions[0], list(typed)),)
    if len(questions) != len(typed):
        asked = "; ".join(_offer(question) for question in questions)
        raise UsageError(
            f"{len(questions)} questions, {len(typed)} answers: {asked}", remedy="one argument each"
        )
    return tuple(_checked(q, _split(q, text)) for q, text in zip(questions, typed, strict=True))


def _split(question: Question, text: str) -> list[str]:
    if not question.multiple or _label(question, text) is not None:
        return [text]
    return [piece for part in text.split(",") if (piece := part.strip())]


def _checked(question: Question, typed: list[str]) -> tuple[str, ...]:
    if len(typed) > 1 and not question.multiple:
        raise UsageError(f"{question.question!r} takes one answer, not {len(typed)}", remedy=_quoting(typed))
    if not typed or not all(text.strip() for text in typed):
        raise UsageError("an answer is empty", remedy=_offer(question))
    return tuple(_taken(question, text) for text in typed)


def _taken(question: Question, text: str) -> str:
    label = _label(question, text)
    if label is not None:
        return label
    if question.custom or not question.options:
        return text
    # Late: only who mistyped needs it.
    from difflib import get_close_matches

    near = get_close_matches(text, [option.label for option in question.options], n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"{text!r} is not offered", remedy=f"{meant}{_offer(question)}")


def _label(question: Question, text: str) -> str | None:
    """The offered label as the model wrote it; capitals and spaces around do not count."""
    offered = [option.label for option in question.options]
    if text in offered:
        return text
    alike = [label for label in offered if label.strip().casefold() == text.strip().casefold()]
    return alike[0] if len(alike) == 1 else None


def _offer(question: Question) -> str:
    labels = " | ".join(option.label for option in question.options)
    return f"{question.question} [{labels}]" if labels else question.question


def _quoting(typed: list[str]) -> str:
    return f'if that is one answer, quote it: "{" ".join(typed)}"'

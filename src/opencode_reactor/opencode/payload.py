"""An event as the text that a durable delivery keeps: the wire's own shape, so that one reader reads both.

Made from the event and not kept from the frame: an event that was found in a list, or made by a test, has no
frame. What the event does not hold is not in the text.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ..model.events import (
    Event,
    FileEdited,
    MessagePartDelta,
    MessagePartRemoved,
    MessagePartUpdated,
    MessageRemoved,
    MessageUpdated,
    PermissionAsked,
    PermissionReplied,
    QuestionAsked,
    QuestionRejected,
    QuestionReplied,
    SessionError,
    SessionEvent,
    SessionInfoEvent,
    SessionStatus,
    TodoUpdated,
    UnknownEvent,
    event_name,
)
from ..model.sessions import (
    AssistantMessage,
    Busy,
    CompactionPart,
    Idle,
    Message,
    MessageError,
    ModelRef,
    OtherPart,
    Part,
    PermissionRequest,
    Question,
    QuestionRequest,
    ReasoningPart,
    Retrying,
    Session,
    Status,
    StepFinishPart,
    StepStartPart,
    TextPart,
    Tokens,
    ToolPart,
)

Wire = dict[str, Any]


def payload_of(event: Event) -> str:
    """`{"id", "type", "properties"}` as JSON; `wire.event_from_payload` reads it into the same event again.

    Server, directory and time are not in it: a delivery has them in places of their own.
    """
    frame = {"id": event.id, "type": event_name(event), "properties": properties_of(event)}
    return json.dumps(frame, separators=(",", ":"), ensure_ascii=False)


def properties_of(event: Event) -> Wire:
    """The event's properties in the newest server's shape."""
    own = _ask_properties(event) or _turn_properties(event)
    return {"sessionID": event.session, **own} if isinstance(event, SessionEvent) else own


def _ask_properties(event: Event) -> Wire:
    match event:
        case PermissionAsked():
            return permission_to_wire(event.request)
        case QuestionAsked():
            return question_to_wire(event.request)
        case PermissionReplied():
            return {"requestID": event.request, "reply": event.reply}
        case QuestionReplied():
            return {"requestID": event.request, "answers": event.answers}
        case QuestionRejected():
            return {"requestID": event.request}
        case _:
            return {}


def _turn_properties(event: Event) -> Wire:  # noqa: PLR0911 - one row a class
    match event:
        case SessionInfoEvent():
            return {"info": session_to_wire(event.info)}
        case SessionStatus():
            return {"status": status_to_wire(event.status)}
        case SessionError():
            return _present(sessionID=event.session, error=error_to_wire(event.error))
        case MessageUpdated():
            return {"info": message_to_wire(event.message)}
        case MessagePartUpdated():
            return {"part": part_to_wire(event.part), **_present(delta=event.delta)}
        case MessageRemoved() | MessagePartRemoved() | MessagePartDelta():
            return _part_properties(event)
        case TodoUpdated():
            return {"todos": [asdict(todo) for todo in event.todos]}
        case FileEdited():
            return {"file": event.file}
        case UnknownEvent():
            return dict(event.properties)
        case _:
            return {}


def _part_properties(event: MessageRemoved | MessagePartRemoved | MessagePartDelta) -> Wire:
    match event:
        case MessageRemoved():
            return {"messageID": event.message}
        case MessagePartRemoved():
            return {"messageID": event.message, "partID": event.part}
        case MessagePartDelta():
            return {
                "messageID": event.message,
                "partID": event.part,
                "field": event.field,
                "delta": event.delta,
            }


def message_to_wire(message: Message) -> Wire:
    """A message's head, without its parts."""
    common = {"id": message.id, "sessionID": message.session, "agent": message.agent}
    if isinstance(message, AssistantMessage):
        return common | {
            "role": "assistant",
            "parentID": message.parent,
            "time": _present(created=message.created, completed=message.completed),
            **_present(finish=message.finish),
            "summary": message.summary,
            **_present(error=error_to_wire(message.error)),
            **_model(message.model),
            "tokens": _tokens(message.tokens),
            "cost": message.cost,
        }
    model = {"model": _model(message.model)} if message.model else {}
    return common | {"role": "user", "time": {"created": message.created}, **model}


def part_to_wire(part: Part) -> Wire:
    """A part."""
    return {"id": part.id, "sessionID": part.session, "messageID": part.message, **_part_body(part)}


def status_to_wire(status: Status) -> Wire:
    """A status."""
    match status:
        case Idle():
            return {"type": "idle"}
        case Busy():
            return {"type": "busy"}
        case Retrying():
            action = {"action": {"reason": status.reason}} if status.reason else {}
            return {
                "type": "retry",
                "attempt": status.attempt,
                "message": status.message,
                "next": status.next,
                **action,
            }


def session_to_wire(session: Session) -> Wire:
    """A session."""
    return {
        "id": session.id,
        "directory": session.directory,
        "title": session.title,
        "version": session.version,
        **_present(parentID=session.parent),
        "metadata": session.metadata,
        "time": {"created": session.created, "updated": session.updated},
    }


def error_to_wire(error: MessageError | None) -> Wire | None:
    """An error of a turn."""
    if error is None:
        return None
    details = {
        "message": error.message,
        **_present(statusCode=error.status),
        "isRetryable": error.retryable,
        "responseHeaders": error.headers,
        "responseBody": error.body,
    }
    return {"name": error.name, "data": details}


def permission_to_wire(request: PermissionRequest) -> Wire:
    """A permission that is asked for."""
    return {
        "id": request.id,
        "sessionID": request.session,
        "permission": request.permission,
        "patterns": request.patterns,
        "always": request.always,
        "metadata": request.metadata,
        "tool": {"messageID": request.message, "callID": request.call},
    }


def question_to_wire(request: QuestionRequest) -> Wire:
    """What the model asks."""
    return {
        "id": request.id,
        "sessionID": request.session,
        "questions": [_question(question) for question in request.questions],
        "tool": {"messageID": request.message, "callID": request.call},
    }


def _present(**fields: Any) -> Wire:
    return {name: value for name, value in fields.items() if value is not None}


def _model(model: ModelRef | None) -> Wire:
    return {"providerID": model.provider, "modelID": model.model} if model else {}


def _tokens(tokens: Tokens) -> Wire:
    return {
        "input": tokens.input,
        "output": tokens.output,
        "reasoning": tokens.reasoning,
        "cache": {"read": tokens.cache_read, "write": tokens.cache_write},
    }


def _question(question: Question) -> Wire:
    return {
        "question": question.question,
        "header": question.header,
        "options": [{"label": o.label, "description": o.description} for o in question.options],
        "multiple": question.multiple,
        "custom": question.custom,
    }


def _part_body(part: Part) -> Wire:  # noqa: PLR0911 - one row a class
    match part:
        case TextPart():
            return {
                "type": "text",
                "text": part.text,
                "synthetic": part.synthetic,
                "ignored": part.ignored,
                "metadata": {"compaction_continue": part.compaction_continue},
            }
        case ReasoningPart():
            return {"type": "reasoning", "text": part.text}
        case ToolPart():
            return {"type": "tool", "tool": part.tool, "callID": part.call, "state": _tool_state(part)}
        case StepStartPart():
            return {"type": "step-start"}
        case StepFinishPart():
            return {
                "type": "step-finish",
                "reason": part.reason,
                "tokens": _tokens(part.tokens),
                "cost": part.cost,
            }
        case CompactionPart():
            return {"type": "compaction", "auto": part.auto, "overflow": part.overflow}
        case OtherPart():
            return {"type": part.type}


def _tool_state(part: ToolPart) -> Wire:
    return {
        "status": part.state.value,
        "input": part.input,
        "title": part.title,
        "output": part.output,
        "error": part.error,
    }

"""Handlers as frozen, checked values, and which of them an event concerns."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from types import FunctionType, ModuleType, UnionType
from typing import Any, cast

from ..errors import HandlerError
from ..model.events import EVENT_CLASSES, EVENTS_BY_NAME, Event, UnknownEvent, event_name
from .marking import Filter, HandlerFunction, Mark, mark_of, place_of


@dataclass(frozen=True, slots=True)
class Selector:
    """Which events are meant: known ones by their newest wire name, unknown ones by prefix or altogether."""

    names: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    unknown: bool = False

    def takes(self, event: Event) -> bool:
        """Whether `event` is one of these."""
        # A known name that lacks what its type promises comes as an UnknownEvent, and is one.
        if isinstance(event, UnknownEvent):
            return self.unknown or event.name.startswith(self.prefixes)
        return event.type in self.names

    def takes_name(self, name: str) -> bool:
        """Whether an event of this wire name, old or new, can be one of these."""
        known = EVENTS_BY_NAME.get(name)
        if known is not None:
            return known.type in self.names
        return self.unknown or name.startswith(self.prefixes)

    def __str__(self) -> str:
        plain = sorted(name for name in self.names if not name.startswith(self.prefixes))
        shown = [*plain, *(f"{prefix}*" for prefix in self.prefixes)]
        return ", ".join([*shown, "unknown events"] if self.unknown else shown)


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler, checked. `place` is `file:line`; `summary` the first line of its docstring."""

    name: str
    function: HandlerFunction[Any]
    selector: Selector
    place: str
    where: Filter[Any] | None = None
    directory: str | None = None
    retries: int = 3
    timeout: float = 30.0
    live: bool = False
    summary: str = ""

    @property
    def file(self) -> str:
        """The file it stands in, as its code objects name it."""
        return self.place.rpartition(":")[0]

    def concerns(self, event: Event) -> bool:
        """Whether type and directory fit; `where` is asked by `passes`, since it can fail."""
        if is_ephemeral(event_name(event)) and not self.live:
            return False
        return self.selector.takes(event) and (
            self.directory is None or fnmatchcase(event.directory.rstrip("/"), self.directory)
        )

    def passes(self, event: Event) -> bool:
        """What the author's filter says. Raises whatever it raises."""
        return self.where is None or bool(self.where(event))


def is_ephemeral(name: str) -> bool:
    """Whether events of this wire name are too frequent to store; unknown ones are judged by their name."""
    known = EVENTS_BY_NAME.get(name)
    return known.ephemeral if known else name.endswith((".delta", ".heartbeat"))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found: the handlers that can be used, and what is wrong with the others."""

    handlers: tuple[Handler, ...] = ()
    problems: tuple[HandlerError, ...] = ()


class Registry:
    """The handlers of one reactor. Raises HandlerError where two bear the same name."""

    def __init__(self, handlers: Iterable[Handler]) -> None:
        self.handlers: tuple[Handler, ...] = tuple(handlers)
        self._by_name: dict[str, Handler] = {}
        for handler in self.handlers:
            if (twin := self._by_name.setdefault(handler.name, handler)) is not handler:
                raise duplicate(handler, twin)
        self._by_class: Mapping[type[Event], tuple[Handler, ...]] = {
            cls: tuple(h for h in self.handlers if _may_take(h, cls))
            for cls in (*EVENT_CLASSES, UnknownEvent)
        }
        # Asked of every frame a server sends, wanted or not.
        self._wanted = frozenset(name for name, cls in EVENTS_BY_NAME.items() if self._by_class[cls])
        self._unknown = self._by_class[UnknownEvent]

    def handler(self, name: str) -> Handler | None:
        """The handler of that name, if it is loaded."""
        return self._by_name.get(name)

    def matching(self, event: Event) -> list[Handler]:
        """Every handler the event concerns. One whose filter raises is among them: the call will tell."""
        candidates = self._by_class.get(type(event), ())
        return [h for h in candidates if h.concerns(event) and _may_pass(h, event)]

    def wants(self, name: str) -> bool:
        """Whether any handler can concern events of this wire name, old or new."""
        if name in EVENTS_BY_NAME:
            return name in self._wanted
        stored = not is_ephemeral(name)
        return any(h.selector.takes_name(name) and (h.live or stored) for h in self._unknown)


def _may_take(handler: Handler, cls: type[Event]) -> bool:
    selector = handler.selector
    if cls is UnknownEvent:
        return selector.unknown or bool(selector.prefixes)
    return selector.takes_name(cls.type) and (handler.live or not cls.ephemeral)


def _may_pass(handler: Handler, event: Event) -> bool:
    try:
        return handler.passes(event)
    except Exception:  # noqa: BLE001 - the author's filter; it is asked again inside the fence, which reports it
        return True


def duplicate(second: Handler, first: Handler) -> HandlerError:
    """Two handlers of one name: their deliveries could not be told apart."""
    return HandlerError(
        f"the name {second.name!r} is taken by the handler at {first.place}",
        place=second.place,
        remedy="rename one of them, or give it a name of its own: @on(…, name=…)",
    )


def collect(module: ModuleType) -> Loaded:
    """The handlers written in `module`, in its order; imported ones belong to the module they come from."""
    handlers: list[Handler] = []
    problems: list[HandlerError] = []
    functions = {id(thing): thing for thing in vars(module).values() if mark_of(thing)}
    for function in functions.values():
        if function.__module__ != module.__name__:
            continue
        try:
            _not_hiding(function)
            handlers.append(handler_of(function))
        except HandlerError as problem:
            problems.append(problem)
    return Loaded(tuple(handlers), tuple(problems))


def _not_hiding(function: FunctionType) -> None:
    mark = mark_of(function)
    if mark and mark.hides:
        raise HandlerError(
            f"{function.__name__!r} hides the handler of the same name at {mark.hides}",
            place=place_of(function),
            remedy="rename one of the two functions",
        )


def handler_of(function: Callable[..., object]) -> Handler:
    """The handler a marked function is. Raises HandlerError, with its place, where it cannot be one."""
    mark = mark_of(function)
    if mark is None or not isinstance(function, FunctionType):
        raise HandlerError(f"{function!r} is not marked with @on(…)")
    try:
        _check_function(function)
        _check_options(mark)
        classes = _classes(mark.events)
        _check_live(mark)
        _check_annotation(function, classes)
    except HandlerError as problem:
        raise HandlerError(problem.message, place=place_of(function), remedy=problem.remedy) from problem
    return Handler(
        name=function.__name__ if mark.name is None else mark.name,
        function=cast("HandlerFunction[Any]", function),
        selector=_selector(mark.events),
        place=place_of(function),
        where=mark.where,
        directory=None if mark.directory is None else _glob(mark.directory),
        retries=mark.retries,
        timeout=float(mark.timeout),
        live=mark.live,
        summary=(inspect.getdoc(function) or "").partition("\n")[0],
    )


def _glob(directory: str) -> str:
    expanded = str(Path(directory).expanduser()) if directory.startswith("~") else directory
    return expanded.rstrip("/") or "/"


def _check_function(function: FunctionType) -> None:
    name = function.__name__
    if inspect.isasyncgenfunction(function):
        raise HandlerError(f"{name!r} holds a `yield`; a handler returns", remedy="take the yield out")
    if not inspect.iscoroutinefunction(function):
        raise HandlerError(f"{name!r} is not async", remedy=f"write async def {name}(event, ctx)")
    parameters = inspect.signature(function).parameters.values()
    plain = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if len(parameters) != 2 or any(p.kind not in plain for p in parameters):
        given = ", ".join(map(str, parameters))
        raise HandlerError(
            f"{name!r} is called with an event and a context, but takes ({given})",
            remedy=f"write async def {name}(event, ctx)",
        )


def _check_options(mark: Mark) -> None:
    # Authors without a type checker meet these; the types say they cannot happen.
    given = cast("Any", mark)
    if given.name is not None and not (isinstance(given.name, str) and given.name.strip()):
        raise HandlerError(f"name is {given.name!r}; it must be a text")
    if given.directory is not None and not (isinstance(given.directory, str) and given.directory):
        raise HandlerError(f"directory is {given.directory!r}; it must be a glob such as '/srv/*'")
    if isinstance(given.retries, bool) or not isinstance(given.retries, int) or given.retries < 0:
        raise HandlerError(f"retries is {given.retries!r}; it must be a whole number, 0 or more")
    if isinstance(given.timeout, bool) or not isinstance(given.timeout, int | float):
        raise HandlerError(f"timeout is {given.timeout!r}; it must be a number of seconds")
    if not (math.isfinite(given.timeout) and given.timeout > 0):
        raise HandlerError(f"timeout is {given.timeout!r}; it must be more than 0 seconds, and have an end")
    if not isinstance(given.live, bool):
        raise HandlerError(f"live is {given.live!r}; it must be True or False")
    if given.where is not None and (not callable(given.where) or inspect.iscoroutinefunction(given.where)):
        raise HandlerError("where must be a plain function of the event", remedy="where=lambda e: …")


def _classes(events: Iterable[object]) -> tuple[type[Event], ...]:
    """Every class that can reach the handler. Raises HandlerError for a word that names no event."""
    return tuple(cls for event in events for cls in _classes_of(event))


def _classes_of(event: object) -> tuple[type[Event], ...]:
    if isinstance(event, str):
        return _classes_named(event)
    if event is UnknownEvent:
        return (UnknownEvent,)
    found = _below(cast("type", event))
    if not found:
        raise HandlerError(f"{cast('type', event).__name__} is no event class of opencode_reactor")
    return (*found, UnknownEvent) if event is Event else found


def _below(cls: type) -> tuple[type[Event], ...]:
    return tuple(known for known in EVENT_CLASSES if issubclass(known, cls) and issubclass(cls, Event))


def _classes_named(name: str) -> tuple[type[Event], ...]:
    if name in EVENTS_BY_NAME:
        return (EVENTS_BY_NAME[name],)
    if not name.endswith("*") or "*" in name[:-1]:
        raise HandlerError(f"no event is called {name!r}", remedy=_instead_of(name))
    prefix = name[:-1]
    found = {cls.type: cls for word, cls in EVENTS_BY_NAME.items() if word.startswith(prefix)}
    heads = {word.partition(".")[0] for word in EVENTS_BY_NAME}
    # Foreign families ("pty.*") are allowed: servers have more events than this version knows. A family that
    # is one slip of the pen away from a known one is a slip of the pen.
    if not found and (near := get_close_matches(prefix.partition(".")[0], heads, n=1, cutoff=0.85)):
        raise HandlerError(f"no event begins with {prefix!r}", remedy=f'did you mean "{near[0]}.*"?')
    return (*found.values(), UnknownEvent)


def _instead_of(name: str) -> str:
    near = get_close_matches(name, EVENTS_BY_NAME, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    family = name.partition(".")[0] or name
    return f'for an event this version does not know, write "{family}.*" or UnknownEvent, and where=…'


def _selector(events: Iterable[object]) -> Selector:
    names: set[str] = set()
    prefixes: list[str] = []
    unknown = False
    for event in events:
        classes = _classes_of(event)
        names.update(cls.type for cls in classes if cls is not UnknownEvent)
        if isinstance(event, str) and event.endswith("*"):
            prefixes.append(event[:-1])
        else:
            unknown = unknown or UnknownEvent in classes
    return Selector(frozenset(names), tuple(prefixes), unknown)


def _check_live(mark: Mark) -> None:
    for event in mark.events:
        if mark.live or not _names_one(event):
            continue
        (cls,) = _classes_of(event)
        if cls.ephemeral:
            remedy = f"write @on({cls.__name__}, live=True)"
            raise HandlerError(f"{cls.type!r} comes too often to be stored", remedy=remedy)


def _names_one(event: object) -> bool:
    return (event in EVENTS_BY_NAME) if isinstance(event, str) else (event in set[object](EVENT_CLASSES))


def _check_annotation(function: FunctionType, classes: Iterable[type[Event]]) -> None:
    """The event's annotation must take in everything that will be passed; one that cannot be read passes."""
    parameter = next(iter(inspect.signature(function).parameters))
    try:
        annotation: object = typing.get_type_hints(function).get(parameter)
    except Exception:  # noqa: BLE001 - evaluating an annotation runs the author's code, anything may come out
        return
    taken = _members(annotation)
    if not taken:
        return
    for cls in classes:
        if not issubclass(cls, taken):
            shown = " | ".join(member.__name__ for member in taken)
            raise HandlerError(
                f"{function.__name__!r} is marked for {cls.type or 'unknown events'} ({cls.__name__}), "
                f"but its {parameter!r} is a {shown}",
                remedy=f"write {parameter}: {cls.__name__}, or mark it for other events",
            )


def _members(annotation: object) -> tuple[type, ...]:
    """The classes of an annotation; empty where it says nothing that could be checked."""
    if isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union:
        members = tuple(_members(each) for each in typing.get_args(annotation))
        return tuple(cls for each in members for cls in each) if all(members) else ()
    if not isinstance(annotation, type) or annotation is Any or getattr(annotation, "_is_protocol", False):
        return ()
    return (annotation,)

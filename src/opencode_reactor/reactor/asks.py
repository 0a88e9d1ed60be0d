"""Asks as workflow states: found in the server's lists, kept in the store, answered, delivered.

The same key serves an event, a resync, an answer and an expiry: `reconcile` looks at one directory and brings
store and server together. Every ask passes `admit`, and with it policy, before anybody else can answer it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from ..errors import BadAnswer, NotFound, Refused
from ..model.ask_ids import ask_id
from ..model.asks import Ask, AskKind, AskState, Closed, Reply
from ..model.sessions import PermissionRequest, QuestionRequest, Request, Status
from ..opencode import Client
from ..pipeline.plan import Action, Plan, Questions, Rule, StagePlan
from ..pipeline.policy import decide
from ..store import Store
from .hearing import Hearing
from .lease import LeaseKeeper
from .together import together
from .tree import SessionTree

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AskPolicy:
    """What the configuration says of asks. `expiry` in milliseconds; None: they wait for ever."""

    rules: tuple[Rule, ...] = ()
    questions: Questions = Questions.ASK
    expiry: int | None = None

    def below(self, plan: Plan) -> Plan:
        """The plan with the configuration's rules below its own: the last match wins."""
        stages = tuple(
            replace(
                stage,
                permissions=(*self.rules, *stage.permissions),
                questions=Questions.REJECT if self.questions is Questions.REJECT else stage.questions,
            )
            for stage in plan.stages
        )
        return replace(plan, stages=stages)


@dataclass(frozen=True, slots=True)
class Owner:
    """The stage that owns a session's tree."""

    run: str
    attempt: int
    stage: StagePlan


_REPLIES: Mapping[Action, Reply] = {
    Action.ALLOW: Reply.ONCE,
    Action.ALWAYS: Reply.ALWAYS,
    Action.DENY: Reply.REJECT,
}

OwnerOf = Callable[[str], Awaitable[Owner | None]]
"""From a root session to the stage it belongs to; None where no pipeline owns it."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What came of a look: runs whose asks changed, and when the next ask expires (epoch ms)."""

    runs: frozenset[str]
    next_expiry: int | None
    open: int


@dataclass(frozen=True, slots=True)
class _Lists:
    """What the server says of one directory. `at` is the store's time before it was asked."""

    at: int
    statuses: Mapping[str, Status]
    requests: tuple[Request, ...]
    unlisted: bool
    """The permissions could not be listed: `requests` holds those that were heard of."""

    @property
    def live(self) -> dict[str, Request]:
        """Requests somebody waits for: an aborted turn's ask lingers in the lists (1.1.11 to 1.18.33)."""
        return {r.id: r for r in self.requests if r.session in self.statuses}


class AskKeeper:
    """Keeps one server's asks."""

    def __init__(
        self,
        client: Client,
        store: Store,
        lease: LeaseKeeper,
        tree: SessionTree,
        policy: AskPolicy,
    ) -> None:
        self._client = client
        self._store = store
        self._lease = lease
        self._tree = tree
        self.policy = policy
        self.hearing = Hearing()

    async def reconcile(self, directory: str, owner_of: OwnerOf) -> Reconciled:
        """Bring the store's asks of one directory and the server's lists together, and deliver answers."""
        lists = await self._look(directory)
        stored = await self._store.asks(server=self._client.url, states=(AskState.OPEN, AskState.ANSWERED))
        known = {a.request: a for a in stored if a.directory == directory and a.kind is not AskKind.APPROVAL}
        live = lists.live | self._unlisted(lists, known)
        changed: set[str] = set()
        for request in live.values():
            if request.id not in known:
                ask = await self.admit(request, directory, owner_of)
                known[request.id] = ask
                changed.add(ask.run)
        waiting: list[Ask] = []
        for ask in known.values():
            settled = await self._settle(ask, lists, live)
            if settled is None:
                waiting.append(ask)
            else:
                changed.add(settled.run)
        expiries = [a.expires for a in waiting if a.expires is not None]
        return Reconciled(frozenset(changed - {""}), min(expiries, default=None), len(waiting))

    async def _look(self, directory: str) -> _Lists:
        at = self._store.now()
        found: dict[str, Mapping[str, Status]] = {}
        requests: list[Request] = []
        unlisted = False

        async def statuses() -> None:
            found["statuses"] = await self._client.status(directory)

        async def permissions() -> None:
            nonlocal unlisted
            try:
                requests.extend(await self._client.permissions(directory))
            except (Refused, BadAnswer) as error:
                log.warning("the permissions cannot be listed", directory=directory, error=error.message)
                requests.extend(self.hearing.asked(directory))
                unlisted = True

        async def questions() -> None:
            requests.extend(await self._client.questions(directory))

        await together(statuses, permissions, questions)
        return _Lists(at, found["statuses"], tuple(requests), unlisted)

    def _unlisted(self, lists: _Lists, known: Mapping[str, Ask]) -> dict[str, Request]:
        """Where the list cannot be had, a stored permission stands until its answer or turn's end is seen."""
        if not lists.unlisted:
            return {}
        return {
            ask.request: PermissionRequest(ask.request, ask.session, ask.permission, ask.patterns)
            for ask in known.values()
            if ask.kind is AskKind.PERMISSION
            and ask.session in lists.statuses
            and not self.hearing.answered(ask.request)
        }

    async def admit(self, request: Request, directory: str, owner_of: OwnerOf) -> Ask:
        """The stored ask of a request, policy applied: what a handler's answer is given to."""
        root = await self._tree.root(directory, request.session)
        owner = await owner_of(root)
        ask = self._describe(request, directory, root, owner)
        return await self._store.add_ask(self._by_policy(ask, owner))

    def _describe(self, request: Request, directory: str, root: str, owner: Owner | None) -> Ask:
        now = self._store.now()
        ask = Ask(
            id=ask_id(self._client.url, request.id),
            kind=AskKind.PERMISSION,
            server=self._client.url,
            request=request.id,
            directory=directory,
            session=request.session,
            root=root,
            run=owner.run if owner else "",
            stage=owner.stage.name if owner else "",
            attempt=owner.attempt if owner else 0,
            opened=now,
            expires=None if self.policy.expiry is None else now + self.policy.expiry,
        )
        match request:
            case PermissionRequest(permission=permission, patterns=patterns, metadata=metadata):
                command = metadata.get("command")
                detail = command if isinstance(command, str) else "\n".join(patterns)
                title = f"{permission}: {', '.join(patterns)}" if patterns else permission
                return replace(ask, title=title, detail=detail, permission=permission, patterns=patterns)
            case QuestionRequest(questions=questions):
                title = questions[0].question if questions else "a question without text"
                detail = "\n".join(q.question for q in questions)
                kind = AskKind.QUESTION
                return replace(ask, kind=kind, title=title, detail=detail, questions=questions)

    def _by_policy(self, ask: Ask, owner: Owner | None) -> Ask:
        """Answer by rule where one matches. Sessions of people's own are left to handlers and people."""
        if owner is None:
            return ask
        if ask.kind is AskKind.QUESTION:
            refused = owner.stage.questions is Questions.REJECT
            return _answered(ask, Reply.REJECT, "policy: questions: reject", "") if refused else ask
        decision = decide(owner.stage.permissions, ask.permission, ask.patterns)
        if decision.action is Action.ASK:
            return ask
        reply = _REPLIES[decision.action]
        message = f"Refused by policy ({decision.rule})." if reply is Reply.REJECT else ""
        return _answered(ask, reply, f"policy: {decision.rule}", message)

    async def _settle(self, ask: Ask, lists: _Lists, live: Mapping[str, Request]) -> Ask | None:
        """Bring one ask a step further; None while it waits for an answer."""
        if ask.state is AskState.CLOSED:
            return ask
        if ask.request not in live:
            return await self._vanished(ask, lists)
        if ask.state is AskState.OPEN and ask.expires is not None and ask.expires <= self._store.now():
            message = "Nobody answered in time."
            ask = await self._store.answer_ask(
                ask, reply=Reply.REJECT, answers=(), message=message, by="expiry"
            )
        if ask.state is AskState.ANSWERED:
            return await self._deliver(ask)
        return None

    async def _vanished(self, ask: Ask, lists: _Lists) -> Ask | None:
        if ask.opened >= lists.at:
            return None  # newer than the look: it says nothing about this ask
        if ask.state is AskState.ANSWERED and ask.session in lists.statuses:
            closed = Closed.DELIVERED  # by us, and the word of it was lost
        else:
            closed = Closed.ELSEWHERE if ask.session in lists.statuses else Closed.FORGOTTEN
        log.info("ask closed", ask=ask.id, run=ask.run, closed_as=str(closed))
        return await self._store.close_ask(ask, closed)

    async def _deliver(self, ask: Ask) -> Ask:
        self._lease.check(self._client.timeout)
        try:
            await self._tell(ask)
        except NotFound:
            return await self._store.close_ask(ask, Closed.FORGOTTEN)
        log.info("ask answered", ask=ask.id, run=ask.run, reply=str(ask.reply or ""), by=ask.answered_by)
        return await self._store.close_ask(ask, Closed.DELIVERED)

    async def _tell(self, ask: Ask) -> None:
        if ask.kind is AskKind.PERMISSION:
            reply = ask.reply or Reply.REJECT
            # Without a message a refusal ends the turn; with one the model reads why and goes on.
            message = ask.message or (f"Refused by {ask.answered_by}." if reply is Reply.REJECT else "")
            await self._client.reply_permission(
                ask.directory, ask.request, str(reply), message=message, session=ask.session
            )
        elif ask.reply is Reply.REJECT:
            await self._client.reject_question(ask.directory, ask.request)
        else:
            await self._client.answer_question(ask.directory, ask.request, ask.answers)


def _answered(ask: Ask, reply: Reply, by: str, message: str) -> Ask:
    return replace(
        ask, state=AskState.ANSWERED, reply=reply, answered_by=by, message=message, answered=ask.opened
    )

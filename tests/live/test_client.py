"""Every route of the client against the real server, on both versions."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from opencode_reactor.errors import BadAnswer, LoginRefused, NotFound, Refused
from opencode_reactor.model.sessions import (
    AssistantMessage,
    Busy,
    ModelRef,
    PermissionRule,
    Session,
    TextPart,
    Todo,
    ToolPart,
    ToolState,
    UserMessage,
)
from opencode_reactor.opencode import Client, Login, Prompt
from opencode_reactor.testing import Call, Calls, LiveServer, Says, Stalls, bash, question, task

T = TypeVar("T")

STANDARD = ModelRef("scripted", "standard")


@asynccontextmanager
async def connected(live: LiveServer) -> AsyncGenerator[tuple[Client, str]]:
    async with Client(live.url, login=live.login) as client:
        await client.connect()
        yield client, str(live.directory)


async def until(look: Callable[[], Awaitable[T]]) -> T:
    """What `look` finds, as soon as it finds something."""
    async with asyncio.timeout(20):
        while not (found := await look()):  # noqa: ASYNC110 - the server tells only when asked
            await asyncio.sleep(0.05)
    return found


def texts(message: AssistantMessage) -> list[str]:
    return [part.text.strip() for part in message.parts if isinstance(part, TextPart)]


async def test_health_and_version_choose_the_dialect(live: LiveServer) -> None:
    async with connected(live) as (client, _):
        health = await client.health()
        assert (health.healthy, health.version) == (True, live.version)
        assert str(client.dialect.version) == live.version
        assert client.dialect.event_ids is (live.version != "1.1.65")


@pytest.mark.parametrize("login", [None, Login(password="wrong"), Login("somebody", "wrong")])
async def test_a_wrong_login_is_named_as_such(live: LiveServer, login: Login | None) -> None:
    async with Client(live.url, login=login) as client:
        with pytest.raises(LoginRefused):
            await client.connect()
        with pytest.raises(LoginRefused):
            await client.listen(None, lambda _: None)


async def test_a_session_is_made_found_listed_and_deleted(live: LiveServer) -> None:
    async with connected(live) as (client, project):
        made = await client.create_session(
            project,
            title="release notes ü [r7k2]",
            permissions=[PermissionRule("bash", "git *", "allow")],
            metadata={"run": "r7k2"},
        )
        assert made.title == "release notes ü [r7k2]"
        assert made.directory == project
        assert made.metadata == ({"run": "r7k2"} if client.dialect.metadata else {})
        assert made.created > 1_600_000_000_000
        child = await client.create_session(project, title="child", parent=made.id)
        assert (await client.session(project, made.id)).id == made.id
        assert [s.id for s in await client.sessions(project, search="[r7k2]")] == [made.id]
        assert {s.id for s in await client.sessions(project)} == {made.id, child.id}
        assert [s.id for s in await client.children(project, made.id)] == [child.id]
        assert child.parent == made.id
        assert await client.delete_session(project, made.id)
        with pytest.raises(NotFound):
            await client.session(project, made.id)


@pytest.mark.parametrize("name", ["ünï 1%41+&", "tra%2Fil", "Ω"])
async def test_a_directory_is_taken_as_it_is_whatever_its_name(live: LiveServer, name: str) -> None:
    directory = live.directory.parent / name
    directory.mkdir()
    async with connected(live) as (client, _):
        session = await client.create_session(str(directory), title="here")
        assert session.directory == str(directory)
        assert session.id in {s.id for s in await client.sessions(str(directory))}
        assert (await client.session(str(directory), session.id)).title == "here"


async def test_a_prompt_is_answered_in_the_model_asked_for(live: LiveServer) -> None:
    live.model.on("the question", Says("The answer."))
    async with connected(live) as (client, project):
        session = await client.create_session(project, title="one prompt")
        ids = ("msg_000000000000aaaaaaaaaaaaa1", "prt_000000000000aaaaaaaaaaaaa1")
        prompt = Prompt("the question", *ids, model=STANDARD, agent="build", system="Be brief.")
        answer = await client.prompt(project, session.id, prompt)
        assert texts(answer) == ["The answer."]
        assert (answer.parent, answer.finish, answer.error) == (ids[0], "stop", None)
        assert (answer.model, answer.agent) == (STANDARD, "build")
        assert answer.completed is not None
        assert answer.tokens.total > 0
        asked, answered = await client.messages(project, session.id)
        assert isinstance(asked, UserMessage)
        assert [(part.id, part.message) for part in asked.parts] == [(ids[1], ids[0])]
        assert answered == answer
        assert await client.message(project, session.id, answer.id) == answer
        assert await client.messages(project, session.id, 1) == [answer]
        assert "Be brief." in live.model.prompts[0].system


async def test_sending_the_same_ids_again_prompts_once(live: LiveServer) -> None:
    live.model.on("once", Says("Yes."))
    async with connected(live) as (client, project):
        session = await client.create_session(project, title="twice")
        prompt = Prompt("once", "msg_000000000000aaaaaaaaaaaaa2", "prt_000000000000aaaaaaaaaaaaa2", STANDARD)
        await client.prompt_async(project, session.id, prompt)

        async def finished() -> bool:
            found = await client.messages(project, session.id)
            return any(isinstance(m, AssistantMessage) and m.completed for m in found)

        await until(finished)
        await client.prompt_async(project, session.id, prompt)
        await client.prompt(project, session.id, prompt)
        messages = await client.messages(project, session.id)
        assert len(messages[0].parts) == 1
        assert len(live.model.asked("once")) == 1


async def test_a_turn_shows_in_the_status_until_it_is_aborted(live: LiveServer) -> None:
    live.model.on("wait", Stalls("So far"))
    async with connected(live) as (client, project):
        session = await client.create_session(project, title="stalls")
        assert await client.status(project) == {}
        await client.prompt_async(project, session.id, Prompt("wait", model=STANDARD))
        await live.model.wait_for("wait")
        assert await client.status(project) == {session.id: Busy()}
        assert await client.abort(project, session.id)

        async def aborted() -> AssistantMessage | None:
            last = (await client.messages(project, session.id))[-1]
            return last if isinstance(last, AssistantMessage) and last.completed else None

        message = await until(aborted)
        assert message is not None
        assert message.error is not None
        assert message.error.name == "MessageAbortedError"
        assert await client.status(project) == {}


async def test_a_permission_is_listed_and_answered(live: LiveServer) -> None:
    live.configure(permission={"bash": "ask"})
    live.model.on("greet", Calls(bash("echo hello > greeting")), Says("Greeted."))
    async with connected(live) as (client, project):
        session = await client.create_session(project, title="asks")
        turn = asyncio.create_task(client.prompt(project, session.id, Prompt("greet", model=STANDARD)))
        [asked] = await until(lambda: client.permissions(project))
        assert (asked.session, asked.permission) == (session.id, "bash")
        assert asked.patterns == ("echo hello > greeting",)
        assert asked.message
        assert asked.call
        await client.reply_permission(project, asked.id, "once")
        assert texts(await turn)[-1] == "Greeted."
        assert await client.permissions(project) == []
    assert (live.directory / "greeting").read_text() == "hello\n"


async def test_a_refusal_with_a_reason_lets_the_turn_go_on(live: LiveServer) -> None:
    live.configure(permission={"bash": "ask"})
    live.model.on("greet", Calls(bash("echo hello")), Says("Not greeted."))
    async with connected(live) as (client, project):
        session = await client.create_session(project, title="refused")
        turn = asyncio.create_task(client.prompt(project, session.id, Prompt("greet", model=STANDARD)))
        [asked] = await until(lambda: client.permissions(project))
        await client.reply_permission(project, asked.id, "reject", message="Not on a Sunday.")
        assert texts(await turn)[-1] == "Not greeted."
        parts = [part for message in await client.messages(project, session.id) for part in message.parts]
    [call] = [part for part in parts if isinstance(part, ToolPart)]
    assert call.state is ToolState.ERROR
    assert "Not on a Sunday." in call.error


async def test_a_question_is_listed_and_answered(live: LiveServer) -> None:
    live.model.on("choose", Calls(question("Which?", "Red", "Blue", header="Colour")), Says("Chosen."))
    async with connected(live) as (client, project):
        session = await client.create_session(project, title="asks")
        turn = asyncio.create_task(client.prompt(project, session.id, Prompt("choose", model=STANDARD)))
        [asked] = await until(lambda: client.questions(project))
        [only] = asked.questions
        assert (only.question, only.header, only.multiple) == ("Which?", "Colour", False)
        assert [option.label for option in only.options] == ["Red", "Blue"]
        await client.answer_question(project, asked.id, [("Blue",)])
        assert texts(await turn)[-1] == "Chosen."
    assert "Blue" in str(live.model.prompts[-1].messages[-1])


async def test_a_question_that_is_dismissed_ends_the_turn(live: LiveServer) -> None:
    live.model.on("choose", Calls(question("Which?", "Red")), Says("Chosen."))
    async with connected(live) as (client, project):
        session = await client.create_session(project, title="asks")
        turn = asyncio.create_task(client.prompt(project, session.id, Prompt("choose", model=STANDARD)))
        [asked] = await until(lambda: client.questions(project))
        await client.reject_question(project, asked.id)
        answer = await turn
    assert answer.finish == "tool-calls"
    assert texts(answer) == []


async def test_an_answer_to_nobody_is_said_where_the_version_says_it(live: LiveServer) -> None:
    async with connected(live) as (client, project):
        for call in (
            client.reply_permission(project, "per_nobody", "once"),
            client.answer_question(project, "que_nobody", [("A",)]),
            client.reject_question(project, "que_nobody"),
        ):
            if client.dialect.unknown_is_404:
                with pytest.raises(NotFound):
                    await call
            else:
                await call
        with pytest.raises(Refused) as refused:
            await client.reply_permission(project, "per_nobody", "perhaps")
        assert refused.value.status == 400


async def test_a_subagent_s_session_is_listed_under_its_parent(live: LiveServer) -> None:
    live.model.on("delegate", Calls(task("Count the files.")), Says("Delegated."))
    live.model.on("Count the files", Says("Three files."))
    async with connected(live) as (client, project):
        session = await client.create_session(project, title="parent")
        answer = await client.prompt(project, session.id, Prompt("delegate", model=STANDARD))
        assert texts(answer)[-1] == "Delegated."
        [child] = await client.children(project, session.id)
        assert (child.parent, (await client.session(project, child.id)).parent) == (session.id, session.id)


async def test_a_session_can_be_forked_and_summarised(live: LiveServer) -> None:
    async with connected(live) as (client, project):
        session = await client.create_session(project, title="to fork")
        await client.prompt(project, session.id, Prompt("first", model=STANDARD))
        await client.prompt(project, session.id, Prompt("second", model=STANDARD))
        second = (await client.messages(project, session.id))[2]
        whole = await client.fork(project, session.id)
        half = await client.fork(project, session.id, second.id)
        assert len(await client.messages(project, whole.id)) == 4
        assert len(await client.messages(project, half.id)) == 2
        assert await client.summarize(project, session.id, STANDARD)
        found = await client.messages(project, session.id)
        assert any(isinstance(m, AssistantMessage) and m.summary for m in found)


async def test_what_a_session_changed_and_planned_is_told(live: LiveServer) -> None:
    todos = Call(
        "todowrite", {"todos": [{"id": "1", "content": "x", "status": "pending", "priority": "high"}]}
    )
    live.model.on("plan", Calls(todos), Says("Planned."))
    async with connected(live) as (client, project):
        session = await client.create_session(project, title="plans")
        await client.prompt(project, session.id, Prompt("plan", model=STANDARD))
        [todo] = await client.todo(project, session.id)
        assert isinstance(todo, Todo)
        assert (todo.content, todo.status, todo.priority) == ("x", "pending", "high")
        assert await client.diff(project, session.id) == []


async def test_the_catalog_holds_agents_models_and_the_default(live: LiveServer) -> None:
    async with connected(live) as (client, project):
        catalog = await client.catalog(project)
        assert {"build", "plan", "general"} <= {agent.name for agent in catalog.agents}
        assert {agent.mode for agent in catalog.agents} <= {"primary", "subagent", "all"}
        models = {model.ref: model for model in catalog.models}
        assert models[STANDARD].context > 0
        assert models[STANDARD].output > 0
        assert catalog.default == ModelRef.parse(str((await client.config(project))["model"]))
        assert "/session/{sessionID}/message" in str((await client.doc())["paths"])


async def test_what_is_unknown_is_told_as_far_as_the_version_tells_it(live: LiveServer) -> None:
    async with connected(live) as (client, project):
        with pytest.raises(NotFound):
            await client.session(project, "ses_nobody")
        with pytest.raises(Refused):
            await client.session(project, "../config")
        session = await client.create_session(project, title="x")
        with pytest.raises(NotFound):
            await client.message(project, session.id, "msg_nobody")
        if client.dialect.unknown_is_404:
            with pytest.raises(NotFound):
                await client.messages(project, "ses_nobody")
            with pytest.raises(NotFound):
                await client.prompt_async(project, "ses_nobody", Prompt("x"))
        else:
            assert await client.messages(project, "ses_nobody") == []
            await client.prompt_async(project, "ses_nobody", Prompt("x"))
        with pytest.raises((Refused, BadAnswer)):
            await client.prompt(project, session.id, Prompt("x", agent="nobody"))


async def test_an_unknown_route_is_no_json_and_is_not_believed(live: LiveServer) -> None:
    if live.version == "1.1.65":
        pytest.skip("1.1 hands unknown routes on to the internet: never asked")
    async with Client(f"{live.url}/nowhere", login=live.login) as client:
        with pytest.raises(BadAnswer):
            await client.connect()


async def test_tools_of_a_prompt_take_the_place_of_the_session_s_rules(live: LiveServer) -> None:
    """The reason why the pipeline never uses `tools`: what the session was allowed is gone."""
    live.configure(permission={"bash": "ask"})
    live.model.on("greet", Calls(bash("echo hello")), Says("Greeted."))
    async with connected(live) as (client, project):
        rules = [PermissionRule("bash", "*", "allow")]
        session: Session = await client.create_session(project, title="x", permissions=rules)
        prompt = Prompt("greet", model=STANDARD, tools={"webfetch": False})
        turn = asyncio.create_task(client.prompt(project, session.id, prompt))
        [asked] = await until(lambda: client.permissions(project))
        await client.reply_permission(project, asked.id, "once")
        assert texts(await turn)[-1] == "Greeted."

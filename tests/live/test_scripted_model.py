import httpx

from opencode_reactor.testing import LiveServer, Says


def _client(live: LiveServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=live.url,
        auth=(live.login.username, live.login.password),
        params={"directory": str(live.directory)},
        timeout=30.0,
        trust_env=False,
    )


async def _ask(client: httpx.AsyncClient, text: str, model: str = "standard") -> str:
    session = (await client.post("/session", json={})).raise_for_status().json()["id"]
    body = {
        "model": {"providerID": "scripted", "modelID": model},
        "parts": [{"type": "text", "text": text}],
    }
    answer = (await client.post(f"/session/{session}/message", json=body)).raise_for_status().json()
    assert answer["info"]["modelID"] == model
    return "".join(part["text"] for part in answer["parts"] if part["type"] == "text")


async def test_the_server_speaks_with_the_scripted_model_and_each_prompt_reaches_it_once(
    live: LiveServer,
) -> None:
    live.model.on("a haiku", Says("Old pond.", chunks=3, delay=0.01))
    async with _client(live) as client:
        assert await _ask(client, "Write a haiku.", "spare") == "Old pond."
    (asked,) = live.model.asked("Write a haiku.")
    assert asked.model == "spare"
    assert asked.directory == str(live.directory)
    assert {"bash", "task"} <= set(asked.tools)
    assert all(request.side is not None for request in live.model.requests if request != asked)

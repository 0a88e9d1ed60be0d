from typing import Any

from opencode_reactor.testing import MODELS, ScriptedModel, opencode_config


def test_the_configuration_names_the_bundled_provider_and_its_models() -> None:
    config: Any = opencode_config("http://127.0.0.1:1/v1", permission={"bash": "ask"}, compaction=False)
    provider = config["provider"]["scripted"]
    assert provider["npm"] == "@ai-sdk/openai-compatible"
    assert provider["options"]["baseURL"] == "http://127.0.0.1:1/v1"
    assert set(provider["models"]) == set(MODELS)
    assert provider["models"]["tiny"]["limit"]["context"] < provider["models"]["large"]["limit"]["context"]
    assert config["permission"] == {"bash": "ask"}
    assert config["compaction"] == {"auto": False}
    assert (config["share"], config["autoupdate"], config["snapshot"]) == ("disabled", False, False)
    assert config["model"].removeprefix("scripted/") in MODELS
    assert config["small_model"].removeprefix("scripted/") in MODELS


async def test_without_permissions_the_servers_defaults_stand() -> None:
    async with ScriptedModel() as model:
        config: Any = model.opencode_config()
    assert "permission" not in config
    assert config["provider"]["scripted"]["options"]["baseURL"] == model.url

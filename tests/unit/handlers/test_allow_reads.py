from __future__ import annotations

import json
from typing import Any

import pytest


def asked(permission: str, *patterns: str, directory: str = "/project") -> str:
    """As 1.18.33 sent it (capture `permission_once`), asking for something else."""
    return json.dumps(
        {
            "directory": directory,
            "project": "8b5848fe865f37215a6ec7e4c493abdcae514830",
            "payload": {
                "id": "evt_203c47cb8001wHoH0la6B66fSc",
                "type": "permission.asked",
                "properties": {
                    "id": "per_203c47cb7001aGEyOKrKSaP6ko",
                    "sessionID": "ses_dfc3b8446ffekb4YX5YVZ0ujrQ",
                    "permission": permission,
                    "patterns": patterns,
                    "metadata": {},
                    "always": ["*"],
                    "tool": {"messageID": "msg_203c47bdc001mGenltkLtydFSu", "callID": "call_c5"},
                },
            },
        }
    )


ONCE = ("reply", "per_203c47cb7001aGEyOKrKSaP6ko", "once", "")


@pytest.mark.parametrize(
    "path",
    [
        "src/main.py",
        "README.md",
        "/project/src/main.py",
        "docs/environment.md",
        "src/tokenizer.py",
        "a b/ü.txt",
    ],
)
async def test_an_ordinary_file_of_the_project_may_be_read_once(stage: Any, path: str) -> None:
    await stage.play("allow_reads", asked("read", path))
    assert stage.acted.calls == [ONCE]


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".env.local",
        "config/prod.env",
        "/project/.ENV",
        "deploy/server.pem",
        ".ssh/id_ed25519",
        ".aws/config",
        "MyPasswords.txt",
        "conf/secrets/all.yaml",
        "/etc/passwd",
        "/project2/a.py",
        "/project/../etc/passwd",
        "../other/a.py",
        "*",
        "src/*.py",
        "mcp:files:*",
        "C:\\project\\a.py",
        "~/a.py",
        "",
    ],
)
async def test_what_may_be_secret_or_elsewhere_is_left_to_a_person(stage: Any, path: str) -> None:
    await stage.play("allow_reads", asked("read", path))
    assert stage.acted.calls == []


async def test_one_doubtful_file_among_many_leaves_them_all_to_a_person(stage: Any) -> None:
    await stage.play("allow_reads", asked("read", "a.py", ".env"))
    assert stage.acted.calls == []


async def test_a_read_of_nothing_in_particular_is_left_to_a_person(stage: Any) -> None:
    await stage.play("allow_reads", asked("read"))
    assert stage.acted.calls == []


@pytest.mark.parametrize("permission", ["bash", "edit", "external_directory", "webfetch", "reading"])
async def test_everything_but_reading_is_left_to_a_person(stage: Any, permission: str) -> None:
    await stage.play("allow_reads", asked(permission, "src/main.py"))
    assert stage.acted.calls == []


async def test_an_absolute_path_without_a_known_project_is_left_to_a_person(stage: Any) -> None:
    await stage.play("allow_reads", asked("read", "/project/a.py", directory=""))
    assert stage.acted.calls == []


async def test_the_event_of_older_servers_is_the_same_event_and_one_ask_is_answered_once(stage: Any) -> None:
    older = json.dumps(
        {
            "directory": "/project",
            "payload": {
                "type": "permission.updated",
                "properties": {
                    "id": "per_203c47cb7001aGEyOKrKSaP6ko",
                    "type": "read",
                    "pattern": "src/main.py",
                    "sessionID": "ses_dfc3b8446ffekb4YX5YVZ0ujrQ",
                    "messageID": "msg_203c47bdc001mGenltkLtydFSu",
                    "callID": "call_c5",
                    "title": "Read src/main.py",
                    "metadata": {},
                    "time": {"created": 1795359538362},
                },
            },
        }
    )
    await stage.play("allow_reads", older, asked("read", "src/main.py"))
    assert stage.acted.calls == [ONCE]

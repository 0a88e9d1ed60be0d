import json
import subprocess
from pathlib import Path

import pytest

from opencode_reactor.testing import make_project


def test_a_project_is_a_repository_with_one_commit_and_its_configuration(tmp_path: Path) -> None:
    project = make_project(tmp_path / "a project", {"share": "disabled"})
    assert json.loads((project / "opencode.json").read_text()) == {"share": "disabled"}
    log = subprocess.run(
        ["git", "log", "--format=%s"], cwd=project, capture_output=True, text=True, check=True
    )
    assert log.stdout == "A project\n"


def test_a_project_is_made_without_the_persons_git_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text(
        "[commit]\n\tgpgsign = true\n[core]\n\thooksPath = /nowhere\n[user]\n\tuseConfigOnly = true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    project = make_project(tmp_path / "project", {})
    assert (project / ".git").is_dir()


def test_a_projects_directory_is_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert make_project(tmp_path / "link", {}) == (tmp_path / "real").resolve()

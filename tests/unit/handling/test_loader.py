from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from opencode_reactor.handling import Loaded, default_paths, load

GOOD = """
    from opencode_reactor.handling import Context, on
    from opencode_reactor.model.events import SessionIdle

    @on(SessionIdle)
    async def {name}(event: SessionIdle, ctx: Context) -> None:
        pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "handlers"
    made.mkdir()
    return made


def write(path: Path, text: str) -> Path:
    path.write_text(dedent(text), encoding="utf-8")
    return path


def good(path: Path, name: str) -> Path:
    return write(path, GOOD.format(name=name))


def names(loaded: Loaded) -> list[str]:
    return [handler.name for handler in loaded.handlers]


def only_problem(loaded: Loaded) -> tuple[str, str]:
    (problem,) = loaded.problems
    assert "Traceback" not in str(problem)
    return problem.place, problem.message


def test_a_folder_is_loaded_file_by_file_and_private_files_tests_and_subfolders_are_left_out(
    folder: Path,
) -> None:
    good(folder / "b.py", "bee")
    good(folder / "a.py", "ay")
    for left_out in ("_shared.py", "test_a.py", "conftest.py", "notes.txt"):
        write(folder / left_out, "raise SystemExit('must not be imported')")
    (folder / "deeper").mkdir()
    (folder / "odd.py").mkdir()
    good(folder / "deeper" / "c.py", "sea")
    loaded = load([folder])
    assert names(loaded) == ["ay", "bee"]
    assert loaded.problems == ()


def test_a_file_can_be_named_itself_and_the_same_file_twice_is_loaded_once(folder: Path) -> None:
    file = good(folder / "_private_but_named.py", "named")
    assert names(load([file, str(file), folder / ".." / "handlers" / file.name])) == ["named"]


def test_places_name_the_file_as_it_was_given_and_the_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(folder / "a.py", "ay")
    monkeypatch.chdir(folder.parent)
    (handler,) = load(["handlers"]).handlers
    assert handler.place == "handlers/a.py:5"
    assert handler.file == "handlers/a.py"


def test_a_syntax_error_is_told_with_its_line_and_the_other_files_are_loaded(folder: Path) -> None:
    good(folder / "a.py", "ay")
    file = write(folder / "b.py", "x = 1\ny = 2\nasync def broken(event, ctx:\n    pass\n")
    loaded = load([folder])
    assert names(loaded) == ["ay"]
    place, message = only_problem(loaded)
    assert place == f"{file}:3"
    assert message.startswith("is not valid Python: ")


@pytest.mark.parametrize("content", [b"x = '\xff'\n", b"x = 1\0\n", b"# coding: klingon\n"])
def test_a_file_that_is_no_text_is_a_problem_with_a_place(folder: Path, content: bytes) -> None:
    file = folder / "a.py"
    file.write_bytes(content)
    place, message = only_problem(load([folder]))
    assert place.startswith(f"{file}:")
    assert "not valid Python" in message or "cannot be imported" in message


def test_an_exception_at_import_is_told_with_the_files_own_line(folder: Path) -> None:
    file = write(folder / "a.py", "import json\n\njson.loads('{')\n")
    place, message = only_problem(load([folder]))
    assert place == f"{file}:3"
    assert message.startswith("cannot be imported: JSONDecodeError: ")


def test_a_missing_module_is_named(folder: Path) -> None:
    file = write(folder / "a.py", "\nimport no_such_module_anywhere\n")
    loaded = load([folder])
    place, message = only_problem(loaded)
    assert (place, message) == (f"{file}:2", "needs the module 'no_such_module_anywhere', which is not there")
    assert "install" in loaded.problems[0].remedy


def test_a_file_that_exits_does_not_end_the_reactor(folder: Path) -> None:
    write(folder / "a.py", "import sys\nsys.exit('bye')\n")
    good(folder / "b.py", "bee")
    loaded = load([folder])
    assert names(loaded) == ["bee"]
    assert only_problem(loaded)[1] == "cannot be imported: SystemExit: bye"


def test_a_syntax_error_in_a_module_that_a_file_imports_is_told_where_it_is_imported(folder: Path) -> None:
    write(folder / "_shared.py", "def broken(:\n")
    file = write(folder / "a.py", "\nfrom ._shared import broken\n")
    place, message = only_problem(load([folder]))
    assert place == f"{file}:2"
    assert "SyntaxError" in message
    assert "_shared.py" in message


def test_a_broken_file_leaves_no_half_made_module_behind(folder: Path) -> None:
    file = write(folder / "a.py", "x = 1\nraise ValueError\n")
    load([folder])
    assert not [m for m in sys.modules.values() if getattr(m, "__file__", None) == str(file)]


def test_a_sync_function_is_told_with_its_place(folder: Path) -> None:
    file = write(
        folder / "a.py",
        """
        from opencode_reactor.handling import on

        @on("session.idle")
        def sync(event, ctx):
            pass
        """,
    )
    assert only_problem(load([folder])) == (f"{file}:4", "'sync' is not async")


def test_a_wrong_event_name_is_told_with_the_right_one(folder: Path) -> None:
    file = write(
        folder / "a.py",
        """
        from opencode_reactor.handling import on

        @on("session.idel")
        async def typo(event, ctx):
            pass
        """,
    )
    loaded = load([folder])
    assert only_problem(loaded) == (f"{file}:4", "no event is called 'session.idel'")
    assert loaded.problems[0].remedy == "did you mean 'session.idle'?"


def test_a_delta_handler_that_is_not_live_is_told_so(folder: Path) -> None:
    write(
        folder / "a.py",
        """
        from opencode_reactor.handling import on

        @on("message.part.delta")
        async def stream(event, ctx):
            pass
        """,
    )
    loaded = load([folder])
    assert "too often" in only_problem(loaded)[1]
    assert loaded.problems[0].remedy == "write @on(MessagePartDelta, live=True)"


def test_forgotten_brackets_and_unknown_options_are_told_at_their_line(folder: Path) -> None:
    first = write(
        folder / "a.py", "from opencode_reactor.handling import on\n@on\nasync def f(event, ctx): ...\n"
    )
    second = write(
        folder / "b.py",
        "from opencode_reactor.handling import on\n@on('session.idle', retry=3)\nasync def g(e, c): ...\n",
    )
    one, two = load([folder]).problems
    assert (one.place, one.message) == (f"{first}:2", "on() was not told what to react to")
    assert two.place == f"{second}:2"
    assert "retry" in two.message


def test_two_files_with_one_handler_name_are_told_with_both_places_and_the_first_counts(folder: Path) -> None:
    first, second = good(folder / "a.py", "same"), good(folder / "b.py", "same")
    loaded = load([folder])
    assert [handler.place for handler in loaded.handlers] == [f"{first}:5"]
    place, message = only_problem(loaded)
    assert place == f"{second}:5"
    assert f"{first}:5" in message


def test_a_handler_that_hides_another_of_its_file_is_told_with_both_places(folder: Path) -> None:
    file = write(folder / "a.py", dedent(GOOD.format(name="same")) + dedent(GOOD.format(name="same")))
    loaded = load([folder])
    assert loaded.handlers == ()
    place, message = only_problem(loaded)
    assert place == f"{file}:12"
    assert f"hides the handler of the same name at {file}:5" in message


def test_a_file_without_a_handler_is_told(folder: Path) -> None:
    file = write(folder / "a.py", "async def forgotten(event, ctx): ...\n")
    loaded = load([folder])
    assert only_problem(loaded) == (f"{file}:1", "holds no handler")
    assert "@on" in loaded.problems[0].remedy


def test_a_path_that_does_not_exist_is_told_and_the_others_are_loaded(folder: Path, tmp_path: Path) -> None:
    good(folder / "a.py", "ay")
    loaded = load([tmp_path / "nowhere", folder])
    assert names(loaded) == ["ay"]
    assert only_problem(loaded) == (str(tmp_path / "nowhere"), "there is no such file or folder")


@pytest.mark.parametrize("name", ["a.py/inside", "nul\0byte", "x" * 5000])
def test_a_path_that_cannot_be_one_is_told(folder: Path, name: str) -> None:
    good(folder / "a.py", "ay")
    place, message = only_problem(load([folder / name]))
    assert place == str(folder / name)
    assert message.startswith("cannot be read: ")


def test_an_empty_folder_holds_nothing_and_that_is_fine(folder: Path) -> None:
    assert load([folder]) == Loaded()


def test_files_share_a_private_module_of_their_folder(folder: Path) -> None:
    write(folder / "_shared.py", "seen = []\n")
    for name in ("ay", "bee"):
        write(
            folder / f"{name}.py",
            f"from ._shared import seen\nseen.append({name!r})\n{dedent(GOOD.format(name=name))}",
        )
    loaded = load([folder])
    assert loaded.problems == ()
    assert [handler.function.__globals__["seen"] for handler in loaded.handlers] == [["ay", "bee"]] * 2
    assert not any(path == str(folder) for path in sys.path)


def test_files_of_one_name_in_two_folders_do_not_meet(tmp_path: Path) -> None:
    for number in ("one", "two"):
        (tmp_path / number).mkdir()
        good(tmp_path / number / "same.py", number)
    assert names(load([tmp_path / "one", tmp_path / "two"])) == ["one", "two"]


def test_what_the_file_says_now_counts_and_no_cache_is_left_beside_it(folder: Path) -> None:
    good(folder / "a.py", "ay")
    write(folder / "_shared.py", "x = 1")
    assert names(load([folder])) == ["ay"]
    good(folder / "a.py", "be")
    assert names(load([folder])) == ["be"]
    assert not (folder / "__pycache__").exists()


def test_the_default_folders_are_those_that_exist(tmp_path: Path) -> None:
    assert default_paths(tmp_path) == []
    (tmp_path / ".opencode" / "handlers").mkdir(parents=True)
    assert default_paths(tmp_path) == [tmp_path / ".opencode" / "handlers"]
    (tmp_path / "handlers").mkdir()
    assert default_paths(tmp_path) == [tmp_path / "handlers", tmp_path / ".opencode" / "handlers"]

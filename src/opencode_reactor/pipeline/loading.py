"""Loading pipelines: a YAML file, a Python file, or `module:name`. Every error names its place."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from ..errors import PipelineError
from .definition import Pipeline
from .files import Inlined, inline
from .parts import COLLECT
from .problems import Problem, Problems, hint, is_mapping, kind, refusal, structural
from .yamlfile import Tree, read_tree

_YAML = (".yaml", ".yml", ".json")


def load(ref: str | Path) -> Pipeline:
    """The pipeline a reference names: a YAML file, `flow.py`, `flow.py:name` or `module:name`.

    Files it names are read in. Raises PipelineError, which tells every problem with its place.
    """
    text = str(ref)
    path, _, _name = text.rpartition(":")
    if Path(text).suffix == ".py" or path.endswith(".py") or _is_module(text):
        return load_python(text)
    if not Path(text).exists():
        raise PipelineError(f"there is no such pipeline file{_near(Path(text))}", place=text)
    if Path(text).suffix not in _YAML and Path(text).is_file():
        raise PipelineError(f"a pipeline is a file in {', '.join(_YAML)} or .py", place=text)
    return load_pipeline(Path(text))


def load_pipeline(path: str | Path) -> Pipeline:
    """Read a YAML (or JSON) file. Raises PipelineError: `file:line` and a sentence for every problem."""
    file = Path(path)
    tree = read_tree(file)
    if not is_mapping(tree.content):
        raise PipelineError(f"a pipeline is a mapping, not {kind(tree.content)}", place=tree.place(()))
    inlined = inline(tree.content, file.parent)
    pipeline, found = _validated(inlined.tree)
    if found or inlined.problems:
        everything = sorted([*inlined.problems, *found], key=lambda p: tree.line(p.where))
        raise refusal([_located(p, tree, inlined) for p in everything])
    assert pipeline is not None
    return pipeline


def load_python(ref: str | Path) -> Pipeline:
    """The pipeline a Python file or module defines; `:name` chooses among several. Raises PipelineError."""
    text = str(ref)
    path, name = (text, "") if text.endswith(".py") else text.rsplit(":", 1)
    file = Path(path)
    module = _run_file(file) if file.suffix == ".py" else _import(path)
    found = {key: value for key, value in vars(module).items() if isinstance(value, Pipeline)}
    if name:
        if name not in found:
            raise PipelineError(f"defines no pipeline called {name!r}{hint(name, found)}", place=path)
        pipeline = found[name]
    else:
        pipeline = _only(found, path)
    folder = Path(module.__file__).parent if module.__file__ else Path.cwd()
    with _placed(path):
        return pipeline.inlined(folder)


def _validated(tree: object) -> tuple[Pipeline | None, tuple[Problem, ...]]:
    try:
        return Pipeline.model_validate(tree, context=COLLECT), ()
    except ValidationError as error:
        return None, tuple(structural(error, Pipeline))
    except Problems as problems:
        return None, problems.found


def _located(problem: Problem, tree: Tree, inlined: Inlined) -> tuple[str, Problem]:
    """Where a person has to look: in a file the pipeline names, if the problem lies there."""
    exact = replace(problem, line=0)
    for end in range(len(problem.where), 0, -1):
        if (origin := inlined.origins.get(problem.where[:end])) is not None:
            return f"{origin}:{problem.line or 1}", exact
    block = tree.blocks.get(problem.where)
    if block is not None and problem.line:
        return f"{tree.file}:{block + problem.line - 1}", exact
    return tree.place(problem.where), problem


def _only(found: Mapping[str, Pipeline], path: str) -> Pipeline:
    if not found:
        raise PipelineError("defines no pipeline: give it a value `Pipeline(…)` at the top level", place=path)
    if len({id(pipeline) for pipeline in found.values()}) > 1:
        names = ", ".join(sorted(found))
        raise PipelineError(
            f"defines several pipelines ({names})", place=path, remedy=f"choose one: {path}:{min(found)}"
        )
    return next(iter(found.values()))


def _run_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise PipelineError(f"there is no such pipeline file{_near(file)}", place=str(file))
    # Named after the whole path: two files of one name are two modules.
    name = f"opencode_reactor_pipeline_{sha256(str(file.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their own module up
    with _placed(str(file)):
        spec.loader.exec_module(module)
    return module


def _import(name: str) -> ModuleType:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    with _placed(name):
        return importlib.import_module(name)


@contextmanager
def _placed(path: str) -> Generator[None]:
    """Whatever an author's file raises becomes one error that names the line."""
    try:
        yield
    except PipelineError as error:
        message = f"{error.place}: {error.message}" if error.place else error.message
        raise PipelineError(message, place=_last_line(error, path), remedy=error.remedy) from error
    except SyntaxError as error:
        raise PipelineError(f"not Python: {error.msg}", place=f"{error.filename}:{error.lineno}") from error
    except (Exception, SystemExit) as error:
        # The fence around an author's code: what it may raise is anybody's guess.
        message = f"{type(error).__name__}: {error}".rstrip(": ")
        raise PipelineError(message, place=_last_line(error, path)) from error


def _last_line(error: BaseException, path: str) -> str:
    """The last line of the author's own file the error came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _same(f.filename, path)]
    return f"{path}:{frames[-1].lineno}" if frames else path


def _same(filename: str, path: str) -> bool:
    return filename == path or Path(filename).resolve() == Path(path).resolve()


def _is_module(text: str) -> bool:
    module, colon, name = text.partition(":")
    words = [*module.split("."), name]
    return bool(colon) and all(word.isidentifier() for word in words) and not Path(text).exists()


def _near(file: Path) -> str:
    """The nearest pipeline file in the same folder."""
    try:
        siblings = [f.name for f in file.parent.iterdir() if f.suffix in (*_YAML, ".py")]
    except OSError:
        return ""
    return hint(file.name, siblings)

from __future__ import annotations

from random import Random

import pytest

from opencode_reactor.clock import SystemClock
from opencode_reactor.errors import PipelineError
from opencode_reactor.model.runs import RunState, StageState
from opencode_reactor.pipeline.definition import Pipeline
from opencode_reactor.reactor.submission import make_run, occasion_id, run_id

PIPELINE = Pipeline.model_validate(
    {
        "name": "notes",
        "inputs": {"tag": {}, "tone": {"default": "plain"}},
        "stages": [{"name": "draft", "prompt": "{{ inputs.tag }}"}, {"name": "sign-off", "approve": "Go?"}],
    }
)
NOW = 1_800_000_000_000


def test_ids_sort_by_their_second_and_differ_within_it() -> None:
    random = Random(1)
    ids = [run_id(NOW + 1000 * n, random) for n in range(200)]
    assert ids == sorted(ids)
    assert {len(each) for each in ids} == {11}
    assert run_id(NOW, Random(1)) != run_id(NOW, Random(2))
    assert run_id(NOW, random)[:7] == run_id(NOW + 999, random)[:7]


def test_one_occasion_has_one_id_whenever_it_is_made() -> None:
    assert occasion_id("handler|event|pipeline") == occasion_id("handler|event|pipeline")
    assert len({occasion_id(f"handler|event{n}|pipeline") for n in range(2000)}) == 2000
    # Known to the stores of all reactors: it must not change with a version of this program.
    assert occasion_id("handler|event|pipeline") == "rqxe4e5s686"


def test_a_run_is_made_whole_with_every_stage_before_it() -> None:
    made = make_run(
        PIPELINE, {"tag": "v1"}, server="http://s", directory="/p", clock=SystemClock(), random=Random(1)
    )
    assert (made.pipeline, made.server, made.directory) == ("notes", "http://s", "/p")
    assert dict(made.inputs) == {"tag": "v1", "tone": "plain"}
    assert [(s.name, s.state) for s in made.stages] == [
        ("draft", StageState.PENDING),
        ("sign-off", StageState.PENDING),
    ]
    assert (made.state, made.rev) == (RunState.QUEUED, 0)
    assert Pipeline.from_spec(made.spec) == PIPELINE


@pytest.mark.parametrize("inputs", [{}, {"tag": "v1", "tome": "x"}])
def test_missing_and_unknown_inputs_are_refused_before_anything_is_kept(inputs: dict[str, str]) -> None:
    with pytest.raises(PipelineError):
        make_run(PIPELINE, inputs, server="http://s", directory="/p", clock=SystemClock(), random=Random(1))

"""From a pipeline and its inputs to a run that waits in the store."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from ..clock import Clock
from ..model.runs import Run, StageRun
from ..model.sessions import Json
from ..pipeline.definition import Pipeline, check_inputs

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: nothing that reads as something else
_TIME_CHARACTERS = 6
_RANDOM_CHARACTERS = 4


def run_id(now: int, random: Random) -> str:
    """A short id that sorts by its second and is safe in titles and shells: `r`, six characters, four more.

    Six characters of seconds last until 2159 before they come round; four at random keep runs of one second
    apart, and the store refuses a double.
    """
    seconds = now // 1000 - 1_735_689_600  # since 2025
    digits = [_BASE32[(seconds >> (5 * i)) & 31] for i in reversed(range(_TIME_CHARACTERS))]
    return "r" + "".join(digits) + "".join(random.choices(_BASE32, k=_RANDOM_CHARACTERS))


def occasion_id(occasion: str) -> str:
    """A run's id that is the same whenever it is made for this occasion: to submit it again is refused."""
    digits = Random(occasion).choices(_BASE32, k=_TIME_CHARACTERS + _RANDOM_CHARACTERS)
    return "r" + "".join(digits)


def make_run(
    pipeline: Pipeline,
    inputs: Mapping[str, Json],
    *,
    server: str,
    directory: str,
    clock: Clock,
    random: Random,
) -> Run:
    """A run of a pipeline, every stage pending, everything it will ever read inlined.

    `server` is the client's URL, `directory` absolute and normalised. Raises PipelineError where inputs are
    missing, unknown or of the wrong type, or a file the pipeline names cannot be read.
    """
    values = check_inputs(pipeline, inputs)
    now = clock.now()
    return Run(
        id=run_id(now, random),
        pipeline=pipeline.name,
        server=server,
        directory=directory,
        spec=pipeline.to_spec(),
        inputs=values,
        created=now,
        stages=tuple(StageRun(stage.name) for stage in pipeline.stages),
    )

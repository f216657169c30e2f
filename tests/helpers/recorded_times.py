"""The times of two real sweeps on two cores: `from_a_plateau`, and `from_scratch` beside a busy neighbour.

Each run has its phase, origin, outcome, seconds after the start, duration, first and last step, final loss and shape.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from sweeps.store.records import DataFacts, Outcome, Run
from sweeps.study.proposals import baseline_config
from sweeps.study.study import Study
from tests.helpers.fake_training import point_at
from tests.helpers.small_sweep import run

WORKERS = 2


class Recorded(NamedTuple):
    """A sweep's runs, with the seconds after its start at which each began."""

    study: Study
    data: DataFacts
    seconds: float
    runs: tuple[tuple[float, Run], ...]

    @classmethod
    def read(cls, name: str) -> Self:
        """Read the sweep `from_a_plateau` or `from_scratch`."""
        text = json.loads((Path(__file__).parent / f"recorded_{name}.json").read_text(encoding="utf-8"))
        study, data = Study.model_validate(text["study"]), DataFacts(**text["data"])
        runs = tuple((row[3], _run(study, data, number, *row)) for number, row in enumerate(text["runs"], start=1))
        return cls(study=study, data=data, seconds=text["seconds"], runs=runs)

    def runs_at(self, moment: float) -> list[Run]:
        """Return the runs as they were `moment` seconds after the start."""
        return [_at(run, moment - began) for began, run in self.runs if began <= moment]


def _run(
    study: Study,
    data: DataFacts,
    number: int,
    phase: str,
    origin: str,
    outcome: str,
    began: float,  # of the caller
    seconds: float,
    first: int,
    last: int,
    val_loss: float | None,
    shape: Mapping[str, Any],
) -> Run:
    """Return a run that was evaluated evenly over its time."""
    config = baseline_config(study, seed=study.seed, vocab_size=data.vocab_size).replace(**shape)
    steps = [*range(first, last, config.eval_interval), last]
    points = tuple(
        dataclasses.replace(point_at(config, step), seconds=seconds * (step - first) / (last - first)) for step in steps
    )
    return run(
        number,
        optuna_study=f"{study.name}-confirm" if phase == "confirm" else study.name,
        phase=phase,
        origin=origin,
        key=f"{origin}:{number}",
        config=config,
        outcome=Outcome(outcome),
        seconds=seconds,
        val_loss=val_loss,
        points=points,
    )


def _at(run: Run, age: float) -> Run:
    if run.seconds <= age:
        return run
    points = tuple(point for point in run.points if point.seconds <= age)
    return dataclasses.replace(run, outcome=Outcome.RUNNING, val_loss=None, seconds=age, points=points)

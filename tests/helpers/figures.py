"""Parts of a figure, and runs and a small confirmed study to draw."""

from __future__ import annotations

import dataclasses
from typing import Any

import plotly.graph_objects as go

from sweeps.analysis.arms import Arm, Arms
from sweeps.store.records import Results, Run
from sweeps.study.proposals import config_of
from tests.helpers import attributions, synthetic
from tests.helpers.attributions import SEED


def trace_named(figure: go.Figure, name: str) -> Any:
    """Return the only trace of that name."""
    (trace,) = (trace for trace in figure.data if trace.name == name)
    return trace


def note_texts(figure: go.Figure) -> list[str]:
    """Return the texts of all annotations."""
    return [note.text for note in figure.layout.annotations]


def confirmed_results() -> Results:
    """Return a study with three seeds of the baseline and two of the best; at half the horizon two and one."""
    study = synthetic.study()
    winner = synthetic.run(17, params=synthetic.params_of(attributions.BEST), val_loss=3.3)
    winner = dataclasses.replace(winner, config=config_of(study, winner.params, seed=SEED, vocab_size=2048))
    arms = Arms(study, winner, vocab_size=2048)
    runs = [winner]
    for arm, losses in {
        Arm(): (3.80, 3.81, 3.82),
        arms.winner: (None, 3.31, 3.33),
        Arm(half=True): (None, 4.0, 4.1),
        Arm(arms.winner.knobs, half=True): (None, None, 3.7),
    }.items():
        for seed, loss in enumerate(losses, start=SEED):
            if loss is not None:
                proposal = arms.proposal(arm, seed)
                kind = "baseline" if arm == Arm() and seed == SEED else "confirm"
                runs.append(
                    synthetic.run(
                        100 + len(runs),
                        kind,
                        phase=kind,
                        seed=seed,
                        config=proposal.config,
                        params=proposal.params,
                        val_loss=loss,
                        optuna_study="plateau" if kind == "baseline" else "plateau-confirm",
                    )
                )
    return synthetic.results(runs, study=study)


def flat_run(number: int, loss: float, origin: str = "baseline", **changes: object) -> Run:
    """Return a run with the same loss at every evaluation."""
    points = tuple(dataclasses.replace(point, val_loss=loss) for point in synthetic.points(synthetic.BASELINE, 3.5))
    return synthetic.run(number, origin, val_loss=loss, points=points, **changes)

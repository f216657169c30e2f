"""Which runs of a study are which: the baseline's, the search's, the best."""

from __future__ import annotations

from sweeps import progress
from sweeps.results import Results, Run
from trainer.config import TrainConfig


def baseline_runs(results: Results) -> tuple[Run, ...]:
    """The baseline's complete runs, one a seed, the search's seed first; those of the confirm phase are among them."""
    reference = reference_config(results)
    runs = [run for run in results.runs if run.val_loss is not None and _of_baseline(run, reference)]
    return tuple(sorted(runs, key=lambda run: (run.seed != results.study.seed, run.seed)))


def _of_baseline(run: Run, reference: TrainConfig | None) -> bool:
    if run.origin != "confirm" or reference is None:
        return run.origin == "baseline"
    return run.config == reference.replace(seed=run.seed)


def reference_config(results: Results) -> TrainConfig | None:
    """The baseline's config under the search's seed, whether or not its run is complete."""
    runs = [run for run in results.runs if run.origin == "baseline"]
    first = min(runs, key=lambda run: (run.seed != results.study.seed, run.seed), default=None)
    return None if first is None else first.config


def best_run(results: Results) -> Run | None:
    """The complete trial of the search's Optuna study with the lowest final loss; the earliest of equals."""
    return progress.best(results.runs, search=results.study.name)


def search_runs(results: Results) -> tuple[Run, ...]:
    """The runs whose trials the sampler sees: those of the search's own Optuna study."""
    return tuple(run for run in results.runs if run.optuna_study == results.study.name)

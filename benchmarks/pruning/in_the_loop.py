"""Pruners with a sampler in the loop, compared at equal compute and at equal numbers of trials.

    python -m benchmarks.pruning.in_the_loop [--bank FILE] [--studies 40] [--trials 60] [--jobs 2] [--json]

The studies are Optuna's. Their trials are curves of a surrogate fitted to a bank (benchmarks/pruning/surrogate.py).
Every trial is proposed by a sampler with a sweep's settings. The pruner is one of Optuna's at its defaults, or this
project's without sentinels, which is told that the study has `--trials` trials although it runs more at equal compute.
A pruner is asked at evaluations 1 to E-1.

- Compute is the number of evaluations run, as a share of those of `--trials` unpruned trials. Every study continues
  until a compute of 1 is spent. A trial that ends beyond a share doesn't count for it.
- The incumbent is the completed trial with the lowest final loss; at equal trials, among the first `--trials`.
- The incumbent's `found` loss is that loss. Its `expected` loss is the surrogate's without noise, which is right if all
  of its luck was luck. Where noise is roughness of the landscape, which a rerun repeats, the found loss is right. The
  truth lies between the two.
- Differences are to the study without pruning of the same sampler and seed, on the same landscape with the same noise.
  Below 0 is better. Intervals are Student's, 95 %, over studies. They say nothing about other banks.
- The verdict judges the difference when all compute is spent: is the pruner no worse than none by more than 0.005 nats?
  Yes if the interval's upper end is at most 0.005, no if its lower end is above, else not shown.

With the defaults it takes about three minutes on two cores.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy import special

from benchmarks.commands import add_names, argument_errors, at_least, existing_file, parser_of
from benchmarks.progress import watched
from benchmarks.pruning import curve_banks
from benchmarks.pruning.curve_banks import Floats
from benchmarks.pruning.simulated_studies import NONE, PRUNERS, SAMPLERS, SPENT, Cell, Landscape, StudyOutcome, outcomes
from benchmarks.pruning.surrogate import Surrogate, quality
from sweeps.study import space
from sweeps.study.load import load
from sweeps.study.study import Study

FOLDER = Path(__file__).parent
LOSSES = ("found", "expected")
MARGIN = 0.005
"""nats that a pruner may be worse than none"""


def compare_pruners(
    landscape: Landscape,
    settings: Study,
    *,
    samplers: Sequence[str] = SAMPLERS,
    pruners: Sequence[str] = tuple(PRUNERS),
    studies: int,
    trials: int,
    jobs: int = 1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return a row per sampler and pruner. The pruner none is always among them."""
    pruners = [NONE, *(name for name in pruners if name != NONE)]
    seeds = range(seed, seed + studies)
    cells = [Cell(sampler, pruner, study_seed) for study_seed in seeds for sampler in samplers for pruner in pruners]
    ended = watched(outcomes(landscape, settings, cells, trials=trials, jobs=jobs), len(cells), noun="studies")
    outcome_of = dict(zip(cells, ended, strict=True))

    def studies_of(sampler: str, pruner: str) -> list[StudyOutcome]:
        return [outcome_of[Cell(sampler, pruner, study_seed)] for study_seed in seeds]

    return [
        pruner_row(sampler, pruner, studies_of(sampler, pruner), studies_of(sampler, NONE))
        for sampler in samplers
        for pruner in pruners
    ]


def pruner_row(
    sampler: str, pruner: str, studies: Sequence[StudyOutcome], unpruned: Sequence[StudyOutcome]
) -> dict[str, Any]:
    """Return the figures of one sampler and pruner. Both sequences have the same seeds in the same order."""
    at_compute = {
        f"{share:g}": {
            loss: paired(incumbent_losses(studies, loss, at), incumbent_losses(unpruned, loss, at)) for loss in LOSSES
        }
        for at, share in enumerate(SPENT)
    }
    all_spent = at_compute[f"{SPENT[-1]:g}"]
    return {
        "sampler": sampler,
        "pruner": pruner,
        "trials_run": float(np.mean([study.trials for study in studies])),
        "at_compute": at_compute,
        "at_trials": {
            "compute": student_interval([study.compute for study in studies]),
            **{loss: paired(incumbent_losses(studies, loss), incumbent_losses(unpruned, loss)) for loss in LOSSES},
        },
        "verdict": {loss: None if pruner == NONE else verdict(all_spent[loss]) for loss in LOSSES},
    }


def incumbent_losses(studies: Sequence[StudyOutcome], loss: str, at: int | None = None) -> Floats:
    """Return the incumbents' losses, found or expected, at one of `SPENT`, or at equal trials where `at` is None."""
    incumbents = [study.at_trials if at is None else study.at_compute[at] for study in studies]
    return np.array([getattr(incumbent, loss) for incumbent in incumbents])


def paired(losses: Floats, unpruned_losses: Floats) -> dict[str, float]:
    """Return the mean loss, and the mean difference to none with its interval, nats per token."""
    return {"loss": float(losses.mean()), **student_interval(losses - unpruned_losses)}


def student_interval(values: Floats | Sequence[float]) -> dict[str, float]:
    """Return the mean and Student's 95 % interval of at least two values."""
    array = np.asarray(values)
    mean = float(array.mean())
    reach = float(special.stdtrit(len(array) - 1, 0.975) * array.std(ddof=1) / np.sqrt(len(array)))
    return {"mean": mean, "low": mean - reach, "high": mean + reach}


def verdict(difference: Mapping[str, float]) -> str:
    """Say whether a pruner is no worse than none by more than `MARGIN`: yes, no or not shown."""
    if difference["high"] <= MARGIN:
        return "yes"
    return "no" if difference["low"] > MARGIN else "not shown"


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures as text."""
    return "\n".join(surrogate_lines(figures) + rows_lines(figures["rows"], trials=figures["trials"]))


def surrogate_lines(figures: Mapping[str, Any]) -> list[str]:
    """Describe the surrogate's fit, its trials and the bank's."""
    fit = figures["surrogate"]
    lines = [
        f"{figures['bank']}: surrogate of {fit['trials']} curves of {figures['evaluations']} evaluations; "
        f"leave-one-out final losses: R2 {fit['r2']:.3f}, Spearman {fit['spearman']:.3f}, "
        f"mean absolute error {fit['absolute_error']:.3f} nats, sd of the residuals {fit['residual_sd']:.3f}"
    ]
    for name in ("bank", "surrogate"):
        ranks = "; ".join(
            f"{stratum} " + ", ".join(f"{value:.2f} at {float(at):.0%}" for at, value in values.items())
            for stratum, values in fit[name]["agreement"].items()
        )
        lines.append(
            f"  {name}'s trials: best {fit[name]['best']:.3f}, median {fit[name]['median']:.3f}, "
            f"Spearman with the final loss: {ranks}"
        )
    return [*lines, f"{figures['studies']} studies, compute 1 is {figures['trials']} unpruned trials"]


def rows_lines(rows: Sequence[Mapping[str, Any]], *, trials: int) -> list[str]:
    """Describe each sampler's pruners: differences to none, compute, and verdicts."""
    lines = []
    for sampler in dict.fromkeys(row["sampler"] for row in rows):
        unpruned, *pruned = sampler_rows = [row for row in rows if row["sampler"] == sampler]
        at_compute = unpruned["at_compute"]
        for loss in LOSSES:
            levels = ", ".join(f"{at_compute[at][loss]['loss']:.3f} at {float(at):.0%}" for at in at_compute)
            lines += ["", f"{sampler}: {loss} loss of the incumbent less that without pruning ({levels})"]
            heads = [f"compute {float(at):.0%}" for at in at_compute] + [f"{trials} trials"]
            lines.append(f"{'':>10}" + "".join(f"{head:>28}" for head in heads))
            for row in pruned:
                cells = [*(at[loss] for at in row["at_compute"].values()), row["at_trials"][loss]]
                lines.append(f"{row['pruner']:>10}" + "".join(f"{signed(cell):>28}" for cell in cells))
        lines += [""] + [
            f"{sampler}, {row['pruner']}: {trials} trials take "
            "{mean:.3f} [{low:.3f}, {high:.3f}] of the compute; ".format_map(row["at_trials"]["compute"])
            + f"all of the compute pays for {row['trials_run']:.0f} trials"
            for row in sampler_rows
        ]
        lines += [
            f"{sampler}, {row['pruner']}: no worse than none by more than {MARGIN:g} at equal compute: "
            f"{row['verdict']['found']} as found, {row['verdict']['expected']} as expected"
            for row in pruned
        ]
    return lines


def signed(difference: Mapping[str, float]) -> str:
    """Format a difference with its interval."""
    return "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format_map(difference)


def main() -> int:
    """Fit the surrogate, run the studies and print the comparison."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--bank",
        type=existing_file,
        default=FOLDER / "bank_python.parquet",
        help="parquet of benchmarks.pruning.record_bank (default bank_python.parquet)",
    )
    parser.add_argument(
        "--study",
        type=existing_file,
        default=FOLDER / "record_bank.yaml",
        help="study whose space the bank records (default record_bank.yaml)",
    )
    add_names(parser, "--samplers", SAMPLERS)
    add_names(parser, "--pruners", PRUNERS)
    parser.add_argument("--studies", type=at_least(2), default=40, help="studies, one per seed (default 40)")
    parser.add_argument("--trials", type=at_least(4), default=60, help="trials per study (default 60)")
    parser.add_argument("--jobs", type=at_least(1), default=2, help="processes (default 2)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the first study (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{options.bank}: fitting a surrogate", file=sys.stderr, flush=True)
    with argument_errors(parser):
        settings = load(options.study, devices_have_cuda=False)
        surrogate = Surrogate.fit(curve_banks.read(options.bank), space.distributions(settings))
    size = {"studies": options.studies, "trials": options.trials}
    choice = {"samplers": options.samplers, "pruners": options.pruners, "jobs": options.jobs, "seed": options.seed}
    figures = {
        "bank": str(options.bank),
        "evaluations": surrogate.evaluations,
        **size,
        "surrogate": {"trials": len(surrogate.bank), **quality(surrogate)},
        "rows": compare_pruners(surrogate, settings, **size, **choice),
    }
    print(json.dumps(figures) if options.json else table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

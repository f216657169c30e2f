"""What pruners do with a sampler in the loop: at equal compute, and at equal numbers of trials.

    python -m benchmarks.pruning.in_the_loop [--bank FILE] [--studies 40] [--trials 60] [--jobs 2] [--json]

Optuna studies whose trials are curves of a surrogate fitted to a bank (benchmarks/pruning/surrogate.py): a sampler
as a sweep
makes it, proposing every trial, and a pruner: Optuna's at their defaults, or this project's without sentinels, told
that the study has `--trials` trials, though at equal compute it gets more. A pruner is asked at evaluations 1 to E-1.

- Compute is evaluations run, as a share of those of `--trials` unpruned trials. Every study goes on until 1 is spent;
  a trial that ends beyond a share of it doesn't count there.
- The incumbent is the completed trial with the lowest final loss; at equal trials, among the first `--trials`.
- Its `found` loss is that one. Its `expected` loss is the surrogate's without noise: what it is worth if all of its
  luck was luck. Where noise is roughness of the landscape, which a rerun repeats, found counts; the truth lies between.
- Differences are to the study without pruning of the same sampler and seed, on the same landscape with the same noise;
  below 0 is better. Intervals are Student's, of 95 %, over studies: they say nothing of other banks.
- Verdict, on the difference when all is spent: is it no worse than none by more than .005 nats? yes: the interval's
  upper end is not above; no: its lower end is above; else not shown.

`--real N`: also real sweeps with N seeds and each of three pruners (benchmarks/real_sweeps.py), minutes each.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy import special

from benchmarks.progress import watched
from benchmarks.pruning import curve_banks
from benchmarks.pruning.curve_banks import Floats
from benchmarks.pruning.replay import names
from benchmarks.pruning.simulated_studies import NONE, PRUNERS, SAMPLERS, SPENT, Cell, Landscape, Outcome, outcomes
from benchmarks.pruning.surrogate import Surrogate, quality
from sweeps.study import space
from sweeps.study.load import load
from sweeps.study.study import Study
from trainer.errors import UserError

HERE = Path(__file__).parent
LOSSES = ("found", "expected")
MARGIN = 0.005
"""nats that a pruner may be worse than none"""


def compare(
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
    """A row a sampler and pruner; none is always among them."""
    pruners = [NONE, *(name for name in pruners if name != NONE)]
    seeds = range(seed, seed + studies)
    cells = [Cell(sampler, pruner, each) for each in seeds for sampler in samplers for pruner in pruners]
    done = watched(outcomes(landscape, settings, cells, trials=trials, jobs=jobs), len(cells), noun="studies")
    by_cell = dict(zip(cells, done, strict=True))
    return [
        row(sampler, pruner, *([by_cell[Cell(sampler, name, each)] for each in seeds] for name in (pruner, NONE)))
        for sampler in samplers
        for pruner in pruners
    ]


def row(sampler: str, pruner: str, ours: Sequence[Outcome], none: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of one sampler and pruner, studies of the same seeds in the same order."""
    at_compute = {
        f"{share:g}": {loss: paired(losses(ours, loss, at), losses(none, loss, at)) for loss in LOSSES}
        for at, share in enumerate(SPENT)
    }
    return {
        "sampler": sampler,
        "pruner": pruner,
        "trials_run": float(np.mean([each.trials for each in ours])),
        "at_compute": at_compute,
        "at_trials": {
            "compute": interval([each.compute for each in ours]),
            **{loss: paired(losses(ours, loss), losses(none, loss)) for loss in LOSSES},
        },
        "verdict": {loss: None if pruner == NONE else verdict(at_compute[f"{SPENT[-1]:g}"][loss]) for loss in LOSSES},
    }


def losses(ended: Sequence[Outcome], loss: str, at: int | None = None) -> Floats:
    """The incumbents' losses, found or expected, at one of `SPENT`; None: at equal trials."""
    return np.array([getattr(each.at_trials if at is None else each.at_compute[at], loss) for each in ended])


def paired(ours: Floats, none: Floats) -> dict[str, float]:
    """The mean loss, and the mean difference to none with its interval, nats."""
    return {"loss": float(ours.mean()), **interval(ours - none)}


def interval(values: Floats | Sequence[float]) -> dict[str, float]:
    """Mean and Student's 95 % interval of at least two values."""
    array = np.asarray(values)
    mean = float(array.mean())
    reach = float(special.stdtrit(len(array) - 1, 0.975) * array.std(ddof=1) / np.sqrt(len(array)))
    return {"mean": mean, "low": mean - reach, "high": mean + reach}


def verdict(difference: Mapping[str, float]) -> str:
    """Is it no worse than none by more than `MARGIN`?"""
    return "yes" if difference["high"] <= MARGIN else "no" if difference["low"] > MARGIN else "not shown"


def table(found: Mapping[str, Any]) -> str:
    """What the command prints."""
    lines = []
    if "rows" in found:
        lines += surrogate_lines(found) + rows_lines(found["rows"], trials=found["trials"])
    return "\n".join(lines).strip()


def surrogate_lines(found: Mapping[str, Any]) -> list[str]:
    fit = found["surrogate"]
    lines = [
        f"{found['bank']}: surrogate of {fit['trials']} curves of {found['evaluations']} evaluations; final losses "
        f"left out one by one: R2 {fit['r2']:.3f}, Spearman {fit['spearman']:.3f}, "
        f"mean absolute error {fit['absolute_error']:.3f} nats, residuals' sd {fit['residual_sd']:.3f}"
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
    return [*lines, f"{found['studies']} studies, compute 1 is {found['trials']} unpruned trials"]


def rows_lines(rows: Sequence[Mapping[str, Any]], *, trials: int) -> list[str]:
    lines = []
    for sampler in dict.fromkeys(row["sampler"] for row in rows):
        ours = [row for row in rows if row["sampler"] == sampler]
        for loss in LOSSES:
            none = ours[0]["at_compute"]
            levels = ", ".join(f"{none[at][loss]['loss']:.3f} at {float(at):.0%}" for at in none)
            lines += ["", f"{sampler}: {loss} loss of the incumbent less none's ({levels})"]
            heads = [f"compute {float(at):.0%}" for at in none] + [f"{trials} trials"]
            lines.append(f"{'':>10}" + "".join(f"{head:>28}" for head in heads))
            for row in ours[1:]:
                cells = [*(at[loss] for at in row["at_compute"].values()), row["at_trials"][loss]]
                lines.append(f"{row['pruner']:>10}" + "".join(f"{signed(cell):>28}" for cell in cells))
        lines += [""] + [
            f"{sampler}, {row['pruner']}: {trials} trials take "
            "{mean:.3f} [{low:.3f}, {high:.3f}] of the compute, ".format_map(row["at_trials"]["compute"])
            + f"all of it is spent on {row['trials_run']:.0f} trials"
            for row in ours
        ]
        lines += [
            f"{sampler}, {row['pruner']}: no worse than none by more than {MARGIN:g} at equal compute: "
            f"{row['verdict']['found']} as found, {row['verdict']['expected']} as expected"
            for row in ours[1:]
        ]
    return lines


def signed(difference: Mapping[str, float]) -> str:
    return "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format_map(difference)


def whole(text: str, *, least: int) -> int:
    """A whole number of at least so many."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text}: not a whole number from {least} on")
    return int(text)


def file(text: str) -> Path:
    """A file that is there."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return Path(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--bank", type=file, default=HERE / "bank_python.parquet", help="of benchmarks.pruning.record_bank"
    )
    parser.add_argument("--study", type=file, default=HERE / "record_bank.yaml", help="whose space the bank records")
    parser.add_argument("--samplers", type=lambda text: names(text, SAMPLERS), default=list(SAMPLERS), metavar="A,B")
    parser.add_argument("--pruners", type=lambda text: names(text, PRUNERS), default=list(PRUNERS), metavar="A,B")
    parser.add_argument("--studies", type=partial(whole, least=2), default=40, help="seeds (default 40)")
    parser.add_argument("--trials", type=partial(whole, least=4), default=60, help="of a study (default 60)")
    parser.add_argument("--jobs", type=partial(whole, least=1), default=2, help="processes (default 2)")
    parser.add_argument("--seed", type=partial(whole, least=0), default=0, help="of the first study (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: dict[str, Any] = {}
    print(f"{options.bank}: fitting a surrogate", file=sys.stderr, flush=True)
    try:
        settings = load(options.study, devices_have_cuda=False)
        surrogate = Surrogate.fit(curve_banks.read(options.bank), space.distributions(settings))
    except (UserError, ValueError) as error:
        parser.error(str(error))
    size = {"studies": options.studies, "trials": options.trials}
    chosen = {"samplers": options.samplers, "pruners": options.pruners, "jobs": options.jobs, "seed": options.seed}
    found |= {"bank": str(options.bank), "evaluations": surrogate.evaluations, **size}
    found["surrogate"] = {"trials": len(surrogate.bank), **quality(surrogate)}
    found["rows"] = compare(surrogate, settings, **size, **chosen)
    print(json.dumps(found) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

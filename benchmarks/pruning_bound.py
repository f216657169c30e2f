"""How little compute could a pruning rule spend on a bank, if it knew all other trials' whole curves?

    python -m benchmarks.pruning_bound --bank FILE [--strata all,best30] [--json]

Each trial is predicted at each look from the whole curves of all the others, which no rule has that runs them one
after another, and stopped at the first look at which its chance of belonging to the best tenth, whose limit is known,
is below epsilon. `STARTUP` trials of average length run whole, as in the replay. Two predictors:

- rule: that of `sweeps.prospects`;
- tuned: a Gaussian process on more features of the curve and its schedule, whose relevance is fitted to all trials,
  the predicted one too. So it flatters, above all among few trials.

Three ways to choose epsilon, the last two in hindsight, where a limit of 5 % lets none of fewer than 20 best be lost:

- chance: the greatest at which the best tenth is expected to lose 5 % by the chances themselves: ideal decisions;
- seen: the greatest at which 5 % was lost;
- each look: as seen, but another one for each look.

Looks begin at a tenth of the run, and after a trial's warm-up unless `warm_up` is true. `oracle` cuts at the first
look allowed all but the best tenth: no rule that looks no sooner can spend less.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from benchmarks import banks
from benchmarks.banks import Bank, Floats
from benchmarks.peers import STARTUP
from benchmarks.replay import SAFE, STRATA, Replays, names
from sweeps.law import Schedule
from sweeps.prospects import Curve, Rule, forecast

LOST = SAFE["top_tenth_pruned"]
_NORMAL = 1e6
"""degrees of freedom of a normal distribution"""


def chances(bank: Bank, predictor: str) -> Floats:
    """(N, E+1) chance of belonging to the best tenth, at each evaluation from the first look on; NaN elsewhere."""
    finals, best = bank.finals, len(bank.top_tenth())
    limits = np.array([np.sort(np.delete(finals, trial))[best - 1] for trial in range(len(bank))])
    found = np.full(bank.losses.shape, np.nan)
    for at in Rule().looks_at(Schedule.constant(bank.evaluations)):
        mean, scale, degrees = PREDICTORS[predictor](bank, at)
        found[:, at] = stdtr(degrees, (limits - mean) / scale)
    return found


def _by_rule(bank: Bank, at: int) -> tuple[Floats, Floats, Floats]:
    """(N,) mean, scale and degrees of freedom of each final loss, from all the others."""
    whole = [
        Curve(losses=losses, schedule=schedule, knobs=knobs, final=float(final))
        for losses, schedule, knobs, final in zip(bank.losses, bank.schedules, bank.knobs, bank.finals, strict=True)
    ]
    found = np.full((3, len(bank)), np.nan)
    for trial, one in enumerate(whole):
        if not np.isfinite(one.losses[at]):
            continue
        now = Curve(losses=one.losses[: at + 1], schedule=one.schedule, knobs=one.knobs)
        if told := forecast(now, [*whole[:trial], *whole[trial + 1 :]], min_completed=STARTUP):
            found[:, trial] = told.mean, told.scale, told.degrees
    return found[0], found[1], found[2]


def _by_tuned(bank: Bank, at: int) -> tuple[Floats, Floats, Floats]:
    """The same; left out in closed form (Rasmussen and Williams 2006, section 5.4.2)."""
    back = [max(0, each) for each in (at - 1, at - 2, at - 3, 2 * at // 3, at // 2, at // 4)]
    useful = np.isfinite(bank.losses[:, [at, *back]]).all(axis=1) & np.isfinite(bank.finals)
    schedules = [schedule for schedule, use in zip(bank.schedules, useful, strict=True) if use]
    losses, spent = bank.losses[useful], np.array([schedule.progress[at] for schedule in schedules])
    annealed = [schedule.annealing[-1] - schedule.annealing[at] for schedule in schedules]
    total = np.array([schedule.total for schedule in schedules])
    clocks = [spent, np.log(np.maximum(spent * total, 1e-300)), np.log((1 - spent) * total + 1e-12), annealed]
    falls = losses[:, back] - losses[:, [at]]
    features = np.column_stack([losses[:, at], falls, *clocks, bank.knobs[useful]])
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    targets = losses[:, at] - bank.finals[useful]
    centre, spread = targets.mean(), targets.std() + 1e-9
    lengths = np.full(features.shape[1], 5.0)
    kernel = ConstantKernel(1.0) * RBF(lengths, (0.5, 50)) + ConstantKernel(0.1) * DotProduct() + WhiteKernel(0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its limit: of no relevance
        fitted = GaussianProcessRegressor(kernel).fit(features, (targets - centre) / spread)
    inverse = np.linalg.inv(fitted.kernel_(features) + fitted.alpha * np.eye(len(features)))
    scale = 1 / np.sqrt(np.diagonal(inverse))
    left = (targets - centre) / spread - inverse @ ((targets - centre) / spread) * scale**2
    found = np.full((2, len(bank)), np.nan)
    found[:, useful] = losses[:, at] - centre - spread * left, spread * scale
    return found[0], found[1], np.full(len(bank), _NORMAL)


PREDICTORS: dict[str, Callable[[Bank, int], tuple[Floats, Floats, Floats]]] = {"rule": _by_rule, "tuned": _by_tuned}


def compute(bank: Bank, ends: NDArray[np.int64]) -> float:
    """Share of all evaluations, if each trial stops at its end except the first ones, of which any may be one."""
    first = min(STARTUP, len(bank))
    return float((first * bank.evaluations + (len(bank) - first) * ends.mean()) / (len(bank) * bank.evaluations))


def stopped(bank: Bank, chance: Floats, epsilon: float | Floats) -> NDArray[np.int64]:
    """(N,) the first evaluation at which the chance is below epsilon, or below that evaluation's own."""
    below = chance < epsilon
    return np.where(below.any(axis=1), np.minimum(below.argmax(axis=1), bank.ends), bank.ends)


def bounds(bank: Bank, chance: Floats) -> dict[str, dict[str, float]]:
    """Compute, share of the best tenth lost and expected to be lost, and epsilon, for each way of choosing it."""
    top, rows = bank.top_tenth(), np.arange(len(bank))
    allowed = int(LOST * len(top))

    def found(epsilon: float | Floats) -> dict[str, float]:
        ends = stopped(bank, chance, epsilon)
        cut = ends < bank.ends
        expected = float(chance[rows, ends][cut].sum() / len(top))
        one = {} if isinstance(epsilon, np.ndarray) else {"epsilon": epsilon}
        return {"compute": compute(bank, ends), "lost": float(cut[top].mean()), "expected": expected, **one}

    usual = [found(float(epsilon)) for epsilon in np.geomspace(1e-4, 0.5, 200)]
    lowest = np.sort(np.fmin.reduce(chance[top], axis=1, initial=1.0))
    best = np.where(np.isnan(chance[top]), np.inf, chance[top]).min(axis=0)
    return {
        "chance": max((each for each in usual if each["expected"] <= LOST), key=lambda each: each["epsilon"]),
        "seen": found(float(lowest[allowed])),
        "each look": found(best),
    }


def bound(bank: Bank, predictors: Sequence[str] = tuple(PREDICTORS)) -> dict[str, Any]:
    """The JSON of a stratum."""
    warm = np.array([schedule.warm for schedule in bank.schedules])
    first = Rule().looks_at(Schedule.constant(bank.evaluations)).start
    top = np.isin(np.arange(len(bank)), bank.top_tenth())
    rows, oracle = [], {}
    made = {predictor: chances(bank, predictor) for predictor in predictors}
    for warm_up in (False, True):
        looks = np.full(len(bank), first) if warm_up else np.maximum(warm, first)
        oracle["warm_up" if warm_up else "after_warm_up"] = compute(bank, np.where(top, bank.evaluations, looks))
        for predictor, chance in made.items():
            allowed = np.where(np.arange(bank.evaluations + 1) >= looks[:, None], chance, np.nan)
            rows += [
                {"predictor": predictor, "warm_up": warm_up, "chosen_by": by, **found}
                for by, found in bounds(bank, allowed).items()
            ]
    return {"trials": len(bank), "top_tenth": int(top.sum()), "oracle": oracle, "bounds": rows}


def table(found: dict[str, Any]) -> str:
    """What the command prints."""
    lines = [f"{found['bank']}: compute at {LOST:.0%} of the best tenth lost, the other trials' whole curves known"]
    for stratum, each in found["strata"].items():
        oracle = each["oracle"]
        lines += [
            f"{stratum}: {each['trials']} trials; oracle {oracle['warm_up']:.3f}, looking after the warm-up alone "
            f"{oracle['after_warm_up']:.3f}"
        ]
        lines += [
            f"{row['predictor']:>8}, looks {'from a tenth on' if row['warm_up'] else 'after warm-up':>15}, epsilon by "
            f"{row['chosen_by']:>9}{' {:.3f}'.format(row['epsilon']) if 'epsilon' in row else '':>7}: compute "
            f"{row['compute']:.3f}, lost {row['lost']:.3f}, expected {row['expected']:.3f}"
            for row in each["bounds"]
        ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    banks.add_arguments(parser)
    parser.add_argument("--strata", type=lambda text: names(text, STRATA), default=list(STRATA), metavar="A,B")
    parser.add_argument("--predictors", type=lambda text: names(text, PREDICTORS), default=list(PREDICTORS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    bank = banks.asked_for(options)
    replays = Replays(bank, {}, orders=1, seed=0)
    strata = {name: bound(bank.only(replays.trials(name)), options.predictors) for name in options.strata}
    found = {"bank": bank.name, "strata": strata}
    print(json.dumps(found) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

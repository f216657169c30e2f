"""Errors of the plateau test beside usual rules: false alarms on improving curves, power on stuck ones.

    python -m benchmarks.pruning.plateau_test [--bank FILE] [--n 300] [--seed 0] [--json]

Curves of 40 evaluations are simulated under cosine schedules with a warm-up. One family is the law itself. The law does
not hold for the two others: a power law whose exponent changes on the way, and an exponential approach. `--bank` adds
recorded curves (a parquet of `benchmarks.pruning.record_bank`). Each curve ends at a random evaluation from 20 on and
gets noise of standard deviation sigma.

- False alarm: the word is plateau, although the noiseless curve fell by 0.01 nats or more over its last 10 evaluations.
- Power: the word is plateau where the curve was held at its value from a random evaluation on, 10 or more before its
  end, and would have fallen by 0.01 nats or more since.

The rules are patience (no new best by 1e-4 nats in 3 or 5 evaluations); Mann-Kendall (no falling trend at 5 %) and
Theil-Sen (0 in the 95 % interval of the slope) over the last 10 evaluations; the test as first conceived (the last 10
alone, means, no variance of the law); and this project's test, with the schedule and without. Intervals are Wilson's,
95 %. Recorded curves are drawn repeatedly, so their intervals are about these curves only. A minute on two cores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.commands import argument_errors, at_least, parser_of
from benchmarks.pruning import curve_banks
from benchmarks.pruning.curve_banks import Floats
from sweeps.pruning import law
from sweeps.pruning.law import Schedule
from sweeps.pruning.plateau import WINDOW, CurveState, evaluation_noise, verdicts
from trainer.errors import UserError

SIGMAS = (0.001, 0.003, 0.01, 0.03)
EVALUATIONS = 40
MATTERS = 0.01
"""nats; a smaller drop is neither progress nor a missed gain"""
EARLIEST = 20
"""first evaluation at which a curve may end"""
FAMILIES = ("law", "broken power law", "exponential approach")
RECORDED = "recorded"


@dataclass(frozen=True, kw_only=True)
class SeenCurve:
    """One curve, as far as it is seen."""

    losses: Floats
    schedule: Schedule


PlateauRule = Callable[[Sequence[SeenCurve]], list[bool]]
"""says of each curve whether it is stuck"""


def main() -> None:
    """Print the rates."""
    parser = parser_of(__doc__)
    parser.add_argument("--bank", type=Path, metavar="FILE", help="parquet of recorded curves")
    parser.add_argument(
        "--n", type=at_least(1), default=300, help="curves per family, noise level and kind (default 300)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the curves and their noise (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    with argument_errors(parser):
        recorded = [] if options.bank is None else recorded_curves(options.bank)
    rates = compare_rules(recorded, n=options.n, seed=options.seed)
    print(json.dumps(rates, indent=1) if options.json else table(rates))


def recorded_curves(path: Path) -> list[SeenCurve]:
    """Return the complete runs of a bank, whose own noise stays in them. Raises UserError without learning rates."""
    bank = curve_banks.read(path)
    if bank.rates is None:
        raise UserError(f"{path}: no learning rates are recorded, so no schedule is known")
    return [
        SeenCurve(losses=losses, schedule=Schedule.of(rates))
        for losses, rates in zip(bank.losses, bank.rates, strict=True)
        if np.isfinite(losses).all()
    ]


def compare_rules(recorded: Sequence[SeenCurve], *, n: int, seed: int) -> dict[str, Any]:
    """Return the rates of the word plateau by family, sigma, kind and rule: `{"rate", "low", "high", "n"}`."""
    rates: dict[str, Any] = {}
    for number, family in enumerate([*FAMILIES, RECORDED] if recorded else FAMILIES):
        rates[family] = {}
        for sigma in SIGMAS:
            rng = np.random.default_rng([seed, number, int(sigma * 1e6)])
            if family == RECORDED:
                clean = [recorded[i] for i in rng.integers(len(recorded), size=3 * n)]
            else:
                clean = [simulated_curve(family, rng) for _ in range(3 * n)]
            kinds = {"false alarms": improving(clean, sigma, rng)[:n], "power": stalled(clean, sigma, rng)[:n]}
            rates[family][str(sigma)] = {
                kind: {name: wilson_interval(rule(curves)) for name, rule in RULES.items()}
                for kind, curves in kinds.items()
            }
    return rates


def simulated_curve(family: str, rng: np.random.Generator) -> SeenCurve:
    """Simulate a noiseless curve under a random cosine schedule with warm-up."""
    warm, ratio = rng.uniform(0.01, 0.15), rng.uniform(0, 0.3)
    share = np.arange(EVALUATIONS + 1) / EVALUATIONS
    falling = ratio + (1 - ratio) * 0.5 * (1 + np.cos(np.pi * np.clip((share - warm) / (1 - warm), 0, 1)))
    schedule = Schedule.of(np.where(share < warm, (share + 1e-3) / (warm + 1e-3), falling))
    x = np.maximum(schedule.progress, 1e-3)
    height, alpha = np.exp(rng.uniform(np.log(0.1), 0)), rng.uniform(0.25, 0.75)
    match family:
        case "law":
            shape = height * (x**-alpha - 1)
        case "broken power law":
            later, bend = rng.uniform(0.1, 0.9), rng.uniform(0.15, 0.6)
            shape = height * x**-alpha * (1 + (x / bend) ** 4) ** ((alpha - later) / 4)
        case _:
            shape = 3 * height * np.exp(-rng.uniform(2, 6) * x)
    losses = rng.uniform(2.5, 4) + shape - rng.uniform(0, 0.3) * schedule.annealing
    return SeenCurve(losses=np.minimum(losses, 9.0), schedule=schedule)


def improving(clean: Sequence[SeenCurve], sigma: float, rng: np.random.Generator) -> list[SeenCurve]:
    """Return the curves up to a random evaluation, with noise, where they still improve there."""
    curves = []
    for curve in clean:
        seen = curve.losses[: rng.integers(EARLIEST, curve.schedule.end + 1) + 1]
        if drop(seen) >= MATTERS:
            curves.append(SeenCurve(losses=seen + rng.normal(0, sigma, len(seen)), schedule=curve.schedule))
    return curves


def stalled(clean: Sequence[SeenCurve], sigma: float, rng: np.random.Generator) -> list[SeenCurve]:
    """Return the curves up to a random evaluation, with noise, held from an earlier one on where that costs a drop."""
    curves = []
    for curve in clean:
        now = int(rng.integers(EARLIEST, curve.schedule.end + 1))
        first = max(curve.schedule.warm, 1) + law.NEEDED
        if first > now - WINDOW + 1:
            continue
        since = int(rng.integers(first, now - WINDOW + 2))
        if curve.losses[since] - curve.losses[now] >= MATTERS:
            held = np.where(np.arange(now + 1) < since, curve.losses[: now + 1], curve.losses[since])
            curves.append(SeenCurve(losses=held + rng.normal(0, sigma, now + 1), schedule=curve.schedule))
    return curves


def drop(losses: Floats) -> float:
    """Return the drop from the mean of the first 4 to that of the last 4 of the last 10 evaluations, nats per token."""
    return float(losses[-WINDOW:][:4].mean() - losses[-4:].mean())


def patience(evaluations: int) -> PlateauRule:
    """Return the rule: no new best by 1e-4 nats in so many evaluations."""

    def is_stuck(curve: SeenCurve) -> bool:
        return bool(curve.losses[-evaluations:].min() > curve.losses[:-evaluations].min() - 1e-4)

    return lambda curves: [is_stuck(curve) for curve in curves]


def mann_kendall(curves: Sequence[SeenCurve]) -> list[bool]:
    """Say plateau where no falling trend is significant at 5 %."""
    time = np.arange(WINDOW)
    tests = (stats.kendalltau(time, curve.losses[-WINDOW:], alternative="less") for curve in curves)
    return [bool(test.pvalue > 0.05) for test in tests]


def theil_sen(curves: Sequence[SeenCurve]) -> list[bool]:
    """Say plateau where the slope's 95 % interval contains 0."""
    slopes = (stats.theilslopes(curve.losses[-WINDOW:]) for curve in curves)
    return [bool(slope.low_slope <= 0 <= slope.high_slope) for slope in slopes]


def first_conceived(curves: Sequence[SeenCurve]) -> list[bool]:
    """Say plateau iff `dO + 1.645 SE < 0.5 dE` over the last 10 evaluations, with SE from evaluation noise alone."""
    fitted = law.fit([curve.losses[:-WINDOW] for curve in curves], [curve.schedule for curve in curves])
    shares = np.zeros((len(curves), fitted.basis.shape[3]))
    for row, curve in zip(shares, curves, strict=True):
        row[len(curve.losses) - WINDOW :][:4] = 0.25
        row[len(curve.losses) - 4 : len(curve.losses)] = -0.25
    expected = fitted.expected(shares)[0]
    sigma = np.array([evaluation_noise(curve.losses[max(curve.schedule.warm, 1) :]) for curve in curves])
    observed = np.array([drop(curve.losses) for curve in curves])
    return (observed + 1.645 * 1.1 * sigma * np.sqrt(2 / 4) < 0.5 * expected).tolist()


def this_test(curves: Sequence[SeenCurve]) -> list[bool]:
    """Say plateau where this project's test does."""
    answers = verdicts([curve.losses for curve in curves], [curve.schedule for curve in curves])
    return [answer.word is CurveState.PLATEAU for answer in answers]


def without_schedule(curves: Sequence[SeenCurve]) -> list[bool]:
    """Say plateau where this project's test does if it takes the learning rate to be constant."""
    return this_test(
        [SeenCurve(losses=curve.losses, schedule=Schedule.constant(curve.schedule.end)) for curve in curves]
    )


RULES: dict[str, PlateauRule] = {
    "patience 3": patience(3),
    "patience 5": patience(5),
    "Mann-Kendall": mann_kendall,
    "Theil-Sen": theil_sen,
    "first conceived": first_conceived,
    "this test": this_test,
    "no schedule known": without_schedule,
}


def wilson_interval(is_plateau: Sequence[bool]) -> dict[str, float]:
    """Return the share of curves called a plateau, with Wilson's 95 % interval."""
    count, n = sum(is_plateau), len(is_plateau)
    bounds = stats.binomtest(count, n).proportion_ci(0.95, method="wilson")
    return {"rate": count / n, "low": float(bounds.low), "high": float(bounds.high), "n": n}


def table(rates: dict[str, Any]) -> str:
    """Return the rates as text, a block per family and kind."""
    lines = []
    for family, levels in rates.items():
        for kind in ("false alarms", "power"):
            counts = ", ".join(f"{next(iter(level[kind].values()))['n']}" for level in levels.values())
            lines += ["", f"{family}: {kind} (n {counts})"]
            lines.append(" " * 18 + "".join(f"{'sigma ' + sigma:>20}" for sigma in levels))
            for name in RULES:
                cells = (level[kind][name] for level in levels.values())
                texts = (f"{cell['rate']:.3f} ({cell['low']:.3f}-{cell['high']:.3f})" for cell in cells)
                lines.append(f"{name:18}" + "".join(f"{text:>20}" for text in texts))
    return "\n".join(lines[1:])


if __name__ == "__main__":
    main()

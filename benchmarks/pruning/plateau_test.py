"""How often the plateau test is wrong, beside usual rules: false alarms on curves that improve, power on stuck ones.

    python -m benchmarks.pruning.plateau_test [--bank FILE] [--n 300] [--seed 0] [--json]

Curves of 40 evaluations are simulated under cosine schedules with a warm-up: from the law itself, and from two
families that it does not hold, a power law whose exponent changes on the way and an exponential approach. With
`--bank`, recorded curves are added (a parquet of `benchmarks.pruning.record_bank`). Each curve ends at a random
evaluation from 20 on and gets noise of standard deviation sigma.

- False alarm: the word is plateau, though the noiseless curve fell by 0.01 nats or more over its last 10 evaluations.
- Power: the word is plateau where the curve was held at its value from a random evaluation on, 10 or more before its
  end, and would have fallen by 0.01 nats or more since.

Rules: patience (no new best by 1e-4 nats in 3 or 5 evaluations), Mann-Kendall (no falling trend at 5 %) and Theil-Sen
(the 95 % interval of the slope holds 0) over the last 10 evaluations, the test as first conceived (last 10 alone,
means, no variance of the law), and this project's, with the schedule and without. Intervals are Wilson's at 95 %;
recorded curves are drawn again and again, so theirs speak of these curves alone. A minute on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.pruning import curve_banks
from sweeps.pruning import law
from sweeps.pruning.law import Schedule
from sweeps.pruning.plateau import WINDOW, CurveState, evaluation_noise, verdicts

Floats = NDArray[np.float64]

SIGMAS = (0.001, 0.003, 0.01, 0.03)
EVALUATIONS = 40
MATTERS = 0.01
"""nats; a smaller drop is neither progress nor missed"""
EARLIEST = 20
FAMILIES = ("law", "broken power law", "exponential approach")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One curve as it is seen up to now."""

    losses: Floats
    schedule: Schedule


Rule = Callable[[Sequence[Case]], list[bool]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=Path, help="a parquet of recorded curves")
    parser.add_argument("--n", type=int, default=300, help="curves a family, noise level and kind (default 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args()
    recorded = [] if arguments.bank is None else curves_of(arguments.bank)
    found = compare(recorded, n=arguments.n, seed=arguments.seed)
    print(json.dumps(found, indent=1) if arguments.json else table(found))


def curves_of(path: Path) -> list[Case]:
    """The complete runs of a bank, noiseless as far as known."""
    bank = curve_banks.read(path)
    if bank.rates is None:
        raise SystemExit(f"{path}: learning rates aren't recorded, so no schedule is known")
    return [
        Case(losses=losses, schedule=Schedule.of(rates))
        for losses, rates in zip(bank.losses, bank.rates, strict=True)
        if np.isfinite(losses).all()
    ]


def compare(recorded: Sequence[Case], *, n: int, seed: int) -> dict[str, Any]:
    """Rates of plateau verdicts by family, sigma, kind and rule: `{"rate", "low", "high", "n"}`."""
    found: dict[str, Any] = {}
    for number, family in enumerate([*FAMILIES, "recorded"] if recorded else FAMILIES):
        found[family] = {}
        for sigma in SIGMAS:
            rng = np.random.default_rng([seed, number, int(sigma * 1e6)])
            draw = [recorded[i] for i in rng.integers(len(recorded), size=3 * n)] if family == "recorded" else None
            clean = draw or [simulated(family, rng) for _ in range(3 * n)]
            kinds = {"false alarms": improving(clean, sigma, rng)[:n], "power": stalled(clean, sigma, rng)[:n]}
            found[family][str(sigma)] = {
                kind: {name: interval(rule(cases)) for name, rule in RULES.items()} for kind, cases in kinds.items()
            }
    return found


def simulated(family: str, rng: np.random.Generator) -> Case:
    """A noiseless curve under a random cosine schedule with warm-up."""
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
    return Case(losses=np.minimum(losses, 9.0), schedule=schedule)


def improving(clean: Sequence[Case], sigma: float, rng: np.random.Generator) -> list[Case]:
    """The curves up to a random evaluation, where they still improve there, with noise."""
    cases = []
    for case in clean:
        seen = case.losses[: rng.integers(EARLIEST, case.schedule.end + 1) + 1]
        if drop(seen) >= MATTERS:
            cases.append(Case(losses=seen + rng.normal(0, sigma, len(seen)), schedule=case.schedule))
    return cases


def stalled(clean: Sequence[Case], sigma: float, rng: np.random.Generator) -> list[Case]:
    """The curves up to a random evaluation, held from an earlier one on, where that lost them something, with noise."""
    cases = []
    for case in clean:
        now = int(rng.integers(EARLIEST, case.schedule.end + 1))
        first = max(case.schedule.warm, 1) + law.NEEDED
        if first > now - WINDOW + 1:
            continue
        since = int(rng.integers(first, now - WINDOW + 2))
        if case.losses[since] - case.losses[now] >= MATTERS:
            held = np.where(np.arange(now + 1) < since, case.losses[: now + 1], case.losses[since])
            cases.append(Case(losses=held + rng.normal(0, sigma, now + 1), schedule=case.schedule))
    return cases


def drop(losses: Floats) -> float:
    """From the first 4 of the last 10 evaluations to the last 4, by means, nats."""
    return float(losses[-WINDOW:][:4].mean() - losses[-4:].mean())


def patience(evaluations: int) -> Rule:
    def stuck(case: Case) -> bool:
        return bool(case.losses[-evaluations:].min() > case.losses[:-evaluations].min() - 1e-4)

    return lambda cases: [stuck(case) for case in cases]


def mann_kendall(cases: Sequence[Case]) -> list[bool]:
    time = np.arange(WINDOW)
    tests = (stats.kendalltau(time, case.losses[-WINDOW:], alternative="less") for case in cases)
    return [bool(test.pvalue > 0.05) for test in tests]


def theil_sen(cases: Sequence[Case]) -> list[bool]:
    slopes = (stats.theilslopes(case.losses[-WINDOW:]) for case in cases)
    return [bool(slope.low_slope <= 0 <= slope.high_slope) for slope in slopes]


def first_conceived(cases: Sequence[Case]) -> list[bool]:
    """Plateau iff `dO + 1.645 SE < 0.5 dE` over the last 10 evaluations, SE from the evaluations' noise alone."""
    fitted = law.fit([case.losses[:-WINDOW] for case in cases], [case.schedule for case in cases])
    shares = np.zeros((len(cases), fitted.basis.shape[3]))
    for row, case in zip(shares, cases, strict=True):
        row[len(case.losses) - WINDOW :][:4] = 0.25
        row[len(case.losses) - 4 : len(case.losses)] = -0.25
    expected = fitted.expected(shares)[0]
    sigma = np.array([evaluation_noise(case.losses[max(case.schedule.warm, 1) :]) for case in cases])
    observed = np.array([drop(case.losses) for case in cases])
    return (observed + 1.645 * 1.1 * sigma * np.sqrt(2 / 4) < 0.5 * expected).tolist()


def ours(cases: Sequence[Case]) -> list[bool]:
    found = verdicts([case.losses for case in cases], [case.schedule for case in cases])
    return [each.word is CurveState.PLATEAU for each in found]


def without_schedule(cases: Sequence[Case]) -> list[bool]:
    return ours([Case(losses=case.losses, schedule=Schedule.constant(case.schedule.end)) for case in cases])


RULES: dict[str, Rule] = {
    "patience 3": patience(3),
    "patience 5": patience(5),
    "Mann-Kendall": mann_kendall,
    "Theil-Sen": theil_sen,
    "first conceived": first_conceived,
    "this test": ours,
    "no schedule known": without_schedule,
}


def interval(said: Sequence[bool]) -> dict[str, float]:
    """The share that was called a plateau, with Wilson's 95 % interval."""
    bounds = stats.binomtest(sum(said), len(said)).proportion_ci(0.95, method="wilson")
    return {"rate": sum(said) / len(said), "low": float(bounds.low), "high": float(bounds.high), "n": len(said)}


def table(found: dict[str, Any]) -> str:
    """The rates as text, a block a family and kind."""
    lines = []
    for family, levels in found.items():
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

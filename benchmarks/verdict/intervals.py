"""Coverage of the verdict's intervals, on simulated studies whose effects are known.

    python -m benchmarks.verdict.intervals [--studies 2000] [--seed 0] [--json]

A study has a baseline, a best config that changes six knobs, each knob alone, the best with each knob reset, and seven
candidates. The baseline, the best and two knobs alone also have runs of half the length. All arms have 2, 3, 5 and 8
seeds, where a smaller set is part of each larger one. The baseline has one seed more.

A seed's luck has a standard deviation of 0.06 nats and is shared by the arms of one width. The rest of the noise is
each arm's own. Runs of half the length share both parts with the whole runs, at a correlation of 0.9 for the luck and
0.7 for the own noise. (In recorded runs, the middle and the end of a run correlate at a median of about 0.9 in both.)
An arm's own noise depends on the scenario:

- even: standard deviation 0.03 for every arm;
- uneven: a standard deviation per arm, log-uniform between 0.004 and 0.05, as measured for gentle changes;
- two widths: uneven, and the best's third knob changes the width, so that its arms have a luck of their own;
- bimodal: uneven, but every arm is stuck 0.3 nats higher on half of the seeds, each arm on its own half;
- factors: standard deviation 0.01, but the luck counts by a factor: 0.5 for arms with the best's knobs, 0.6 to 1.2 for
  the others.

Effects are zero or planted. A planted first knob lowers the loss by 0.1 nats, and nothing else has an effect.

The output is the share of two-sided 95 % intervals that contain the truth, by kind of contrast and number of seeds,
over the intervals that have bounds. JSON also has the share without bounds and the median half-width. Then comes the
share of studies whose verdict claims anything false: that the best breaks the plateau, that a knob breaks it alone, is
necessary or hurts, that a candidate is right or wrong. The last column is of a reader who looks at all four numbers of
seeds and believes whatever is claimed once. Power is the share of planted studies in which the first knob is said to
break the plateau alone. Ten minutes on two cores.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.commands import simulation_arguments
from benchmarks.progress import watched
from sweeps.analysis.contrasts import LEVEL, Contrast, Sample, contrast
from sweeps.analysis.significance import harmful_among, holm, shown

SEEDS = (2, 3, 5, 8)
KNOBS, CANDIDATES, WIDTH_KNOB = 6, 7, 2
LUCK_SD = 0.06
OWN_SD_RANGE = (0.004, 0.05)
STUCK_GAP = 0.3
"""nats by which a stuck run of a bimodal arm ends higher"""
EFFECT, MIN_EFFECT = 0.1, 0.02
EXTRA = max(SEEDS)
"""the baseline's extra seed"""
BATCH_STUDIES = 20
"""studies per task of a worker process"""

ALONE = tuple(f"alone {knob}" for knob in range(KNOBS))
RESET = tuple(f"reset {knob}" for knob in range(KNOBS))
ADVICE = tuple(f"advice {index}" for index in range(CANDIDATES))
FULL = ("baseline", "best", *ALONE, *RESET, *ADVICE)
HALF = ("baseline", "best", *ALONE[:2])
WIDER = ("best", ALONE[WIDTH_KNOB], *(RESET[knob] for knob in range(KNOBS) if knob != WIDTH_KNOB))
"""arms of the best's width, where a knob changes the width"""
PLANTED_ARMS = ("best", ALONE[0], *RESET[1:])
"""arms that have the planted effect"""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One kind of study."""

    name: str
    planted: bool = False
    even: bool = False
    two_widths: bool = False
    factors: bool = False
    bimodal: bool = False


SCENARIOS = (
    Scenario(name="even", even=True),
    Scenario(name="uneven"),
    Scenario(name="two widths", two_widths=True),
    Scenario(name="planted", planted=True),
    Scenario(name="planted, two widths", planted=True, two_widths=True),
    Scenario(name="bimodal", bimodal=True),
    Scenario(name="factors", factors=True),
)

Samples = Mapping[str, Sample]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A contrast that the verdict asks for."""

    kind: str
    weights: Mapping[str, float]
    threshold: float = 0.0
    late: bool = False
    """the losses are those at the horizon less half of those at half the horizon"""
    pooled: bool = True
    """other arms inform the estimate of its noise"""


def gain(name: str) -> dict[str, float]:
    """Return the weights of an arm's gain over the baseline."""
    return {"baseline": 1, name: -1}


def questions() -> Iterator[Question]:
    """Yield the verdict's questions: about the best, then each knob, then the candidates."""
    yield Question(kind="effect", weights=gain("best"), threshold=MIN_EFFECT, pooled=False)
    yield Question(kind="lasting", weights=gain("best"), late=True, pooled=False)
    for alone, reset in zip(ALONE, RESET, strict=True):
        yield Question(kind="alone", weights=gain(alone), threshold=MIN_EFFECT)
        if alone in HALF:
            yield Question(kind="alone, lasting", weights=gain(alone), late=True)
        yield Question(kind="reset", weights={reset: 1, "best": -1})
        yield Question(kind="needed", weights={reset: 1, "best": -0.5, "baseline": -0.5})
    for name in ADVICE:
        yield Question(kind="advice", weights=gain(name), threshold=MIN_EFFECT)


QUESTIONS = tuple(questions())
KINDS = tuple(dict.fromkeys(question.kind for question in QUESTIONS))


@dataclass(frozen=True, kw_only=True)
class SimulatedStudy:
    """Losses by arm on all seeds, at the horizon and at half of it. The baseline's last seed is its extra one."""

    full: Samples
    half: Samples
    means: Mapping[str, float]
    """true means at the horizon"""
    half_means: Mapping[str, float]

    def seen(self, n: int) -> tuple[Samples, Samples]:
        """Return the samples of n seeds: at the horizon, and at the horizon less half of those at half of it.

        The baseline has one seed more.
        """
        full, half = (
            {
                name: Sample(
                    losses={seed: loss for seed, loss in sample.losses.items() if seed < n or seed == EXTRA},
                    shape=sample.shape,
                )
                for name, sample in samples.items()
            }
            for samples in (self.full, self.half)
        )
        return full, {name: full[name].less(0.5, sample) for name, sample in half.items()}

    def truth(self, question: Question) -> float:
        """Return the true value of what a contrast estimates."""
        late_means = {name: mean - 0.5 * self.half_means[name] for name, mean in self.means.items() if name in HALF}
        means = late_means if question.late else self.means
        return sum(weight * means[name] for name, weight in question.weights.items())


def simulated_study(scenario: Scenario, rng: np.random.Generator) -> SimulatedStudy:
    """Draw one study of a scenario."""
    luck = {width: LUCK_SD * correlated(rng, 0.9) for width in ("narrow", "wide")}
    samples: tuple[dict[str, Sample], dict[str, Sample]] = {}, {}
    means: tuple[dict[str, float], dict[str, float]] = {}, {}
    for name in FULL:
        width = "wide" if scenario.two_widths and name in WIDER else "narrow"
        sd, factor = _own_sd_and_luck_factor(scenario, name, rng)
        losses = factor * luck[width] + sd * correlated(rng, 0.7)
        mean = -EFFECT if scenario.planted and name in PLANTED_ARMS else 0.0
        if scenario.bimodal:
            losses, mean = losses + STUCK_GAP * ((rng.random(losses.shape) < 0.5) - 0.5), mean + STUCK_GAP / 2
        for half in (0, 1) if name in HALF else (0,):
            last = EXTRA if name == "baseline" and not half else EXTRA - 1
            values = {seed: 4 + mean + loss for seed, loss in enumerate(losses[half].tolist()) if seed <= last}
            samples[half][name] = Sample(losses=values, shape=width)
            means[half][name] = 4 + mean
    return SimulatedStudy(full=samples[0], half=samples[1], means=means[0], half_means=means[1])


def _own_sd_and_luck_factor(scenario: Scenario, arm: str, rng: np.random.Generator) -> tuple[float, float]:
    sd = float(np.exp(rng.uniform(*np.log(OWN_SD_RANGE))))
    if scenario.factors:
        return 0.01, 0.5 if arm in ("best", *RESET) else rng.uniform(0.6, 1.2)
    return 0.03 if scenario.even else sd, 1.0


def correlated(rng: np.random.Generator, correlation: float) -> NDArray[np.float64]:
    """Draw standard normal values by length (whole, half) and seed, correlated between the lengths."""
    whole, independent = rng.standard_normal((2, EXTRA + 1))
    return np.array([whole, correlation * whole + np.sqrt(1 - correlation**2) * independent])


def claims_of_contrasts(contrasts: Mapping[str, list[Contrast]]) -> set[str]:
    """Return what the verdict claims, by the contrasts of each kind."""

    def significant(names: Iterable[str], p_values: Iterable[float | None]) -> set[str]:
        return {name for name, p in zip(names, p_values, strict=True) if p is not None and p <= LEVEL}

    def p_values(kind: str) -> list[float | None]:
        return holm([contrast.p for contrast in contrasts[kind]])

    def harmful(kind: str, names: Iterable[str]) -> set[str]:
        is_harmful = harmful_among(contrasts[kind], MIN_EFFECT)
        return {f"harmful: {name}" for name, harm in zip(names, is_harmful, strict=True) if harm}

    claims = significant((f"right: {name}" for name in ADVICE), p_values("advice"))
    claims |= harmful("advice", ADVICE) | harmful("alone", ALONE)
    if shown(contrasts["effect"][0]) and shown(contrasts["lasting"][0]):
        # only the first knobs have runs of half the length
        lasting = {name for name, late in zip(ALONE, contrasts["alone, lasting"], strict=False) if shown(late)}
        claims |= {"broken"}
        claims |= significant(ALONE, p_values("alone")) & lasting
        claims |= significant(RESET, p_values("needed"))
    return claims


def true_claims(scenario: Scenario) -> set[str]:
    """Return the claims that hold in a scenario."""
    return {"broken", ALONE[0], RESET[0]} if scenario.planted else set()


@dataclass(frozen=True, kw_only=True)
class Look:
    """The answers to one study's questions on one number of seeds."""

    n: int
    intervals: tuple[tuple[str, bool | None, float | None], ...]
    """kind, whether the interval contains the truth (None: it has no bounds), half-width"""
    claims: frozenset[str]


def looks_at_study(scenario: Scenario, rng: np.random.Generator) -> list[Look]:
    """Draw one study and look at it on every number of seeds."""
    study, looks = simulated_study(scenario, rng), []
    for n in SEEDS:
        full, late = study.seen(n)
        intervals: list[tuple[str, bool | None, float | None]] = []
        contrasts: dict[str, list[Contrast]] = defaultdict(list)
        for question in QUESTIONS:
            answer = contrast(
                question.weights,
                late if question.late else full,
                threshold=question.threshold,
                pooled=question.pooled,
            )
            assert answer is not None
            contrasts[question.kind].append(answer)
            covers = half_width = None
            if answer.low is not None and answer.high is not None:
                covers = answer.low <= study.truth(question) <= answer.high
                half_width = (answer.high - answer.low) / 2
            intervals.append((question.kind, covers, half_width))
        looks.append(Look(n=n, intervals=tuple(intervals), claims=frozenset(claims_of_contrasts(contrasts))))
    return looks


def _batch_of_looks(task: tuple[Scenario, int, int, int]) -> list[list[Look]]:
    scenario, first_study, last_study, seed = task
    number = SCENARIOS.index(scenario)
    return [
        looks_at_study(scenario, np.random.default_rng([seed, number, index]))
        for index in range(first_study, last_study)
    ]


def measure_intervals(scenarios: Iterable[Scenario], *, studies: int, seed: int) -> list[dict[str, Any]]:
    """Return coverage, claims and power by scenario."""
    tasks = [
        (scenario, index, min(index + BATCH_STUDIES, studies), seed)
        for scenario in scenarios
        for index in range(0, studies, BATCH_STUDIES)
    ]
    looks: dict[str, list[list[Look]]] = defaultdict(list)
    with ProcessPoolExecutor() as pool:
        batches = watched(pool.map(_batch_of_looks, tasks), len(tasks), noun=f"batches of {BATCH_STUDIES} studies")
        for (scenario, *_), batch in zip(tasks, batches, strict=True):
            looks[scenario.name] += batch
    return [scenario_shares(scenario, looks[scenario.name]) for scenario in SCENARIOS if scenario.name in looks]


def scenario_shares(scenario: Scenario, studies: list[list[Look]]) -> dict[str, Any]:
    """Return the shares over the studies of a scenario; a study is its looks by number of seeds."""
    true = true_claims(scenario)
    has_false_claim = [[bool(look.claims - true) for look in looks] for looks in studies]
    shares: dict[str, Any] = {"scenario": scenario.name, "studies": len(studies), "kinds": [], "verdict": []}
    for number, n in enumerate(SEEDS):
        for kind in KINDS:
            intervals = [interval for looks in studies for interval in looks[number].intervals if interval[0] == kind]
            bounded = [(hit, width) for _, hit, width in intervals if hit is not None and width is not None]
            shares["kinds"].append(
                {
                    "kind": kind,
                    "n": n,
                    "coverage": statistics.fmean(hit for hit, _ in bounded) if bounded else None,
                    "unbounded": 1 - len(bounded) / len(intervals),
                    "half_width": statistics.median(width for _, width in bounded) if bounded else None,
                }
            )
        verdict: dict[str, Any] = {
            "n": n,
            "false_claims": statistics.fmean(by_look[number] for by_look in has_false_claim),
        }
        if scenario.planted:
            verdict["power"] = statistics.fmean({"broken", ALONE[0]} <= looks[number].claims for looks in studies)
        shares["verdict"].append(verdict)
    shares["false_claims_at_any"] = statistics.fmean(any(by_look) for by_look in has_false_claim)
    return shares


def table(scenarios: list[dict[str, Any]]) -> str:
    """Return the shares as text, a block per scenario."""
    lines = []
    for shares in scenarios:
        lines += ["", f"{shares['scenario']} ({shares['studies']} studies)"]
        lines.append(f"  {'':16}" + "".join(f"{f'{n} seeds':>10}" for n in SEEDS) + f"{'any':>10}")
        for kind in KINDS:
            cells = [row["coverage"] for row in shares["kinds"] if row["kind"] == kind]
            lines.append(f"  {kind:16}" + "".join(f"{'-' if cell is None else f'{cell:.3f}':>10}" for cell in cells))
        false_claims = [row["false_claims"] for row in shares["verdict"]] + [shares["false_claims_at_any"]]
        lines.append(f"  {'false claims':16}" + "".join(f"{share:>10.3f}" for share in false_claims))
        if "power" in shares["verdict"][0]:
            lines.append(f"  {'power':16}" + "".join(f"{row['power']:>10.3f}" for row in shares["verdict"]))
    return "\n".join(lines[1:])


def main() -> None:
    """Print coverage, false claims and power."""
    options = simulation_arguments(__doc__, studies=2000)
    scenarios = measure_intervals(SCENARIOS, studies=options.studies, seed=options.seed)
    print(json.dumps(scenarios, indent=1) if options.json else table(scenarios))


if __name__ == "__main__":
    main()

"""Do the verdict's intervals hold what they promise? Simulated studies whose effects are known.

    python -m benchmarks.verdict.intervals [--studies 2000] [--seed 0] [--json]

A study has a baseline, a best config that changes six knobs, each knob alone, the best with each knob reset, seven
candidates, and runs half as long of the baseline, the best and two knobs alone; all on 2, 3, 5 and 8 seeds, those of a
smaller number among those of a larger one, and the baseline on one more. A seed's luck has sd .06 nats; arms of one
width share it. What is left is each arm's own. Runs half as long share either with the whole ones at a correlation of
.9 and .7 (within recorded runs, their middle against their end, both have a median of about .9). An arm's own noise:

- even: sd .03 for every arm;
- uneven: an sd for each arm, between .004 and .05 (log-uniform), as was measured for gentle changes;
- two widths: uneven, and the best's third knob changes the width, so that its arms have luck of their own;
- bimodal: uneven, but every arm is stuck .3 nats above at half of the seeds, each at its own;
- factors: sd .01, but arms feel the luck by factors: those with the best's knobs by .5, the others by .6 to 1.2.

Effects are nil, or planted: the first knob lowers the loss by .1 nats, and nothing else does anything. Printed are, by
kind of contrast and seeds, the share of two-sided 95 % intervals that hold the truth (of those that have bounds; in
JSON also the share that have none and the median half width), and how often the whole verdict claims something false:
that the best breaks the plateau, that a knob does it alone, is necessary or hurts, that a candidate is right or wrong.
The last column is of a reader who looks at all four numbers of seeds and believes whatever is said once. Power is the
share of planted studies where the first knob is said to break it alone. Ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.progress import watched
from sweeps.analysis.contrasts import LEVEL, Contrast, Sample, contrast
from sweeps.analysis.significance import harmful_among, holm, shown

Floats = NDArray[np.float64]

SEEDS = (2, 3, 5, 8)
KNOBS, CANDIDATES, WIDTH = 6, 7, 2
LUCK, EFFECT, MIN_EFFECT, STUCK = 0.06, 0.1, 0.02, 0.3
OWN = (0.004, 0.05)
EXTRA = max(SEEDS)
"""the baseline's extra seed"""

ALONE = tuple(f"alone {knob}" for knob in range(KNOBS))
RESET = tuple(f"reset {knob}" for knob in range(KNOBS))
ADVICE = tuple(f"advice {index}" for index in range(CANDIDATES))
FULL = ("baseline", "best", *ALONE, *RESET, *ADVICE)
HALF = ("baseline", "best", *ALONE[:2])
WIDER = ("best", ALONE[WIDTH], *(RESET[knob] for knob in range(KNOBS) if knob != WIDTH))
"""arms of the best's width, where a knob changes it"""
NAMED = ("best", ALONE[0], *RESET[1:])
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
    """of losses at the horizon less half of those at half of it"""
    pooled: bool = True
    """other arms tell of its noise"""


def gain(name: str) -> dict[str, float]:
    return {"baseline": 1, name: -1}


def questions() -> Iterator[Question]:
    """The verdict's: the best, then each knob, then the candidates."""
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
class Study:
    """Losses by arm at all seeds (the baseline's last is its extra one), at the horizon and half of it."""

    full: Samples
    half: Samples
    means: Mapping[str, float]
    """true ones at the horizon"""
    half_means: Mapping[str, float]

    def seen(self, n: int) -> tuple[Samples, Samples]:
        """What there is of n seeds (the baseline has one more): losses at the horizon, and these less half of those at
        half of it."""
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
        """The true value of what a contrast estimates."""
        means = {name: mean - 0.5 * self.half_means[name] for name, mean in self.means.items() if name in HALF}
        return sum(weight * (means if question.late else self.means)[name] for name, weight in question.weights.items())


def simulated(scenario: Scenario, rng: np.random.Generator) -> Study:
    """One study of a scenario."""
    luck = {width: LUCK * correlated(rng, 0.9) for width in ("narrow", "wide")}
    samples: tuple[dict[str, Sample], dict[str, Sample]] = {}, {}
    means: tuple[dict[str, float], dict[str, float]] = {}, {}
    for name in FULL:
        width = "wide" if scenario.two_widths and name in WIDER else "narrow"
        sd, factor = float(np.exp(rng.uniform(*np.log(OWN)))), 1.0
        if scenario.even:
            sd = 0.03
        if scenario.factors:
            sd, factor = 0.01, 0.5 if name in ("best", *RESET) else rng.uniform(0.6, 1.2)
        losses = factor * luck[width] + sd * correlated(rng, 0.7)
        mean = -EFFECT if scenario.planted and name in NAMED else 0.0
        if scenario.bimodal:
            losses, mean = losses + STUCK * ((rng.random(losses.shape) < 0.5) - 0.5), mean + STUCK / 2
        for half in (0, 1) if name in HALF else (0,):
            last = EXTRA if name == "baseline" and not half else EXTRA - 1
            values = {seed: 4 + mean + loss for seed, loss in enumerate(losses[half].tolist()) if seed <= last}
            samples[half][name] = Sample(losses=values, shape=width)
            means[half][name] = 4 + mean
    return Study(full=samples[0], half=samples[1], means=means[0], half_means=means[1])


def correlated(rng: np.random.Generator, correlation: float) -> Floats:
    """Standard normal values by length (whole, half) and seed."""
    one, other = rng.standard_normal((2, EXTRA + 1))
    return np.array([one, correlation * one + np.sqrt(1 - correlation**2) * other])


def claims(found: Mapping[str, list[Contrast]]) -> set[str]:
    """What the verdict says, by the contrasts of each kind."""

    def named(names: Iterable[str], p: Iterable[float | None]) -> set[str]:
        return {name for name, each in zip(names, p, strict=True) if each is not None and each <= LEVEL}

    def gains(kind: str) -> list[float | None]:
        return holm([each.p for each in found[kind]])

    def harms(kind: str, names: Iterable[str]) -> set[str]:
        hit = harmful_among(found[kind], MIN_EFFECT)
        return {f"harmful: {name}" for name, each in zip(names, hit, strict=True) if each}

    said = named((f"right: {name}" for name in ADVICE), gains("advice"))
    said |= harms("advice", ADVICE) | harms("alone", ALONE)
    if shown(found["effect"][0]) and shown(found["lasting"][0]):
        late = {name for name, each in zip(ALONE, found["alone, lasting"], strict=False) if shown(each)}
        said |= {"broken"} | (named(ALONE, gains("alone")) & late) | named(RESET, gains("needed"))
    return said


def true_claims(scenario: Scenario) -> set[str]:
    return {"broken", ALONE[0], RESET[0]} if scenario.planted else set()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of one study's questions at one number of seeds."""

    n: int
    held: tuple[tuple[str, bool | None, float | None], ...]
    """kind, whether the interval holds the truth (None: it has no bounds), its half width"""
    said: frozenset[str]


def look(scenario: Scenario, rng: np.random.Generator) -> list[Seen]:
    """One study at every number of seeds."""
    study, seen = simulated(scenario, rng), []
    for n in SEEDS:
        full, late = study.seen(n)
        held, found = [], defaultdict(list)
        for question in QUESTIONS:
            each = contrast(
                question.weights,
                late if question.late else full,
                threshold=question.threshold,
                pooled=question.pooled,
            )
            assert each is not None
            found[question.kind].append(each)
            hit = width = None
            if each.low is not None and each.high is not None:
                hit, width = each.low <= study.truth(question) <= each.high, (each.high - each.low) / 2
            held.append((question.kind, hit, width))
        seen.append(Seen(n=n, held=tuple(held), said=frozenset(claims(found))))
    return seen


def _studies(task: tuple[Scenario, int, int, int]) -> list[list[Seen]]:
    scenario, first_study, last_study, seed = task
    number = SCENARIOS.index(scenario)
    return [look(scenario, np.random.default_rng([seed, number, index])) for index in range(first_study, last_study)]


def measure(scenarios: Iterable[Scenario], *, studies: int, seed: int) -> list[dict[str, Any]]:
    """Coverage, claims and power by scenario."""
    size = 20
    tasks = [
        (scenario, index, min(index + size, studies), seed)
        for scenario in scenarios
        for index in range(0, studies, size)
    ]
    looks: dict[str, list[list[Seen]]] = defaultdict(list)
    with ProcessPoolExecutor() as pool:
        parts = watched(pool.map(_studies, tasks), len(tasks), noun=f"batches of {size} studies")
        for (scenario, *_), part in zip(tasks, parts, strict=True):
            looks[scenario.name] += part
    return [summary(scenario, looks[scenario.name]) for scenario in SCENARIOS if scenario.name in looks]


def summary(scenario: Scenario, looks: list[list[Seen]]) -> dict[str, Any]:
    """Shares over the studies of a scenario."""
    true = true_claims(scenario)
    wrong = [[bool(seen.said - true) for seen in study] for study in looks]
    found: dict[str, Any] = {"scenario": scenario.name, "studies": len(looks), "kinds": [], "verdict": []}
    for number, n in enumerate(SEEDS):
        for kind in KINDS:
            held = [each for study in looks for each in study[number].held if each[0] == kind]
            known = [(hit, width) for _, hit, width in held if hit is not None and width is not None]
            found["kinds"].append(
                {
                    "kind": kind,
                    "n": n,
                    "coverage": statistics.fmean(hit for hit, _ in known) if known else None,
                    "unbounded": 1 - len(known) / len(held),
                    "half_width": statistics.median(width for _, width in known) if known else None,
                }
            )
        verdict: dict[str, Any] = {"n": n, "false_claims": statistics.fmean(each[number] for each in wrong)}
        if scenario.planted:
            named = [{"broken", ALONE[0]} <= study[number].said for study in looks]
            verdict["power"] = statistics.fmean(named)
        found["verdict"].append(verdict)
    found["false_claims_at_any"] = statistics.fmean(any(each) for each in wrong)
    return found


def table(found: list[dict[str, Any]]) -> str:
    """The shares as text, a block a scenario."""
    lines = []
    for scenario in found:
        lines += ["", f"{scenario['scenario']} ({scenario['studies']} studies)"]
        lines.append(f"  {'':16}" + "".join(f"{f'{n} seeds':>10}" for n in SEEDS) + f"{'any':>10}")
        for kind in KINDS:
            cells = [each["coverage"] for each in scenario["kinds"] if each["kind"] == kind]
            lines.append(f"  {kind:16}" + "".join(f"{'-' if cell is None else f'{cell:.3f}':>10}" for cell in cells))
        said = [each["false_claims"] for each in scenario["verdict"]] + [scenario["false_claims_at_any"]]
        lines.append(f"  {'false claims':16}" + "".join(f"{each:>10.3f}" for each in said))
        if "power" in scenario["verdict"][0]:
            lines.append(f"  {'power':16}" + "".join(f"{each['power']:>10.3f}" for each in scenario["verdict"]))
    return "\n".join(lines[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="of each scenario (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args()
    found = measure(SCENARIOS, studies=arguments.studies, seed=arguments.seed)
    print(json.dumps(found, indent=1) if arguments.json else table(found))


if __name__ == "__main__":
    main()

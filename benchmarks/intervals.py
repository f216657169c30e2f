"""Do the verdict's intervals hold what they promise? Simulated studies whose effects are known.

    python -m benchmarks.intervals [--studies 2000] [--seed 0] [--json]

A study has a baseline, a best config that changes six knobs, each knob alone, the best with each knob reset, seven
candidates, and runs half as long of the baseline, the best and each knob alone; all on 2, 3, 5 and 8 seeds, those of a
smaller number among those of a larger one, and the baseline on one more. A seed's luck has sd .06 nats; arms that start
from the same weights share it, as runs half as long do at a correlation of .9. What is left is each arm's own:

- even: sd .03 for every arm;
- uneven: an sd for each arm, between .004 and .05 (log-uniform), as was measured for gentle changes;
- two widths: uneven, and the best's third knob changes the width, so that its arms have luck of their own;
- factors: the best's arms feel the seed half as much as the baseline's, the others by .6 to 1.2; sd .01 beside it;
- bimodal: uneven, but all arms are stuck .3 nats above at half of the seeds, each at its own.

Effects are nil, or planted: the first knob lowers the loss by .1 nats, and nothing else does anything. Printed are, by
kind of contrast and seeds, the share of two-sided 95 % intervals that hold the truth (of those that have bounds; in
JSON also the share that have none and the median half width), and how often the whole verdict claims something false:
that the best breaks the plateau, that a knob does it alone or is necessary, that a candidate is right or wrong. The
last column is of a reader who looks at all four numbers of seeds and believes whatever is said once. Power is the share
of planted studies where the first knob is named. Four minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from sweeps.contrasts import Contrast, Sample, contrast, harmful, holm, shown

Floats = NDArray[np.float64]

SEEDS = (2, 3, 5, 8)
KNOBS, CANDIDATES, WIDTH = 6, 7, 2
LUCK, EFFECT, MIN_EFFECT, STUCK = 0.06, 0.1, 0.02, 0.3

ALONE = tuple(f"alone {knob}" for knob in range(KNOBS))
RESET = tuple(f"reset {knob}" for knob in range(KNOBS))
ADVICE = tuple(f"advice {index}" for index in range(CANDIDATES))
FULL = ("baseline", "best", *ALONE, *RESET, *ADVICE)
HALF = ("baseline", "best", *ALONE)
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

Arm = tuple[str, bool]
"""name, and whether it runs half as long"""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A contrast that the verdict asks for."""

    kind: str
    weights: Mapping[Arm, float]
    threshold: float = 0.0


def gain(name: str) -> dict[Arm, float]:
    return {("baseline", False): 1, (name, False): -1}


def lasting(name: str) -> dict[Arm, float]:
    return {**gain(name), ("baseline", True): -0.5, (name, True): 0.5}


def questions() -> Iterator[Question]:
    """The verdict's: the best, then each knob, then the candidates."""
    yield Question(kind="effect", weights=gain("best"), threshold=MIN_EFFECT)
    yield Question(kind="lasting", weights=lasting("best"))
    for knob in range(KNOBS):
        reset = (RESET[knob], False)
        best, baseline = ("best", False), ("baseline", False)
        yield Question(kind="alone", weights=gain(ALONE[knob]), threshold=MIN_EFFECT)
        yield Question(kind="alone lasting", weights=lasting(ALONE[knob]))
        yield Question(kind="reset", weights={reset: 1, best: -1})
        yield Question(kind="needed", weights={reset: 1, best: -0.5, baseline: -0.5})
    for name in ADVICE:
        yield Question(kind="advice", weights=gain(name), threshold=MIN_EFFECT)


QUESTIONS = tuple(questions())
KINDS = tuple(dict.fromkeys(question.kind for question in QUESTIONS))


def study(scenario: Scenario, rng: np.random.Generator) -> tuple[dict[Arm, Sample], dict[Arm, float]]:
    """Losses by arm at all seeds (the baseline's last is its extra one), and the arms' true means."""
    seeds = max(SEEDS) + 1
    widths = {name: scenario.two_widths and name in WIDER for name in FULL}
    luck = {wide: correlated(rng, seeds, 0.9) * LUCK for wide in (False, True)}
    samples, truth = {}, {}
    for name in FULL:
        if scenario.even:
            sd = 0.03
        elif scenario.factors:
            sd = 0.01
        else:
            sd = float(np.exp(rng.uniform(np.log(0.004), np.log(0.05))))
        factor = 1.0
        if scenario.factors and name != "baseline":
            factor = 0.5 if name == "best" or name in RESET else rng.uniform(0.6, 1.2)
        own = correlated(rng, seeds, 0.5) * sd
        for half in (False, True) if name in HALF else (False,):
            losses = 4 + 0.3 * half + factor * luck[widths[name]][int(half)] + own[int(half)]
            mean = 4 + 0.3 * half
            if scenario.planted and name in NAMED:
                losses, mean = losses - EFFECT, mean - EFFECT
            if scenario.bimodal:
                losses, mean = losses + STUCK * (rng.random(seeds) < 0.5), mean + STUCK / 2
            upto = seeds if name == "baseline" and not half else seeds - 1
            samples[name, half] = Sample(
                losses=dict(enumerate(losses[:upto].tolist())), shape=(widths[name], half), start=widths[name]
            )
            truth[name, half] = mean
    return samples, truth


def correlated(rng: np.random.Generator, n: int, correlation: float) -> Floats:
    """Two rows of n standard normal values, for the whole horizon and for half of it."""
    one, other = rng.standard_normal((2, n))
    return np.array([one, correlation * one + np.sqrt(1 - correlation**2) * other])


def first(samples: Mapping[Arm, Sample], n: int) -> dict[Arm, Sample]:
    """The study when it has n seeds, and the baseline one more."""
    extra = max(SEEDS)
    return {
        arm: dataclasses.replace(
            sample, losses={seed: loss for seed, loss in sample.losses.items() if seed < n or seed == extra}
        )
        for arm, sample in samples.items()
    }


def claims(found: Mapping[str, list[Contrast]]) -> set[str]:
    """What the verdict says, by the contrasts of each kind."""

    def adjusted(kind: str) -> list[Contrast]:
        p = holm([each.p for each in found[kind]])
        return [dataclasses.replace(each, p=value) for each, value in zip(found[kind], p, strict=True)]

    said = set()
    if shown(found["effect"][0]) and shown(found["lasting"][0]):
        said.add("broken")
        for knob, (each, late, need) in enumerate(
            zip(adjusted("alone"), found["alone lasting"], adjusted("needed"), strict=True)
        ):
            if shown(each) and shown(late):
                said.add(ALONE[knob])
            if shown(need):
                said.add(RESET[knob])
    for name, each in zip(ADVICE, adjusted("advice"), strict=True):
        if shown(each) or harmful(each, MIN_EFFECT):
            said.add(name)
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
    samples, truth = study(scenario, rng)
    seen = []
    for n in SEEDS:
        now, held, found = first(samples, n), [], defaultdict(list)
        for question in QUESTIONS:
            each = contrast(question.weights, now, threshold=question.threshold)
            assert each is not None
            found[question.kind].append(each)
            true = sum(weight * truth[arm] for arm, weight in question.weights.items())
            if each.low is None or each.high is None:
                held.append((question.kind, None, None))
            else:
                held.append((question.kind, each.low <= true <= each.high, (each.high - each.low) / 2))
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

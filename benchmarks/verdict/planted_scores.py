"""What a verdict is worth where the truth is known: which knob was broken, and what direct runs show of each claim."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

NAMED = ("alone", "necessary", "joint")
"""verdicts that name a knob"""
Arm = frozenset[str]
"""knobs that are as the best trial has them, the rest as the baseline has"""
Losses = Mapping[Arm, Sequence[float]]
"""final losses of direct runs, nats; of every arm at the same seeds"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean over seeds, nats, with its 95 % interval (Student's, paired)."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One thing that the verdict says of a knob (of two, where it takes both), with its 95 % interval, nats."""

    knobs: tuple[str, ...]
    verdict: str
    effect: float
    low: float | None
    high: float | None
    direct: Difference | None = None
    """the same difference on further seeds"""

    @property
    def held(self) -> bool | None:
        """Whether the interval holds the direct mean; None: it isn't known."""
        if self.direct is None or self.low is None or self.high is None:
            return None
        return self.low <= self.direct.mean <= self.high


@dataclass(frozen=True, kw_only=True)
class Score:
    """One case."""

    case: str
    planted: tuple[str, ...]
    """knobs that mend what was broken; empty: the null case"""
    word: str
    """breaks, improves or none"""
    broken: bool
    delta: float | None
    """gain of the best config on fresh seeds, nats"""
    named: tuple[str, ...]
    """knobs that the verdict names, in its order"""
    innocents: int
    """knobs that were not broken"""
    excused: tuple[str, ...]
    """innocents that are named, and do what is said of them, as direct runs show"""
    advice: tuple[str, ...]
    """candidates that are called right"""
    claims: tuple[Claim, ...]
    mended: Difference | None
    """what mending the fault gains directly"""
    best: Difference | None
    """what the best config gains directly, where it was measured"""
    shares: Mapping[str, Mapping[str, float]]
    """Optuna's importances of the search's trials, by evaluator and knob"""
    runs: int
    seconds: float

    @property
    def first(self) -> bool:
        """Whether the knob named first is one that was broken."""
        return bool(self.named) and self.named[0] in self.planted

    @property
    def accused(self) -> tuple[str, ...]:
        """Innocents that the verdict names wrongly."""
        return tuple(knob for knob in self.named if knob not in self.planted and knob not in self.excused)

    @property
    def claims_anything(self) -> bool:
        """What may not be on the null case."""
        return self.broken or bool(self.named) or bool(self.advice)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """So many of so many, with the 95 % interval of Clopper and Pearson."""

    what: str
    k: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """0 to 1 where n is 0."""
        if not self.n:
            return 0.0, 1.0
        found = stats.binomtest(self.k, self.n).proportion_ci(method="exact")
        return float(found.low), float(found.high)


def score(
    case: str,
    planted: tuple[str, ...],
    shown: Mapping[str, Any],
    *,
    knobs: int,
    losses: Losses,
    mended: Sequence[float],
    shares: Mapping[str, Mapping[str, float]],
) -> Score:
    """The case by what `sweep run --json` has shown, and by direct runs where there are any: `losses` of the arms that
    its claims ask for, `mended` of the baseline with its fault put right. `knobs` is how many the study sweeps."""
    verdict = shown["verdict"] or NOTHING
    changed, found = changes(verdict), list(claims(verdict))
    if losses:
        found = [dataclasses.replace(claim, direct=measured(claim, losses, changed)) for claim in found]
    floor = verdict["min_effect"]
    return Score(
        case=case,
        planted=planted,
        word=verdict["word"],
        broken=verdict["broken"],
        delta=verdict["delta"],
        named=tuple(knob["name"] for knob in verdict["knobs"] if knob["verdict"] in NAMED),
        innocents=knobs - len(planted),
        excused=tuple(
            knob
            for claim in found
            for knob in claim.knobs
            if knob not in planted and losses and deserved(claim, knob, losses, changed, min_effect=floor)
        ),
        advice=tuple(
            " ".join(f"{name}={value}" for name, value in each["config"].items())
            for each in verdict["candidates"]
            if each["verdict"] == "right"
        ),
        claims=tuple(found),
        mended=difference(losses[Arm()], mended) if mended else None,
        best=difference(losses[Arm()], losses[changed]) if changed and changed in losses else None,
        shares=shares,
        runs=sum(shown["trials"].values()),
        seconds=shown["seconds"],
    )


NOTHING: Mapping[str, Any] = {
    "broken": False,
    "word": "none",
    "delta": None,
    "min_effect": 0.0,
    "knobs": [],
    "candidates": [],
}
"""the verdict where the search has found nothing to confirm"""


def changes(verdict: Mapping[str, Any]) -> Arm:
    """All knobs of the best trial."""
    return Arm(knob["name"] for knob in verdict["knobs"])


def claims(verdict: Mapping[str, Any]) -> Iterator[Claim]:
    """What a verdict, as `sweep run --json` prints it, says of knobs; two that work only jointly make one claim."""
    for knob in verdict["knobs"]:
        word, knobs, found = knob["verdict"], (knob["name"],), knob
        if word not in NAMED:
            continue
        if word == "joint":
            found = verdict["joint"]
            knobs = tuple(found["knobs"])
            if knob["name"] != knobs[0]:
                continue
        elif word == "necessary":
            found = knob["reset"]
        low, high = found["ci"] or (None, None)
        yield Claim(knobs=knobs, verdict=word, effect=found["effect"], low=low, high=high)


def arms(claim: Claim, changed: Arm) -> tuple[Arm, ...]:
    """The arms that show whether a claim is true; `changed` are all knobs of the best trial."""
    if claim.verdict == "necessary":
        return Arm(), changed, changed - set(claim.knobs)
    return Arm(), Arm(claim.knobs), *(Arm([knob]) for knob in claim.knobs if len(claim.knobs) > 1)


def measured(claim: Claim, losses: Losses, changed: Arm) -> Difference | None:
    """The claim's own difference: what its knobs gain, or what the best loses without a necessary one."""
    if claim.verdict == "necessary":
        return difference(losses[changed - set(claim.knobs)], losses[changed])
    return difference(losses[Arm()], losses[Arm(claim.knobs)])


def deserved(claim: Claim, knob: str, losses: Losses, changed: Arm, *, min_effect: float) -> bool:
    """Whether direct runs bear out what the claim says of one of its knobs.

    Alone: it gains more than min_effect. Joint: it adds more than that to the other. Necessary: the best loses more
    than half of its gain without it.
    """
    found, bar = measured(claim, losses, changed), min_effect
    if claim.verdict == "necessary":
        gain = difference(losses[Arm()], losses[changed])
        bar = math.inf if gain is None else gain.mean / 2
    elif claim.verdict == "joint":
        found = difference(losses[Arm(claim.knobs) - {knob}], losses[Arm(claim.knobs)])
    return found is not None and found.mean > bar


def difference(one: Sequence[float], other: Sequence[float]) -> Difference | None:
    """one - other, paired by seed, over the seeds at which neither diverged (is infinite); None: fewer than two."""
    found = [a - b for a, b in zip(one, other, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(found) < 2:
        return None
    mean = statistics.fmean(found)
    half = float(stats.t.ppf(0.975, len(found) - 1)) * statistics.stdev(found) / math.sqrt(len(found))
    return Difference(mean=mean, low=mean - half, high=mean + half, n=len(found))


def summary(scores: Sequence[Score]) -> list[Rate]:
    """What the cases show together."""
    faulted, null = [each for each in scores if each.planted], [each for each in scores if not each.planted]
    held = [claim.held for each in scores for claim in each.claims if claim.held is not None]
    rates = [
        Rate(what="faulted baselines shown to be beaten", k=sum(each.broken for each in faulted), n=len(faulted)),
        Rate(what="broken knob named first", k=sum(each.first for each in faulted), n=len(faulted)),
        Rate(
            what="broken knobs named",
            k=sum(knob in each.named for each in faulted for knob in each.planted),
            n=sum(len(each.planted) for each in faulted),
        ),
        Rate(
            what="innocent knobs accused",
            k=sum(len(each.accused) for each in scores),
            n=sum(each.innocents for each in scores),
        ),
        Rate(what="null cases with a claim", k=sum(each.claims_anything for each in null), n=len(null)),
        Rate(what="intervals that hold the direct mean", k=sum(held), n=len(held)),
    ]
    for evaluator in dict.fromkeys(name for each in scores for name in each.shares):
        rates += _of_importances(evaluator, faulted, scores)
    return rates


def _of_importances(evaluator: str, faulted: Sequence[Score], scores: Sequence[Score]) -> Iterator[Rate]:
    """The same questions put to Optuna, whose shares have no word for 'none': a knob above an equal share is named."""
    ranked = [(each, ranking(each.shares[evaluator])) for each in faulted if evaluator in each.shares]
    yield Rate(
        what=f"Optuna's {evaluator}: broken knob ranked first",
        k=sum(knobs[0] in each.planted for each, knobs in ranked),
        n=len(ranked),
    )
    above = [
        knob for each in scores for knob in above_equal(each.shares.get(evaluator, {})) if knob not in each.planted
    ]
    yield Rate(
        what=f"Optuna's {evaluator}: innocent knobs above an equal share",
        k=len(above),
        n=sum(each.innocents for each in scores if evaluator in each.shares),
    )


def ranking(shares: Mapping[str, float]) -> list[str]:
    """Knobs, the most important first."""
    return sorted(shares, key=lambda knob: -shares[knob])


def above_equal(shares: Mapping[str, float]) -> list[str]:
    """Knobs whose share of the variance is above what each has were all alike."""
    return [knob for knob in ranking(shares) if shares[knob] > sum(shares.values()) / len(shares)]

"""Scores of verdicts where the truth is known: which knob was broken, and what direct runs show of each claim."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

NAMING_VERDICTS = ("alone", "gains", "necessary", "joint")
"""verdicts that name a knob"""
Arm = frozenset[str]
"""knobs that have the best trial's values; the others have the baseline's"""
Losses = Mapping[Arm, Sequence[float]]
"""final losses of direct runs in nats per token, on the same seeds for every arm"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean difference over seeds in nats per token, with its paired 95 % interval (Student's)."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the verdict about a knob, or about two that work jointly; effects in nats per token."""

    knobs: tuple[str, ...]
    verdict: str
    effect: float
    low: float | None
    """of the effect's 95 % interval"""
    high: float | None
    direct: Difference | None = None
    """the same difference on further seeds"""

    @property
    def held(self) -> bool | None:
        """Whether the interval contains the direct mean; None where either is missing."""
        if self.direct is None or self.low is None or self.high is None:
            return None
        return self.low <= self.direct.mean <= self.high


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of one case."""

    case: str
    planted: tuple[str, ...]
    """knobs that mend the fault; empty for a null case"""
    word: str
    """breaks, improves or none"""
    broken: bool
    delta: float | None
    """gain of the best config on fresh seeds, nats per token"""
    named: tuple[str, ...]
    """knobs that the verdict names, in its order"""
    innocents: int
    """number of knobs that were not broken"""
    excused: tuple[str, ...]
    """innocent knobs that are named, where direct runs bear the claim out"""
    advice: tuple[str, ...]
    """candidates that the verdict calls right"""
    claims: tuple[Claim, ...]
    mended: Difference | None
    """direct gain of mending the fault"""
    best: Difference | None
    """direct gain of the best config, where it was measured"""
    shares: Mapping[str, Mapping[str, float]]
    """Optuna's importances of the search's trials, by evaluator and knob"""
    runs: int
    seconds: float

    @property
    def first(self) -> bool:
        """Whether the knob named first was broken."""
        return bool(self.named) and self.named[0] in self.planted

    @property
    def accused(self) -> tuple[str, ...]:
        """Innocent knobs that the verdict names wrongly."""
        return tuple(knob for knob in self.named if knob not in self.planted and knob not in self.excused)

    @property
    def claims_anything(self) -> bool:
        """Whether the verdict claims anything, which is wrong on a null case."""
        return self.broken or bool(self.named) or bool(self.advice)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A count `k` out of `n`, with the 95 % interval of Clopper and Pearson."""

    what: str
    k: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the share; 0 and 1 where n is 0."""
        if not self.n:
            return 0.0, 1.0
        bounds = stats.binomtest(self.k, self.n).proportion_ci(method="exact")
        return float(bounds.low), float(bounds.high)


def score(
    case: str,
    planted: tuple[str, ...],
    output: Mapping[str, Any],
    *,
    knobs: int,
    losses: Losses,
    mended: Sequence[float],
    shares: Mapping[str, Mapping[str, float]],
) -> Score:
    """Score a case by the output of `sweep run --json`, and by direct runs where there are any.

    `losses` are those of the arms that the claims ask for, `mended` those of the baseline with its fault mended.
    `knobs` is the number of knobs that the study sweeps.
    """
    verdict = output["verdict"] or NO_VERDICT
    changed, claims = changed_knobs(verdict), list(claims_of(verdict))
    if losses:
        claims = [dataclasses.replace(claim, direct=direct_effect(claim, losses, changed)) for claim in claims]
    min_effect = verdict["min_effect"]
    return Score(
        case=case,
        planted=planted,
        word=verdict["word"],
        broken=verdict["broken"],
        delta=verdict["delta"],
        named=tuple(knob["name"] for knob in verdict["knobs"] if knob["verdict"] in NAMING_VERDICTS),
        innocents=knobs - len(planted),
        excused=tuple(
            knob
            for claim in claims
            for knob in claim.knobs
            if knob not in planted and losses and is_borne_out(claim, knob, losses, changed, min_effect=min_effect)
        ),
        advice=tuple(
            " ".join(f"{name}={value}" for name, value in candidate["config"].items())
            for candidate in verdict["candidates"]
            if candidate["verdict"] == "right"
        ),
        claims=tuple(claims),
        mended=paired_difference(losses[Arm()], mended) if mended else None,
        best=paired_difference(losses[Arm()], losses[changed]) if changed and changed in losses else None,
        shares=shares,
        runs=sum(output["trials"].values()),
        seconds=output["seconds"],
    )


NO_VERDICT: Mapping[str, Any] = {
    "broken": False,
    "word": "none",
    "delta": None,
    "min_effect": 0.0,
    "knobs": [],
    "candidates": [],
}
"""stands for the verdict where the search found nothing to confirm"""


def changed_knobs(verdict: Mapping[str, Any]) -> Arm:
    """Return all knobs of the best trial."""
    return Arm(knob["name"] for knob in verdict["knobs"])


def claims_of(verdict: Mapping[str, Any]) -> Iterator[Claim]:
    """Yield the claims about knobs of a verdict in `sweep run --json`. Two joint knobs make one claim."""
    for knob in verdict["knobs"]:
        word, knobs, evidence = knob["verdict"], (knob["name"],), knob
        if word not in NAMING_VERDICTS:
            continue
        if word == "joint":
            evidence = verdict["joint"]
            knobs = tuple(evidence["knobs"])
            if knob["name"] != knobs[0]:
                continue
        elif word == "necessary":
            evidence = knob["reset"]
        low, high = evidence["ci"] or (None, None)
        yield Claim(knobs=knobs, verdict=word, effect=evidence["effect"], low=low, high=high)


def arms_of(claim: Claim, changed: Arm) -> tuple[Arm, ...]:
    """Return the arms that show whether a claim is true; `changed` are all knobs of the best trial."""
    if claim.verdict == "necessary":
        return Arm(), changed, changed - set(claim.knobs)
    return Arm(), Arm(claim.knobs), *(Arm([knob]) for knob in claim.knobs if len(claim.knobs) > 1)


def direct_effect(claim: Claim, losses: Losses, changed: Arm) -> Difference | None:
    """Return the claim's effect in direct runs: its knobs' gain, or the best's loss without a necessary knob."""
    if claim.verdict == "necessary":
        return paired_difference(losses[changed - set(claim.knobs)], losses[changed])
    return paired_difference(losses[Arm()], losses[Arm(claim.knobs)])


def is_borne_out(claim: Claim, knob: str, losses: Losses, changed: Arm, *, min_effect: float) -> bool:
    """Whether direct runs bear out the claim about one of its knobs.

    A knob alone gains more than min_effect. A joint knob adds more than min_effect to the other. Without a necessary
    knob the best loses more than half of its gain.
    """
    effect, needed = direct_effect(claim, losses, changed), min_effect
    if claim.verdict == "necessary":
        gain = paired_difference(losses[Arm()], losses[changed])
        needed = math.inf if gain is None else gain.mean / 2
    elif claim.verdict == "joint":
        effect = paired_difference(losses[Arm(claim.knobs) - {knob}], losses[Arm(claim.knobs)])
    return effect is not None and effect.mean > needed


def paired_difference(minuend: Sequence[float], subtrahend: Sequence[float]) -> Difference | None:
    """Return minuend - subtrahend, paired by seed, over the seeds on which neither diverged (is infinite).

    None if fewer than two seeds remain.
    """
    differences = [a - b for a, b in zip(minuend, subtrahend, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(differences) < 2:
        return None
    mean = statistics.fmean(differences)
    quantile = float(stats.t.ppf(0.975, len(differences) - 1))
    half_width = quantile * statistics.stdev(differences) / math.sqrt(len(differences))
    return Difference(mean=mean, low=mean - half_width, high=mean + half_width, n=len(differences))


def rates_of(scores: Sequence[Score]) -> list[Rate]:
    """Return the rates over all cases."""
    faulted, null = [score for score in scores if score.planted], [score for score in scores if not score.planted]
    held = [claim.held for score in scores for claim in score.claims if claim.held is not None]
    rates = [
        Rate(what="faulted baselines shown to be beaten", k=sum(score.broken for score in faulted), n=len(faulted)),
        Rate(what="broken knob named first", k=sum(score.first for score in faulted), n=len(faulted)),
        Rate(
            what="broken knobs named",
            k=sum(knob in score.named for score in faulted for knob in score.planted),
            n=sum(len(score.planted) for score in faulted),
        ),
        Rate(
            what="innocent knobs accused",
            k=sum(len(score.accused) for score in scores),
            n=sum(score.innocents for score in scores),
        ),
        Rate(what="null cases with a claim", k=sum(score.claims_anything for score in null), n=len(null)),
        Rate(what="intervals that hold the direct mean", k=sum(held), n=len(held)),
    ]
    for evaluator in dict.fromkeys(name for score in scores for name in score.shares):
        rates += _rates_of_importances(evaluator, faulted, scores)
    return rates


def _rates_of_importances(evaluator: str, faulted: Sequence[Score], scores: Sequence[Score]) -> Iterator[Rate]:
    """Yield the rates of Optuna's importances. Shares have no word for none: a knob above an equal share is named."""
    ranked = [(score, ranking(score.shares[evaluator])) for score in faulted if evaluator in score.shares]
    yield Rate(
        what=f"Optuna's {evaluator}: broken knob ranked first",
        k=sum(knobs[0] in score.planted for score, knobs in ranked),
        n=len(ranked),
    )
    above = [
        knob
        for score in scores
        for knob in above_equal_share(score.shares.get(evaluator, {}))
        if knob not in score.planted
    ]
    yield Rate(
        what=f"Optuna's {evaluator}: innocent knobs above an equal share",
        k=len(above),
        n=sum(score.innocents for score in scores if evaluator in score.shares),
    )


def ranking(shares: Mapping[str, float]) -> list[str]:
    """Return the knobs, the most important first."""
    return sorted(shares, key=lambda knob: -shares[knob])


def above_equal_share(shares: Mapping[str, float]) -> list[str]:
    """Return the knobs whose share of the variance is above an equal share."""
    return [knob for knob in ranking(shares) if shares[knob] > sum(shares.values()) / len(shares)]

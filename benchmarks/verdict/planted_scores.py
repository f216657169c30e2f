"""Scores of verdicts where the truth is known: which knob was broken, and what direct runs show of each claim.

A knob is named by the verdict's headline. A shape is named by the race with the largest gap among those whose interval
is above 0. The two are never ranked together, so a fault is named first if either list begins with what mends it.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

NAMING_VERDICTS = ("alone", "gains", "necessary", "joint")
"""verdicts that name a knob"""
CHANGE, ADVICE, RACE = "change", "advice", "race"
"""claims that are not about knobs: the verdict's whole change, a candidate, a race"""
UNCHANGED = "race origin"
"""in an arm: the origin's own run from scratch"""
OLD_PROTOCOL = 28_000 * 1024 * 184_768
"""tokens times parameters of the earlier protocol: 30 trials and 40 confirming runs, each of 400 iterations of 1024
tokens, on 3 layers 64 wide"""
Arm = frozenset[str]
"""names of what is changed: knobs that have the best trial's values, an advice or a raced change; empty: nothing"""
Losses = Mapping[Arm, Sequence[float]]
"""final losses of direct runs in nats per token, on the same seeds for every arm that is compared"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean difference over seeds in nats per token, with its paired 95 % interval (Student's)."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the verdict that something gains; effects in nats per token."""

    knobs: tuple[str, ...]
    """what gains: knobs, an advice such as `dropout=0.2`, or a raced change such as `n_embd=96`"""
    verdict: str
    """the knob's verdict, or CHANGE, ADVICE or RACE"""
    effect: float
    low: float | None
    """of the effect's 95 % interval"""
    high: float | None
    step: int | None = None
    """of a race: the step at which the gap is read"""
    direct: Difference | None = None
    """the same difference on further seeds"""
    borne_out: bool | None = None
    """whether these seeds bear the claim out; None: there are none"""

    @property
    def held(self) -> bool | None:
        """Whether the interval contains the direct mean; None where either is missing."""
        if self.direct is None or self.low is None or self.high is None:
            return None
        return self.low <= self.direct.mean <= self.high

    @property
    def agrees(self) -> bool | None:
        """Whether effect and direct mean differ by less than both errors explain. `held` takes the mean as exact."""
        if self.direct is None or self.low is None or self.high is None:
            return None
        below = self.direct.mean < self.effect
        own = self.effect - self.low if below else self.high - self.effect
        return abs(self.direct.mean - self.effect) <= math.hypot(own, self.direct.high - self.direct.mean)

    @property
    def accuses(self) -> tuple[str, ...]:
        """The knobs that the claim is about, shapes included. The whole change and advice accuse no knob."""
        if self.verdict == RACE:
            return tuple(knob_of(change) for change in self.knobs)
        return () if self.verdict in (CHANGE, ADVICE) else self.knobs


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of one case."""

    case: str
    planted: tuple[str, ...]
    """knobs that mend the fault; empty where nothing does"""
    word: str
    """breaks, improves or none"""
    broken: bool
    delta: float | None
    """gain of the best config on fresh seeds, nats per token"""
    named: tuple[str, ...]
    """knobs that the headline credits, in its order"""
    raced: tuple[str, ...]
    """shapes whose race is shown to gain, the largest gap first"""
    innocents: int
    """number of knobs, swept or raced, that were not broken"""
    excused: tuple[str, ...]
    """innocent knobs that are named, where direct runs bear the claim out"""
    claims: tuple[Claim, ...]
    mended: Difference | None
    """direct gain of mending the fault"""
    best: Difference | None
    """direct gain of the best config, where it was measured"""
    shares: Mapping[str, Mapping[str, float]]
    """Optuna's importances of the search's trials, by evaluator and knob"""
    runs: int
    seconds: float
    compute: float
    """tokens times parameters of all runs, as a share of the earlier protocol's"""

    @property
    def first(self) -> bool:
        """Whether the headline, or the list of races, begins with what mends the fault."""
        return any(names[0] in self.planted for names in (self.named, self.raced) if names)

    @property
    def accused(self) -> tuple[str, ...]:
        """Innocent knobs that are named wrongly."""
        names = dict.fromkeys((*self.named, *self.raced))
        return tuple(knob for knob in names if knob not in self.planted and knob not in self.excused)

    @property
    def advice(self) -> tuple[str, ...]:
        """Candidates that the verdict calls right."""
        return tuple(claim.knobs[0] for claim in self.claims if claim.verdict == ADVICE)

    @property
    def claims_anything(self) -> bool:
        """Whether anything is claimed where nothing is broken.

        That a larger model falls faster is true of most baselines, so a race counts if direct runs don't bear it out.
        """
        races = any(knob in self.accused for knob in self.raced)
        return self.broken or bool(self.named) or bool(self.advice) or races


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
    knobs: Iterable[str],
    losses: Losses,
    mended: Sequence[float],
    shares: Mapping[str, Mapping[str, float]],
    compute: float,
) -> Score:
    """Score a case by the output of `sweep run --json`, and by direct runs where there are any.

    `losses` are those of the arms that the claims ask for, `mended` those of the baseline with its fault mended.
    `knobs` are those that the study sweeps or races. `compute` is in tokens times parameters.
    """
    verdict = output["verdict"] or NO_VERDICT
    changed, claims, min_effect = changed_knobs(verdict), claims_of(output), verdict["min_effect"]
    if losses:
        claims = [judged(claim, losses, changed, min_effect=min_effect) for claim in claims]
    return Score(
        case=case,
        planted=planted,
        word=verdict["word"],
        broken=verdict["broken"],
        delta=verdict["delta"],
        named=named_knobs(verdict),
        raced=tuple(knob for claim in claims if claim.verdict == RACE for knob in claim.accuses),
        innocents=len(set(knobs) - set(planted)),
        excused=tuple(
            dict.fromkeys(
                knob
                for claim in claims
                for knob in claim.accuses
                if knob not in planted and losses and is_borne_out(claim, knob, losses, changed, min_effect=min_effect)
            )
        ),
        claims=tuple(claims),
        mended=paired_difference(losses[Arm()], mended) if mended else None,
        best=paired_difference(losses[Arm()], losses[changed]) if changed and changed in losses else None,
        shares=shares,
        runs=sum(output["trials"].values()),
        seconds=output["seconds"],
        compute=compute / OLD_PROTOCOL,
    )


NO_VERDICT: Mapping[str, Any] = {
    "broken": False,
    "word": "none",
    "delta": None,
    "ci": None,
    "change": [],
    "headline": [],
    "min_effect": 0.0,
    "knobs": [],
    "joint": None,
    "candidates": [],
}
"""stands for the verdict where the search found nothing to confirm"""


def changed_knobs(verdict: Mapping[str, Any]) -> Arm:
    """Return all knobs of the best trial."""
    return Arm(knob["name"] for knob in verdict["knobs"])


def named_knobs(verdict: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the knobs of the headline, or of a verdict without one those with a verdict that names them."""
    if "headline" in verdict:
        return tuple(verdict["headline"])
    return tuple(knob["name"] for knob in verdict["knobs"] if knob["verdict"] in NAMING_VERDICTS)


def claims_of(output: Mapping[str, Any]) -> list[Claim]:
    """Return the claims in the output of `sweep run --json`: of knobs, the change, the advice and the races."""
    verdict = output["verdict"] or NO_VERDICT
    claims = [*knob_claims(verdict), *_change_claim(verdict), *advice_claims(verdict)]
    one_knob = {claim.knobs for claim in claims if claim.verdict in ("alone", "gains")}
    return [
        *(claim for claim in claims if claim.verdict != CHANGE or claim.knobs not in one_knob),
        *race_claims(output.get("races") or ()),
    ]


def knob_claims(verdict: Mapping[str, Any]) -> Iterator[Claim]:
    """Yield the claims about knobs. Two joint knobs make one claim."""
    named = named_knobs(verdict)
    for knob in verdict["knobs"]:
        word, knobs, evidence = knob["verdict"], (knob["name"],), knob
        if word not in NAMING_VERDICTS and knob["name"] not in named:
            continue
        if word == "joint":
            evidence = verdict["joint"]
            knobs = tuple(evidence["knobs"])
            if knob["name"] != knobs[0]:
                continue
        elif word == "necessary":
            evidence = knob["reset"]
        yield _claim(knobs, word, evidence["effect"], evidence["ci"])


def _change_claim(verdict: Mapping[str, Any]) -> Iterator[Claim]:
    if verdict["broken"]:
        yield _claim(tuple(sorted(verdict["change"])), CHANGE, verdict["delta"], verdict["ci"])


def advice_claims(verdict: Mapping[str, Any]) -> Iterator[Claim]:
    """Yield a claim for each candidate that the verdict calls right."""
    for candidate in verdict["candidates"]:
        if candidate["verdict"] == "right":
            yield _claim((text_of(candidate["config"]),), ADVICE, candidate["effect"], candidate["ci"])


def text_of(settings: Mapping[str, Any]) -> str:
    """Return changed settings as text, such as `n_embd=96`."""
    return " ".join(f"{name}={value}" for name, value in settings.items())


def race_claims(races: Iterable[Mapping[str, Any]]) -> list[Claim]:
    """Return a claim for each race whose interval is above 0, the largest gap first."""
    shown = [race for race in races if race["gap"] is not None and race["ci"] is not None and race["ci"][0] > 0]
    return [
        dataclasses.replace(_claim((text_of(race["change"]),), RACE, race["gap"], race["ci"]), step=race["step"])
        for race in sorted(shown, key=lambda race: -race["gap"])
    ]


def _claim(knobs: tuple[str, ...], verdict: str, effect: float, ci: Sequence[float] | None) -> Claim:
    low, high = ci or (None, None)
    return Claim(knobs=knobs, verdict=verdict, effect=effect, low=low, high=high)


def knob_of(change: str) -> str:
    """Return the knob of a raced change such as `n_embd=96`."""
    return change.partition("=")[0]


def arms_of(claim: Claim, changed: Arm) -> tuple[Arm, ...]:
    """Return the arms that show whether a claim is true; `changed` are all knobs of the best trial."""
    first, second = _compared(claim, changed)
    both = tuple(Arm([knob]) for knob in claim.knobs if claim.verdict == "joint")
    without = (Arm(), changed) if claim.verdict == "necessary" else ()
    return tuple(dict.fromkeys((first, second, *both, *without)))


def _compared(claim: Claim, changed: Arm) -> tuple[Arm, Arm]:
    """Return the two arms whose difference is the claim's effect."""
    match claim.verdict:
        case "necessary":
            return changed - set(claim.knobs), changed
        case "race":
            at = f" at {claim.step}"
            return Arm([UNCHANGED + at]), Arm([f"race {claim.knobs[0]}{at}"])
        case "advice":
            return Arm(), Arm([f"advice {claim.knobs[0]}"])
    return Arm(), Arm(claim.knobs)


def direct_effect(claim: Claim, losses: Losses, changed: Arm) -> Difference | None:
    """Return the claim's effect in direct runs: what is claimed to gain, or the best's loss without a knob."""
    without, with_it = _compared(claim, changed)
    return paired_difference(losses[without], losses[with_it])


def judged(claim: Claim, losses: Losses, changed: Arm, *, min_effect: float) -> Claim:
    """Return the claim with its effect in direct runs, and whether they bear it out, for each of its knobs."""
    true = all(is_borne_out(claim, knob, losses, changed, min_effect=min_effect) for knob in claim.knobs)
    return dataclasses.replace(claim, direct=direct_effect(claim, losses, changed), borne_out=true)


def is_borne_out(claim: Claim, knob: str, losses: Losses, changed: Arm, *, min_effect: float) -> bool:
    """Whether direct runs bear out the claim about one of its knobs.

    A knob alone, the whole change or an advice gains more than min_effect. A joint knob adds more than min_effect to
    the other. Without a necessary knob the best loses more than half of its gain. A race has a gap above 0.
    """
    effect, needed = direct_effect(claim, losses, changed), min_effect
    if claim.verdict == "necessary":
        gain = paired_difference(losses[Arm()], losses[changed])
        needed = math.inf if gain is None else gain.mean / 2
    elif claim.verdict == "joint":
        effect = paired_difference(losses[Arm(claim.knobs) - {knob}], losses[Arm(claim.knobs)])
    elif claim.verdict == RACE:
        needed = 0.0
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
    claims = [claim for score in scores for claim in score.claims]
    held = [claim.held for claim in claims if claim.held is not None]
    agree = [claim.agrees for claim in claims if claim.agrees is not None]
    rates = [
        Rate(what="faulted baselines shown to be beaten", k=sum(map(_beaten, faulted)), n=len(faulted)),
        Rate(what="broken knob named first", k=sum(score.first for score in faulted), n=len(faulted)),
        Rate(
            what="broken knobs named",
            k=sum(knob in (*score.named, *score.raced) for score in faulted for knob in score.planted),
            n=sum(len(score.planted) for score in faulted),
        ),
        Rate(
            what="innocent knobs accused",
            k=sum(len(score.accused) for score in scores),
            n=sum(score.innocents for score in scores),
        ),
        Rate(what="null cases with a claim", k=sum(score.claims_anything for score in null), n=len(null)),
        Rate(what="null cases with a claim that direct runs don't bear out", k=sum(map(_refuted, null)), n=len(null)),
        Rate(what="intervals that hold the direct mean", k=sum(held), n=len(held)),
        Rate(what="intervals that hold it, its own error allowed for", k=sum(agree), n=len(agree)),
        Rate(
            what="cases within a third of the earlier compute",
            k=sum(score.compute <= 1 / 3 for score in scores),
            n=len(scores),
        ),
    ]
    for evaluator in dict.fromkeys(name for score in scores for name in score.shares):
        rates += _rates_of_importances(evaluator, faulted, scores)
    return rates


def _beaten(score: Score) -> bool:
    """Whether a branch or a race is shown to be better."""
    return score.broken or bool(score.raced)


def _refuted(score: Score) -> bool:
    return any(claim.borne_out is False for claim in score.claims)


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

"""Rows of the answer: a row per change, what it does, and what it costs.

A row's words and numbers are those of the confirmed verdict. Before there is one, they are the screening's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, TypedDict

from sweeps.analysis.arms import Arm
from sweeps.analysis.attribution import (
    Attribution,
    BestWord,
    CandidateVerdict,
    CandidateWord,
    KnobVerdict,
    KnobWord,
    Why,
)
from sweeps.analysis.boundaries import ends_reached
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.cost import ArmCost, cost_of
from sweeps.analysis.credit import CLAIMS
from sweeps.analysis.findings import Findings
from sweeps.analysis.races import RaceFinding
from sweeps.analysis.screening import Effect, KnobEffect, ScreenWord
from sweeps.analysis.significance import harmful, shown
from sweeps.analysis.words import is_refuted
from sweeps.store.records import Outcome, Run
from sweeps.study.study import Study
from sweeps.text import decimals, from_to, joined, named, rounded
from sweeps.verdict.answer import Cost, Row

SAME = 0.02
"""smaller relative differences in size, time and memory are not worth a word"""
UNITS = {"min_lr": " of learning_rate", "warmup_iters": " of max_iters"}
"""of the knobs whose range is a fraction of another setting"""
WIDEN = "; to look further: "
"""what stands before the line of YAML that widens a range"""
AHEAD = "ahead"
"""of a race that is ahead of the origin, also at equal time as far as that is known"""
_SCREENED = {
    ScreenWord.LOWERS: "lowers it, in one run",
    ScreenWord.RAISES: "raises it, in one run",
    ScreenWord.NOISE: "within the noise",
    ScreenWord.UNKNOWN: "not enough evidence",
}
_NO_LOSS = {
    Outcome.DIVERGED: "diverges",
    Outcome.INFEASIBLE: "doesn't fit in memory",
    Outcome.PRUNED: "stopped early",
    Outcome.RUNNING: "still running",
}


def rows_of(findings: Findings) -> tuple[Row, ...]:
    """Return the rows: the knobs of the best config by what is shown of them, all together, then the races."""
    attribution = findings.attribution
    rows = _screened(findings) if attribution is None else _confirmed(findings, attribution)
    return (*rows, *(_race(race, findings) for race in findings.races))


# confirmed


def _confirmed(findings: Findings, attribution: Attribution) -> Iterator[Row]:
    if not findings.study.knobs:
        yield from (_candidate(candidate, findings) for candidate in _in_order(attribution.candidates))
    edges = edges_of(findings.study, attribution.best) if attribution.broken else {}
    for knob in attribution.knobs:
        gain = effect_of(knob)
        before, after = from_to(knob.was, knob.new)
        yield Row(
            protocol=_protocol(findings),
            knob=knob.knob,
            before=before,
            after=after,
            does=does(knob, attribution),
            **_numbers(gain, findings),
            shown=knob.word in CLAIMS or knob.word is KnobWord.HURTS,
            cost=_cost(cost_of(findings.evidence, Arm(frozenset([knob.knob])), gain=knob.alone)),
            edge=edges.get(knob.knob, "") if knob.knob in attribution.change else "",
            measured="without it" if _by_reset(knob) else "alone",
        )
    if len(attribution.change) > 1 and attribution.fewer:
        arm = Arm(frozenset(attribution.change))
        yield Row(
            protocol=_protocol(findings),
            knob=None,
            before="",
            after=fewer(attribution),
            does="break it" if attribution.word is BestWord.BREAKS else "improve it",
            **_numbers(attribution.effect, findings),
            shown=True,
            cost=_cost(cost_of(findings.evidence, arm, gain=attribution.effect)),
            measured="together",
        )
    if len(attribution.knobs) > 1:
        yield Row(
            protocol=_protocol(findings),
            knob=None,
            before="",
            after="",
            does=together_does(attribution),
            **_numbers(attribution.whole, findings),
            shown=attribution.broken and not attribution.fewer,
            cost=_cost(cost_of(findings.evidence, findings.evidence.arms.winner, gain=attribution.whole)),
            measured="together",
        )


_CANDIDATE_DOES = {
    CandidateWord.RIGHT: "gains",
    CandidateWord.WRONG: "hurts",
    CandidateWord.ONE_RUN: "not enough evidence",
}


def _in_order(candidates: Sequence[CandidateVerdict]) -> list[CandidateVerdict]:
    """Return candidates by what is shown of them: right, undecided, wrong; the larger gain first."""
    order = [CandidateWord.RIGHT, CandidateWord.UNKNOWN, CandidateWord.ONE_RUN, CandidateWord.NO_EFFECT]
    return sorted(
        candidates,
        key=lambda each: (
            order.index(each.word) if each.word in order else len(order),
            -(each.effect.mean if each.effect is not None else -math.inf),
        ),
    )


def _candidate(candidate: CandidateVerdict, findings: Findings) -> Row:
    """Return the row of a candidate, of a study that has nothing else."""
    arm = Arm(candidate=candidate.candidate)
    return Row(
        protocol=_protocol(findings),
        knob=None,
        before="",
        after=candidate.label,
        does=_CANDIDATE_DOES.get(candidate.word, candidate.word.value),
        **_numbers(candidate.effect, findings),
        shown=candidate.word in (CandidateWord.RIGHT, CandidateWord.WRONG),
        cost=_cost(cost_of(findings.evidence, arm, gain=candidate.effect)),
        measured="together",
    )


def effect_of(knob: KnobVerdict) -> Contrast | None:
    """Return what a row shows of a knob: its gain alone; of one that is necessary what the best loses without it."""
    return knob.reset if _by_reset(knob) else knob.alone


def _by_reset(knob: KnobVerdict) -> bool:
    return knob.word is KnobWord.NECESSARY and knob.reset is not None


def does(knob: KnobVerdict, attribution: Attribution) -> str:
    """Return, in at most five words, what a knob does; of one that hurts alone also what it does in the best."""
    in_the_best = attribution.broken and not attribution.fewer
    hurts = knob.diverged or (knob.alone is not None and harmful(knob.alone, attribution.min_effect))
    match knob.word:
        case KnobWord.ALONE:
            return "breaks it alone" if attribution.word is BestWord.BREAKS else "improves it alone"
        case KnobWord.GAINS:
            return "gains; may not last"
        case KnobWord.JOINT:
            return f"only together with {named(knob.partner or '')}"
        case KnobWord.NECESSARY:
            return "hurts alone, best needs it" if hurts else "the best needs it"
        case KnobWord.HURTS if in_the_best and shown(knob.reset):
            partner = partner_of(knob, attribution)
            return f"only together with {named(partner)}" if partner else "hurts alone, needs others"
        case KnobWord.HURTS:
            word = "diverges alone" if knob.diverged else "hurts alone"
            return f"{word}, yet included" if in_the_best else word
        case KnobWord.NO_EFFECT:
            return "no effect"
    return "only a head start" if shown(knob.alone) and is_refuted(knob.lasting) else "not enough evidence"


def partner_of(knob: KnobVerdict, attribution: Attribution) -> str | None:
    """Return the knob beside which this one is shown to gain more than alone, from the 2 x 2 of the top two."""
    pair = attribution.pair
    if pair is None or knob.knob not in pair.knobs or pair.interaction.low is None or pair.interaction.low <= 0:
        return None
    return next(name for name in pair.knobs if name != knob.knob)


def together_does(attribution: Attribution) -> str:
    """Return, in at most five words, what all changes of the search's best do together."""
    if attribution.broken and not attribution.fewer:
        return "break it" if attribution.word is BestWord.BREAKS else "improve it"
    if attribution.fewer:
        return "not shown to be better" if attribution.whole_word is BestWord.NONE else "gain no more"
    return {
        Why.DIVERGED: "diverge",
        Why.BELOW_MIN_EFFECT: "no gain that counts",
        Why.HEAD_START: "only a head start",
        Why.NO_SHORT_RUNS: "gain; may not last",
        Why.PERHAPS_HEAD_START: "gain; may not last",
    }.get(attribution.why or Why.TOO_FEW_RUNS, "not enough evidence")


# screened


def _screened(findings: Findings) -> Iterator[Row]:
    """Yield a row per knob from its single runs: the end of its range that lowers the loss most, or does most."""
    effects = map(_telling, findings.screening.knobs)
    for effect in sorted(effects, key=lambda each: -(each.effect or 0.0) if each.word in _MOVED else 0.0):
        yield _single_run(effect, findings)


_MOVED = (ScreenWord.LOWERS, ScreenWord.RAISES)


def _single_run(effect: Effect, findings: Findings) -> Row:
    knob, config = effect.run.knob or "", effect.run.config
    reference, best = findings.screening.reference, findings.results.best
    was = None if reference is None else getattr(reference, knob)
    before, after = from_to(was, getattr(config, knob))
    gained, half = effect.effect, effect.family_half_width
    known = gained is not None and half is not None
    in_the_best = best is not None and getattr(best.config, knob) == getattr(config, knob)
    return Row(
        protocol=_protocol(findings),
        knob=knob,
        before="" if was is None else before,
        after=after,
        does=_SCREENED.get(effect.word) or _NO_LOSS.get(effect.run.outcome, "no final loss"),
        effect=gained,
        low=(gained or 0.0) - (half or 0.0) if known else None,
        high=(gained or 0.0) + (half or 0.0) if known else None,
        seeds=int(gained is not None),
        shown=effect.word in _MOVED,
        edge=edges_of(findings.study, effect.run).get(knob, "")
        if in_the_best and effect.word is ScreenWord.LOWERS
        else "",
        bits_per_byte=_bits(gained, findings),
        digits=decimals(half),
    )


def _telling(knob: KnobEffect) -> Effect:
    """Return the single run to show of a knob: one that lowers the loss before one that raises it, the larger first."""
    order = [ScreenWord.LOWERS, ScreenWord.RAISES, ScreenWord.NOISE, ScreenWord.UNKNOWN, ScreenWord.NO_LOSS]
    return min(knob.effects, key=lambda effect: (order.index(effect.word), -abs(effect.effect or 0.0)))


# races


def _race(race: RaceFinding, findings: Findings) -> Row:
    reference = findings.results.reference
    origin = findings.study.origin
    base = reference if origin is None else origin.config
    was = None if base is None else getattr(base, race.knob)
    before, after = from_to(was, race.value)
    cost = ArmCost(parameters=race.params, seconds=race.seconds, memory=race.memory, at_equal_time=race.at_equal_time)
    return Row(
        protocol="race",
        knob=race.knob,
        before="" if was is None else before,
        after=after,
        does=_race_does(race),
        **_numbers(race.gap, findings),
        shown=race.diverged > 0 or _side(race) != 0,
        cost=_cost(cost),
        measured="race",
    )


def _side(race: RaceFinding) -> int:
    """Return 1 for a race that is shown to be ahead of the origin, -1 for behind, 0 for neither."""
    gap = race.gap
    if gap is None or gap.low is None or gap.high is None:
        return 0
    return 1 if gap.low > 0 else -1 if gap.high < 0 else 0


def _race_does(race: RaceFinding) -> str:
    if race.diverged:
        return "diverges"
    if race.gap is None or race.gap.low is None:
        return "not enough evidence"
    slower = race.at_equal_time is not None and race.at_equal_time <= 0
    return {1: "behind at equal time" if slower else AHEAD, -1: "behind", 0: "within the noise"}[_side(race)]


# numbers, costs and edges


def _protocol(findings: Findings) -> Literal["branch", "trial"]:
    return "branch" if findings.study.branches else "trial"


class _Numbers(TypedDict):
    """The fields of a row that hold an effect."""

    effect: float | None
    low: float | None
    high: float | None
    seeds: int
    bits_per_byte: float | None
    digits: int


def _numbers(effect: Contrast | None, findings: Findings) -> _Numbers:
    mean, low, high = (None, None, None) if effect is None else (effect.mean, effect.low, effect.high)
    half = None if low is None or high is None else (high - low) / 2
    return _Numbers(
        effect=mean,
        low=low,
        high=high,
        seeds=0 if effect is None else effect.n,
        bits_per_byte=_bits(mean, findings),
        digits=decimals(half),
    )


def _bits(nats: float | None, findings: Findings) -> float | None:
    return None if nats is None else findings.results.data.bits_per_byte(nats)


def _cost(cost: ArmCost | None) -> Cost | None:
    """Return the costs that differ from the baseline's. None: nothing does."""
    if cost is None:
        return None
    parts = (cost.parameters, cost.seconds, cost.memory)
    if all(part is None or abs(part - 1) < SAME for part in parts):
        return None
    return Cost(
        parameters=cost.parameters,
        seconds=cost.seconds,
        memory=cost.memory,
        gain_at_equal_time=cost.at_equal_time,
    )


def fewer(attribution: Attribution) -> str:
    """Return several of the best's changes by name: learning rate and width, all but dropout."""
    rest = [named(knob.knob) for knob in attribution.knobs if knob.knob not in attribution.change]
    if len(rest) == 1 and len(attribution.change) > 2:
        return f"all but {rest[0]}"
    return joined(map(named, attribution.change))


def edges_of(study: Study, run: Run) -> dict[str, str]:
    """Return, by knob at an end of its range, what lies there and which line of YAML to widen."""
    texts = {}
    for end in ends_reached(study, run):
        if end.wider is None:
            texts[end.knob] = f"at its natural limit, {rounded(end.end)}{UNITS.get(end.knob, '')}"
        else:
            line = f"knobs.{end.knob}.{end.side}: {rounded(end.wider)}"
            texts[end.knob] = f"at the {end.side} end of its range{WIDEN}{line}"
    return texts

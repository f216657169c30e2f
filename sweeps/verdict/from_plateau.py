"""Sentences of a study that starts from a checkpoint: where it starts, its branches, its races, and what shows nothing.

Effects of branches and of races are told apart, and never ranked together. A branch shows what a setting does from here
on; a race shows what a shape does from scratch. Every gain of a branch is measured against the control.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from sweeps.analysis.attribution import (
    Attribution,
    BestWord,
    KnobVerdict,
    KnobWord,
)
from sweeps.analysis.branches import Branches, BranchFinding
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.analysis.races import RaceFinding
from sweeps.study.start import CheckpointStart
from sweeps.text import count, from_to, joined, short
from sweeps.verdict import confirmed
from sweeps.verdict.effects import gain, harm, moved, plain, size

_BASELINE = re.compile(r"\b([Bb])aseline\b(?!'s own)")
"""not the baseline's own run, which is the one that plateaued"""
_SHORTER = (("runs half as long", "branches half as long"), ("Runs of half the length", "Branches of half the length"))
_CONTROL = {"B": "Control", "b": "control"}


def of_control(sentences: Iterable[str]) -> tuple[str, ...]:
    """Return sentences about trials from scratch as they are said of branches: their baseline is the control.

    Commands, which stand between backticks, stay as they are.
    """
    return tuple(_of_control(sentence) for sentence in sentences)


def _of_control(sentence: str) -> str:
    parts = sentence.split("`")
    for index in range(0, len(parts), 2):
        parts[index] = _BASELINE.sub(lambda match: _CONTROL[match[1]], parts[index])
        for of_runs, of_branches in _SHORTER:
            parts[index] = parts[index].replace(of_runs, of_branches)
    return "`".join(parts)


def start(findings: Findings, branches: Branches) -> Iterator[str]:
    """Yield where the study starts, whether that is a plateau, and what going on brings."""
    origin, study = branches.origin, findings.study
    whose = "your checkpoint" if isinstance(study.start, CheckpointStart) else "the baseline's own run"
    loss = "" if branches.val_loss is None else f", at {plain(branches.val_loss)} nats"
    yield f"Branches start from {whose} at step {origin.step:,}{loss}; {_plateau(branches)}."
    reference = findings.results.reference
    if origin.going_on is not None and reference is not None:
        brings = "brings" if origin.going_on >= 0 else "costs"
        yield (
            f"Going on as before {brings} {plain(abs(origin.going_on))} nats in the next {reference.max_iters:,} "
            f"iterations. A change counts above {study.min_effect:g} nats (min_effect)."
        )


def _plateau(branches: Branches) -> str:
    origin = branches.origin
    since = "" if origin.since is None else f" since step {origin.since:,}"
    return {
        "plateau": f"its curve is on a plateau{since} by the plateau test",
        "improving": "its curve is still improving by the plateau test",
        "undetermined": "the plateau test can't tell whether its curve is on a plateau",
        None: "without a log, it is unknown whether that is a plateau",
    }[origin.plateau]


def proof(attribution: Attribution, branches: Branches) -> Iterator[str]:
    """Yield what the headline rests on: the origin's plateau, the gain over the control, and whether it lasts."""
    if attribution.word is BestWord.BREAKS:
        since = "" if branches.origin.since is None else f" since step {branches.origin.since:,}"
        yield f"The origin's curve is on a plateau{since}, so the word is “breaks”."
    elif attribution.word is BestWord.IMPROVES:
        why = {
            "improving": "The origin's curve was still improving",
            "undetermined": "The origin's curve is not shown to be on a plateau",
        }.get(branches.origin.plateau or "", "Without a log, the origin's curve is not known to be on a plateau")
        yield f"{why}, so the word is “improves”. The evidence is as strong as “breaks” requires."
    yield from of_control(confirmed.tests(attribution))


# from your checkpoint


def from_checkpoint(attribution: Attribution, branches: Branches) -> Iterator[str]:
    """Yield a sentence per knob, then those on all changes together and on growth, as far as they show anything."""
    for knob in attribution.knobs:
        if not _shows_nothing(knob):
            sentence = _of_control(confirmed.knob_alone(knob, attribution))
            yield _extended(sentence, _course(branches.of(knob.knob), knob.alone))
    if len(attribution.knobs) > 1 and attribution.whole is not None:
        whole = f"Trial {attribution.searched.trial}, all changes together: it {moved(attribution.whole)}."
        yield _extended(whole, _course(branches.best, attribution.whole))
    for grown in branches.growth:
        if grown.growing is not None:
            moves = "grows by at least" if grown.growing else "shrinks by"
            yield (
                f"{grown.knob} grown to {grown.value}, with dropout off on both sides: the lead over the control "
                f"{moves} {_rate(grown.trend)} at the end. A branch tells no more about a shape than that: race it."
            )


def _shows_nothing(knob: KnobVerdict) -> bool:
    return knob.word is KnobWord.NO_EFFECT or (knob.word is KnobWord.UNKNOWN and knob.alone is None)


def _extended(sentence: str, parts: Iterable[str]) -> str:
    return "; ".join([sentence.removesuffix("."), *parts]) + "."


def _course(finding: BranchFinding | None, effect: Contrast | None) -> Iterator[str]:
    """Yield what the curves add to a gain: how fast the loss falls, where the lead is going, the gain at equal time."""
    if finding is None or effect is None:
        return
    if finding.times_as_fast is not None:
        yield times_as_fast(finding.times_as_fast)
    if finding.trend is not None and effect.mean > 0:
        yield lead(finding)
    if finding.time is not None and finding.at_equal_time is not None and abs(finding.time - 1) >= _SAME:
        yield f"it takes {finding.time:.2f} times the control's time"
        if finding.time > 1:
            left = finding.at_equal_time
            yield f"at equal time it {'gains' if left >= 0 else 'loses'} {plain(abs(left))} nats"


_SAME = 0.02
"""smaller relative differences in size and speed are not worth a word"""


def times_as_fast(times: float) -> str:
    """Return how fast a branch falls beside the control."""
    return f"its loss falls {times:.1f} times as fast as the control's" if times > 0 else "its loss doesn't fall at all"


def lead(finding: BranchFinding) -> str:
    """Return whether a lead over the control still grows at the end."""
    assert finding.trend is not None
    course = {True: "still grows", False: "shrinks", None: "is shown neither to grow nor to shrink"}[finding.growing]
    return f"its lead {course} at the end: {_rate(finding.trend)}"


def _rate(trend: Contrast) -> str:
    """Return a trend: +0.0057 nats per 100 iterations (95 % interval −0.0012 to +0.0126, 3 seeds)."""
    mean, seeds = f"{_fine(trend.mean)} nats per 100 iterations", count(trend.n, "seed")
    if trend.low is None or trend.high is None:
        return f"{mean} ({seeds}, noise unknown)"
    return f"{mean} (95 % interval {_fine(trend.low)} to {_fine(trend.high)}, {seeds})"


def _fine(nats: float) -> str:
    """Return +0.0057, with a true minus."""
    return f"{nats:+.4f}".replace("-", "−")


# if you retrain


def if_you_retrain(races: Iterable[RaceFinding]) -> Iterator[str]:
    """Yield a sentence per race whose gap is shown either way, or has no interval."""
    for race in races:
        if not _within_noise(race):
            yield f"{race.knob} {short(race.value)}{_over(race)}: {'; '.join(_race(race))}."


def _within_noise(race: RaceFinding) -> bool:
    gap = race.gap
    return gap is not None and gap.low is not None and gap.high is not None and gap.low <= 0 <= gap.high


def _over(race: RaceFinding) -> str:
    return f", raced from scratch for {race.steps:,} iterations" if race.steps else ", raced from scratch"


def _race(race: RaceFinding) -> Iterator[str]:
    """Yield the parts of a race's sentence: the gap, where it is going, what it costs."""
    gap = race.gap
    if race.diverged:
        yield f"{count(race.diverged, 'run')} diverged or did not fit in memory"
    if gap is None:
        if race.seeds:
            yield "there is no curve of the origin to compare it with yet"
        return
    if gap.low is None:
        yield f"its gap to the origin is {gain(gap)}, which shows nothing yet"
    else:
        yield f"it is ahead of the origin by {size(gap)}" if gap.mean > 0 else f"it is behind the origin by {harm(gap)}"
    if race.trend is not None:
        yield f"{course(race)}: {_rate(race.trend)}"
    if (costs := cost(race)) is not None:
        yield costs


def course(race: RaceFinding) -> str:
    """Return where the gap is going at the end."""
    if race.growing is None:
        return "the gap is shown neither to grow nor to close"
    if race.gap is not None and race.gap.mean <= 0:
        return "it catches up" if race.growing else "it falls further behind"
    return f"the gap {'grows' if race.growing else 'closes'}"


def cost(race: RaceFinding) -> str | None:
    """Return a race's parameters and time relative to the origin, and the gap at equal time. None: nothing differs."""
    parts = [] if abs(race.params - 1) < _SAME else [f"{race.params:.1f} times the parameters"]
    if race.seconds is not None and abs(race.seconds - 1) >= _SAME:
        parts.append(f"{race.seconds:.2f} times the time")
        if race.at_equal_time is not None:
            where = "ahead" if race.at_equal_time >= 0 else "behind"
            parts[-1] += f", so at equal time {plain(abs(race.at_equal_time))} nats {where}"
    return " and ".join(parts) or None


# nothing shown


def nothing_shown(findings: Findings, branches: Branches) -> Iterator[str]:
    """Yield the knobs, growths and races that show no effect, with what they lie within."""
    attribution = findings.attribution
    knobs = () if attribution is None else attribution.knobs
    within = [knob for knob in knobs if knob.word is KnobWord.NO_EFFECT and knob.alone is not None]
    if within:
        reach = max(_reach(knob.alone) for knob in within if knob.alone is not None)
        names = joined(f"{knob.knob} {' → '.join(from_to(knob.was, knob.new))}" for knob in within)
        yield f"From your checkpoint, within ± {reach:.4f} nats: {names}."
    unmeasured = [knob.knob for knob in knobs if knob.word is KnobWord.UNKNOWN and knob.alone is None]
    if unmeasured:
        yield f"Not run alone on a fresh seed yet: {joined(unmeasured)}."
    for grown in branches.growth:
        if grown.growing is None:
            yield (
                f"{grown.knob} grown to {grown.value}, with dropout off on both sides: no trend is shown, "
                f"{_rate(grown.trend)}. A branch may be too short for it: race it."
            )
    for race in findings.races:
        if _within_noise(race) and race.gap is not None:
            yield f"{race.knob} {short(race.value)}{_over(race)}: {gain(race.gap)}."


def _reach(effect: Contrast) -> float:
    return max(abs(end) for end in (effect.low, effect.high, effect.mean) if end is not None)


def reading(findings: Findings) -> Iterator[str]:
    """Yield what a branch and a race can tell."""
    yield (
        "The control is the branch with nothing changed: its rate stands where the origin's stood and decays to the "
        "baseline's own min_lr. A branch shows what a change does from here on. Of what acts slowly it sees no more "
        "than the beginning."
    )
    reference = findings.results.reference
    decayed = "weight_decay" in findings.study.sampled
    if reference is not None and decayed and reference.weight_decay and reference.learning_rate:
        iters = 1 / (reference.learning_rate * reference.weight_decay)
        if iters > reference.max_iters:
            yield (
                f"Weight decay acts over 1 / (learning_rate × weight_decay), about {float(f'{iters:.2g}'):,.0f} "
                f"iterations, and the branches have {reference.max_iters:,}."
            )
    if findings.races:
        yield (
            "A race compares losses at one step of one schedule, without annealing on either side. Its gap isn't "
            "ranked with the gains of branches: they answer different questions."
        )

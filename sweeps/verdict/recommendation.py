"""What follows from a confirmed verdict: what the best ends with, what to train next, what would decide the rest."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweeps.analysis.attribution import AdviceWord, Attribution, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.analysis.significance import seeds_to_decide, shown
from sweeps.store.records import Results
from sweeps.study.sections import MAX_CONFIRM_SEEDS
from sweeps.text import advised, count, joined, short
from sweeps.verdict.effects import in_other_units


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Final losses of the baseline and the best config, nats, whose means differ by the effect."""

    baseline: tuple[float, ...]
    best: tuple[float, ...]

    @property
    def means(self) -> tuple[float, float]:
        """Of the baseline and the best, nats."""
        return statistics.fmean(self.baseline), statistics.fmean(self.best)

    @property
    def seeds(self) -> str:
        """How many stand behind the means."""
        return f"means over the baseline's {count(len(self.baseline), 'seed')} and {count(len(self.best), 'fresh one')}"


def ends(findings: Findings) -> Ends | None:
    """What both end with; None: there is no confirmed effect. Unpaired, the baseline counts with all of its seeds."""
    found, results = findings.attribution, findings.results
    if found is None or found.effect is None:
        return None
    shared, runs = set(found.effect.differences), results.baseline_runs
    if found.effect.method == "unpaired":
        shared |= {run.seed for run in runs}
    known = {run.config: run.val_loss for run in results.runs}
    best = [known.get(found.best.config.replace(seed=seed)) for seed in found.seeds if seed in shared]
    return Ends(
        baseline=tuple(run.val_loss for run in runs if run.seed in shared and run.val_loss is not None),
        best=tuple(loss for loss in best if loss is not None),
    )


def best(findings: Findings, found: Attribution) -> Iterator[str]:
    """What the best config ends with on fresh seeds, beside what the search had promised."""
    searched = findings.screening.best
    chosen = count(searched.trials, "trial") if searched is not None else "the trials"
    if not found.knobs or found.effect is None:
        yield f"The best of {chosen} is {'trial ' + str(found.best.trial) if found.knobs else 'the baseline itself'}."
        return
    changed = joined(
        f"{knob.knob} {short(knob.was)} → {short(knob.new)}" for knob in found.knobs if knob.knob in found.change
    )
    what = "A run" if found.by_one else f"Trial {found.best.trial}"
    yield f"{what} of {found.best.config.max_iters:,} iterations; it changes {changed}."
    if (both := ends(findings)) is not None:
        reference, loss = both.means
        yield (
            f"The baseline ends at {reference:.3f} nats, this at {loss:.3f} ({both.seeds}): "
            f"{in_other_units(loss, reference, findings.results.data)}."
        )
    if searched is not None and searched.gain is not None and found.whole is not None:
        whose = f"The gain of trial {found.searched.trial}, the search's best," if found.by_one else "Its gain"
        yield (
            f"{whose} is {found.whole.mean:.3f} nats on fresh seeds; the search had promised {searched.gain:.3f}, "
            f"which is optimistic, as it is the winner of {chosen} on their own seed."
        )


def steps(findings: Findings, found: Attribution) -> Iterator[str]:
    """What to train next, and what would decide the rest."""
    results = findings.results
    name, iters = results.study.name, int(results.study.baseline["max_iters"])
    if found.broken:
        settings = joined(found.change)
        what = (
            f"the baseline with {settings} changed"
            if found.by_one
            else f"trial {found.best.trial}, which changes {settings}"
        )
        yield (
            f"Train {what}: `sweep export {name} --iters {iters} -o "
            f"{name}-best.py` writes it as a nanoGPT config, fitted to the baseline's own {iters:,} iterations."
        )
    elif found.decided:
        yield (
            "No config is shown to be better than the baseline, so there is none to train in its place: keep its "
            "settings, or widen the ranges and sweep again."
        )
        yield from _follow(found, results, iters=iters)
    else:
        yield "No config is shown to be better than the baseline yet: more seeds first, then a long run."
        yield from _follow(found, results, iters=iters)
    yield from _deciding(left_open(found), results)


def _follow(found: Attribution, results: Results, *, iters: int) -> Iterator[str]:
    """Advice that is right where the best config isn't shown to be."""
    trials = {advised(run.label): run.trial for run in results.search_runs if run.origin == "candidate"}
    for each in found.advice:
        if each.word is AdviceWord.RIGHT and each.label in trials:
            command = f"sweep export {results.study.name} --trial {trials[each.label]} --iters {iters}"
            yield f"The advice {each.label} is shown to be right, though: `{command}` prints its config."


@dataclass(frozen=True, kw_only=True)
class Open:
    """A question that the runs have not decided."""

    name: str
    seeds: int | None
    """of its comparison, with which it would be decided were mean and noise to stay; None: over 64"""
    measured: bool
    """False: it lacks the runs that would tell how much noise there is"""


def left_open(found: Attribution) -> tuple[Open, ...]:
    """Whether the best config is better, then the knobs (unless it is shown not to be) and the advice."""
    made: list[Open | None] = []
    if not found.decided:
        more = None if found.effect is None else seeds_to_decide(found.effect, min_effect=found.min_effect)
        made.append(_question("the best config", found.effect, found.lasting, more))
    for knob in found.knobs if found.broken or not found.decided else ():
        if knob.word is KnobWord.UNKNOWN:
            made.append(_question(knob.knob, knob.alone, knob.lasting, knob.more_seeds))
    for each in found.advice:
        if each.word is AdviceWord.UNKNOWN:
            made.append(_question(f"the advice “{each.label}”", each.effect, None, each.more_seeds))
    return tuple(each for each in made if each is not None)


def _question(name: str, effect: Contrast | None, lasting: Contrast | None, more: int | None) -> Open | None:
    """Of a gain that is shown it is open whether it is a head start; None: that isn't open either."""
    if effect is not None and shown(effect):
        if lasting is not None and shown(lasting):
            return None
        effect, more = lasting, None if lasting is None else seeds_to_decide(lasting, min_effect=0.0)
    if effect is None or effect.se is None:
        return Open(name=name, seeds=None, measured=False)
    return Open(name=name, seeds=None if more is None else effect.n + more, measured=True)


def _deciding(questions: Sequence[Open], results: Results) -> Iterator[str]:
    command, planned = f"sweep confirm {results.study.name}", results.study.confirm.seeds
    near = {each.name: each.seeds for each in questions if each.seeds is not None and each.seeds <= MAX_CONFIRM_SEEDS}
    far = [each.name for each in questions if each.measured and each.name not in near]
    bare = [each.name for each in questions if not each.measured]
    if near:
        seeds = max(planned, *near.values())
        yield f"`{command} --seeds {seeds}` would decide {joined(near)}, were mean and noise to stay as they are."
    if bare:
        yield f"`{command}` makes the runs that are missing for {joined(bare)}."
    if far:
        yield (
            f"Over {MAX_CONFIRM_SEEDS} seeds would be needed to decide {joined(far)}: whatever the effect is, it "
            "is small beside the noise of seeds."
        )

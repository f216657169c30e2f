"""Sentences of the screening: single runs against the seeds of the baseline.

Each sentence says how large, how sure and on how many runs. The words "lowers" and "raises" come from `screening`,
which gives them only outside the noise of the baseline's seeds. Nothing is called proven, because every change was run
once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from sweeps.analysis.attribution import Attribution
from sweeps.analysis.findings import Findings
from sweeps.analysis.noise import Noise, seeds_to_show
from sweeps.analysis.screening import Effect, Screening, ScreenWord, SearchBest
from sweeps.store.records import Outcome, Run
from sweeps.text import advised, change, changes, count, joined, signed
from sweeps.verdict.effects import in_other_units

CANDIDATE_WORDS = {
    ScreenWord.LOWERS: "ended lower",
    ScreenWord.RAISES: "ended higher",
    ScreenWord.NOISE: "no effect shown",
    ScreenWord.UNKNOWN: "not enough evidence",
    ScreenWord.NO_LOSS: "no final loss",
}
_ENDED = {
    Outcome.PRUNED: "was stopped early",
    Outcome.DIVERGED: "diverged",
    Outcome.INFEASIBLE: "did not fit in memory",
    Outcome.TRUNCATED: "was cut short",
    Outcome.FAILED: "failed",
    Outcome.RUNNING: "is still running",
}
_WITHOUT_LOSS = (Outcome.DIVERGED, Outcome.INFEASIBLE, Outcome.PRUNED, Outcome.TRUNCATED, Outcome.FAILED)
_MOVED = (ScreenWord.LOWERS, ScreenWord.RAISES)
_ENOUGH_SEEDS = 5
"""of the baseline; with fewer, the verdict suggests more"""


def beside(screening: Screening, attribution: Attribution) -> Iterator[str]:
    """Yield the single runs of changes that the confirmed verdict says nothing of, lest two words stand for one."""
    judged = {(knob.knob, knob.new) for knob in attribution.knobs}

    def told(effect: Effect) -> bool:
        knob = effect.run.knob or ""
        return (knob, getattr(effect.run.config, knob)) in judged

    left = (
        dataclasses.replace(knob, effects=effects)
        for knob in screening.knobs
        if (effects := tuple(effect for effect in knob.effects if not told(effect)))
    )
    yield from alone(dataclasses.replace(screening, knobs=tuple(left)))


def alone(screening: Screening) -> Iterator[str]:
    """Yield what each knob does when it is changed alone, to an end of its range."""
    yield from _moved(screening)
    yield from _within_noise(screening)
    yield from _without_loss(screening)


def _moved(screening: Screening) -> Iterator[str]:
    """Yield a sentence per single-knob run outside the noise, the largest effect first."""
    moved = [effect for effect in _single_knob_effects(screening) if effect.word in _MOVED]
    for effect in sorted(moved, key=lambda effect: -(effect.effect or 0.0)):
        assert effect.effect is not None
        size, half = abs(effect.effect), effect.family_half_width or 0.0
        yield f"{_change(effect, screening)} {effect.word} by {size:.3f} nats ({size - half:.3f} to {size + half:.3f})."


def _within_noise(screening: Screening) -> Iterator[str]:
    baseline = screening.baseline
    quiet = [
        knob
        for knob in screening.knobs
        if any(effect.word is ScreenWord.NOISE for effect in knob.effects)
        and not any(effect.word in _MOVED for effect in knob.effects)
    ]
    if not quiet or baseline is None or baseline.sd is None:
        return
    half = baseline.half_width(looks=screening.family)
    verb = "is" if len(quiet) == 1 else "are"
    names = joined(knob.knob for knob in quiet)
    yield (
        f"{names} {verb} {ScreenWord.NOISE} (under {half:.3f} nats either way): no effect is shown, which does not "
        "prove that there is none."
    )
    known = [effect for knob in quiet for effect in knob.effects if effect.effect is not None]
    largest = max(known, key=lambda effect: abs(effect.effect or 0.0))
    assert largest.effect is not None
    seeds = seeds_to_show(largest.effect, baseline.sd, looks=screening.family)
    start = f"The largest of these, {_change(largest, screening)} at {signed(largest.effect)} nats,"
    if seeds is None:
        yield f"{start} is too small for single runs to show; it would need several seeds of its own."
    else:
        yield f"{start} would be shown with {seeds} baseline seeds, if the noise stays as it is."


def _without_loss(screening: Screening) -> Iterator[str]:
    for effect in _single_knob_effects(screening):
        if effect.run.outcome in _WITHOUT_LOSS:
            yield f"{_change(effect, screening)} {_ending(effect.run)}."


def _ending(run: Run) -> str:
    reason = f" ({run.reason.rstrip('.')})" if run.reason else ""
    return _ENDED.get(run.outcome, run.outcome) + reason


def candidates(screening: Screening) -> Iterator[str]:
    """Yield a sentence for each candidate."""
    for effect in screening.candidates:
        name = f"Advice {advised(effect.run.label)}"
        if effect.run.val_loss is None:
            yield f"{name} {_ending(effect.run)}."
        elif effect.effect is None:
            yield f"{name} ended, but there is no baseline to compare it with."
        else:
            way = "lower" if effect.effect > 0 else "higher"
            interval = "" if effect.family_half_width is None else f" ± {effect.family_half_width:.3f}"
            yield f"{name}: {CANDIDATE_WORDS[effect.word]} (ends {abs(effect.effect):.3f}{interval} nats {way})."


def search_winner(findings: Findings) -> Iterator[str]:
    """Yield what the winner of the search ends with, how far luck may explain it, and what it changes."""
    screening = findings.screening
    winner, baseline = screening.best, screening.baseline
    if winner is None or winner.run.val_loss is None:
        yield "No trial of the search is complete, so there is no best config yet."
        return
    if winner.run.origin == "baseline":
        yield f"The best of {count(winner.trials, 'trial')} is the baseline itself: no change ended lower."
        return
    start = f"Best config: {winner.run.label}, final loss {winner.run.val_loss:.3f} nats"
    if baseline is None or winner.gain is None:
        yield f"{start}; there is no baseline to compare it with yet."
        return
    way = "lower" if winner.gain > 0 else "higher"
    yield (
        f"{start}, {abs(winner.gain):.3f} {way} than the baseline's {baseline.mean:.3f} "
        f"({in_other_units(winner.run.val_loss, baseline.mean, findings.results.data)})."
    )
    yield _optimistic(winner)
    if screening.reference is not None and (changed := changes(winner.run.config, screening.reference)):
        yield f"It changes {joined(f'{name} {values}' for name, values in changed.items())}."


def _optimistic(winner: SearchBest) -> str:
    start = f"It is the winner of {count(winner.trials, 'trial')} on the search's own seed, so its gain is optimistic"
    if winner.luck is None or winner.gain is None:
        return f"{start}: screened, not yet proven."
    compared = "but larger" if winner.gain > winner.luck else "and no larger"
    luck = f"{winner.luck:.3f} nats that the luckiest of {count(winner.trials, 'baseline run')} could show"
    return f"{start}, {compared} than the {luck}: screened, not yet proven."


def reading(findings: Findings) -> Iterator[str]:
    """Yield how far single runs can be trusted."""
    screening = findings.screening
    if screening.baseline is not None:
        yield _baseline(screening.baseline, screening.family)
    tried = {knob.knob for knob in screening.knobs}
    if missing := [knob for knob in findings.study.sampled if knob not in tried]:
        yield f"Not tried alone: {joined(missing)}."


def _baseline(baseline: Noise, family: int) -> str:
    if baseline.sd is None:
        return (
            f"Baseline: final loss {baseline.mean:.3f} nats; {_noise_unknown(baseline)}. Run it with 3 seeds or more."
        )
    few = " More seeds would sharpen every comparison." if baseline.seeds < _ENOUGH_SEEDS else ""
    together = "" if family < 2 else f" hold for all {family} comparisons together and"
    return (
        f"Baseline: {baseline.seeds} seeds, mean {baseline.mean:.3f} nats, standard deviation {baseline.sd:.4f}. "
        f"In the search, each change was run once. The 95 % intervals of such single runs{together} assume that seed "
        f"noise is normal and the same for every config.{few}"
    )


def _noise_unknown(baseline: Noise) -> str:
    if baseline.seeds == 1:
        return "only one baseline seed is complete, so the noise between seeds is unknown"
    return f"all {baseline.seeds} baseline seeds ended with the same loss, so the noise between seeds is unknown"


def _single_knob_effects(screening: Screening) -> list[Effect]:
    return [effect for knob in screening.knobs for effect in knob.effects]


def _change(effect: Effect, screening: Screening) -> str:
    return change(effect.run.knob or "", effect.run.config, screening.reference)

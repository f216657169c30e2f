"""The screening in plain sentences: single runs against the seeds of the baseline.

Each sentence says how large, how sure and on how many runs. The words "lowers" and "raises" come
from `screening`, which gives them only outside the noise of the baseline's seeds; nothing here is
called proven, because every change was run once.
"""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.analysis.findings import Findings
from sweeps.analysis.noise import Noise, seeds_to_show
from sweeps.analysis.screening import Effect, KnobEffect, Screening, ScreenWord, SearchBest
from sweeps.store.records import Outcome, Run
from sweeps.text import advised, change, changes, count, joined, signed
from sweeps.verdict.effects import in_other_units

ADVICE = {
    ScreenWord.LOWERS: "helped",
    ScreenWord.RAISES: "hurt",
    ScreenWord.NOISE: "no effect shown",
    ScreenWord.UNKNOWN: "not enough evidence",
    ScreenWord.NO_LOSS: "no final loss",
}
"""the word for a candidate"""
_ENDED = {
    Outcome.PRUNED: "was stopped early",
    Outcome.DIVERGED: "diverged",
    Outcome.INFEASIBLE: "did not fit in memory",
    Outcome.TRUNCATED: "was cut short",
    Outcome.FAILED: "failed",
    Outcome.RUNNING: "is still running",
}


def headline(found: Screening) -> str:
    """The sentence on top."""
    if found.baseline is None:
        return "No verdict yet: no run of the baseline is complete, so there is nothing to compare with."
    if not any(effect.effect is not None for effect in _stars(found)):
        return "No verdict on single knobs yet: no knob has a complete run of its own."
    if found.baseline.sd is None:
        return f"Not enough evidence: {_noise_unknown(found.baseline)}, so no difference can be told from luck."
    lowering = _knobs(found, ScreenWord.LOWERS)
    raising = [knob for knob in _knobs(found, ScreenWord.RAISES) if knob not in lowering]
    seeds = count(found.baseline.seeds, "baseline seed")
    if lowering:
        verb = "lowers" if len(lowering) == 1 else "each lower"
        moved = f"Changed alone, {joined(lowering)} {verb} the loss beyond the noise of {seeds}."
        return f"{moved} Screened, not yet proven."
    if raising:
        verb = "moves" if len(raising) == 1 else "each move"
        return f"No knob changed alone lowers the loss; {joined(raising)} {verb} it, for the worse."
    return f"No knob changed alone moves the loss beyond the noise of {seeds}."


def alone(found: Screening) -> Iterator[str]:
    """Each knob changed alone, to an end of its range."""
    yield from _moved(found)
    yield from _within_noise(found)
    yield from _without_loss(found)


def _moved(found: Screening) -> Iterator[str]:
    """One sentence a star run outside the noise, the largest effect first."""
    moved = [effect for effect in _stars(found) if effect.word in (ScreenWord.LOWERS, ScreenWord.RAISES)]
    for effect in sorted(moved, key=lambda effect: -(effect.effect or 0.0)):
        assert effect.effect is not None
        size, half = abs(effect.effect), effect.family_half_width or 0.0
        yield f"{_star(effect, found)} {effect.word} by {size:.3f} nats ({size - half:.3f} to {size + half:.3f})."


def _within_noise(found: Screening) -> Iterator[str]:
    quiet = [
        knob
        for knob in found.knobs
        if any(effect.word is ScreenWord.NOISE for effect in knob.effects)
        and not any(effect.word in (ScreenWord.LOWERS, ScreenWord.RAISES) for effect in knob.effects)
    ]
    if not quiet or found.baseline is None or found.baseline.sd is None:
        return
    half = found.baseline.half_width(looks=found.family)
    verb = "is" if len(quiet) == 1 else "are"
    names = joined(knob.knob for knob in quiet)
    yield f"{names} {verb} {ScreenWord.NOISE} (under {half:.3f} nats either way): no effect shown, not proof of none."
    top = max((knob.largest for knob in quiet if knob.largest), key=lambda effect: abs(effect.effect or 0.0))
    assert top.effect is not None
    needed = seeds_to_show(top.effect, found.baseline.sd, looks=found.family)
    largest = f"The largest of these, {_star(top, found)} at {signed(top.effect)} nats,"
    if needed is None:
        yield f"{largest} is too small for single runs to show; it would need several seeds of its own."
    else:
        yield f"{largest} would be shown with {needed} baseline seeds, if the noise stays as it is."


def _without_loss(found: Screening) -> Iterator[str]:
    for effect in _stars(found):
        if effect.run.outcome in (
            Outcome.DIVERGED,
            Outcome.INFEASIBLE,
            Outcome.PRUNED,
            Outcome.TRUNCATED,
            Outcome.FAILED,
        ):
            yield f"{_star(effect, found)} {_ending(effect.run)}."


def _ending(run: Run) -> str:
    reason = f" ({run.reason.rstrip('.')})" if run.reason else ""
    return _ENDED.get(run.outcome, run.outcome) + reason


def advice(found: Screening) -> Iterator[str]:
    """Each candidate."""
    for effect in found.advice:
        name = f"Advice {advised(effect.run.label)}"
        if effect.effect is None:
            unknown = "ended, but there is no baseline to hold it against"
            yield f"{name} {_ending(effect.run) if effect.run.val_loss is None else unknown}."
            continue
        way = "lower" if effect.effect > 0 else "higher"
        interval = "" if effect.family_half_width is None else f" ± {effect.family_half_width:.3f}"
        yield f"{name}: {ADVICE[effect.word]} (ends {abs(effect.effect):.3f}{interval} nats {way})."


def best(findings: Findings) -> Iterator[str]:
    """The winner of the search."""
    found = findings.screening
    winner, baseline = found.best, found.baseline
    if winner is None or winner.run.val_loss is None:
        yield "No trial of the search is complete, so there is no best config yet."
        return
    if winner.run.origin == "baseline":
        yield f"The best of {count(winner.trials, 'trial')} is the baseline itself: no change ended lower."
        return
    start = f"Best config: {winner.run.label}, final loss {winner.run.val_loss:.3f} nats"
    if baseline is None or winner.gain is None:
        yield f"{start}; there is no baseline to hold it against yet."
        return
    way = "lower than" if winner.gain > 0 else "above"
    yield (
        f"{start}, {abs(winner.gain):.3f} {way} the baseline's {baseline.mean:.3f} "
        f"({in_other_units(winner.run.val_loss, baseline.mean, findings.results.data)})."
    )
    yield _winner(winner)
    if found.reference is not None and (changed := changes(winner.run.config, found.reference)):
        yield f"It changes {joined(f'{name} {values}' for name, values in changed.items())}."


def _winner(best: SearchBest) -> str:
    start = f"It is the winner of {count(best.trials, 'trial')} on the search's own seed, so its gain is optimistic"
    if best.luck is None or best.gain is None:
        return f"{start}: screened, not yet proven."
    compared = "though more" if best.gain > best.luck else "and no more"
    luck = f"{best.luck:.3f} nats that the luckiest of {count(best.trials, 'baseline run')} could show"
    return f"{start}, {compared} than the {luck}: screened, not yet proven."


def steps(findings: Findings) -> Iterator[str]:
    """What would prove it."""
    if findings.screening.baseline is not None and findings.screening.best is not None:
        yield (
            f"`sweep confirm {findings.study.name}` proves or refutes this on fresh seeds; before that no config is "
            "shown to be better than the baseline."
        )


def reading(findings: Findings) -> Iterator[str]:
    """How far single runs are to be trusted."""
    found = findings.screening
    if found.baseline is not None:
        yield _seeds(found.baseline, found.family)
    if missing := [knob for knob in findings.study.sampled if knob not in {tried.knob for tried in found.knobs}]:
        yield f"Not tried alone: {joined(missing)}."


def _seeds(baseline: Noise, family: int) -> str:
    if baseline.sd is None:
        return (
            f"Baseline: final loss {baseline.mean:.3f} nats; {_noise_unknown(baseline)}. Run it with 3 seeds or more."
        )
    few = " More seeds would sharpen every comparison." if baseline.seeds < 5 else ""
    together = "" if family < 2 else f", which hold for all {family} comparisons together,"
    return (
        f"Baseline: {baseline.seeds} seeds, mean {baseline.mean:.3f} nats, standard deviation {baseline.sd:.4f}. "
        f"In the search each change was run once; the 95 % intervals of such single runs{together} take seed noise to "
        f"be normal and the same for every config.{few}"
    )


def _noise_unknown(baseline: Noise) -> str:
    if baseline.seeds == 1:
        return "only one baseline seed is complete, and the noise between seeds is unknown"
    return f"all {baseline.seeds} baseline seeds ended with the same loss, and the noise between seeds is unknown"


def _stars(found: Screening) -> list[Effect]:
    return [effect for knob in found.knobs for effect in knob.effects]


def _knobs(found: Screening, word: ScreenWord) -> list[str]:
    """Knobs with a star run of this word, the largest effect first."""
    named = [knob for knob in found.knobs if any(effect.word is word for effect in knob.effects)]

    def size(knob: KnobEffect) -> float:
        return max(abs(effect.effect or 0.0) for effect in knob.effects if effect.word is word)

    return [knob.knob for knob in sorted(named, key=size, reverse=True)]


def _star(effect: Effect, found: Screening) -> str:
    return change(effect.run.knob or "", effect.run.config, found.reference)

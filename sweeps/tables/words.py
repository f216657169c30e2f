"""The ruling on a table of runs in words: the answer, a line an arm, the noise, and what further runs would decide."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.analysis.attribution import CandidateWord
from sweeps.analysis.contrasts import Contrast
from sweeps.tables.ruling import MORE_SEEDS, ArmRuling, Missing, Ruling
from sweeps.text import count, cut, duration, joined, p_value

WORDS = {
    CandidateWord.RIGHT: "better",
    CandidateWord.WRONG: "worse",
    CandidateWord.NO_EFFECT: "equal",
    CandidateWord.ONE_RUN: "one seed",
    CandidateWord.UNKNOWN: "not enough evidence",
}
"""an arm's word; `equal` is within min_effect"""
_SHOWN = 12  # arms with a line of their own


def lines(ruling: Ruling) -> Iterator[str]:
    """Yield the ruling as lines of text, the answer first; about 25 of them."""
    yield answer(ruling)
    yield ""
    yield from _arms(ruling)
    yield ""
    yield from _facts(ruling)
    for note in ruling.table.notes:
        yield f"note: {note}"


def answer(ruling: Ruling) -> str:
    """Return the sentence that answers which changes are real."""
    arms = f"of {count(len(ruling.arms), 'arm')}"
    if ruling.missing is not None:
        return f"No verdict: no change has more than one run. {_missing(ruling.missing)}"
    shown = ruling.shown
    if not shown:
        worse = [arm.arm for arm in ruling.arms if arm.word is CandidateWord.WRONG]
        also = f" {joined(worse)} {'is' if len(worse) == 1 else 'are'} shown to be worse." if worse else ""
        return (
            f"None {arms} is shown to be better than {ruling.table.baseline} by more than {ruling.min_effect:g}.{also}"
        )
    first = shown[0]
    assert first.effect is not None
    text = f"{first.arm} is better than {ruling.table.baseline} by {_interval(first.effect)}"
    rest = [arm.arm for arm in shown[1:]]
    if rest:
        text += f"; {joined(rest)} {'is' if len(rest) == 1 else 'are'} shown to be better as well"
    return f"{text}. {len(shown)} {arms} {'is' if len(shown) == 1 else 'are'} shown."


def _arms(ruling: Ruling) -> Iterator[str]:
    width = min(48, max(len(arm.arm) for arm in ruling.arms))
    for arm in ruling.arms[:_SHOWN]:
        yield f"{cut(arm.arm, width):{width}}  {WORDS[arm.word]:19}  {_effect(arm)}"
    if len(ruling.arms) > _SHOWN:
        yield f"and {len(ruling.arms) - _SHOWN} more (--json has them all)"


def _effect(arm: ArmRuling) -> str:
    parts = []
    if arm.effect is not None:
        gains = "gains" if arm.effect.mean >= 0 else "loses"
        parts.append(f"{gains} {_interval(arm.effect)}")
        if arm.effect.p is not None and arm.effect.mean >= 0:  # it is that of a gain
            parts.append(f"p {p_value(arm.effect.p).removeprefix('= ')}")
    if arm.diverged:
        parts.append(f"{arm.diverged} of {count(arm.runs, 'run')} diverged")
    if arm.time is not None and not 0.95 <= arm.time <= 1.05:
        parts.append(f"{arm.time:.2g} times the time")
    if arm.devices_differ:
        parts.append("kinds of device differ, so unpaired")
    return ", ".join(parts) or "no loss to compare"


def _interval(effect: Contrast) -> str:
    mean = f"{abs(effect.mean):.3f}"
    seeds = f"{effect.n} {'paired ' if effect.method != 'unpaired' else ''}{'seed' if effect.n == 1 else 'seeds'}"
    if effect.method == "unpaired":
        seeds = "unpaired"
    if effect.low is None or effect.high is None:
        return f"{mean} ({seeds}, noise unknown)"
    sign = 1 if effect.mean >= 0 else -1
    low, high = sorted((sign * effect.low, sign * effect.high))
    return f"{mean} ({low:.3f} to {high:.3f}, {seeds})".replace("-", "−")


def _facts(ruling: Ruling) -> Iterator[str]:
    if ruling.sd is None:
        yield "noise: unknown, because no arm has two runs"
    else:
        yield f"noise: runs of one arm differ by {ruling.sd:.2g} (sd, {ruling.degrees} degrees of freedom)"
    if (luck := ruling.luck) is not None:
        seed = "" if luck.seed is None else f", seed {luck.seed}"
        text = f"best single run: {luck.arm}{seed}, {luck.loss:.4f}"
        if luck.others is not None:
            text += f"; its arm's other runs have a mean of {luck.others:.4f}"
        elif luck.expected is not None:
            text += f"; the best of so many runs is up to {luck.expected:.2g} too low by luck alone"
        yield text
    for arm in ruling.arms:
        if arm.more_seeds:
            yield f"next: {count(arm.more_seeds, 'more seed')} of {arm.arm} and {ruling.table.baseline} would decide it"
    yield (
        f"A gain counts above {ruling.min_effect:g} (--min-effect). Intervals are 95 %; p is one-sided, by Holm's "
        f"method over {count(len(ruling.arms), 'arm')}, times 2.5 for looking while runs come in."
    )


def _missing(missing: Missing) -> str:
    text = f"{MORE_SEEDS} more seeds of every arm are {count(missing.runs, 'run')}"
    if missing.seconds is not None:
        text += f", about {duration(missing.seconds)},"
    if missing.detects is None:
        return f"{text} and would measure the noise, without which no difference can be told from luck."
    return f"{text} and would show gains above about {missing.detects:.2g}."

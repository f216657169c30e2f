"""The confirmed verdict in plain sentences: what `attribution` found, with its size, interval and seeds.

A claim is worded as strongly as its evidence and no stronger: "breaks the plateau" is said of Word.BREAKS alone, "not
enough evidence" comes with the seeds that would decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sweeps.analysis.attribution import Advice, AdviceWord, Attribution, BestWord, KnobVerdict, KnobWord, Pair, Why
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.evidence import ALPHA_BEST, P_MULTIPLIER
from sweeps.analysis.significance import MAX_SEEDS_TO_DECIDE, shown
from sweeps.text import count, joined, named, short, signed
from sweeps.verdict.effects import bound, gain, loss, plain, share, size

_WHY = {
    Why.NOTHING_LOWER: "no trial of the search ended lower than the baseline",
    Why.DIVERGED: "runs of the best config diverged",
    Why.TOO_FEW_RUNS: "the best config has too few runs on fresh seeds",
    Why.BELOW_MIN_EFFECT: "its gain on fresh seeds is below min_effect",
    Why.NOT_ABOVE_MIN_EFFECT: "its gain on fresh seeds is not shown to exceed min_effect",
    Why.NO_SHORT_RUNS: "runs of half the length are missing, so it may be a head start",
    Why.HEAD_START: "a head start: the gain shrinks by half or more as runs get longer",
    Why.PERHAPS_HEAD_START: "the gain may be a head start that shrinks as runs get longer",
}


def why(found: Attribution) -> str:
    """What keeps the best config from being shown to be better; empty where it is shown."""
    return "" if found.why is None else _WHY[found.why]


def headline(found: Attribution) -> str:
    """The sentence on top, or two."""
    if found.broken:
        return _proven(found)
    right = [each.label for each in found.advice if each.word is AdviceWord.RIGHT]
    return _unproven(found) + (f" But of the advice, this is right: {'; '.join(right)}." if right else "")


def _proven(found: Attribution) -> str:
    assert found.effect is not None
    does, do = _verbs(found)
    changed = [knob.knob for knob in found.knobs]
    alone = [knob.knob for knob in found.knobs if knob.word is KnobWord.ALONE]
    others = [knob for knob in changed if knob not in alone]
    whole = f"the loss by {size(found.effect)}"
    if found.by_one:
        return _proven_by_one(found, alone)
    if alone:
        also = f"the best config, which also changes {_names(others)}, lowers {whole}."
        if len(alone) == 1:
            start = f"{_capital(alone)} {does} alone"
            first = next(knob.alone for knob in found.knobs if knob.knob == alone[0])
            by = "" if first is None else f", by {plain(first.mean)} nats"
            return f"{start}{by}; {also}" if others else f"{start}: it lowers {whole}."
        start = f"{_capital(alone)} each {do} alone"
        return f"{start}; {also}" if others else f"{start}; together they lower {whole}."
    if found.pair is not None and any(knob.word is KnobWord.JOINT for knob in found.knobs):
        both = f"together they lower the loss by {size(found.pair.both)}"
        return f"{_capital(found.pair.knobs)} {do} only jointly: {both}."
    start = f"The best config {does}: it lowers {whole}"
    if needed := [knob.knob for knob in found.knobs if knob.necessary]:
        verb = "is" if len(needed) == 1 else "are each"
        return f"{start}; {_names(needed)} {verb} necessary for that, but no knob is shown to do it alone."
    return f"{start}; no single knob is shown to do it alone."


def _proven_by_one(found: Attribution, alone: list[str]) -> str:
    """Of a best that isn't shown to be better, where a part of it is."""
    assert found.effect is not None
    does, do = _verbs(found)
    rest = [knob.knob for knob in found.knobs if knob.knob not in found.change]
    best = f"the search's best config, which also changes {_names(rest)}, is not shown to be better."
    if len(alone) == 1:
        return f"{_capital(alone)} {does} alone, by {plain(found.effect.mean)} nats; {best}"
    first = f"{_names(found.change)} by {plain(found.effect.mean)} nats"
    return f"{_capital(alone)} each {do} alone, {first}; {best}"


def _unproven(found: Attribution) -> str:
    if not found.knobs:
        return "No config is shown to be better: the best of the search is the baseline itself."
    if found.diverged:
        runs = count(found.diverged, "run")
        return f"No config is shown to be better: {runs} of the best config on fresh seeds diverged."
    effect = found.effect
    if effect is None or effect.p is None:
        return "Not enough evidence: the best config has too few runs on fresh seeds."
    gains = f"gains {gain(effect)} on fresh seeds"
    if not shown(effect):
        if found.decided:
            return f"Nothing in this space is shown to beat the baseline by {_floor(found)}: the best config {gains}."
        return f"Not enough evidence: the best config {gains}, which is not shown to exceed {_floor(found)}."
    if found.decided:
        return f"The best config has a head start only: it {gains}, but that shrinks by half or more in longer runs."
    return f"Not enough evidence: the best config {gains}, but that may be a head start that longer runs would shrink."


def proof(found: Attribution) -> Iterator[str]:
    """What the headline rests on."""
    yield from _plateau(found)
    effect, lasting = found.effect, found.lasting
    if effect is not None and effect.p is not None:
        what = f"{_capital(found.change)} alone" if found.by_one else "Best config"
        yield f"{what} against the baseline: {_compared(effect, found)}."
    if found.by_one and found.whole is not None and found.whole.p is not None:
        yield f"All changes of the search's best, trial {found.searched.trial}: {_compared(found.whole, found)}."
    if lasting is not None and lasting.p is not None:
        word = "No mere head start" if shown(lasting) else "A head start is not ruled out"
        if found.decided and not shown(lasting) and not found.diverged:
            word = "A head start"
        yield f"{word}: the gain less half of the gain of runs half as long is {gain(lasting)}; {bound(lasting)}."
    elif found.knobs and effect is not None and shown(effect) and not found.diverged:
        yield "Runs of half the length are missing, so a head start is not ruled out."
    if found.diverged:
        yield f"{count(found.diverged, 'run')} of the best config diverged: one that may diverge is no improvement."


def _compared(effect: Contrast, found: Attribution) -> str:
    compared = "above" if shown(effect) else "not above"
    return f"{gain(effect)}; {bound(effect)}, {compared} the {_floor(found)} set beforehand{share(effect)}"


def _plateau(found: Attribution) -> Iterator[str]:
    stuck, n = found.plateaued
    if found.word is BestWord.IMPROVES:
        which = "Half of the" if 2 * stuck == n else "Most of the" if stuck else "The"
        yield (
            f"{which} short baseline runs were not on a plateau themselves ({stuck} of {n} ended on one), so the "
            "word is “improves”, on the evidence that “breaks” would need."
        )
    elif n:
        yield f"{stuck} of {count(n, 'baseline run')} ended on a plateau, by their own curves."


def knobs(found: Attribution) -> Iterator[str]:
    """Each knob that the best config changes, then the pair and the path."""
    for knob in found.knobs:
        yield f"{knob.knob} {short(knob.was)} → {short(knob.new)}: {'; '.join(_knob(knob, found))}."
    if found.pair is not None:
        yield _pair(found.pair)
    yield from _path(found)


def knob_words(found: Attribution) -> dict[str, str]:
    """Each knob that the best config changes with its word, and what it gains alone."""
    return {
        knob.knob: _word(knob, found) + ("" if knob.alone is None else f"; alone {gain(knob.alone)}")
        for knob in found.knobs
    }


def _word(knob: KnobVerdict, found: Attribution) -> str:
    does, _ = _verbs(found)
    return {
        KnobWord.ALONE: f"{does} alone{', and is necessary' if knob.necessary else ''}",
        KnobWord.NECESSARY: "necessary, but not shown to do it alone",
        KnobWord.JOINT: f"only jointly with {knob.partner}",
        KnobWord.HURTS: "of no use alone" if knob.diverged else KnobWord.HURTS.value,
    }.get(knob.word, knob.word.value)


def _knob(knob: KnobVerdict, found: Attribution) -> Iterator[str]:
    """The parts of a knob's sentence: its word, alone, reset, what would decide."""
    yield _word(knob, found)
    if knob.diverged:
        yield f"{count(knob.diverged, 'run')} of it alone diverged or did not fit"
    if knob.alone is None:
        yield "no run of it alone ended with a loss" if knob.diverged else "no run of it alone on a fresh seed"
    else:
        tested = knob.word not in (KnobWord.NO_EFFECT, KnobWord.HURTS)
        yield f"alone it gains {gain(knob.alone, p=tested)}{share(knob.alone)}"
    if knob.reset is not None:
        half = ", more than half of the whole gain" if knob.necessary else ""
        yield f"without it the best config loses {gain(knob.reset)}{half}"
    if knob.word is KnobWord.UNKNOWN and (found.broken or not found.decided):
        yield from _decided_by(knob.alone, knob.lasting, more=knob.more_seeds)


def _decided_by(effect: Contrast | None, lasting: Contrast | None, *, more: int | None) -> Iterator[str]:
    if effect is None or effect.se is None:
        return
    if shown(effect):
        if lasting is None or not shown(lasting):
            yield "a head start is not ruled out"
    elif more is None:
        yield f"over {MAX_SEEDS_TO_DECIDE} more seeds would be needed to decide"
    else:
        yield f"about {count(more, 'more seed')} would decide"


def _pair(pair: Pair) -> str:
    together, apart = f"{_capital(pair.knobs)} together gain {gain(pair.both)}", pair.interaction
    than = f"than their gains alone add up to: interaction {gain(apart)}"
    if apart.low is not None and apart.low > 0:
        return f"{together}, more {than}."
    if apart.high is not None and apart.high < 0:
        return f"{together}, less {than}."
    return f"{together}; not shown to be more or less {than}."


def _path(found: Attribution) -> Iterator[str]:
    steps = found.path[1:]
    if not steps:
        return
    drops = [step.drop for step in steps if step.drop is not None]
    seeds = count(min((drop.n for drop in drops), default=0), "seed")
    words = []
    for step in steps:
        what = named(step.knob) if step.knob else f"{_names(step.rest)} together"
        words.append(f"{what} {signed(step.drop.mean) if step.drop else 'not measured'}")
    yield f"Step by step from the baseline to the best config, nats gained (greedy; {seeds}): {', then '.join(words)}."


def advice(found: Attribution) -> Iterator[str]:
    """Each candidate, those with a word first."""
    return (f"Advice {each.label}: {'; '.join(_answer(each))}." for each in by_word(found.advice))


def by_word(answers: Iterable[Advice]) -> list[Advice]:
    """Right ones first, then the wrong, those without an effect, and the open; each by size."""

    def rank(each: Advice) -> tuple[int, float]:
        return list(AdviceWord).index(each.word), -abs(each.effect.mean) if each.effect else 0.0

    return sorted(answers, key=rank)


def _answer(each: Advice) -> Iterator[str]:
    yield str(each.word)
    if each.diverged:
        yield f"diverged or did not fit in memory at {count(each.diverged, 'seed')}"
    if each.effect is not None:
        tested = each.word in (AdviceWord.RIGHT, AdviceWord.UNKNOWN)
        # what diverged at a seed is wrong, whatever it gains at others
        harmful = each.word is AdviceWord.WRONG and each.effect.mean < 0
        moved = f"loses {loss(each.effect)}" if harmful else f"gains {gain(each.effect, p=tested)}"
        yield f"it {moved}{share(each.effect)}"
    elif not each.diverged:
        yield "no run of it on a fresh seed"
    if each.word is AdviceWord.UNKNOWN:
        yield from _decided_by(each.effect, None, more=each.more_seeds)


def reading(found: Attribution) -> Iterator[str]:
    """How the sentences are to be read."""
    seeds = f"seeds {_range(found.seeds)}" if found.seeds else "fresh seeds"
    yield (
        "Gains are the baseline's final loss less the change's, nats a token, above 0 better; runs with the best "
        f"config's settings count on {seeds} alone, which the search has not seen. {count(found.runs, 'run')} of the "
        "confirm phase ended."
    )
    yield (
        "Intervals are two-sided 95 %, each for itself. The words are one-sided 5 % tests: breaks, improves, alone and "
        f"right of a gain above {_floor(found)} (min_effect, set beforehand), necessary of a loss above half of the "
        "whole gain; p is Holm's over the knobs, or over the advice, which isn't tested for a head start, and "
        f"{P_MULTIPLIER:g} times as large as for a single look, since seeds are added until something is shown; the "
        f"best config's once more {1 / ALPHA_BEST:g} times, and its knobs' "
        f"{1 / (1 - ALPHA_BEST):.3g} times while it isn't shown."
    )
    yield from _methods(found)


def _methods(found: Attribution) -> Iterator[str]:
    """How the intervals came about that there are."""
    contrasts = [found.effect, found.lasting, *(each.effect for each in found.advice)]
    contrasts += [each for knob in found.knobs for each in (knob.alone, knob.lasting, knob.reset)]
    methods = {each.method for each in contrasts if each is not None}
    said = []
    if methods & {"layout", "paired"}:
        said.append("configs of one shape are paired by seed, which gives them the same initial weights and batches")
    if "layout" in methods:
        said.append("others of that shape tell of their noise, too, but not of the whole best config's")
    if "unpaired" in methods:
        said.append("where a change makes other weights or batches, seeds are unpaired")
    if "permutation" in methods:
        said.append("where some seeds broke through and others did not, the interval is by permutation")
    if said:
        yield f"{'; '.join(said)}.".capitalize()


def _verbs(found: Attribution) -> tuple[str, str]:
    """What it does, what they do."""
    if found.word is BestWord.BREAKS:
        return "breaks the plateau", "break the plateau"
    return "improves on the baseline", "improve on the baseline"


def _floor(found: Attribution) -> str:
    return f"{found.min_effect:g} nats"


def _names(knobs: Iterable[str]) -> str:
    return joined(map(named, knobs))


def _capital(knobs: Iterable[str]) -> str:
    names = _names(knobs)
    return names[:1].upper() + names[1:]


def _range(seeds: tuple[int, ...]) -> str:
    whole = len(seeds) > 2 and seeds == tuple(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else joined(map(str, seeds))

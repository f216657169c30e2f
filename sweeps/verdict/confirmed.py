"""Sentences of the confirmed verdict: each claim of the attribution with its size, interval and seeds.

A claim is worded as strongly as its evidence and no stronger. "Breaks the plateau" is said of BestWord.BREAKS alone,
and "not enough evidence" comes with the number of seeds that would decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sweeps.analysis.attribution import (
    Attribution,
    BestWord,
    CandidateVerdict,
    CandidateWord,
    KnobVerdict,
    KnobWord,
    Pair,
    Why,
)
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.significance import ALPHA_BEST, MAX_SEEDS_TO_DECIDE, P_MULTIPLIER, shown
from sweeps.text import count, joined, named, short, signed
from sweeps.verdict.effects import bound, gain, harm, plain, share, size

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


def why(attribution: Attribution) -> str:
    """Return what keeps the best config from being shown to be better. Empty where it is shown."""
    return "" if attribution.why is None else _WHY[attribution.why]


def headline(attribution: Attribution) -> str:
    """Return the sentence on top, or two."""
    if attribution.broken:
        return _proven(attribution)
    right = [candidate.label for candidate in attribution.candidates if candidate.word is CandidateWord.RIGHT]
    return _unproven(attribution) + (f" However, this advice is right: {'; '.join(right)}." if right else "")


def _proven(attribution: Attribution) -> str:
    assert attribution.effect is not None
    alone = [knob.knob for knob in attribution.knobs if knob.word is KnobWord.ALONE]
    if attribution.by_one:
        return _proven_by_one(attribution, alone)
    if alone:
        return _proven_alone(attribution, alone)
    _, do = _verbs(attribution)
    pair = attribution.pair
    if pair is not None and any(knob.word is KnobWord.JOINT for knob in attribution.knobs):
        return f"{_capital(pair.knobs)} {do} only jointly: together they lower the loss by {size(pair.both)}."
    return _proven_as_a_whole(attribution)


def _proven_by_one(attribution: Attribution, alone: list[str]) -> str:
    """Return the headline where knobs alone are shown to be better and the search's best config isn't."""
    assert attribution.effect is not None
    does, do = _verbs(attribution)
    rest = [knob.knob for knob in attribution.knobs if knob.knob not in attribution.change]
    best = f"the search's best config, which also changes {_names(rest)}, is not shown to be better."
    by = f"by {plain(attribution.effect.mean)} nats"
    if len(alone) == 1:
        return f"{_capital(alone)} {does} alone, {by}; {best}"
    return f"{_capital(alone)} each {do} alone, {_names(attribution.change)} {by}; {best}"


def _proven_alone(attribution: Attribution, alone: list[str]) -> str:
    """Return the headline where the best config is shown to be better, and so is one of its knobs by itself."""
    assert attribution.effect is not None
    does, do = _verbs(attribution)
    others = [knob.knob for knob in attribution.knobs if knob.knob not in alone]
    lowers = f"the loss by {size(attribution.effect)}."
    whole = f"the best config, which also changes {_names(others)}, lowers {lowers}"
    if len(alone) > 1:
        start = f"{_capital(alone)} each {do} alone"
        return f"{start}; {whole}" if others else f"{start}; together they lower {lowers}"
    start = f"{_capital(alone)} {does} alone"
    if not others:
        return f"{start}: it lowers {lowers}"
    effect = next(knob.alone for knob in attribution.knobs if knob.knob == alone[0])
    by = "" if effect is None else f", by {plain(effect.mean)} nats"
    return f"{start}{by}; {whole}"


def _proven_as_a_whole(attribution: Attribution) -> str:
    """Return the headline where the best config is shown to be better, and no knob by itself is."""
    assert attribution.effect is not None
    does, _ = _verbs(attribution)
    start = f"The best config {does}: it lowers the loss by {size(attribution.effect)}"
    necessary = [knob.knob for knob in attribution.knobs if knob.necessary]
    if not necessary:
        return f"{start}; no single knob is shown to do it alone."
    verb = "is" if len(necessary) == 1 else "are each"
    return f"{start}; {_names(necessary)} {verb} necessary for that, but no knob is shown to do it alone."


def _unproven(attribution: Attribution) -> str:
    if not attribution.knobs:
        return "No config is shown to be better: the best of the search is the baseline itself."
    if attribution.diverged:
        runs = count(attribution.diverged, "run")
        return f"No config is shown to be better: {runs} of the best config on fresh seeds diverged."
    effect = attribution.effect
    if effect is None or effect.p is None:
        return "Not enough evidence: the best config has too few runs on fresh seeds."
    gains = f"gains {gain(effect)} on fresh seeds"
    if not shown(effect):
        floor = _floor(attribution)
        if attribution.decided:
            return f"Nothing in this space is shown to beat the baseline by {floor}: the best config {gains}."
        return f"Not enough evidence: the best config {gains}, which is not shown to exceed {floor}."
    if attribution.decided:
        return f"The best config has only a head start: it {gains}, but this shrinks by half or more in longer runs."
    return f"Not enough evidence: the best config {gains}, but this may be a head start that shrinks in longer runs."


def proof(attribution: Attribution) -> Iterator[str]:
    """Yield what the headline rests on: the plateau, the gain, and whether it lasts."""
    yield from _plateau(attribution)
    yield from tests(attribution)


def tests(attribution: Attribution) -> Iterator[str]:
    """Yield the gain that the headline rests on, and whether it lasts."""
    effect, whole = attribution.effect, attribution.whole
    if effect is not None and effect.p is not None:
        what = f"{_capital(attribution.change)} alone" if attribution.by_one else "Best config"
        yield f"{what} against the baseline: {_compared(effect, attribution)}."
    if attribution.by_one and whole is not None and whole.p is not None:
        yield f"All changes of the search's best, trial {attribution.searched.trial}: {_compared(whole, attribution)}."
    yield from _head_start(attribution)
    if attribution.diverged:
        runs = count(attribution.diverged, "run")
        yield f"{runs} of the best config diverged: a config that may diverge is no improvement."


def _plateau(attribution: Attribution) -> Iterator[str]:
    stuck, n = attribution.plateaued
    if attribution.word is BestWord.IMPROVES:
        which = "Half of the" if 2 * stuck == n else "Most of the" if stuck else "The"
        yield (
            f"{which} short baseline runs were not on a plateau ({stuck} of {n} ended on one), so the word is "
            "“improves”. The evidence is as strong as “breaks” requires."
        )
    elif n:
        yield f"{stuck} of {count(n, 'baseline run')} ended on a plateau, judged by their own curves."


def _compared(effect: Contrast, attribution: Attribution) -> str:
    compared = "above" if shown(effect) else "not above"
    return f"{gain(effect)}; {bound(effect)}, {compared} the {_floor(attribution)} set beforehand{share(effect)}"


def _head_start(attribution: Attribution) -> Iterator[str]:
    effect, lasting = attribution.effect, attribution.lasting
    if lasting is not None and lasting.p is not None:
        if shown(lasting):
            start = "More than a head start"
        elif attribution.decided and not attribution.diverged:
            start = "A head start"
        else:
            start = "A head start is not ruled out"
        yield f"{start}: the gain minus half of the gain in runs half as long is {gain(lasting)}; {bound(lasting)}."
    elif attribution.knobs and effect is not None and shown(effect) and not attribution.diverged:
        yield "Runs of half the length are missing, so a head start is not ruled out."


def knobs(attribution: Attribution) -> Iterator[str]:
    """Yield a sentence for each knob that the best config changes, then for the pair and for the ablation path."""
    for knob in attribution.knobs:
        yield knob_alone(knob, attribution)
    yield from together(attribution)


def knob_alone(knob: KnobVerdict, attribution: Attribution) -> str:
    """Return the sentence on one knob."""
    return f"{knob.knob} {short(knob.was)} → {short(knob.new)}: {'; '.join(_knob(knob, attribution))}."


def together(attribution: Attribution) -> Iterator[str]:
    """Yield the sentences on the pair and on the ablation path."""
    if attribution.pair is not None:
        yield _pair(attribution.pair)
    yield from _path(attribution)


def knob_words(attribution: Attribution) -> dict[str, str]:
    """Return, by knob that the best config changes, its word and what it gains alone."""
    return {
        knob.knob: _word(knob, attribution) + ("" if knob.alone is None else f"; alone {gain(knob.alone)}")
        for knob in attribution.knobs
    }


def _word(knob: KnobVerdict, attribution: Attribution) -> str:
    does, _ = _verbs(attribution)
    return {
        KnobWord.ALONE: f"{does} alone{', and is necessary' if knob.necessary else ''}",
        KnobWord.NECESSARY: "necessary, but not shown to do it alone",
        KnobWord.JOINT: f"only jointly with {knob.partner}",
        KnobWord.HURTS: "of no use alone" if knob.diverged else KnobWord.HURTS.value,
    }.get(knob.word, knob.word.value)


def _knob(knob: KnobVerdict, attribution: Attribution) -> Iterator[str]:
    """Yield the parts of a knob's sentence: its word, its runs alone, the best config without it, what would decide."""
    yield _word(knob, attribution)
    if knob.diverged:
        yield f"{count(knob.diverged, 'run')} with it alone diverged or did not fit in memory"
    if knob.alone is not None:
        tested = knob.word not in (KnobWord.NO_EFFECT, KnobWord.HURTS)
        yield f"alone it gains {gain(knob.alone, p=tested)}{share(knob.alone)}"
    elif knob.diverged:
        yield "no run with it alone has a final loss"
    else:
        yield "it was not run alone on a fresh seed"
    if knob.reset is not None:
        half = ", more than half of the whole gain" if knob.necessary else ""
        yield f"without it the best config loses {gain(knob.reset)}{half}"
    if knob.word is KnobWord.UNKNOWN and (attribution.broken or not attribution.decided):
        yield from _decided_by(knob.alone, knob.lasting, more=knob.more_seeds)


def _decided_by(effect: Contrast | None, lasting: Contrast | None, *, more: int | None) -> Iterator[str]:
    if effect is None or effect.se is None:
        return
    if shown(effect):
        if lasting is None or not shown(lasting):
            yield "a head start is not ruled out"
    elif more is None:
        yield f"more than {MAX_SEEDS_TO_DECIDE} further seeds would be needed to decide it"
    else:
        yield f"about {count(more, 'more seed')} would decide it"


def _pair(pair: Pair) -> str:
    together, interaction = f"{_capital(pair.knobs)} together gain {gain(pair.both)}", pair.interaction
    than_the_sum = f"than the sum of their gains alone: interaction {gain(interaction)}"
    if interaction.low is not None and interaction.low > 0:
        return f"{together}, more {than_the_sum}."
    if interaction.high is not None and interaction.high < 0:
        return f"{together}, less {than_the_sum}."
    return f"{together}; not shown to be more or less {than_the_sum}."


def _path(attribution: Attribution) -> Iterator[str]:
    steps = attribution.path[1:]
    if not steps:
        return
    drops = [step.drop for step in steps if step.drop is not None]
    seeds = count(min((drop.n for drop in drops), default=0), "seed")
    words = []
    for step in steps:
        what = named(step.knob) if step.knob else f"{_names(step.rest)} together"
        words.append(f"{what} {signed(step.drop.mean) if step.drop else 'not measured'}")
    yield (
        f"From the baseline to the best config step by step, in nats gained (greedy; {seeds}): {', then '.join(words)}."
    )


def candidates(attribution: Attribution) -> Iterator[str]:
    """Yield a sentence for each candidate, those with a clear word first."""
    for candidate in by_word(attribution.candidates):
        yield f"Advice {candidate.label}: {'; '.join(_candidate(candidate))}."


def by_word(judged: Iterable[CandidateVerdict]) -> list[CandidateVerdict]:
    """Sort judged candidates: right, wrong, without effect, undecided; within a word the largest effect first."""

    def rank(candidate: CandidateVerdict) -> tuple[int, float]:
        size_ = abs(candidate.effect.mean) if candidate.effect else 0.0
        return list(CandidateWord).index(candidate.word), -size_

    return sorted(judged, key=rank)


def _candidate(candidate: CandidateVerdict) -> Iterator[str]:
    """Yield the parts of a candidate's sentence: its word, its runs, what would decide."""
    yield str(candidate.word)
    if candidate.diverged:
        yield f"it diverged or did not fit in memory with {count(candidate.diverged, 'seed')}"
    if candidate.effect is not None:
        tested = candidate.word in (CandidateWord.RIGHT, CandidateWord.UNKNOWN)
        # a candidate that diverged with one seed is wrong, whatever it gains with the others
        harmful = candidate.word is CandidateWord.WRONG and candidate.effect.mean < 0
        moved = f"loses {harm(candidate.effect)}" if harmful else f"gains {gain(candidate.effect, p=tested)}"
        yield f"it {moved}{share(candidate.effect)}"
    elif not candidate.diverged:
        yield "it was not run on a fresh seed"
    if candidate.word is CandidateWord.UNKNOWN:
        yield from _decided_by(candidate.effect, None, more=candidate.more_seeds)


def reading(attribution: Attribution) -> Iterator[str]:
    """Yield how the sentences are to be read: what a gain is, the tests behind the words, the methods."""
    seeds = f"seeds {_range(attribution.seeds)}" if attribution.seeds else "fresh seeds"
    yield (
        "A gain is the baseline's final loss minus that of the change, in nats per token; above 0 is better. Runs with "
        f"settings of the best config count only on {seeds}, which the search has not seen. "
        f"{count(attribution.runs, 'run')} of the confirm phase ended."
    )
    yield (
        "Each interval is two-sided 95 %, without correction for the number of intervals. The words come from "
        "one-sided 5 % tests: “breaks”, “improves”, “alone” and “right” require a gain above "
        f"{_floor(attribution)} (min_effect, set beforehand), “necessary” a loss above half of the whole gain. "
        "p-values are corrected over the knobs, and over the advice, by Holm's method; advice isn't tested for a head "
        "start. Adding seeds until something is shown inflates errors, so every p-value is multiplied by "
        f"{P_MULTIPLIER:g}. The best config's is multiplied by {1 / ALPHA_BEST:g} as well, and those of its knobs by "
        f"{1 / (1 - ALPHA_BEST):.3g} while the best config is not shown to be better."
    )
    yield from _methods(attribution)


def _methods(attribution: Attribution) -> Iterator[str]:
    """Yield how the intervals were made, as far as the methods occur."""
    contrasts = [attribution.effect, attribution.lasting, *(candidate.effect for candidate in attribution.candidates)]
    contrasts += [effect for knob in attribution.knobs for effect in (knob.alone, knob.lasting, knob.reset)]
    methods = {effect.method for effect in contrasts if effect is not None}
    parts = []
    if methods & {"layout", "paired"}:
        parts.append("configs of the same shape are paired by seed, which gives them equal initial weights and batches")
    if "layout" in methods:
        parts.append("other configs of that shape help to estimate their noise, except that of the whole best config")
    if "unpaired" in methods:
        parts.append("where a change makes other weights or batches, seeds are unpaired")
    if "permutation" in methods:
        parts.append("where some seeds broke through and others did not, the interval is by permutation")
    if parts:
        yield f"{'; '.join(parts)}.".capitalize()


def _verbs(attribution: Attribution) -> tuple[str, str]:
    """Return what one subject does, and what several do."""
    if attribution.word is BestWord.BREAKS:
        return "breaks the plateau", "break the plateau"
    return "improves on the baseline", "improve on the baseline"


def _floor(attribution: Attribution) -> str:
    return f"{attribution.min_effect:g} nats"


def _names(knobs: Iterable[str]) -> str:
    return joined(map(named, knobs))


def _capital(knobs: Iterable[str]) -> str:
    names = _names(knobs)
    return names[:1].upper() + names[1:]


def _range(seeds: tuple[int, ...]) -> str:
    consecutive = len(seeds) > 2 and seeds == tuple(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if consecutive else joined(map(str, seeds))

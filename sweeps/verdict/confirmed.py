"""Sentences of the confirmed verdict: each claim of the attribution with its size, interval and seeds.

A claim is worded as strongly as its evidence and no stronger. "Breaks the plateau" is said of BestWord.BREAKS alone,
and "not enough evidence" comes with the number of seeds that would decide.
"""

from __future__ import annotations

import itertools
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
from sweeps.analysis.words import is_refuted
from sweeps.text import count, from_to, joined, named, signed
from sweeps.verdict import rows
from sweeps.verdict.effects import bound, gain, loses, moved, share

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


SMALL_BATCH = "short trials favour small batches, so try the larger one in a long run as well"
"""what to know where a smaller batch gains: the best batch grows with the tokens trained, about as their 0.38th power
(arXiv 2505.13738)"""


def why(attribution: Attribution) -> str:
    """Return what keeps the best config from being shown to be better. Empty where it is shown."""
    return "" if attribution.why is None else _WHY[attribution.why]


def proof(attribution: Attribution) -> Iterator[str]:
    """Yield what the headline rests on: the plateau, the gain, and whether it lasts."""
    yield from _plateau(attribution)
    yield from tests(attribution)


def tests(attribution: Attribution) -> Iterator[str]:
    """Yield the gain that the headline rests on, and whether it lasts."""
    effect, whole = attribution.effect, attribution.whole
    if effect is not None and effect.p is not None:
        what = f"{_capital(attribution.change)} alone" if attribution.fewer else "Best config"
        yield f"{what} against the baseline: {_compared(effect, attribution)}."
    if attribution.fewer and whole is not None and whole.p is not None:
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
        elif is_refuted(lasting) and not attribution.diverged:
            start = "A head start"
        else:
            start = "A head start is not ruled out"
        yield f"{start}: the gain minus half of the gain in runs half as long is {gain(lasting)}; {bound(lasting)}."
    elif attribution.fewer and shown(attribution.whole_lasting):
        yield (
            f"Runs of half the length with {_names(attribution.change)} alone are missing; the gain of all changes "
            "together is more than a head start."
        )
    elif attribution.knobs and effect is not None and shown(effect) and not attribution.diverged:
        yield "Runs of half the length are missing, so a head start is not ruled out."


def knobs(attribution: Attribution) -> Iterator[str]:
    """Yield a sentence for each knob that the best config changes, then for the pair and for the ablation path."""
    for knob in attribution.knobs:
        yield knob_alone(knob, attribution)
    yield from together(attribution)


def knob_alone(knob: KnobVerdict, attribution: Attribution) -> str:
    """Return the sentence on one knob."""
    before, after = from_to(knob.was, knob.new)
    return f"{knob.knob} {before} → {after}: {'; '.join(_knob(knob, attribution))}."


def together(attribution: Attribution) -> Iterator[str]:
    """Yield the sentences on the pair and on the ablation path."""
    if attribution.pair is not None:
        yield _pair(attribution.pair)
    yield from _path(attribution)


def knob_words(attribution: Attribution) -> dict[str, str]:
    """Return, by knob that the best config changes, its word and what it gains alone."""
    return {
        knob.knob: _word(knob, attribution) + ("" if knob.alone is None else f"; alone it {moved(knob.alone)}")
        for knob in attribution.knobs
    }


def _word(knob: KnobVerdict, attribution: Attribution) -> str:
    does, _ = _verbs(attribution)
    return {
        KnobWord.ALONE: f"{does} alone{', and is necessary' if knob.necessary else ''}",
        KnobWord.GAINS: "gains, and is necessary" if knob.necessary else "gains",
        KnobWord.NECESSARY: "necessary, but not shown to do it alone",
        KnobWord.JOINT: f"only jointly with {knob.partner}",
        KnobWord.HURTS: rows.does(knob, attribution),
    }.get(knob.word, knob.word.value)


def _knob(knob: KnobVerdict, attribution: Attribution) -> Iterator[str]:
    """Yield the parts of a knob's sentence: its word, its runs alone, the best config without it, what would decide."""
    gained = knob.alone if knob.word is KnobWord.GAINS else None
    if gained is not None:
        yield f"{moved(gained, p=True)}{share(gained)}"
        yield "whether it lasts isn't shown yet"
        if knob.necessary:
            yield "it is necessary"
    else:
        yield _word(knob, attribution)
    if knob.diverged:
        yield f"{count(knob.diverged, 'run')} with it alone diverged or did not fit in memory"
    if gained is not None:
        pass
    elif knob.alone is not None:
        tested = knob.word not in (KnobWord.NO_EFFECT, KnobWord.HURTS)
        yield f"alone it {moved(knob.alone, p=tested)}{share(knob.alone)}"
    elif knob.diverged:
        yield "no run with it alone has a final loss"
    else:
        yield "it was not run alone on a fresh seed"
    if knob.reset is not None:
        half = ", more than half of the whole gain" if knob.necessary else ""
        yield f"without it the best config {loses(knob.reset)}{half}"
    if knob.word is KnobWord.UNKNOWN and shown(knob.alone) and is_refuted(knob.lasting):
        yield "it is a head start: the gain shrinks by half or more in longer runs"
    elif knob.word in (KnobWord.UNKNOWN, KnobWord.GAINS) and (attribution.broken or not attribution.decided):
        yield from _decided_by(knob.lasting if knob.word is KnobWord.GAINS else knob.alone, more=knob.more_seeds)
    if has_smaller_batch(knob):
        yield SMALL_BATCH


def has_smaller_batch(knob: KnobVerdict) -> bool:
    """Whether the knob is a batch that becomes smaller."""
    return knob.knob == "batch_size" and float(knob.new) < float(knob.was)


def _decided_by(effect: Contrast | None, *, more: int | None) -> Iterator[str]:
    if effect is None or effect.se is None:
        return
    if more is None:
        yield f"more than {MAX_SEEDS_TO_DECIDE} further seeds would be needed to decide it"
    else:
        yield f"about {count(more, 'more seed')} would decide it"


def _pair(pair: Pair) -> str:
    together, interaction = (
        f"{_capital(pair.knobs)} together {moved(pair.both).replace('s ', ' ', 1)}",
        pair.interaction,
    )
    than_the_sum = f"than the sum of their gains alone: interaction {gain(interaction)}"
    if interaction.low is not None and interaction.low > 0:
        return f"{together}, more {than_the_sum}."
    if interaction.high is not None and interaction.high < 0:
        return f"{together}, less {than_the_sum}."
    return f"{together}; not shown to be more or less {than_the_sum}."


def _path(attribution: Attribution) -> Iterator[str]:
    steps = attribution.path[1:]
    if not attribution.complete_path:
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
        yield f"it {moved(candidate.effect, p=tested)}{share(candidate.effect)}"
    elif not candidate.diverged:
        yield "it was not run on a fresh seed"
    if candidate.word is CandidateWord.UNKNOWN:
        yield from _decided_by(candidate.effect, more=candidate.more_seeds)
    elif candidate.word is CandidateWord.ONE_RUN:
        yield "a second run would say more"


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
        "one-sided 5 % tests: “breaks”, “improves”, “alone”, “gains” and “right” require a gain above "
        f"{_floor(attribution)} (min_effect, set beforehand), “necessary” a loss above half of the whole gain. "
        "p-values are corrected over the knobs, and over the advice, by Holm's method; advice isn't tested for a head "
        "start. Adding seeds until something is shown inflates errors, so every p-value is multiplied by "
        f"{P_MULTIPLIER:g}. The best config's is multiplied by {1 / ALPHA_BEST:g} as well, and those of its knobs by "
        f"{1 / (1 - ALPHA_BEST):.3g} while the best config's gain is not shown."
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
    if any(effect.kinds_differ for effect in contrasts if effect is not None):
        parts.append("runs of a seed on different kinds of device are unpaired: they end apart by themselves")
    if any(effect.method == "unpaired" and not effect.kinds_differ for effect in contrasts if effect is not None):
        parts.append("where a change makes other weights or batches, seeds are unpaired")
    if any(effect.bimodal for effect in contrasts if effect is not None):
        parts.append("where some seeds broke through and others did not, only these seeds tell of their noise")
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
    return _upper(_names(knobs))


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _range(seeds: tuple[int, ...]) -> str:
    consecutive = len(seeds) > 2 and all(after == seed + 1 for seed, after in itertools.pairwise(seeds))
    return f"{seeds[0]} to {seeds[-1]}" if consecutive else joined(map(str, seeds))

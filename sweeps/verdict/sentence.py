"""The sentence that answers: the knob that gains most of what is shown, then what the changes gain together.

It is made of the rows, so it says nothing that the table doesn't.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sweeps.analysis.attribution import Attribution, BestWord, CandidateWord, KnobVerdict, KnobWord, Why
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.text import all_of, count, decimals, joined, named, nats
from sweeps.verdict.answer import Row
from sweeps.verdict.from_plateau import of_control
from sweeps.verdict.rows import AHEAD, fewer


def sentence_of(findings: Findings, rows: Iterable[Row]) -> str:
    """Return the sentence of a confirmed verdict, or of the screening before there is one."""
    rows = tuple(rows)
    by_knob = {row.knob: row for row in rows if row.protocol != "race"}
    attribution = findings.attribution
    words = _screened(findings, by_knob) if attribution is None else _confirmed(attribution, by_knob)
    if attribution is None or not attribution.broken:
        words += "".join(_ahead(row) for row in rows if row.does == AHEAD)
    words = words[:1].upper() + words[1:]
    return words if findings.branches is None else of_control([words])[0]


def _ahead(row: Row) -> str:
    """Return a sentence on a race that is ahead of the origin."""
    return f" From scratch, {row.knob} {row.after} is ahead of the origin by {measured(row)}."


def measured(row: Row, *, first: bool = True) -> str:
    """Return an effect's size: 0.11 nats (95 % interval 0.07 to 0.15, 3 seeds). `first` spells the units out."""
    assert row.effect is not None
    return _estimate(row.effect, row.low, row.high, seeds=row.seeds, first=first)


def _estimate(effect: float, low: float | None, high: float | None, *, seeds: int, first: bool = True) -> str:
    """Return an effect without its sign, with the decimals that its interval carries."""
    unit, of = " nats" if first else "", count(seeds, "seed")
    if low is None or high is None:
        return f"{nats(abs(effect), decimals(None))}{unit} ({of}, noise unknown)"
    digits = decimals((high - low) / 2)
    ends = sorted((low, high) if effect >= 0 else (-low, -high))
    interval = " to ".join(nats(end, digits) for end in ends)
    return f"{nats(abs(effect), digits)}{unit} ({f'95 % interval {interval}, {of}' if first else interval})"


# confirmed


def _confirmed(attribution: Attribution, rows: Mapping[str | None, Row]) -> str:
    if not attribution.headline:
        return _nobody(attribution, rows)
    parts = [*_credits(attribution, rows), *_whole(attribution, rows)]
    return _listed(parts)


def _listed(parts: list[str]) -> str:
    """Join parts of a sentence, which have commas of their own."""
    return f"{'; '.join(parts)}."


def _credits(attribution: Attribution, rows: Mapping[str | None, Row]) -> Iterator[str]:
    """Yield what is shown of the knob that gains most, then of the other credited knobs, by word."""
    by_name = {knob.knob: knob for knob in attribution.knobs}
    first, *others = (by_name[name] for name in attribution.headline)
    yield _credit(first, attribution, rows)
    if first.word is KnobWord.JOINT:
        others = [knob for knob in others if knob.word is not KnobWord.JOINT]
    groups: dict[KnobWord, list[str]] = {}
    for knob in others:
        groups.setdefault(knob.word, []).append(named(knob.knob))
    for word, names in groups.items():
        yield _as_well(word, names, first, attribution)


def _credit(knob: KnobVerdict, attribution: Attribution, rows: Mapping[str | None, Row]) -> str:
    row = rows[knob.knob]
    change = f"{named(knob.knob)} {row.before} → {row.after}"
    match knob.word:
        case KnobWord.ALONE:
            return f"{change} {breaks(attribution)} alone, by {measured(row)}"
        case KnobWord.GAINS:
            return f"{change} gains {measured(row)}, not yet shown to last"
        case KnobWord.NECESSARY:
            lost = f": without it the best config loses {measured(row)}" if row.measured == "without it" else ""
            return f"{change} is necessary{lost}"
    both = "" if attribution.pair is None else f", by {_of_contrast(attribution.pair.both)}"
    return f"{named(knob.knob)} and {named(knob.partner or '')} {breaks(attribution, one=False)} only together{both}"


def _as_well(word: KnobWord, names: list[str], first: KnobVerdict, attribution: Attribution) -> str:
    one = len(names) == 1
    if word is KnobWord.ALONE:
        if first.word is word:
            return f"so {'does' if one else 'do'} {joined(names)}"
        return f"{joined(names)} {breaks(attribution, one=one)} alone"
    if word is KnobWord.GAINS:
        return f"{joined(names)} {'gains' if one else 'gain'} as well, not yet shown to last"
    if word is KnobWord.JOINT:
        return f"{joined(names)} {breaks(attribution, one=False)} only together"
    return f"{joined(names)} {'is' if one else 'are'} necessary{' as well' if first.word is word else ''}"


def _whole(attribution: Attribution, rows: Mapping[str | None, Row]) -> Iterator[str]:
    """Yield what all changes of the search's best gain, where it changes more than the credited knobs do alone."""
    row = rows.get(None)
    if row is None:
        return
    if attribution.fewer:
        rest = joined(named(knob.knob) for knob in attribution.knobs if knob.knob not in attribution.change)
        proven = attribution.whole_word is not BestWord.NONE
        if len(attribution.change) > 1 and attribution.effect is not None and not _is_joint(attribution):
            gained = _of_contrast(attribution.effect, first=False)
            yield f"{fewer(attribution)} together gain {gained}, and no more with {rest}"
        else:
            more = "gains no more" if proven else "is not shown to be better"
            yield f"the search's best config, which also changes {rest}, {more}"
    elif not attribution.broken:
        yield f"the search's best config is not shown to be better than the baseline: {_lack(attribution, row)}"
    elif row.effect is not None:
        words = {knob.word for knob in attribution.knobs}
        pair = attribution.pair.knobs if attribution.pair is not None and KnobWord.JOINT in words else ()
        together = f"{all_of(len(attribution.knobs), 'change')} together"
        if words.isdisjoint((KnobWord.ALONE, KnobWord.JOINT)):
            yield f"{together} {breaks(attribution, one=False)}, by {measured(row, first=False)}"
        elif len(attribution.knobs) > len(pair):
            yield f"{together} gain {measured(row, first=False)}"


def _is_joint(attribution: Attribution) -> bool:
    """Whether the changes are the two that work only together, so that their gain has been said."""
    joint = {knob.knob for knob in attribution.knobs if knob.word is KnobWord.JOINT}
    return joint == set(attribution.change)


def _nobody(attribution: Attribution, rows: Mapping[str | None, Row]) -> str:
    """Return the sentence where no knob is credited."""
    if not attribution.knobs and attribution.candidates:
        return _of_candidates(attribution)
    if not attribution.knobs:
        return "no config is shown to be better: the best of the search is the baseline itself."
    row = rows[None] if None in rows else rows[attribution.knobs[0].knob]
    if attribution.broken:
        by = "" if attribution.effect is None else _of_contrast(attribution.effect)
        names = joined(named(knob.knob) for knob in attribution.knobs)
        return (
            f"the best config, which changes {names}, {breaks(attribution)} by {by}; no knob is shown to do it alone."
        )
    lack = _lack(attribution, row)
    if right := _right(attribution):
        return f"the advice {right}; the search's best config is not shown to be better than the baseline: {lack}."
    return f"no config is shown to be better than the baseline: {lack}."


def _of_candidates(attribution: Attribution) -> str:
    """Return the sentence of a study of candidates alone, or whose search found nothing lower."""
    if right := _right(attribution):
        return f"{right}."
    n = len(attribution.candidates)
    tried = f"none of the {n} changes" if n > 1 else attribution.candidates[0].label
    return f"{tried} is {'' if n > 1 else 'not '}shown to be better than the baseline."


def _right(attribution: Attribution) -> str:
    """Return what right candidates gain, the one that gains most first; empty where none is right."""
    right = [
        (candidate.label, candidate.effect)
        for candidate in attribution.candidates
        if candidate.word is CandidateWord.RIGHT and candidate.effect is not None
    ]
    if not right:
        return ""
    (label, effect), *others = sorted(right, key=lambda each: -each[1].mean)
    more = f"; so {'does' if len(others) == 1 else 'do'} {joined(name for name, _ in others)}" if others else ""
    return f"{label} gains {_of_contrast(effect)}{more}"


def _lack(attribution: Attribution, row: Row) -> str:
    """Return what keeps the best config from being shown to be better, with its size."""
    floor = f"{attribution.min_effect:g} nats"
    if attribution.why is Why.DIVERGED:
        return f"{count(attribution.diverged, 'run')} of the best on fresh seeds diverged"
    if row.effect is None or attribution.effect is None or attribution.effect.p is None:
        return "the best has too few runs on fresh seeds"
    moved = f"the best {'gains' if row.effect >= 0 else 'loses'} {measured(row)}"
    match attribution.why:
        case Why.HEAD_START:
            return f"{moved}, but half or more of this is gone in longer runs"
        case Why.PERHAPS_HEAD_START | Why.NO_SHORT_RUNS:
            return f"{moved}, not yet shown to last"
        case Why.BELOW_MIN_EFFECT:
            return f"{moved}, less than the {floor} that count"
    return f"{moved}, which is not shown to exceed {floor}"


def breaks(attribution: Attribution, *, one: bool = True) -> str:
    """Return what one subject, or several, do."""
    s = "s" if one else ""
    if attribution.word is BestWord.BREAKS:
        return f"break{s} the plateau"
    return f"improve{s} on the baseline"


def _of_contrast(effect: Contrast, *, first: bool = True) -> str:
    return _estimate(effect.mean, effect.low, effect.high, seeds=effect.n, first=first)


# screened


def _screened(findings: Findings, rows: Mapping[str | None, Row]) -> str:
    noise = findings.screening.baseline
    if noise is None:
        return "no verdict yet: no run of the baseline is complete, so there is nothing to compare with."
    if not any(row.effect is not None for row in rows.values()):
        return "no verdict on single knobs yet: no knob has a complete run of its own."
    if noise.sd is None:
        few = "only one of its seeds is complete" if noise.seeds == 1 else "all of its seeds end with the same loss"
        return f"not enough evidence: the noise of the baseline is unknown ({few}), so nothing can be told from luck."
    moved = sorted((row for row in rows.values() if row.shown), key=lambda row: -(row.effect or 0.0))
    lowering = [row for row in moved if (row.effect or 0.0) > 0]
    seeds = count(noise.seeds, "baseline seed")
    if lowering:
        first, *others = lowering
        also = f"; so does changing {joined(named(row.knob or '') for row in others)}" if others else ""
        change = f"{named(first.knob or '')} {first.before} → {first.after}"
        return (
            f"{change} alone lowers the loss most, by {measured(first).replace(', 1 seed', ', one run')}, beyond the "
            f"noise of {seeds}{also}. Screened, not yet proven."
        )
    if moved:
        names = joined(named(row.knob or "") for row in moved)
        verb = "raises" if len(moved) == 1 else "raise"
        return f"no knob changed alone lowers the loss in its single run; {names} {verb} it. Screened, not yet proven."
    return f"no knob changed alone moves the loss beyond the noise of {seeds}."

"""Which runs would tell most: the order of the confirm phase, decided anew from the runs there are.

First whether the best is better at all, on three fresh seeds, more where these don't show it; if it can't be, the
advice and its knobs by themselves are left to judge. Then runs of half the length (a mere head start?), again on more
where two seeds don't show it. Each knob alone on two seeds, the first of them on as many as it needs to be named; of a
best that is shown each knob reset, the advice, the 2x2 of the top pair and the ablation path; then more seeds for what
is still undecided. No question gets more than `confirm.seeds`, the verdict itself and its first knob three more. So a
phase whose runs are few answers the first questions and leaves the last open. It ends when nothing is left that could
change a word.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from sweeps.analysis.ablation import path_to_best
from sweeps.analysis.arms import BASELINE, PHASE, Arm
from sweeps.analysis.attribution import AdviceWord, Attribution, KnobVerdict, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.judge import judge, top_pair
from sweeps.analysis.significance import shown
from sweeps.store.records import Run

FIRST, KNOBS, EXTRA = 3, 2, 3
"""seeds of the best at first, of each knob at first, and on top of confirm.seeds where the verdict hangs on them"""

NextRun = tuple[Arm, int]
"""an arm and a seed"""


def next_run(evidence: Evidence) -> NextRun | None:
    """The most informative run that has not been begun; None: nothing is open, or it waits for runs in flight."""
    return next(
        (
            (arm, seed)
            for arm, seed in wanted(evidence)
            if evidence.arms.config(arm) is not None and not evidence.run(arm, seed)
        ),
        None,
    )


def planned(runs: Iterable[Run], *, most: int, over: Callable[[], bool]) -> int:
    """Runs of this phase when it is over: the most that there may be, till `over` says that nothing is left to run."""
    runs = list(runs)
    made = sum(run.phase == PHASE for run in runs)
    unfinished = any(run.unfinished for run in runs)
    return made if made and not unfinished and over() else max(made, most)


def wanted(evidence: Evidence) -> Iterator[NextRun]:
    """Runs to make, the most informative first; those that exist, and mixtures that can't be run, are among them."""
    found = judge(evidence)
    if found is None:
        return
    seeds = list(itertools.islice(evidence.arms.seeds(), evidence.study.confirm.seeds + EXTRA))
    most = evidence.study.confirm.seeds
    winner = evidence.arms.winner
    if not winner.knobs:
        yield from _advice(found, seeds[:most], first=KNOBS)
        return
    yield from at((BASELINE, winner), seeds[: min(FIRST, most)])
    if not found.decided and found.effect is not None and found.effect.n >= FIRST and not shown(found.effect):
        yield from at((BASELINE, winner), seeds)
    knobs = [knob.knob for knob in found.knobs]  # the one that gains most, as far as it is known, first
    single = [Arm(frozenset([knob])) for knob in knobs]
    if _no_gain(found):  # but a part of it may
        yield from _advice(found, seeds[:most], first=KNOBS)
        yield from at([BASELINE, *single], seeds[:KNOBS])
        yield from at(_first(found), seeds)
        return
    halves = (Arm(half=True), Arm(winner.knobs, half=True))
    yield from at(halves, seeds[:KNOBS])
    if found.effect is not None and shown(found.effect) and not found.decided:  # it may be a mere head start
        yield from at((BASELINE, winner, *halves), seeds)
    yield from at(single, seeds[:KNOBS])
    yield from at([Arm(arm.knobs, half=True) for arm in _gaining(found)], seeds[:KNOBS])
    whole = found.broken and not found.by_one  # of a best that isn't shown to be better, no part is missed
    yield from at(_first(found), seeds[KNOBS : most if whole else None])
    if whole:
        yield from at([evidence.arms.without(knob) for knob in knobs], seeds[:1])
        needed = [evidence.arms.without(knob.knob) for knob in found.knobs if _may_be_needed(knob)]
        yield from at(needed, seeds[1:KNOBS])
    yield from at([Arm(candidate=each.candidate) for each in found.advice if _open(each.word)], seeds[:1])
    if whole:
        yield from _joint(found, seeds[:KNOBS])
        yield from _path(evidence, found)
    for number in range(KNOBS, most):
        yield from at(_undecided(evidence, found), seeds[number : number + 1])
    for number in range(most, most + EXTRA):
        yield from at(_decisive(evidence, found), seeds[number : number + 1])


def at(arms: Iterable[Arm], seeds: Iterable[int]) -> Iterator[NextRun]:
    """All arms at a seed, then at the next."""
    arms = list(arms)
    return ((arm, seed) for seed in seeds for arm in arms)


def _no_gain(found: Attribution) -> bool:
    """Whether the best is shown not to be better, or to diverge."""
    effect = found.effect
    return found.diverged > 0 or (effect is not None and effect.upper is not None and effect.upper <= found.min_effect)


def _gaining(found: Attribution) -> list[Arm]:
    """Knobs alone that seem to gain: they need runs of half the length to count."""
    return [
        Arm(frozenset([knob.knob]))
        for knob in found.knobs
        if knob.alone is not None and knob.alone.p is not None and knob.alone.p <= 0.2
    ]


def _advice(found: Attribution, seeds: list[int], *, first: int) -> Iterator[NextRun]:
    """The candidates on the first seeds, then those that are undecided on the rest; the baseline with them."""
    arms = [Arm(candidate=each.candidate) for each in found.advice]
    yield from at([BASELINE, *arms] if arms else [], seeds[:first])
    left = [Arm(candidate=each.candidate) for each in found.advice if _open(each.word)]
    yield from at([BASELINE, *left] if left else [], seeds[first:])


def _open(word: AdviceWord) -> bool:
    return word is AdviceWord.UNKNOWN


def _joint(found: Attribution, seeds: list[int]) -> Iterator[NextRun]:
    """Both knobs of the top pair: at one seed, and at more where no knob does it alone."""
    names = top_pair(found.knobs)
    if names is None:
        return
    single = any(knob.word is KnobWord.ALONE for knob in found.knobs)
    yield from at([Arm(frozenset(names))], seeds[:1] if single else seeds)


def _path(evidence: Evidence, found: Attribution) -> Iterator[NextRun]:
    """The next step's alternatives at the path's seed; of a path that is complete the arms on it, at one more."""
    path = path_to_best(evidence, found.knobs)
    if path.seed is None:
        return
    yield from ((arm, path.seed) for arm in path.missing)
    if not path.missing:
        later = [seed for seed in found.seeds if seed > path.seed][:1]
        yield from at(path.arms, later)


def _undecided(evidence: Evidence, found: Attribution) -> list[Arm]:
    """Arms of every question that is open, those of the verdict first."""
    arms, whole = _decisive(evidence, found), found.broken and not found.by_one
    for knob in found.knobs:
        if knob.word is KnobWord.UNKNOWN:
            alone = Arm(frozenset([knob.knob]))
            arms.append(alone)
            if whole and _may_be_needed(knob):
                arms.append(evidence.arms.without(knob.knob))
            if _gained(knob.alone):
                arms.append(Arm(alone.knobs, half=True))
    if whole and not any(knob.word is KnobWord.ALONE for knob in found.knobs) and (names := top_pair(found.knobs)):
        arms.append(Arm(frozenset(names)))
    arms += [Arm(candidate=each.candidate) for each in found.advice if _open(each.word)]
    if arms:
        arms = [BASELINE, evidence.arms.winner, *arms]
    return list(dict.fromkeys(arms))


def _decisive(evidence: Evidence, found: Attribution) -> list[Arm]:
    """Arms that the verdict's own word hangs on, where more seeds could change it; else of its first knob."""
    winner = evidence.arms.winner
    first = _first(found)
    if not found.decided:
        arms = [BASELINE, winner]
        if _gained(found.effect):
            arms += [Arm(half=True), Arm(winner.knobs, half=True)]
        return [*arms, *first]
    return [*first, winner, evidence.arms.without(*first[1].knobs)] if first else []


def _first(found: Attribution) -> list[Arm]:
    """The first knob that seems to gain beside the baseline, where none is shown to do it alone yet; both lengths
    unless it is shown to last."""
    first = next((knob for knob in found.knobs if knob.word is KnobWord.UNKNOWN and _gained(knob.alone)), None)
    if first is None or any(knob.word is KnobWord.ALONE for knob in found.knobs):
        return []
    alone, lasts = frozenset([first.knob]), first.lasting is not None and shown(first.lasting)
    return [BASELINE, Arm(alone), *([] if lasts else [Arm(half=True), Arm(alone, half=True)])]


def _may_be_needed(knob: KnobVerdict) -> bool:
    needed = knob.needed
    return needed is None or needed.upper is None or (not shown(needed) and needed.upper > 0)


def _gained(effect: Contrast | None) -> bool:
    return effect is not None and effect.mean > effect.threshold

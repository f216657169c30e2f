"""The confirm phase: which runs would tell most, decided anew from the runs that there are.

The questions, in their order:

1. Is the best config better at all? Three fresh seeds, more where these don't show it. If it can't be better, only the
   candidates and its knobs alone are left to judge.
2. Is its gain a mere head start? Runs of half the length, again on more seeds where two don't show it.
3. Which knob does it alone? Each knob alone on two seeds, the first of them on as many as naming it takes.
4. If the best is shown to be better: each knob reset, the candidates, the 2x2 of the top pair, the ablation path.
5. What is still undecided? More seeds.

No question gets more than `confirm.seeds`; the verdict itself and its first knob get three more. A phase of few runs
answers the first questions and leaves the last open. It ends when no further run could change a word.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from sweeps.analysis.ablation import path_to_best
from sweeps.analysis.arms import BASELINE, PHASE, Arm
from sweeps.analysis.attribution import Attribution, CandidateWord, KnobVerdict, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.judge import judge, top_pair
from sweeps.analysis.significance import shown
from sweeps.store.records import Results, Run
from sweeps.study.sections import Confirm

FIRST, KNOBS, EXTRA = 3, 2, 3
"""seeds of the best at first, of each knob at first, and beyond confirm.seeds where the verdict depends on them"""
SEEMS = 0.2
"""largest p at which a knob alone seems to gain: it then needs runs of half the length to count"""

NextRun = tuple[Arm, int]
"""an arm and a seed"""


def next_run(evidence: Evidence) -> NextRun | None:
    """The most informative run that has not begun; None: nothing is open, or it waits for runs in flight."""
    return next(
        (
            (arm, seed)
            for arm, seed in wanted(evidence)
            if evidence.arms.config(arm) is not None and not evidence.run(arm, seed)
        ),
        None,
    )


def planned(runs: Iterable[Run], *, most: int, over: Callable[[], bool]) -> int:
    """Runs of the finished phase: the most that there may be, until `over` says that nothing is left to run."""
    runs = list(runs)
    begun = sum(run.phase == PHASE for run in runs)
    unfinished = any(run.unfinished for run in runs)
    return begun if begun and not unfinished and over() else max(begun, most)


def extended(results: Results, *, seeds: int | None, max_trials: int | None) -> Confirm:
    """The settings of the phase when `sweep confirm` continues it.

    By default it has the same seeds, and room for as many further runs as the study allows, or the default if that
    is none.
    """
    settings = results.study.confirm
    begun = sum(run.phase == PHASE for run in results.runs)
    return Confirm(
        seeds=seeds or settings.seeds,
        max_trials=max_trials or begun + (settings.max_trials or Confirm().max_trials),
        min_effect=settings.min_effect,
    )


def wanted(evidence: Evidence) -> Iterator[NextRun]:
    """Runs to make, the most informative first. Runs that exist, and mixtures that can't be run, are among them."""
    attribution = judge(evidence)
    if attribution is not None:
        yield from Questions(evidence, attribution).in_order()


class Questions:
    """The questions of the phase, each as the runs that would answer it."""

    def __init__(self, evidence: Evidence, attribution: Attribution) -> None:
        self.evidence, self.attribution = evidence, attribution
        self.winner = evidence.arms.winner
        self.most = evidence.study.confirm.seeds
        self.seeds = list(itertools.islice(evidence.arms.seeds(), self.most + EXTRA))
        self.singles = [Arm(frozenset([knob.knob])) for knob in attribution.knobs]
        """each knob alone, the one that seems to gain most first"""
        self.whole = attribution.broken and not attribution.by_one
        """the best itself is shown to be better, so its parts can be missed"""

    def in_order(self) -> Iterator[NextRun]:
        if not self.winner.knobs:
            yield from self._candidates()
            return
        yield from self._is_it_better()
        if _cannot_gain(self.attribution):  # but a part of it may
            yield from self._candidates()
            yield from at([BASELINE, *self.singles], self.seeds[:KNOBS])
            yield from at(self._first_knob(), self.seeds)
            return
        yield from self._is_it_a_head_start()
        yield from self._which_knob()
        if self.whole:
            yield from self._which_knob_is_needed()
        yield from at(self._open_candidates(), self.seeds[:1])
        if self.whole:
            yield from self._top_pair()
            yield from self._path()
        for number in range(KNOBS, self.most):
            yield from at(self.undecided(), self.seeds[number : number + 1])
        for number in range(self.most, self.most + EXTRA):
            yield from at(self._decisive(), self.seeds[number : number + 1])

    def _is_it_better(self) -> Iterator[NextRun]:
        yield from at((BASELINE, self.winner), self.seeds[: min(FIRST, self.most)])
        effect = self.attribution.effect
        if not self.attribution.decided and effect is not None and effect.n >= FIRST and not shown(effect):
            yield from at((BASELINE, self.winner), self.seeds)

    def _is_it_a_head_start(self) -> Iterator[NextRun]:
        halves = _both_halves(self.winner)
        yield from at(halves, self.seeds[:KNOBS])
        effect = self.attribution.effect
        if effect is not None and shown(effect) and not self.attribution.decided:
            yield from at((BASELINE, self.winner, *halves), self.seeds)

    def _which_knob(self) -> Iterator[NextRun]:
        yield from at(self.singles, self.seeds[:KNOBS])
        gaining = [
            arm
            for arm, knob in zip(self.singles, self.attribution.knobs, strict=True)
            if knob.alone is not None and knob.alone.p is not None and knob.alone.p <= SEEMS
        ]
        yield from at(map(_half, gaining), self.seeds[:KNOBS])
        yield from at(self._first_knob(), self.seeds[KNOBS : self.most if self.whole else None])

    def _which_knob_is_needed(self) -> Iterator[NextRun]:
        without = {knob.knob: self.evidence.arms.without(knob.knob) for knob in self.attribution.knobs}
        yield from at(without.values(), self.seeds[:1])
        needed = [without[knob.knob] for knob in self.attribution.knobs if _may_be_needed(knob)]
        yield from at(needed, self.seeds[1:KNOBS])

    def _candidates(self) -> Iterator[NextRun]:
        """The candidates on two seeds, then those that are undecided on the rest, each time beside the baseline."""
        seeds = self.seeds[: self.most]
        every = [Arm(candidate=candidate.candidate) for candidate in self.attribution.candidates]
        for arms, on in ((every, seeds[:KNOBS]), (self._open_candidates(), seeds[KNOBS:])):
            yield from at([BASELINE, *arms] if arms else [], on)

    def _top_pair(self) -> Iterator[NextRun]:
        """Both knobs of the top pair: at one seed, and at more where no knob does it alone."""
        names = top_pair(self.attribution.knobs)
        if names is not None:
            yield from at([Arm(frozenset(names))], self.seeds[: 1 if self._one_does_it() else KNOBS])

    def _path(self) -> Iterator[NextRun]:
        """The next step's alternatives at the path's seed; once the path is complete, its arms at one more seed."""
        path = path_to_best(self.evidence, self.attribution.knobs)
        if path.seed is None:
            return
        yield from ((arm, path.seed) for arm in path.missing)
        if not path.missing:
            later = [seed for seed in self.attribution.seeds if seed > path.seed][:1]
            yield from at(path.arms, later)

    def undecided(self) -> Sequence[Arm]:
        """Arms of every question that is open, those of the verdict first."""
        arms = self._decisive()
        for knob in self.attribution.knobs:
            if knob.word is KnobWord.UNKNOWN:
                alone = Arm(frozenset([knob.knob]))
                arms.append(alone)
                if self.whole and _may_be_needed(knob):
                    arms.append(self.evidence.arms.without(knob.knob))
                if _gained(knob.alone):
                    arms.append(_half(alone))
        if self.whole and not self._one_does_it() and (names := top_pair(self.attribution.knobs)):
            arms.append(Arm(frozenset(names)))
        arms += self._open_candidates()
        return list(dict.fromkeys([BASELINE, self.winner, *arms])) if arms else []

    def _decisive(self) -> list[Arm]:
        """Arms that the verdict's word depends on, where more seeds could change it; else those of its first knob."""
        first = self._first_knob()
        if self.attribution.decided:
            return [*first, self.winner, self.evidence.arms.without(*first[1].knobs)] if first else []
        halves = _both_halves(self.winner) if _gained(self.attribution.effect) else ()
        return [BASELINE, self.winner, *halves, *first]

    def _first_knob(self) -> list[Arm]:
        """The baseline and the first knob that seems to gain, where no knob is shown to do it alone yet.

        Both also at half the length, unless the knob's gain is shown to last.
        """
        unknown = (knob for knob in self.attribution.knobs if knob.word is KnobWord.UNKNOWN and _gained(knob.alone))
        first = next(unknown, None)
        if first is None or self._one_does_it():
            return []
        alone = Arm(frozenset([first.knob]))
        lasts = first.lasting is not None and shown(first.lasting)
        return [BASELINE, alone, *(() if lasts else _both_halves(alone))]

    def _open_candidates(self) -> list[Arm]:
        unknown = (candidate for candidate in self.attribution.candidates if candidate.word is CandidateWord.UNKNOWN)
        return [Arm(candidate=candidate.candidate) for candidate in unknown]

    def _one_does_it(self) -> bool:
        return any(knob.word is KnobWord.ALONE for knob in self.attribution.knobs)


def at(arms: Iterable[Arm], seeds: Iterable[int]) -> Iterator[NextRun]:
    """All arms at a seed, then at the next."""
    arms = list(arms)
    return ((arm, seed) for seed in seeds for arm in arms)


def _half(arm: Arm) -> Arm:
    return Arm(arm.knobs, half=True)


def _both_halves(arm: Arm) -> tuple[Arm, Arm]:
    """The baseline and an arm, at half the length."""
    return _half(BASELINE), _half(arm)


def _cannot_gain(attribution: Attribution) -> bool:
    """Whether the best is shown not to be better, or diverges."""
    effect = attribution.effect
    bounded = effect is not None and effect.upper is not None and effect.upper <= attribution.min_effect
    return attribution.diverged > 0 or bounded


def _may_be_needed(knob: KnobVerdict) -> bool:
    needed = knob.needed
    return needed is None or needed.upper is None or (not shown(needed) and needed.upper > 0)


def _gained(effect: Contrast | None) -> bool:
    return effect is not None and effect.mean > effect.threshold

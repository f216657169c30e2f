"""The confirm phase: the most informative next run and its seed, chosen anew from the runs so far.

The questions, in order:

1. Is the best config better at all? Three fresh seeds, more if these don't show it. If it can't be better, only the
   candidates and the single knobs are left to judge.
2. Is its gain a mere head start? Runs of half the length on two seeds, more if these don't show it.
3. Which knob does it alone? Each knob alone on two seeds; a knob whose gain is shown, at both lengths until the gain is
   shown to last or not to; the most promising one on as many seeds as it needs.
4. Which knobs are needed? Each knob reset, if the best is shown to be better.
5. Which advice is right? Each candidate on one seed beside the search's, so that none rests on one pair.
6. How do the knobs work together? The 2x2 of the top pair and the ablation path, if the best is shown to be better.
7. What is still undecided? More seeds.

No question gets more than `confirm.seeds` seeds, but the verdict itself and its first knob get three more. With a small
`confirm.max_trials` the last questions stay open. The phase ends when no further run could change a word.
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
from sweeps.analysis.words import is_decided
from sweeps.store.records import Results, Run
from sweeps.study.sections import Confirm

BEST_SEEDS, KNOB_SEEDS, EXTRA_SEEDS = 3, 2, 3
"""seeds of the best at first, of each knob at first, and beyond confirm.seeds where the verdict depends on them"""
SEEMS_TO_GAIN = 0.2
"""largest p at which a knob alone seems to gain; it then also gets runs of half the length, to rule out a head start"""

_OPEN = (KnobWord.GAINS, KnobWord.UNKNOWN)
"""words of a knob that more seeds could change"""
_OPEN_ADVICE = (CandidateWord.ONE_RUN, CandidateWord.UNKNOWN)
"""words of a candidate that more seeds could change"""

NextRun = tuple[Arm, int]
"""an arm and a seed"""


def next_run(evidence: Evidence, *, takes: Callable[[int], bool] = lambda seed: True) -> NextRun | None:  # noqa: ARG005
    """Return the most informative run that has not begun; None: no question is open, or its runs are in flight.

    `takes`: whether a run of a seed may begin where it is asked for.
    """
    return next(
        (
            (arm, seed)
            for arm, seed in wanted(evidence)
            if evidence.arms.config(arm) is not None and not evidence.run(arm, seed) and takes(seed)
        ),
        None,
    )


def planned(runs: Iterable[Run], *, most: int, over: Callable[[], bool]) -> int:
    """Return the runs of the finished phase: its maximum `most`, until `over` says that no run is left."""
    runs = list(runs)
    begun = sum(run.phase == PHASE for run in runs)
    unfinished = any(run.unfinished for run in runs)
    return begun if begun and not unfinished and over() else max(begun, most)


def extended(results: Results, *, seeds: int | None, max_trials: int | None) -> Confirm:
    """Return the settings of the phase for `sweep confirm`, which continues it.

    By default the seeds stay the same. The phase gets `max_trials` further runs, by default as many as the study
    allows, or the default number if the study allows none. Without `max_trials`, a phase that was interrupted goes on
    as it was begun: the same command, typed again, asks for no more.
    """
    settings = results.study.confirm
    own = [run for run in results.runs if run.phase == PHASE]
    begun = len(own)
    left = begun < settings.max_trials or any(run.unfinished for run in own)
    if own and left and max_trials is None and seeds in (None, settings.seeds):
        return settings
    return Confirm(
        seeds=seeds or settings.seeds,
        max_trials=begun + (max_trials or settings.max_trials or Confirm().max_trials),
        min_effect=settings.min_effect,
    )


def wanted(evidence: Evidence) -> Iterator[NextRun]:
    """Yield the runs of all questions, the most informative first, including runs that exist or can't be made."""
    attribution = judge(evidence)
    if attribution is not None:
        yield from Questions(evidence, attribution).in_order()


class Questions:
    """The questions of the phase. Each method gives the runs or arms that would answer one of them."""

    def __init__(self, evidence: Evidence, attribution: Attribution) -> None:
        self.evidence, self.attribution = evidence, attribution
        self.winner = evidence.arms.winner
        self.most = evidence.study.confirm.seeds
        self.seeds = list(itertools.islice(evidence.arms.seeds(), self.most + EXTRA_SEEDS))
        self.singles = [Arm(frozenset([knob.knob])) for knob in attribution.knobs]
        """each knob alone, the one that seems to gain most first"""
        self.best_is_shown = attribution.broken and not attribution.fewer
        """whether the whole best config is shown to be better; only then can resetting a knob lose something"""
        self.best_is_decided = is_decided(attribution.why)
        """whether no further seed could change what is known of the whole best config"""

    def in_order(self) -> Iterator[NextRun]:
        """Yield the runs of all questions in their order."""
        if not self.winner.knobs:
            yield from self._candidates()
            return
        yield from self._is_it_better()
        if _cannot_gain(self.attribution):  # but a single knob still may
            yield from self._candidates()
            yield from on_seeds([BASELINE, *self.singles], self.seeds[:KNOB_SEEDS])
            yield from on_seeds(self._gaining(), self.seeds[: self.most])
            yield from on_seeds(self._first_knob(), self.seeds)
            return
        yield from self._is_it_a_head_start()
        yield from self._which_knob()
        if self.best_is_shown:
            yield from self._which_knob_is_needed()
        yield from on_seeds(self._open_candidates(), self.seeds[:1])
        yield from on_seeds(self._candidates_with(CandidateWord.ONE_RUN), self.seeds[:KNOB_SEEDS])
        if self.best_is_shown:
            yield from self._top_pair()
            yield from self._path()
        for number in range(KNOB_SEEDS, self.most):
            yield from on_seeds(self.undecided(), self.seeds[number : number + 1])
        for number in range(self.most, self.most + EXTRA_SEEDS):
            yield from on_seeds(self._decisive(), self.seeds[number : number + 1])

    def _is_it_better(self) -> Iterator[NextRun]:
        yield from on_seeds((BASELINE, self.winner), self.seeds[: min(BEST_SEEDS, self.most)])
        effect = self.attribution.effect
        if not self.best_is_decided and effect is not None and effect.n >= BEST_SEEDS and not shown(effect):
            yield from on_seeds((BASELINE, self.winner), self.seeds)

    def _is_it_a_head_start(self) -> Iterator[NextRun]:
        halves = _both_halves(self.winner)
        yield from on_seeds(halves, self.seeds[:KNOB_SEEDS])
        effect = self.attribution.effect
        if effect is not None and shown(effect) and not self.best_is_decided:
            yield from on_seeds((BASELINE, self.winner, *halves), self.seeds)

    def _which_knob(self) -> Iterator[NextRun]:
        yield from on_seeds(self.singles, self.seeds[:KNOB_SEEDS])
        gaining = [
            arm
            for arm, knob in zip(self.singles, self.attribution.knobs, strict=True)
            if knob.alone is not None and knob.alone.p is not None and knob.alone.p <= SEEMS_TO_GAIN
        ]
        yield from on_seeds(map(_half, gaining), self.seeds[:KNOB_SEEDS])
        yield from on_seeds(self._gaining(), self.seeds[: self.most])
        yield from on_seeds(self._first_knob(), self.seeds[KNOB_SEEDS : self.most if self.best_is_shown else None])

    def _which_knob_is_needed(self) -> Iterator[NextRun]:
        without = {knob.knob: self.evidence.arms.without(knob.knob) for knob in self.attribution.knobs}
        yield from on_seeds(without.values(), self.seeds[:1])
        needed = [without[knob.knob] for knob in self.attribution.knobs if _may_be_needed(knob)]
        yield from on_seeds(needed, self.seeds[1:KNOB_SEEDS])

    def _candidates(self) -> Iterator[NextRun]:
        """Yield all candidates on two seeds, then the undecided ones on the other seeds, both beside the baseline."""
        seeds = self.seeds[: self.most]
        every = [Arm(candidate=candidate.candidate) for candidate in self.attribution.candidates]
        for arms, some_seeds in ((every, seeds[:KNOB_SEEDS]), (self._open_candidates(), seeds[KNOB_SEEDS:])):
            yield from on_seeds([BASELINE, *arms] if arms else [], some_seeds)

    def _top_pair(self) -> Iterator[NextRun]:
        """Yield the run with both knobs of the top pair: on one seed, or on two where no knob does it alone."""
        names = top_pair(self.attribution.knobs)
        if names is not None:
            yield from on_seeds([Arm(frozenset(names))], self.seeds[: 1 if self._one_does_it() else KNOB_SEEDS])

    def _path(self) -> Iterator[NextRun]:
        """Yield the alternatives of the path's next step. Of a complete path, yield all arms on one more seed."""
        path = path_to_best(self.evidence, self.attribution.knobs)
        if path.seed is None:
            return
        yield from ((arm, path.seed) for arm in path.missing)
        if not path.missing:
            later = [seed for seed in self.attribution.seeds if seed > path.seed][:1]
            yield from on_seeds(path.arms, later)

    def undecided(self) -> Sequence[Arm]:
        """Return the arms of every open question, those of the verdict first."""
        arms = self._decisive()
        for knob in self.attribution.knobs:
            if knob.word in _OPEN:
                alone = Arm(frozenset([knob.knob]))
                arms.append(alone)
                if self.best_is_shown and _may_be_needed(knob):
                    arms.append(self.evidence.arms.without(knob.knob))
                if _gained(knob.alone):
                    arms += _both_halves(alone)
        if self.best_is_shown and not self._one_does_it() and (names := top_pair(self.attribution.knobs)):
            arms.append(Arm(frozenset(names)))
        arms += self._open_candidates()
        return list(dict.fromkeys([BASELINE, self.winner, *arms])) if arms else []

    def _decisive(self) -> list[Arm]:
        """Return the arms that the verdict's word depends on if more seeds could change it, else its first knob's."""
        first = self._first_knob()
        if self.best_is_decided:
            return [*first, self.winner, self.evidence.arms.without(*first[1].knobs)] if first else []
        halves = _both_halves(self.winner) if _gained(self.attribution.effect) else ()
        return [BASELINE, self.winner, *halves, *first]

    def _gaining(self) -> list[Arm]:
        """Return what would show whether shown gains last: the baseline and each such knob alone, at both lengths."""
        gaining = [Arm(frozenset([knob.knob])) for knob in self.attribution.knobs if knob.word is KnobWord.GAINS]
        arms = [arm for alone in gaining for arm in (BASELINE, alone, *_both_halves(alone))]
        return list(dict.fromkeys(arms))

    def _first_knob(self) -> list[Arm]:
        """Return the baseline and the first knob that seems to gain; nothing if a knob is shown to do it alone.

        Both are included at half the length as well, unless the knob's gain is shown to last.
        """
        undecided = (knob for knob in self.attribution.knobs if knob.word in _OPEN and _gained(knob.alone))
        first = next(undecided, None)
        if first is None or self._one_does_it():
            return []
        alone = Arm(frozenset([first.knob]))
        lasts = first.lasting is not None and shown(first.lasting)
        return [BASELINE, alone, *(() if lasts else _both_halves(alone))]

    def _open_candidates(self) -> list[Arm]:
        return self._candidates_with(*_OPEN_ADVICE)

    def _candidates_with(self, *words: CandidateWord) -> list[Arm]:
        judged = self.attribution.candidates
        return [Arm(candidate=candidate.candidate) for candidate in judged if candidate.word in words]

    def _one_does_it(self) -> bool:
        return any(knob.word is KnobWord.ALONE for knob in self.attribution.knobs)


def on_seeds(arms: Iterable[Arm], seeds: Iterable[int]) -> Iterator[NextRun]:
    """Return all arms on the first seed, then all on the next."""
    arms = list(arms)
    return ((arm, seed) for seed in seeds for arm in arms)


def _half(arm: Arm) -> Arm:
    return Arm(arm.knobs, half=True)


def _both_halves(arm: Arm) -> tuple[Arm, Arm]:
    """Return the baseline and an arm, both at half the length."""
    return _half(BASELINE), _half(arm)


def _cannot_gain(attribution: Attribution) -> bool:
    """Whether the best is shown not to gain min_effect, or has diverged."""
    effect = attribution.effect
    bounded = effect is not None and effect.upper is not None and effect.upper <= attribution.min_effect
    return attribution.diverged > 0 or bounded


def _may_be_needed(knob: KnobVerdict) -> bool:
    needed = knob.needed
    return needed is None or needed.upper is None or (not shown(needed) and needed.upper > 0)


def _gained(effect: Contrast | None) -> bool:
    return effect is not None and effect.mean > effect.threshold

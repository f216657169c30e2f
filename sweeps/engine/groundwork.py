"""The groundwork of a study of branches, before its first trial: the origin, what going on brings, and the races.

The origin's run is halted where its curve is a plateau. Going on continues it under its own schedule. A race is halted
at `race.iters`; one that is lower than the origin on every seed goes on to twice as many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.engine.kinds import Place
from sweeps.engine.listed import Listed
from sweeps.pruning import plateau
from sweeps.store.records import DataFacts, Outcome, Run
from sweeps.study import origin_runs
from sweeps.study.proposals import Proposal
from sweeps.study.start import TrainStart
from sweeps.study.study import Study

LOOKS_FROM = 1 / 3
"""share of the origin's run from which its curve may be called a plateau"""
LONGER = 2
"""times as long, a promising race"""
_WORTH_IT = 1.2
"""least extension of a race, as a multiple of its length"""


class Groundwork(Listed):
    """The order of the runs before the first trial, and where each of them is halted."""

    def __init__(self, study: Study, data: DataFacts) -> None:
        super().__init__(list(origin_runs.designed(study, vocab_size=data.vocab_size)))
        self._study = study
        self.baseline = origin_runs.origin_config(study, seed=study.seed, vocab_size=data.vocab_size)

    def planned(self, runs: Collection[Run]) -> int:  # noqa: ARG002  # as of an Agenda
        """Return the runs of the finished study, at most."""
        study = self._study
        most = len(self._proposals) + (study.origin is None)
        return most + study.baseline_seeds + study.trials + study.confirm.max_trials

    def next(self, runs: Collection[Run], *, queued: bool, place: Place | None = None) -> Proposal | Run | None:
        """Return the next run: a new one, or a halted race that goes on. None: nothing can start now."""
        due = (run for run in self._to_extend(runs) if place is None or place.takes_again(run, runs))
        return super().next(runs, queued=queued, place=place) or next(due, None)

    def halts(self, run: Run, runs: Collection[Run]) -> str:
        """Return why a run ends at its last point; empty: it goes on."""
        step = run.points[-1].step
        if run.origin == origin_runs.ORIGIN:
            assert isinstance(self._study.start, TrainStart)
            early = step < LOOKS_FROM * run.config.max_iters
            return "" if early or step >= run.config.max_iters or not _is_plateau(run) else "its curve is a plateau"
        if run.phase == origin_runs.RACE and step >= self._limit(run, runs):
            return f"a race of {step:,} iterations"
        return ""

    # races

    def _limit(self, run: Run, runs: Collection[Run]) -> int:
        race = self._study.race
        assert race is not None
        return self._longest() if _arm(run) in self._promising(runs) else race.iters

    def _longest(self) -> int:
        """Return the length of a promising race: twice as long, but no longer than the origin and its going on."""
        race, origin = self._study.race, self._study.origin
        assert race is not None
        longest = LONGER * race.iters
        if isinstance(self._study.start, TrainStart):
            longest = min(longest, race.iters if origin is None else origin.step + self._study.iters)
        return longest if longest >= _WORTH_IT * race.iters else race.iters

    def _to_extend(self, runs: Collection[Run]) -> Iterator[Run]:
        """Yield halted races that go on."""
        if self._study.race is None or self._study.origin is None:
            return
        promising = self._promising(runs)
        for run in runs:
            halted = run.outcome == Outcome.HALTED and run.phase == origin_runs.RACE and _arm(run) in promising
            if halted and run.points[-1].step < self._longest():
                yield run

    def _promising(self, runs: Collection[Run]) -> set[str]:
        """Return the arms whose races at `race.iters` are all below the origin's; the origin's among them, if any is.

        Only points up to `race.iters` count, so the answer stays the same while races go on.
        """
        race = self._study.race
        assert race is not None
        at_end: dict[str, dict[int, float]] = {}
        for run in runs:
            if run.phase == origin_runs.RACE or run.origin == origin_runs.ORIGIN:
                loss = next((point.val_loss for point in run.points if point.step >= race.iters), None)
                if loss is not None:
                    at_end.setdefault(_arm(run), {})[run.seed] = loss
        reference = at_end.pop(origin_runs.ORIGIN, {})
        promising = {arm for arm, losses in at_end.items() if _all_below(losses, reference, seeds=race.seeds)}
        return promising | ({origin_runs.ORIGIN} if promising else set())


def _arm(run: Run) -> str:
    """Return what the runs of an arm share: `origin`, or the change such as `n_embd=128`."""
    return origin_runs.ORIGIN if run.origin == origin_runs.ORIGIN else run.key.split(":")[1]


def _all_below(losses: Mapping[int, float], reference: Mapping[int, float], *, seeds: int) -> bool:
    shared = losses.keys() & reference.keys()
    return len(losses) == seeds and bool(shared) and all(losses[seed] < reference[seed] for seed in shared)


def _is_plateau(run: Run) -> bool:
    word = plateau.verdict(losses_of(run), schedule_of(run.config)).word
    return word is plateau.CurveState.PLATEAU

"""What a study has to run, in its order, decided from the runs that there are.

The baseline's seeds come first, then the candidates, the single-knob trials, what these suggest together, and the
sampler's trials until there are enough. When all of these have ended, the confirm phase proves or refutes the best.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import Enum, auto

from sweeps.analysis.arms import PHASE, Arms
from sweeps.analysis.evidence import Evidence
from sweeps.engine import confirm
from sweeps.engine.combined import combined_proposals
from sweeps.store.records import DataFacts, Results, Run, best_of
from sweeps.study.proposals import ONE_AT_A_TIME, Proposal, designed
from sweeps.study.study import Study


class Sampled(Enum):
    """The next trial is one that the user has queued, else the sampler's."""

    TRIAL = auto()


class Agenda:
    """The order of a study's runs. It keeps nothing but what it has worked out already."""

    def __init__(self, study: Study, data: DataFacts) -> None:
        self._study, self._data = study, data
        known = designed(study, vocab_size=data.vocab_size)
        searched = [*known.candidates, *known.one_at_a_time]
        self.baseline = known.baseline[0].config
        self.left_out = max(0, len(searched) - study.trials)
        """candidates and single-knob trials that `trials` has no room for"""
        self._proposals = [*known.baseline, *searched[: study.trials]]
        self._by_key = {proposal.key: proposal for proposal in known.every}
        self._seeds = len(known.baseline)
        self._arms: Arms | None = None
        self._judged: tuple[tuple[int, str], ...] = ()
        self._confirming: Proposal | None = None

    def planned(self, runs: Collection[Run]) -> int:
        """Runs of the finished study; of the confirm phase the most that there may be, until it is over."""
        searching = self._seeds + self._study.trials - len(self._confirmed_already(runs))
        most = self._study.confirm.max_trials
        return searching + confirm.planned(runs, most=most, over=lambda: self.empty(runs))

    def empty(self, runs: Collection[Run]) -> bool:
        """Whether there is nothing new to run, as far as the runs can tell."""
        return self._known_beforehand(runs) is None and not self.room(runs) and self._to_confirm(runs) is None

    def room(self, runs: Collection[Run]) -> bool:
        """Whether the search has fewer trials than the study asks for."""
        return sum(run.phase == "search" for run in runs) < self._study.trials

    def next(self, runs: Collection[Run], *, queued: bool) -> Proposal | Sampled | None:
        """What to run next; None: nothing now. `queued`: the user has put a trial into the search, which goes first."""
        if not self.room(runs):
            return self._known_beforehand(runs) or self._to_confirm(runs)
        if queued:
            return Sampled.TRIAL
        return self._known_beforehand(runs) or self._combined(runs) or Sampled.TRIAL

    def proposal(self, key: str | None, runs: Collection[Run]) -> Proposal | None:
        """The proposal that a trial's key names; None: the sampler proposed it."""
        if key is None:
            return None
        return (
            self._by_key.get(key)
            or self._arms_of(best_of(runs, search=self._study.name)).proposed(key)
            or next((proposal for proposal in self._suggested(runs) if proposal.key == key), None)
        )

    # known beforehand

    def _known_beforehand(self, runs: Collection[Run]) -> Proposal | None:
        """The next of the baseline's seeds, the candidates and the single-knob trials."""
        phases = ("baseline", "search") if self.room(runs) else ("baseline",)
        begun = {run.key for run in runs} | self._confirmed_already(runs)
        return next((each for each in self._proposals if each.phase in phases and each.key not in begun), None)

    def _confirmed_already(self, runs: Collection[Run]) -> set[str]:
        """Keys of further baseline seeds that the confirm phase of a smaller study has run."""
        configs = {run.config for run in runs if run.phase == PHASE}
        return {proposal.key for proposal in self._proposals if proposal.config in configs}

    # suggested by the single-knob trials

    def _combined(self, runs: Collection[Run]) -> Proposal | None:
        """The next of those that the single-knob trials suggest, once all of them have ended."""
        begun = {run.key for run in runs}
        return next((proposal for proposal in self._suggested(runs) if proposal.key not in begun), None)

    def _suggested(self, runs: Collection[Run]) -> Iterator[Proposal]:
        screening = [run for run in runs if run.origin in ("baseline", ONE_AT_A_TIME)]
        if not any(run.unfinished for run in screening):
            yield from combined_proposals(self._study, screening, vocab_size=self._data.vocab_size)

    # the confirm phase

    def _to_confirm(self, runs: Collection[Run]) -> Proposal | None:
        """The next run of the confirm phase; None also while a run of the search is under way: it may be the best."""
        if any(run.phase != PHASE and run.unfinished for run in runs):
            return None
        if sum(run.phase == PHASE for run in runs) >= self._study.confirm.max_trials:
            return None
        # asked twice a second, and the answer changes only when a run begins or ends
        judged = tuple((run.id, run.outcome) for run in runs)
        if judged != self._judged:
            self._judged, self._confirming = judged, self._next_confirming(runs)
        return self._confirming

    def _next_confirming(self, runs: Collection[Run]) -> Proposal | None:
        results = Results(study=self._study, data=self._data, runs=tuple(runs), provenance={}, seconds=0.0)
        evidence = Evidence(results, self._arms_of(results.best))
        chosen = confirm.next_run(evidence)
        return None if chosen is None else evidence.arms.proposal(*chosen)

    def _arms_of(self, best: Run | None) -> Arms:
        """The best trial's arms, which are the same until another is the best."""
        if self._arms is None or self._arms.best != best:
            self._arms = Arms(self._study, best, vocab_size=self._data.vocab_size)
        return self._arms

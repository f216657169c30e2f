"""The agenda: which trial runs next, decided from the runs so far.

The baseline's seeds come first, then the candidates, the single-knob trials, their combinations, and the sampler's
trials up to the study's number of trials. When all of these have ended, the confirm phase tests the best trial.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import Enum, auto

from sweeps.analysis.arms import PHASE, Arms
from sweeps.analysis.evidence import Evidence
from sweeps.engine import confirm
from sweeps.engine.combined import combined_proposals
from sweeps.engine.kinds import Place
from sweeps.store.records import DataFacts, Results, Run, best_of
from sweeps.study.proposals import ONE_AT_A_TIME, Proposal, designed
from sweeps.study.study import Study


class Sampled(Enum):
    """The answer that the next trial is the first of the user's queue or, if that is empty, the sampler's."""

    TRIAL = auto()


class Agenda:
    """The order of a study's runs. It keeps no state but a cache of its last answers."""

    def __init__(self, study: Study, data: DataFacts) -> None:
        self._study, self._data = study, data
        known = designed(study, vocab_size=data.vocab_size)
        searched = [*known.candidates, *known.one_at_a_time]
        self.baseline = known.baseline[0].config
        self.left_out = max(0, len(searched) - study.trials)
        """number of candidates and single-knob trials that `trials` has no room for"""
        self._proposals = [*known.baseline, *searched[: study.trials]]
        self._by_key = {proposal.key: proposal for proposal in known.every}
        self._seeds = len(known.baseline)
        self._arms: Arms | None = None
        self._last_outcomes: tuple[tuple[int, str], ...] = ()
        self._last_confirming: dict[Place | None, Proposal | None] = {}

    def planned(self, runs: Collection[Run]) -> int:
        """Return the runs of the finished study. Until the confirm phase is over, its maximum counts."""
        groundwork = sum(run.before_trials for run in runs)
        before_confirming = groundwork + self._seeds + self._study.trials - len(self._confirmed_already(runs))
        most = self._study.confirm.max_trials
        return before_confirming + confirm.planned(runs, most=most, over=lambda: self.is_empty(runs))

    def is_empty(self, runs: Collection[Run]) -> bool:
        """Whether no new run is due, given the runs so far."""
        return self._known_beforehand(runs) is None and not self.has_room(runs) and self._to_confirm(runs) is None

    def has_room(self, runs: Collection[Run]) -> bool:
        """Whether the search has fewer trials than the study asks for."""
        return sum(run.phase == "search" for run in runs) < self._study.trials

    def next(self, runs: Collection[Run], *, queued: bool, place: Place | None = None) -> Proposal | Sampled | None:
        """Return the next run, at a place the next that it takes; None: nothing can start now.

        `queued`: the user has queued a trial, which goes first.
        """
        if not self.has_room(runs):
            return self._known_beforehand(runs, place) or self._to_confirm(runs, place)
        if queued:
            return Sampled.TRIAL
        return self._known_beforehand(runs, place) or self._combined(runs, place) or self._sampled(runs)

    def proposal(self, key: str | None, runs: Collection[Run]) -> Proposal | None:
        """Return the proposal with a trial's key; None: the sampler proposed the trial."""
        if key is None:
            return None
        return (
            self._by_key.get(key)
            or self._arms_of(best_of(runs, search=self._study.name)).proposed(key)
            or next((proposal for proposal in self._suggested(runs) if proposal.key == key), None)
        )

    def halts(self, run: Run, runs: Collection[Run]) -> str:  # noqa: ARG002  # as of the Groundwork
        """Return why a run ends at its last point; empty: trials go on to their horizon."""
        return ""

    # known beforehand

    def _known_beforehand(self, runs: Collection[Run], place: Place | None = None) -> Proposal | None:
        """Return the next of the baseline's seeds, the candidates and the single-knob trials."""
        phases = ("baseline", "search") if self.has_room(runs) else ("baseline",)
        begun = {run.key for run in runs} | self._confirmed_already(runs)
        due = (proposal for proposal in self._proposals if proposal.phase in phases and proposal.key not in begun)
        return _first(due, runs, place)

    def _confirmed_already(self, runs: Collection[Run]) -> set[str]:
        """Return the keys of baseline seeds that the confirm phase ran when the study had fewer of them."""
        configs = {run.config for run in runs if run.phase == PHASE}
        return {proposal.key for proposal in self._proposals if proposal.config in configs}

    def _sampled(self, runs: Collection[Run]) -> Sampled | None:
        """Return the sampler's trial; None: the room that is left is that of proposals which wait for their kind."""
        begun = {run.key for run in runs}
        waiting = [proposal for proposal in self._proposals if proposal.phase == "search"]
        waiting = [proposal for proposal in (*waiting, *self._suggested(runs)) if proposal.key not in begun]
        room = self._study.trials - sum(run.phase == "search" for run in runs)
        return Sampled.TRIAL if room > len(waiting) else None

    # combinations

    def _combined(self, runs: Collection[Run], place: Place | None) -> Proposal | None:
        """Return the next combination that the single-knob trials suggest, once all of them have ended."""
        begun = {run.key for run in runs}
        return _first((proposal for proposal in self._suggested(runs) if proposal.key not in begun), runs, place)

    def _suggested(self, runs: Collection[Run]) -> Iterator[Proposal]:
        screening = [run for run in runs if run.origin in ("baseline", ONE_AT_A_TIME)]
        if not any(run.unfinished for run in screening):
            yield from combined_proposals(self._study, screening, vocab_size=self._data.vocab_size)

    # the confirm phase

    def _to_confirm(self, runs: Collection[Run], place: Place | None = None) -> Proposal | None:
        """Return the next run of the confirm phase; None also while an earlier run, perhaps the best, is unfinished."""
        if any(run.phase != PHASE and run.unfinished for run in runs):
            return None
        if sum(run.phase == PHASE for run in runs) >= self._study.confirm.max_trials:
            return None
        # called twice per second, although the answer changes only when a run begins or ends
        outcomes = tuple((run.id, run.outcome) for run in runs)
        if outcomes != self._last_outcomes:
            self._last_outcomes, self._last_confirming = outcomes, {}
        if place not in self._last_confirming:
            self._last_confirming[place] = self._next_confirming(runs, place)
        return self._last_confirming[place]

    def _next_confirming(self, runs: Collection[Run], place: Place | None) -> Proposal | None:
        results = Results(study=self._study, data=self._data, runs=tuple(runs), provenance={}, seconds=0.0)
        evidence = Evidence(results, self._arms_of(results.best))
        chosen = confirm.next_run(evidence, takes=lambda seed: place is None or place.takes(seed, runs))
        return None if chosen is None else evidence.arms.proposal(*chosen)

    def _arms_of(self, best: Run | None) -> Arms:
        """Return the best trial's arms, built again only when another trial becomes the best."""
        if self._arms is None or self._arms.best != best:
            self._arms = Arms(self._study, best, vocab_size=self._data.vocab_size)
        return self._arms


def _first(proposals: Iterable[Proposal], runs: Collection[Run], place: Place | None) -> Proposal | None:
    """Return the first proposal that a place takes; None of a place: the first."""
    return next((proposal for proposal in proposals if place is None or place.takes(proposal.seed, runs)), None)

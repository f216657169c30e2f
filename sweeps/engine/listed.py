"""An agenda of runs that are all known beforehand: what the agendas before the first trial share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sweeps.engine.kinds import Place
from sweeps.store.records import Run
from sweeps.study.proposals import Proposal


class Listed:
    """Runs in a given order. The sampler has no part in it."""

    left_out = 0

    def __init__(self, proposals: Sequence[Proposal]) -> None:
        self._proposals = proposals

    def is_empty(self, runs: Collection[Run]) -> bool:
        """Whether no new run is due, given the runs so far."""
        return self.next(runs, queued=False) is None

    def has_room(self, runs: Collection[Run]) -> bool:  # noqa: ARG002  # as of an Agenda
        """Whether the sampler may propose a trial: not yet."""
        return False

    def next(
        self,
        runs: Collection[Run],
        *,
        queued: bool,  # noqa: ARG002  # as of an Agenda
        place: Place | None = None,
    ) -> Proposal | Run | None:
        """Return the next run, at a place the next that it takes; None: all have begun."""
        begun = {run.key for run in runs}
        due = (proposal for proposal in self._proposals if proposal.key not in begun)
        return next((proposal for proposal in due if place is None or place.takes(proposal.seed, runs)), None)

    def proposal(self, key: str | None, runs: Collection[Run]) -> Proposal | None:  # noqa: ARG002  # as of an Agenda
        """Return the proposal with a run's key."""
        return next((proposal for proposal in self._proposals if proposal.key == key), None)

    def halts(self, run: Run, runs: Collection[Run]) -> str:  # noqa: ARG002  # as of an Agenda
        """Return why a run ends at its last point; empty: it goes on to its horizon."""
        return ""

"""The pilot of a study from scratch: which length is tried next, and the order of the runs at one length."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sweeps.analysis.noise import detectable
from sweeps.engine.listed import Listed
from sweeps.store.records import DataFacts, Run
from sweeps.study import pilot_runs
from sweeps.study.pilot import SEEDS, Chosen, Tried
from sweeps.study.pilot_runs import PILOT
from sweeps.study.proposals import Proposal, baseline_proposals
from sweeps.study.study import Study


def tried(study: Study, runs: Collection[Run], data: DataFacts) -> tuple[Tried, ...]:
    """Return the lengths at which all of the pilot's runs have ended, the shortest first."""
    lengths = []
    for iters in pilot_runs.lengths(study):
        at_length = [run for run in runs if run.phase == PILOT and run.config.max_iters == iters]
        if len(at_length) < SEEDS or any(run.unfinished for run in at_length):
            break
        losses = tuple(run.val_loss for run in at_length if run.val_loss is not None)
        lengths.append(Tried(iters=iters, losses=losses, unigram_loss=data.unigram_loss))
    return tuple(lengths)


def next_length(study: Study, before: Collection[Tried]) -> int | None:
    """Return the length to try after those tried `before`, in iterations. None: the last of them is chosen.

    The horizon is doubled until seeds know more than token frequencies and differ little enough, or a run has no final
    loss, or pilot.max_iters is reached.
    """
    assert study.largest_sd is not None
    lengths = pilot_runs.lengths(study)
    last = list(before)[-1] if before else None
    if last is not None and (last.sd is None or last.is_enough(study.largest_sd)):
        return None
    return lengths[len(before)] if len(before) < len(lengths) else None


def note_before(study: Study, before: Collection[Tried], iters: int) -> str:
    """Return what to say before a length is tried, after those tried `before`; empty before the first."""
    assert study.largest_sd is not None
    return "".join(f"pilot: {last.in_words(study.largest_sd)}; trying {iters:,}" for last in list(before)[-1:])


def note_after(study: Study, chosen: Chosen) -> str:
    """Return what to say once the pilot has chosen: the noise, the length, and what it can't tell."""
    assert study.pilot is not None
    assert study.largest_sd is not None
    last = chosen.last
    text = f"pilot: {last.in_words(study.largest_sd)}; trials have {last.iters:,} iterations"
    if last.sd is None or last.is_enough(study.largest_sd):
        return text
    text += f", the most that pilot.max_iters={study.pilot.max_iters} allows"
    if last.too_early or not study.confirm.max_trials:
        return text
    least = detectable(last.sd, study.confirm.seeds, threshold=study.min_effect)
    return f"{text}; effects below {least:.2g} nats can't be told reliably on {study.confirm.seeds} seeds"


def standing(study: Study, runs: Collection[Run], data: DataFacts) -> str:
    """Return how far the pilot is, in words; empty without a pilot, and before it has ended its first length."""
    if study.pilot is None:
        return ""
    if study.chosen is not None:
        return note_after(study, study.chosen)
    before = tried(study, runs, data)
    iters = next_length(study, before)
    return note_after(study, Chosen(tried=before)) if iters is None else note_before(study, before, iters)


def rejected(study: Study, runs: Collection[Run], data: DataFacts) -> list[Run]:
    """Return the pilot's runs at lengths that were too short; those at the length that is chosen are the baseline's."""
    of_pilot = [run for run in runs if run.phase == PILOT]
    if not of_pilot or study.chosen is not None:
        return of_pilot
    before = tried(study, runs, data)
    if next_length(study, before) is None:
        before = before[:-1]
    lengths = {length.iters for length in before}
    return [run for run in of_pilot if run.config.max_iters in lengths]


def to_adopt(study: Study, runs: Collection[Run], *, vocab_size: int) -> Iterator[tuple[Run, Proposal]]:
    """Yield the pilot's runs at the length that is chosen, each with the baseline's proposal that it answers."""
    proposals = {proposal.config: proposal for proposal in baseline_proposals(study, vocab_size=vocab_size)}
    for run in runs:
        if run.phase == PILOT and run.config in proposals:
            yield run, proposals[run.config]


class PilotLength(Listed):
    """The order of the pilot's runs at one length."""

    def __init__(self, study: Study, data: DataFacts, iters: int) -> None:
        proposals = pilot_runs.proposals(study, iters, vocab_size=data.vocab_size)
        super().__init__(proposals)
        self._study, self._data = study, data
        self.baseline = proposals[0].config

    def planned(self, runs: Collection[Run]) -> int:
        """Return the runs of the finished study, if this length is chosen. Its runs are the baseline's then."""
        study = self._study
        return len(rejected(study, runs, self._data)) + study.baseline_seeds + study.trials + study.confirm.max_trials

"""The pilot's runs: the baseline on the first seeds at every length that may be tried."""

from __future__ import annotations

import dataclasses

from sweeps.study.pilot import SEEDS, Chosen
from sweeps.study.proposals import Proposal, baseline_proposals
from sweeps.study.sections import IterHorizon
from sweeps.study.study import Study

PILOT = "pilot"
"""phase and origin of these runs, and prefix of their keys; at the length that is chosen they become the baseline's"""


def lengths(study: Study) -> tuple[int, ...]:
    """Return the lengths that the pilot may try, in iterations. The study must have a pilot."""
    assert study.pilot is not None
    return study.pilot.lengths(study.model_copy(update={"chosen": None}).iters)


def at_length(study: Study, iters: int) -> Study:
    """Return the study with trials of this many iterations, and no pilot."""
    return study.model_copy(update={"horizon": IterHorizon(iters=iters), "pilot": None, "chosen": None})


def proposals(study: Study, iters: int, *, vocab_size: int) -> list[Proposal]:
    """Return the pilot's runs at one length. The search doesn't see them: their parameters stay unnamed."""
    return [
        dataclasses.replace(
            proposal,
            key=f"{PILOT}:{iters}:{proposal.seed}",
            phase=PILOT,
            origin=PILOT,
            label=f"pilot of {iters:,} iterations, seed {proposal.seed}",
            params=None,
        )
        for proposal in baseline_proposals(at_length(study, iters), vocab_size=vocab_size)[:SEEDS]
    ]


def chosen_in_words(chosen: Chosen, *, largest_sd: float) -> str:
    """Describe what the pilot has tried and chosen."""
    tried = "; ".join(length.in_words(largest_sd) for length in chosen.tried)
    return f"{tried}: trials have {chosen.last.iters:,} iterations"

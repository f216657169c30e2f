"""Kinds of device: which runs a worker may take so that the runs of a seed stay on one kind.

The same seed, config and weights ended 0.04 nats apart on two kinds of card, which is twice the usual min_effect. So
runs of a seed are a pair only on one kind. The sampler's trials are compared with no other run by seed, and go to any.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sweeps.store.records import Outcome, Run

_WITHOUT_LOSS = (Outcome.FAILED, Outcome.INFEASIBLE)


@dataclass(frozen=True, kw_only=True)
class Place:
    """The kind of an idle worker, and the kinds of all workers that there are."""

    kind: str
    here: frozenset[str]

    def takes(self, seed: int, runs: Iterable[Run]) -> bool:
        """Whether a run of this seed may begin here, after the `runs` so far."""
        return len(self.here) == 1 or kind_of(seed, runs, here=self.here) in (self.kind, None)

    def takes_again(self, run: Run, runs: Iterable[Run]) -> bool:
        """Whether a run may begin or go on here: on its own kind if a worker of it is left, else on any."""
        if run.points and run.kinds:
            return run.kinds[-1] == self.kind or run.kinds[-1] not in self.here
        return run.origin == "sampler" or self.takes(run.seed, (other for other in runs if other.id != run.id))


def kind_of(seed: int, runs: Iterable[Run], *, here: frozenset[str]) -> str | None:
    """Return the kind that a seed's runs belong on: the first of theirs that is still `here`. None: any will do."""
    kinds = (run.kinds[-1] for run in runs if run.seed == seed and run.kinds and _binds(run))
    return next((kind for kind in kinds if kind in here), None)


def _binds(run: Run) -> bool:
    return run.origin != "sampler" and run.outcome not in _WITHOUT_LOSS


def note_before(kinds: Iterable[str]) -> str:
    """Return what to say before a sweep on workers of these kinds; empty where they are all of one."""
    names = sorted(set(kinds))
    if len(names) < 2:
        return ""
    return (
        f"workers are of {len(names)} kinds ({', '.join(names)}): the runs of a seed stay on one kind, because a seed "
        "ends elsewhere on another; the sampler's trials run on any"
    )


def note_on_launch(run: Run, runs: Iterable[Run], *, kind: str) -> str:
    """Return what to say of a run that has been launched on a kind of device; empty where its seed stays on one."""
    if len(run.kinds) > 1:
        before = ", then ".join(run.kinds[:-1])
        return (
            f"{run.label} goes on on {kind}; it began on {before}, which no worker has now, so it is paired with no run"
        )
    others = (other.kinds for other in runs if other.seed == run.seed and other.id != run.id and _binds(other))
    elsewhere = sorted({name for names in others for name in names if name != kind})
    if run.origin == "sampler" or not elsewhere:
        return ""
    return (
        f"{run.label} runs on {kind}, because no worker is left of {', '.join(elsewhere)}, where seed {run.seed} ran "
        "before; runs on different kinds are not paired"
    )

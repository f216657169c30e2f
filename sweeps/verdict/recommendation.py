"""Consequences of a confirmed verdict: the best config's loss, what to train next, what would decide the rest."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from sweeps.analysis.attribution import Attribution
from sweeps.analysis.findings import Findings
from sweeps.text import count, from_to, joined
from sweeps.verdict.effects import in_other_units


@dataclass(frozen=True, kw_only=True)
class ConfirmedLosses:
    """Final losses of the baseline and of the best config, nats per token. Their means differ by the effect."""

    baseline: tuple[float, ...]
    best: tuple[float, ...]

    @property
    def means(self) -> tuple[float, float]:
        """Mean losses of the baseline and of the best config, nats per token."""
        return statistics.fmean(self.baseline), statistics.fmean(self.best)

    @property
    def seeds(self) -> str:
        """How many seeds the means are over, in words."""
        baseline, fresh = count(len(self.baseline), "seed"), count(len(self.best), "fresh seed")
        return f"means over {baseline} of the baseline and {fresh}"


def confirmed_losses(findings: Findings) -> ConfirmedLosses | None:
    """Return the losses behind the confirmed effect. None: there is no such effect.

    A paired effect counts the seeds that both configs share, an unpaired one all seeds of the baseline.
    """
    attribution, results = findings.attribution, findings.results
    if attribution is None or attribution.effect is None:
        return None
    seeds, runs = set(attribution.effect.differences), results.baseline_runs
    if attribution.effect.method == "unpaired":
        seeds |= {run.seed for run in runs}
    loss_of = {run.config: run.val_loss for run in results.runs}
    best = [loss_of.get(attribution.best.config.replace(seed=seed)) for seed in attribution.seeds if seed in seeds]
    return ConfirmedLosses(
        baseline=tuple(run.val_loss for run in runs if run.seed in seeds and run.val_loss is not None),
        best=tuple(loss for loss in best if loss is not None),
    )


def best_config(findings: Findings, attribution: Attribution) -> Iterator[str]:
    """Yield what the best config changes and ends with on fresh seeds, and what the search had promised."""
    searched = findings.screening.best
    trials = count(searched.trials, "trial") if searched is not None else "the trials"
    if not attribution.knobs or attribution.effect is None:
        best = f"trial {attribution.best.trial}" if attribution.knobs else "the baseline itself"
        yield f"The best of {trials} is {best}."
        return
    changes = joined(
        f"{knob.knob} {' → '.join(from_to(knob.was, knob.new))}"
        for knob in attribution.knobs
        if knob.knob in attribution.change
    )
    what = "A run" if attribution.fewer else f"Trial {attribution.best.trial}"
    yield f"{what} of {attribution.best.config.max_iters:,} iterations; it changes {changes}."
    losses = confirmed_losses(findings)
    if losses is not None:
        reference, loss = losses.means
        yield (
            f"The baseline ends at {reference:.3f} nats, this config at {loss:.3f} ({losses.seeds}): "
            f"{in_other_units(loss, reference, findings.results.data)}."
        )
    if searched is not None and searched.gain is not None and attribution.whole is not None:
        per_byte = findings.results.data.bits_per_byte(attribution.whole.mean)
        bits = "" if per_byte is None else f" ({per_byte:.3f} bits per byte)"
        trial = f"trial {attribution.searched.trial}"
        subject = f"The gain of {trial}, the search's best," if attribution.fewer else "Its gain"
        yield (
            f"{subject} is {attribution.whole.mean:.3f} nats{bits} on fresh seeds. The search had promised "
            f"{searched.gain:.3f}, which is optimistic because the trial is the winner of {trials} on the search's own "
            "seed."
        )

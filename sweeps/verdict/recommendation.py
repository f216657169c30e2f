"""Consequences of a confirmed verdict: the best config's loss, what to train next, what would decide the rest."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweeps.analysis.attribution import Attribution, CandidateWord
from sweeps.analysis.findings import Findings
from sweeps.store.records import Results
from sweeps.study.sections import MAX_CONFIRM_SEEDS
from sweeps.text import advised, count, joined, short
from sweeps.verdict.effects import in_other_units
from sweeps.verdict.open_questions import OpenQuestion, open_questions


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
        f"{knob.knob} {short(knob.was)} → {short(knob.new)}"
        for knob in attribution.knobs
        if knob.knob in attribution.change
    )
    what = "A run" if attribution.by_one else f"Trial {attribution.best.trial}"
    yield f"{what} of {attribution.best.config.max_iters:,} iterations; it changes {changes}."
    losses = confirmed_losses(findings)
    if losses is not None:
        reference, loss = losses.means
        yield (
            f"The baseline ends at {reference:.3f} nats, this config at {loss:.3f} ({losses.seeds}): "
            f"{in_other_units(loss, reference, findings.results.data)}."
        )
    if searched is not None and searched.gain is not None and attribution.whole is not None:
        trial = f"trial {attribution.searched.trial}"
        subject = f"The gain of {trial}, the search's best," if attribution.by_one else "Its gain"
        yield (
            f"{subject} is {attribution.whole.mean:.3f} nats on fresh seeds. The search had promised "
            f"{searched.gain:.3f}, which is optimistic because the trial is the winner of {trials} on the search's own "
            "seed."
        )


def steps(findings: Findings, attribution: Attribution) -> Iterator[str]:
    """Yield what to train next, and what would decide the open questions."""
    study = findings.study
    iters = int(study.baseline["max_iters"])
    if attribution.broken:
        settings = joined(attribution.change)
        what = (
            f"the baseline with {settings} changed"
            if attribution.by_one
            else f"trial {attribution.best.trial}, which changes {settings}"
        )
        yield (
            f"Train {what}: `sweep export {study.name} --iters {iters} -o {study.name}-best.py` writes it as a nanoGPT "
            f"config, fitted to the baseline's own {iters:,} iterations."
        )
    elif attribution.decided:
        yield (
            "No config is shown to be better than the baseline, so there is nothing to train in its place: keep its "
            "settings, or widen the ranges and sweep again."
        )
        yield from _right_candidates(attribution, findings.results, iters=iters)
    else:
        yield "No config is shown to be better than the baseline yet: run more seeds before a long run."
        yield from _right_candidates(attribution, findings.results, iters=iters)
    yield from deciding(attribution, findings.results)


def deciding(attribution: Attribution, results: Results) -> Iterator[str]:
    """Yield what would decide the open questions."""
    yield from _deciding(open_questions(attribution), results)


def _right_candidates(attribution: Attribution, results: Results, *, iters: int) -> Iterator[str]:
    """Yield the candidates that are right where the best config isn't shown to be better."""
    trials = {advised(run.label): run.trial for run in results.search_runs if run.origin == "candidate"}
    for candidate in attribution.candidates:
        if candidate.word is CandidateWord.RIGHT and candidate.label in trials:
            command = f"sweep export {results.study.name} --trial {trials[candidate.label]} --iters {iters}"
            yield f"However, the advice {candidate.label} is shown to be right: `{command}` prints its config."


def _deciding(questions: Sequence[OpenQuestion], results: Results) -> Iterator[str]:
    """Yield the command that would decide the questions, and those that no command decides."""
    command, planned = f"sweep confirm {results.study.name}", results.study.confirm.seeds
    decidable = {
        question.name: question.seeds
        for question in questions
        if question.seeds is not None and question.seeds <= MAX_CONFIRM_SEEDS
    }
    beyond = [question.name for question in questions if question.measured and question.name not in decidable]
    unmeasured = [question.name for question in questions if not question.measured]
    if decidable:
        seeds = max(planned, *decidable.values())
        yield f"`{command} --seeds {seeds}` would decide {joined(decidable)}, if mean and noise stay as they are."
    if unmeasured:
        yield f"`{command}` makes the runs that are missing for {joined(unmeasured)}."
    if beyond:
        yield (
            f"More than {MAX_CONFIRM_SEEDS} seeds would be needed to decide {joined(beyond)}: any effect is small "
            "compared with the noise between seeds."
        )

"""Cautions beside the verdict: crowded edges of the ranges, what pruning may have cost, runs without a loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from sweeps.analysis.boundaries import BoundaryVerdict
from sweeps.analysis.findings import Findings
from sweeps.store import records
from sweeps.store.records import ENDED, Outcome, Run
from sweeps.study.horizon import EQUAL, other_batches
from sweeps.study.knobs import DATA
from sweeps.study.study import Study
from sweeps.text import count, joined, percent_whole, short, si
from sweeps.verdict.rows import UNITS

_REASONS_SHOWN = 3


def boundary_sentences(findings: Findings) -> list[str]:
    """Return a sentence per crowded edge: where the best trials are, and what a wider study would try."""
    return [_boundary_sentence(edge) for edge in findings.boundaries]


def _boundary_sentence(edge: BoundaryVerdict) -> str:
    beyond = "above" if edge.side == "high" else "below"
    unit = UNITS.get(edge.knob, "")
    at_the_edge = round(edge.share * edge.n)
    return (
        f"The best trials crowd the {edge.side} end of {edge.knob}, {short(edge.edge)}{unit} "
        f"({at_the_edge} of the best {edge.n} lie in the outermost tenth of its range). Better values may lie "
        f"{beyond} it; a new study could extend the range to {short(edge.suggestion)}{unit}."
    )


def pruning_sentence(findings: Findings) -> str:
    """Return what stopping trials early saved and may have cost.

    Empty where the study stops no trials, or no trial of the sampler has ended.
    """
    balance = findings.balance
    if findings.study.pruner.type == "none" or not balance.trials:
        return ""
    trials = f"of {count(balance.trials, 'sampled trial')}"
    if balance.stopped:
        were = "was" if len(balance.stopped) == 1 else "were"
        text = f"{len(balance.stopped)} {trials} {were} stopped early. "
        text += f"This saved {percent_whole(balance.saved)} of the sampled trials' training."
    else:
        text = f"None {trials} was stopped early."
    if balance.expected is not None:
        text += f" The rule expects that {balance.expected:.2g} of those stopped would have ended among the best."
    if balance.interval is not None:
        low, high = map(percent_whole, balance.interval)
        sentinels = count(len(balance.sentinels), "sentinel")
        text += f" Of {sentinels}, which the rule would have stopped but let go on, "
        text += f"{balance.mistakes or 'none'} ended among the best (95 % interval: {low} to {high})."
    elif balance.stopped:
        text += " No trial that the rule would have stopped went on to its end: not enough evidence of what stopping "
        text += "cost."
    return text


def batch_sentence(study: Study) -> str:
    """Return why a longer run may want a larger batch than the trials do.

    Empty where no trial changes the batch, and where trials are as long as the run. The best batch: Bergsma et al. 2025
    (arXiv 2505.13738).
    """
    per_iter, iters = study.tokens_per_iter, int(study.baseline["max_iters"])
    if not other_batches(study) or study.iters >= iters:
        return ""
    return (
        f"batch_size: an update of the baseline has {per_iter:,} tokens, and at equal tokens a smaller "
        "batch makes more updates. The best batch grows with the tokens trained, about as their power 0.38 (arXiv "
        f"2505.13738), so trials of {si(study.iters * per_iter)} tokens favour a smaller one than a run of "
        f"{si(iters * per_iter)}."
    )


def run_sentences(findings: Findings) -> Iterator[str]:
    """Yield how the runs ended, what pruning did, and how often the runs saw their data."""
    results = findings.results
    if results.study.equal != "tokens":
        yield (
            f"Trials of every width and depth are equal in {EQUAL[results.study.equal]}, not in tokens: a smaller, "
            "faster model sees more tokens."
        )
    if sentence := batch_sentence(results.study):
        yield sentence
    yield _outcomes(results.runs)
    if sentence := pruning_sentence(findings):
        yield sentence
    for outcome in (Outcome.FAILED, Outcome.DIVERGED, Outcome.INFEASIBLE):
        runs = [run for run in results.runs if run.outcome == outcome and run.origin in ("sampler", "confirm")]
        yield from _reasons(outcome, runs)
    most_epochs = max((results.data.epochs(run.config) for run in results.runs if run.knob != DATA), default=0.0)
    if most_epochs > records.MANY_EPOCHS:
        yield (
            f"A run goes over its training data {most_epochs:.1f} times. Beyond {records.MANY_EPOCHS:.0f} times, "
            "repeated tokens are worth less and less (Muennighoff et al. 2023), so regularisation looks better here "
            "than it will on more data."
        )


def _outcomes(runs: Sequence[Run]) -> str:
    counts = Counter(run.outcome for run in runs)
    parts = [f"{counts[outcome]} {outcome}" for outcome in (*ENDED, Outcome.RUNNING) if counts[outcome]]
    return f"Of {count(len(runs), 'run')}: {joined(parts)}." if parts else "No run has started."


def _reasons(outcome: Outcome, runs: Sequence[Run]) -> Iterator[str]:
    if not runs:
        return
    shown = [f"{_described(run)}{f' ({run.reason})' if run.reason else ''}" for run in runs[:_REASONS_SHOWN]]
    more = len(runs) - len(shown)
    yield f"{outcome.capitalize()}: {'; '.join(shown)}{f'; and {more} more' if more else ''}."


def _described(run: Run) -> str:
    """Return the run's label; for a run without memory, also the settings that decide how much it needs."""
    if run.outcome != Outcome.INFEASIBLE:
        return run.label
    return f"{run.label}, with n_layer {run.config.n_layer} and n_embd {run.config.n_embd}"

"""Cautions beside the verdict: runs without a loss, edges of the ranges, what pruning may have cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from sweeps.analysis.boundaries import BoundaryVerdict
from sweeps.analysis.findings import Findings
from sweeps.store import records
from sweeps.store.records import ENDED, Outcome, Run
from sweeps.study.horizon import EQUAL
from sweeps.study.knobs import DATA
from sweeps.text import count, joined, percent_whole, short


def boundary_sentences(findings: Findings) -> list[str]:
    """One a crowded edge: where the best trials are, and what a wider study would try."""
    return [_boundary_sentence(edge) for edge in findings.boundaries]


def _boundary_sentence(found: BoundaryVerdict) -> str:
    way = "above" if found.side == "high" else "below"
    whole = {"min_lr": " of learning_rate", "warmup_iters": " of max_iters"}.get(found.knob, "")
    inside = round(found.share * found.n)
    return (
        f"The best trials crowd the {found.side} end of {found.knob}, {short(found.edge)}{whole} ({inside} of the best "
        f"{found.n} are in that tenth of its range): better values may lie {way} it; a new study could go on to "
        f"{short(found.suggestion)}{whole}."
    )


def pruning_sentence(findings: Findings) -> str:
    """The balance in words; empty where the study stops nothing or no trial of the sampler has ended."""
    found = findings.balance
    if findings.study.pruner.type == "none" or not found.trials:
        return ""
    of = f"of {count(found.trials, 'sampled trial')}"
    were = "was" if len(found.stopped) == 1 else "were"
    text = f"None {of} was stopped early."
    if found.stopped:
        text = f"{len(found.stopped)} {of} {were} stopped early, which saved "
        text += f"{percent_whole(found.saved)} of their training."
    if found.expected is not None:
        text += f" The rule expects that {found.expected:.2g} of those stopped would have ended among the best."
    if found.interval is not None:
        low, high = map(percent_whole, found.interval)
        sentinels = count(len(found.sentinels), "sentinel")
        text += f" Of {sentinels}, which went on, {found.mistakes or 'none'} did (95 % interval: {low} to {high})."
    elif found.stopped:
        text += " None that was to be stopped went on to its end: not enough evidence of what stopping cost."
    return text


_REASONS_SHOWN = 3


def _fates(findings: Findings) -> Iterator[str]:
    """How the runs ended, and how often they saw their data."""
    results = findings.results
    if results.study.equal != "tokens":
        yield (
            f"Trials of every width and depth are equal in {EQUAL[results.study.equal]}, not in tokens: a smaller, "
            "faster model sees more of them."
        )
    yield _outcomes(results.runs)
    if said := pruning_sentence(findings):
        yield said
    for outcome in (Outcome.FAILED, Outcome.DIVERGED, Outcome.INFEASIBLE):
        runs = [run for run in results.runs if run.outcome == outcome and run.origin in ("sampler", "confirm")]
        yield from _reasons(outcome, runs)
    longest = max((results.data.epochs(run.config) for run in results.runs if run.knob != DATA), default=0.0)
    if longest > records.MANY_EPOCHS:
        yield (
            f"A run goes over its training data {longest:.1f} times; beyond {records.MANY_EPOCHS:.0f} times "
            "repeated tokens are worth less and less (Muennighoff et al. 2023), so regularisation looks better "
            "here than it will on more data."
        )


def _outcomes(runs: Sequence[Run]) -> str:
    counts = Counter(run.outcome for run in runs)
    parts = [f"{counts[outcome]} {outcome}" for outcome in (*ENDED, Outcome.RUNNING) if counts[outcome]]
    return f"Of {count(len(runs), 'run')}: {joined(parts)}." if parts else "No run has started."


def _reasons(outcome: Outcome, runs: Sequence[Run]) -> Iterator[str]:
    if not runs:
        return
    shown = [f"{_what(run)}{f' ({run.reason})' if run.reason else ''}" for run in runs[:_REASONS_SHOWN]]
    more = len(runs) - len(shown)
    yield f"{outcome.capitalize()}: {'; '.join(shown)}{f'; and {more} more' if more else ''}."


def _what(run: Run) -> str:
    """The run; of one that has no memory what decides over that."""
    if run.outcome != Outcome.INFEASIBLE:
        return run.label
    return f"{run.label}, with n_layer {run.config.n_layer} and n_embd {run.config.n_embd}"

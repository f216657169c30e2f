"""The trial to export: which one, whether the verdict stands behind it, and its evidence as comments."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from sweeps.analysis.findings import Findings
from sweeps.errors import NotFound
from sweeps.export.nanogpt_config import Export, ExportError, nanogpt_config
from sweeps.store.records import Outcome, Run
from sweeps.verdict import confirmed


def export_run(findings: Findings, run: Run, *, date: str, iters: int | None = None) -> Export:
    """The config of one run of a study, its evidence in the comments; `date` is the day of the export.

    `iters` is the length of the real run (default: the run's own, which repeats it). Raises ExportError.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", run.optuna_study).strip("-.") or "study"
    return nanogpt_config(
        run.config,
        data=findings.results.data,
        evidence=evidence(findings, run, date=date),
        iters=iters,
        cuda=not run.device.startswith("cpu"),
        out_dir=f"out-{name}-{run.trial}",
    )


def check_best(findings: Findings) -> None:
    """Raise ExportError where runs on fresh seeds don't show the search's best to be better than the baseline."""
    found, name = findings.attribution, findings.study.name
    if found is None or found.broken:
        return
    raise ExportError(
        f"no config of study {name!r} is best: {confirmed.why(found)}. Keep the baseline's, or: --force writes "
        f"trial {found.best.trial} all the same, --trial N another; `sweep confirm {name}` adds seeds"
    )


def evidence(findings: Findings, run: Run, *, date: str) -> tuple[str, ...]:
    """What stands behind a run, a line a fact."""
    results, found = findings.results, findings.attribution
    config, data = run.config, results.data
    if found is not None and found.best.id == run.id:
        verdict: tuple[str, ...] = (f"verdict: {confirmed.headline(found)}", *confirmed.knobs(found))
    elif found is None and run.optuna_study == results.study.name:
        verdict = ("verdict: screened on the search's own seed, not proven",)
    else:
        verdict = ("verdict: of another trial; nothing was confirmed of this one",)
    losses = [
        other.val_loss
        for other in results.runs
        if other.origin == "baseline" and other.outcome == Outcome.COMPLETE and other.val_loss is not None
    ]
    lines = [
        f"study {run.optuna_study}, trial {run.trial} ({run.label}), seed {run.seed}",
        _outcome(run),
        f"baseline: {_spread(losses)}",
        f"horizon: {config.max_iters} iterations of {config.tokens_per_iter} tokens, "
        f"{config.max_iters * config.tokens_per_iter} tokens in all",
        f"data: {data.path}, fingerprint {data.fingerprint}, {data.train_tokens} training tokens",
        f"exported on {date}",
    ]
    lines[1:1] = verdict
    return (*lines, *(f"{key}: {value}" for key, value in results.provenance.items()))


def _outcome(run: Run) -> str:
    if run.outcome == Outcome.COMPLETE and run.val_loss is not None:
        error = "" if run.val_se is None else f" +- {run.val_se:.4f} (standard error over the windows)"
        return f"final validation loss: {run.val_loss:.4f}{error} nats a token"
    return f"NOT a complete run, so no final loss stands behind it: {run.outcome}: {run.reason or 'no reason given'}"


def _spread(losses: Sequence[float]) -> str:
    if not losses:
        return "no complete run to compare with"
    if len(losses) == 1:
        return f"{losses[0]:.4f} nats a token, 1 seed, so its spread isn't known"
    return (
        f"{statistics.mean(losses):.4f} +- {statistics.stdev(losses):.4f} nats a token "
        f"(mean and standard deviation over {len(losses)} seeds)"
    )


def trial_of(findings: Findings, number: int | None) -> Run:
    """Trial `number` of the search, or what the verdict is of: its best complete one, or a run of one knob alone.

    Raises NotFound.
    """
    searched, name = findings.results.search_runs, findings.study.name
    if number is None:
        best = findings.to_train
        if best is None:
            raise NotFound(f"study {name!r} has no complete trial yet; name one with --trial")
        return best
    for run in searched:
        if run.trial == number:
            return run
    last = max((run.trial for run in searched), default=None)
    there = "it has none yet" if last is None else f"it has 0 to {last}"
    raise NotFound(f"study {name!r} has no trial {number}; {there}")

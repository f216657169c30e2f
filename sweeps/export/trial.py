"""The trial to export: which one, whether the verdict supports it, and its evidence as comments.

A trial that is a branch needs a checkpoint beside its config (`sweeps.export.checkpoint`).
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from sweeps.analysis.attribution import BestWord
from sweeps.analysis.findings import Findings
from sweeps.errors import NotFound
from sweeps.export import branch
from sweeps.export.changes import before, change_of, own_length, reasons
from sweeps.export.ladder import ladder, write_ladder
from sweeps.export.nanogpt_config import ExportError, NanogptConfig, length_of, nanogpt_config
from sweeps.export.race import names
from sweeps.export.source import scale_lines, source_lines
from sweeps.store.records import Outcome, Run
from sweeps.study.horizon import stretched
from sweeps.text import joined, trial_title
from sweeps.verdict import confirmed
from sweeps.verdict.glance import answer_of


def check_best(findings: Findings, *, whole: bool = False) -> None:
    """Raise ExportError where nothing is shown on fresh seeds that could be taken over into the user's config.

    `whole`: the search's best trial is wanted with all that it changes.
    """
    attribution, name = findings.attribution, findings.study.name
    if attribution is not None and attribution.broken and not (whole and attribution.whole_word is BestWord.NONE):
        return
    races = "".join(f", --race {change}" for change in names(findings.results))
    if attribution is None:
        best = findings.to_train
        number = "the best trial" if best is None else f"trial {best.trial}"
        why, to_do = "nothing was run on fresh seeds yet", f"`{findings.results.command('confirm')}` runs it"
    else:
        number, to_do = f"trial {attribution.searched.trial}", f"`{findings.results.command('confirm')}` adds seeds"
        why = confirmed.why(attribution) or f"of its changes, only {joined(attribution.change)} is shown"
    raise ExportError(
        f"no config of study {name!r} is shown to be better than the baseline: {why}. Keep the baseline's config. "
        f"--force exports {number} anyway, --trial N{races} exports another, and {to_do}"
    )


def check_options(
    *, race: str | None, trial: int | None, checkpoint: Path | None, ladder: Path | None, trained: bool
) -> None:
    """Raise ExportError for options of an export that don't go together."""
    if race is not None:
        others = {"--trial": trial, "--checkpoint": checkpoint, "--ladder": ladder}
        for option, value in others.items():
            if value is not None:
                raise ExportError(f"--race {race} exports one config that trains from scratch; leave {option} out")
    if trained and checkpoint is None:
        raise ExportError("--trained says which ckpt.pt to write; name its folder with --checkpoint DIR")


def trial_of(findings: Findings, number: int | None, *, whole: bool = False) -> Run:
    """Return trial `number` of the search. None: the run whose config the verdict recommends, or the search's best.

    Raises NotFound.
    """
    trials, name = findings.results.search_runs, findings.study.name
    if number is None:
        if findings.to_train is None:
            raise NotFound(f"study {name!r} has no complete trial yet; name one with --trial")
        return findings.attribution.searched if whole and findings.attribution is not None else findings.to_train
    for run in trials:
        if run.trial == number:
            return run
    last = max((run.trial for run in trials), default=None)
    known = "it has none yet" if last is None else f"it has 0 to {last}"
    raise NotFound(f"study {name!r} has no trial {number}; {known}")


def export_run(
    findings: Findings,
    run: Run,
    *,
    date: str,
    iters: int | None = None,
    checkpoint: Path | None = None,
    trained: bool = False,
    whole: bool = False,
) -> NanogptConfig:
    """Return the user's own config with what is shown of a run, its evidence in the comments; `date` is today.

    `whole` takes all that the run changes. `iters` is the length of the real run, by default that of the user's own.
    A branch resumes from the checkpoint in the folder `checkpoint`; None: none is written. The end of a run (`trained`,
    or the checkpoint of a run from scratch) goes on exactly as it was trained, by default at the run's own length.
    Raises ExportError.
    """
    study, is_branch = findings.study, branch.is_branch(run)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", run.optuna_study).strip("-.") or "study"
    out_dir = branch.out_dir_of(study, f"{name}-{run.trial}")
    exact = trained or (checkpoint is not None and not is_branch)
    change = change_of(findings, run, whole=whole or exact)
    length = length_of(iters)
    if not exact:
        config = own_length(study, change, iters=length)
    else:
        config = run.config if length is None else stretched(run.config, iters=length)
    first: Sequence[str] = ()
    if is_branch:
        best = findings.attribution is not None and findings.attribution.best.id == run.id and not whole
        command = findings.results.command("export", *(() if best else ("--trial", str(run.trial))))
        first = branch.needs(run, command=command, folder=checkpoint, out_dir=out_dir, iters=iters, trained=trained)
        out_dir = out_dir if checkpoint is None else str(checkpoint)
    return nanogpt_config(
        config,
        data=findings.results.data,
        tested=change.tested,
        evidence=(*([change.together] if change.together else []), *evidence_lines(findings, run, date=date)),
        cuda=not run.device.startswith("cpu"),
        out_dir=out_dir,
        before=before(study, why=reasons(change, config, iters=iters), left=change.left),
        first=first,
    )


def export_ladder(findings: Findings, run: Run, folder: Path, *, date: str) -> list[Path]:
    """Write the ladder of a run to `folder`, and return the paths of its configs. Raises ExportError."""
    if branch.is_branch(run):
        raise ExportError(
            f"--ladder: trial {run.trial} goes on from a checkpoint, and a ladder trains from scratch; drop --ladder"
        )
    evidence = evidence_lines(findings, run, date=date)
    configs = write_ladder(ladder(findings, run), findings.results, folder, evidence=evidence)
    return [folder / name for name in configs]


def evidence_lines(findings: Findings, run: Run, *, date: str) -> tuple[str, ...]:
    """Return the facts behind a run, one per line."""
    config = run.config
    return (
        *scale_lines(findings),
        f"study {run.optuna_study}, {trial_title(run.trial, run.label)}, seed {run.seed}",
        *_verdict(findings, run),
        _outcome(run),
        *(branch.lines(findings, run) if branch.is_branch(run) else ()),
        f"{'control' if branch.is_branch(run) else 'baseline'}: {_baseline(findings)}",
        f"horizon: {config.max_iters} iterations of {config.tokens_per_iter} tokens, "
        f"{config.max_iters * config.tokens_per_iter} tokens in all",
        *source_lines(findings.results, date=date),
    )


def _verdict(findings: Findings, run: Run) -> Sequence[str]:
    attribution = findings.attribution
    if attribution is not None and attribution.best.id == run.id:
        return (f"verdict: {answer_of(findings).sentence}", *confirmed.knobs(attribution))
    if attribution is None and run.optuna_study == findings.study.name:
        return ("verdict: screened on the search's own seed, not proven",)
    return ("verdict: about another trial; nothing was confirmed about this one",)


def _outcome(run: Run) -> str:
    if run.outcome == Outcome.COMPLETE and run.val_loss is not None:
        error = "" if run.val_se is None else f" +- {run.val_se:.4f} (standard error over the windows)"
        return f"final validation loss: {run.val_loss:.4f}{error} nats per token"
    return f"NOT a complete run, so it has no final loss: {run.outcome}: {run.reason or 'no reason given'}"


def _baseline(findings: Findings) -> str:
    """Return the mean and the spread of the baseline's final losses, in words."""
    losses = [
        run.val_loss
        for run in findings.results.runs
        if run.origin == "baseline" and run.outcome == Outcome.COMPLETE and run.val_loss is not None
    ]
    if not losses:
        return "no complete run to compare with"
    if len(losses) == 1:
        return f"{losses[0]:.4f} nats per token, 1 seed, so its spread is unknown"
    return (
        f"{statistics.mean(losses):.4f} +- {statistics.stdev(losses):.4f} nats per token "
        f"(mean and standard deviation over {len(losses)} seeds)"
    )

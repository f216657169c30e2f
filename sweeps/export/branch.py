"""A branch to export: what its config needs beside it, and its evidence against the control.

nanoGPT has no branches. It resumes: from a ckpt.pt in out_dir whose iteration is 0, so that its schedule counts from
the branch's start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sweeps.analysis.contrasts import Contrast, Sample, contrast
from sweeps.analysis.findings import Findings
from sweeps.export.nanogpt_config import ExportError
from sweeps.paths import StudyPaths
from sweeps.store.records import Results, Run
from sweeps.study.baseline import Value
from sweeps.study.start import Origin
from sweeps.study.study import Study
from sweeps.text import joined, short
from sweeps.verdict import effects
from trainer.config import TrainConfig

_PLATEAU = {"plateau": "a plateau", "improving": "still falling", "undetermined": "too short or too noisy to judge"}


def is_branch(run: Run) -> bool:
    """Whether the run went on from the origin, its iterations counted from 0."""
    return run.config.init_from == "branch"


def own_settings(study: Study) -> Mapping[str, Value] | None:
    """Return what the user's own nanoGPT config sets: the checkpoint's that the study starts from, and --baseline's.

    None: the study's file holds its baseline.
    """
    in_checkpoint = {} if study.origin is None else study.origin.own
    if study.own is None and not in_checkpoint:
        return None
    return {**in_checkpoint, **({} if study.own is None else study.own.settings)}


def out_dir_of(study: Study, suffix: str) -> str:
    """Return the user's own out_dir with a suffix, because theirs holds another run."""
    return f"{(own_settings(study) or {}).get('out_dir', 'out')}-{suffix}"


def origin_file(study: Study, paths: StudyPaths) -> Path:
    """Return the study's copy of the origin's checkpoint. The study's folder may have moved since it was written."""
    assert study.origin is not None
    return paths.origin if paths.origin.is_file() else Path(study.origin.checkpoint)


def needs(
    run: Run, *, command: str, folder: Path | None, out_dir: str, iters: int | None, trained: bool
) -> tuple[str, ...]:
    """Return what has to be done before the config of a branch can train. Empty: its checkpoint is written.

    Raises ExportError for a run that its checkpoint has done already.
    """
    done = run.config.max_iters
    if trained and iters is not None and iters <= done:
        raise ExportError(f"--iters {iters}: the branch has done {done} iterations; its end goes on with more of them")
    if folder is None:
        return (
            f"this config resumes from ckpt.pt in its out_dir, which is not written yet: "
            f"{command} --checkpoint {out_dir} -o FILE writes both.",
        )
    if not trained:
        return ()
    if iters is None:
        return (f"the checkpoint has done all {done} iterations; --iters N exports a config that goes on to N.",)
    return (
        f"the checkpoint goes on at iteration {done} of {iters}. The branch has decayed its learning rate by its end, "
        "so the rate jumps up again, and the loss with it, before both fall.",
    )


def lines(findings: Findings, run: Run) -> Iterator[str]:
    """Yield where a branch begins and what it gains over the control."""
    origin = findings.study.origin
    assert origin is not None
    yield origin_line(origin)
    if origin.going_on is not None:
        yield (
            f"the origin going on under its own schedule: falls by {origin.going_on:.4f} nats in as many iterations "
            "as the control"
        )
    effect = gain(findings, run)
    if effect is not None:
        seeds = f"seed{'s' * (effect.n > 1)} {joined(map(str, effect.differences))}"
        yield f"gain over the control, the branch with nothing changed: {effects.gain(effect)}; {seeds}"


def origin_line(origin: Origin) -> str:
    """Describe the checkpoint that branches go on from, and the curve that led there."""
    loss = "" if origin.val_loss is None else f", {origin.val_loss:.4f} nats per token on the branches' windows"
    since = "" if origin.since is None else f" since iteration {origin.since}"
    curve = "" if origin.plateau is None else f"; its curve: {_PLATEAU[origin.plateau]}{since}"
    return (
        f"origin: {origin.checkpoint} (sha256 {origin.sha256[:12]}), iteration {origin.step}, learning rate "
        f"{short(origin.learning_rate)}{loss}{curve}"
    )


def gain(findings: Findings, run: Run) -> Contrast | None:
    """Return how much lower than the control a branch ends. None: it is the control, or they share no seed.

    The best trial counts on fresh seeds only, as in the verdict, because it is the luckiest of many on its own seed.
    """
    attribution, results = findings.attribution, findings.results
    control, branch = _losses(results, results.reference), _losses(results, run.config)
    if attribution is not None and attribution.best.id == run.id:
        if attribution.effect is not None:
            return attribution.effect
        branch.pop(findings.study.seed, None)
    if control == branch or not control.keys() & branch.keys():
        return None
    samples = {"control": Sample(losses=control, shape=None), "branch": Sample(losses=branch, shape=None)}
    return contrast({"control": 1.0, "branch": -1.0}, samples, pooled=False)


def _losses(results: Results, config: TrainConfig | None) -> dict[int, float]:
    """Return the final losses of a config by seed, nats per token."""
    if config is None:
        return {}
    return {
        run.seed: run.val_loss
        for run in results.runs
        if run.val_loss is not None and run.config.replace(seed=0) == config.replace(seed=0)
    }

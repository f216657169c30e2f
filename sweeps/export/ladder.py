"""The ladder from a short trial to a long run: configs of 1, 2 and 4 times the trial's tokens with three rates each.

How the best learning rate moves with the length of a run is disputed (see `long_run`), so it is measured where that is
cheap. The slope of log(best rate) on log(tokens) over the rungs is the exponent to continue with.

Each rung has a band for the loss at the trial's own rate. By every power law, the loss falls less with each doubling of
the tokens. So a rung ends below the one before by at most the last measured drop: that from half the horizon to the
whole.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.analysis.arms import Arm
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.findings import Findings
from sweeps.export.nanogpt_config import ExportError, NanogptConfig, nanogpt_config
from sweeps.store.records import Results, Run
from sweeps.study.horizon import stretched
from sweeps.text import joined, short
from trainer.atomic import write_text
from trainer.config import TrainConfig
from trainer.schedule import evaluation_of

TIMES = (1, 2, 4)
"""lengths of the rungs, in lengths of the trial"""
RATES = (0.5, 1.0, 2.0)
"""learning rates of a rung, in the trial's own"""
SHARES = (0.25, 0.5, 0.75)
"""shares of a run at which it may be given up"""
SLACK = 0.1
"""nats above the trial's own curve at which a run is given up"""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Runs of one length."""

    times: int
    """how many times the trial's length"""
    iters: int
    tokens: int
    rates: tuple[float, ...]
    low: float | None
    """lower end of the band of final losses at the trial's own rate, nats; None: runs of half the length are missing"""
    high: float | None
    """upper end of the band, nats"""


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """What to run before the long run."""

    run: Run
    rungs: tuple[Rung, ...]
    limits: Mapping[float, float]
    """by share of a run, the validation loss above which it is given up, nats"""
    seeds: int
    """seeds behind the bands"""


def ladder(findings: Findings, run: Run) -> Ladder:
    """Return the ladder of a run. Its bands are known for the best trial and for other runs of the confirm phase."""
    full, half = _losses(findings.evidence, run)
    rungs = tuple(_rung(run.config, times, full=full, half=half) for times in TIMES)
    return Ladder(run=run, rungs=rungs, limits=_limits(run), seeds=len(full))


def _rung(config: TrainConfig, times: int, *, full: Sequence[float], half: Sequence[float]) -> Rung:
    """Return a rung; `full` and `half` are final losses at the horizon and at half of it."""
    low = high = None
    if len(full) > 1 and half:
        level, spread = statistics.fmean(full), 2 * statistics.stdev(full)
        drop = max(statistics.fmean(half) - level, 0.0)
        low, high = level - math.log2(times) * drop - spread, level + spread
    iters = times * config.max_iters
    rates = tuple(float(f"{factor * config.learning_rate:.3g}") for factor in RATES)
    return Rung(times=times, iters=iters, tokens=iters * config.tokens_per_iter, rates=rates, low=low, high=high)


def _losses(evidence: Evidence, run: Run) -> tuple[list[float], list[float]]:
    """Return final losses of the run's config on fresh seeds, and of its runs half as long. Empty without an arm."""
    arm = evidence.arms.arm_of(run)
    if arm is None or arm.half:
        return [], []
    full, half = (evidence.losses(Arm(arm.knobs, half=is_half)) for is_half in (False, True))
    return list(full.values()), list(half.values())


def _limits(run: Run) -> dict[float, float]:
    """Return the losses above which a longer run is given up.

    At the same share of the same schedule, a longer run has seen more tokens, so its loss should be no higher.
    """
    by_evaluation = {evaluation_of(point.step, run.config): point.val_loss for point in run.points}
    last = evaluation_of(run.config.max_iters, run.config)
    losses = {share: by_evaluation.get(round(share * last)) for share in SHARES}
    return {share: loss + SLACK for share, loss in losses.items() if loss is not None and math.isfinite(loss)}


def write_ladder(
    plan: Ladder, results: Results, folder: Path, *, evidence: tuple[str, ...]
) -> dict[str, NanogptConfig]:
    """Write nine configs and LADDER.txt to `folder`, and return the configs by file name.

    Raises ExportError where `folder` exists and isn't an empty folder, or can't be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ExportError(f"{folder}: already exists and is not an empty folder; choose another with --ladder")
        configs = _configs(plan, results, evidence=evidence)
        for name, config in configs.items():
            write_text(folder / name, config.text)
        write_text(folder / "LADDER.txt", "\n".join(lines(plan)) + "\n")
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return configs


def _configs(plan: Ladder, results: Results, *, evidence: tuple[str, ...]) -> dict[str, NanogptConfig]:
    """Return a config for each rung and rate, by file name."""
    configs = {}
    for rung in plan.rungs:
        for rate in rung.rates:
            name = f"d{rung.times}-lr{rate:g}"
            trial = at_rate(plan.run.config, rate)
            configs[f"{name}.py"] = nanogpt_config(
                trial if rung.times == 1 else stretched(trial, iters=rung.iters),
                data=results.data,
                tested=trial,
                evidence=evidence,
                cuda=not plan.run.device.startswith("cpu"),
                out_dir=f"out-{results.study.name}-{name}",
            )
    return configs


def at_rate(config: TrainConfig, rate: float) -> TrainConfig:
    """Return the config at another learning rate. min_lr keeps its share of the rate."""
    return config.replace(learning_rate=rate, min_lr=config.min_lr / config.learning_rate * rate)


def lines(plan: Ladder) -> list[str]:
    """Return the ladder in words, the lines of LADDER.txt."""
    bands = (
        f"Bands: mean of {plan.seeds} seeds +- 2 standard deviations, and at the lower end the last measured drop per "
        "doubling."
    )
    return [
        f"The ladder of trial {plan.run.trial}: short runs that show how the best learning rate moves with the length.",
        "Train the rungs in order, each config in its own out_dir:",
        "",
        *(_rung_line(rung, own_rate=plan.run.config.learning_rate) for rung in plan.rungs),
        *([] if plan.rungs[0].low is None else [bands]),
        "",
        "Give a run up if it diverges, or if its validation loss is above",
        *(f"  {loss:.3f} at {share:.0%} of its iterations" for share, loss in plan.limits.items()),
        f"(the trial's own loss at that share of its schedule, plus {SLACK:g}; a longer run has seen more tokens by",
        "then, so its loss should be lower).",
        "",
        "If one rate is best on all rungs, take it. If the best rate moves, the slope of log(best rate) on log(tokens)",
        "is the exponent for the long run. If the best rate of a rung is the outermost one, add a rate beyond it.",
    ]


def _rung_line(rung: Rung, *, own_rate: float) -> str:
    rates = joined(short(rate) for rate in rung.rates)
    band = (
        "no band: runs of half the length are missing (sweep confirm makes them)"
        if rung.low is None or rung.high is None
        else f"at {short(own_rate)} it should end at {rung.low:.3f} to {rung.high:.3f} nats"
    )
    return f"{rung.times} x: {rung.iters:,} iterations, {rung.tokens:,} tokens, rates {rates}; {band}"

"""From a short trial to a run many times as long, by steps: the ladder of D, 2D and 4D tokens with three rates each.

How the best learning rate moves with the length of a run is disputed (see `long_run`), so it is measured where it is
cheap: the slope of log(best rate) on log(tokens) over the rungs is the exponent to go on with. A band is given for the
loss at the trial's own rate. A loss falls less with each doubling of the tokens (every power law does), so it ends at
most as far below the rung before as the last doubling measured here has brought: that of half the horizon to the whole.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeps.analysis.arms import Arm
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.findings import Findings
from sweeps.export.nanogpt_config import Export, ExportError, nanogpt_config
from sweeps.store.records import Results, Run
from sweeps.text import joined, short
from trainer.atomic import write_text
from trainer.config import TrainConfig
from trainer.schedule import evaluation_of

TIMES = (1, 2, 4)
RATES = (0.5, 1.0, 2.0)
"""of the trial's own rate"""
SHARES = (0.25, 0.5, 0.75)
"""of a run, at which it may be given up"""
SLACK = 0.1
"""nats above the trial's own curve at which a run is given up"""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Runs of one length."""

    times: int
    """the trial's length"""
    iters: int
    tokens: int
    rates: tuple[float, ...]
    low: float | None
    """band of the final loss at the trial's own rate, nats; None: no runs of half the length to draw it from"""
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """What to run before the long run."""

    run: Run
    rungs: tuple[Rung, ...]
    limits: Mapping[float, float]
    """by share of a run: the validation loss above which it is given up, nats"""
    seeds: int
    """behind the band"""


def ladder(findings: Findings, run: Run) -> Ladder:
    """The ladder of the best trial, or of any other complete run, whose band is then not known."""
    evidence, config = findings.evidence, run.config
    full, half = _losses(evidence, run)
    drop = statistics.fmean(half) - statistics.fmean(full) if full and half else None
    spread = 2 * statistics.stdev(full) if len(full) > 1 else None
    rungs = []
    for times in TIMES:
        low = high = None
        if drop is not None and spread is not None:
            level = statistics.fmean(full)
            low, high = level - math.log2(times) * max(drop, 0.0) - spread, level + spread
        iters = times * config.max_iters
        rates = tuple(float(f"{factor * config.learning_rate:.3g}") for factor in RATES)
        rungs.append(
            Rung(times=times, iters=iters, tokens=iters * config.tokens_per_iter, rates=rates, low=low, high=high)
        )
    return Ladder(run=run, rungs=tuple(rungs), limits=_limits(run), seeds=len(full))


def _losses(evidence: Evidence, run: Run) -> tuple[list[float], list[float]]:
    """Final losses of the run's config on fresh seeds, and of those half as long; empty where it isn't an arm's."""
    arm = evidence.arms.arm_of(run)
    if arm is None or arm.half:
        return [], []
    full, half = (evidence.losses(Arm(arm.knobs, half=each)) for each in (False, True))
    return list(full.values()), list(half.values())


def _limits(run: Run) -> dict[float, float]:
    """A longer run of the same schedule has seen more tokens at the same share of it, so it should be no higher."""
    by_evaluation = {evaluation_of(point.step, run.config): point.val_loss for point in run.points}
    last = evaluation_of(run.config.max_iters, run.config)
    at = {share: by_evaluation.get(round(share * last)) for share in SHARES}
    return {share: loss + SLACK for share, loss in at.items() if loss is not None and math.isfinite(loss)}


def write_ladder(made: Ladder, results: Results, folder: Path, *, evidence: tuple[str, ...]) -> dict[str, Export]:
    """Nine configs and LADDER.txt in `folder`, a new or empty one; by file name. Raises ExportError."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ExportError(f"{folder}: is there already and not an empty folder; choose another with --ladder")
        exports = {}
        for rung in made.rungs:
            for rate in rung.rates:
                name = f"d{rung.times}-lr{rate:g}"
                config = at_rate(made.run.config, rate)
                exports[f"{name}.py"] = nanogpt_config(
                    config,
                    data=results.data,
                    evidence=evidence,
                    iters=rung.iters,
                    cuda=not made.run.device.startswith("cpu"),
                    out_dir=f"out-{results.study.name}-{name}",
                )
        for name, export in exports.items():
            write_text(folder / name, export.text)
        write_text(folder / "LADDER.txt", "\n".join(lines(made)) + "\n")
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return exports


def at_rate(config: TrainConfig, rate: float) -> TrainConfig:
    """The config at another learning rate, min_lr keeping its share of it."""
    return config.replace(learning_rate=rate, min_lr=config.min_lr / config.learning_rate * rate)


def lines(made: Ladder) -> list[str]:
    """The plan in words."""
    run = made.run
    said = [
        f"The ladder of trial {run.trial}: before a run many times as long, see how the best rate moves with length.",
        "Train the rungs in order, each config in a folder of its own (its out_dir):",
        "",
    ]
    for rung in made.rungs:
        rates = joined(short(rate) for rate in rung.rates)
        band = (
            "no band: runs of half the length are missing (sweep confirm makes them)"
            if rung.low is None or rung.high is None
            else f"at {short(run.config.learning_rate)} it should end at {rung.low:.3f} to {rung.high:.3f} nats"
        )
        said.append(f"{rung.times} x: {rung.iters:,} iterations, {rung.tokens:,} tokens, rates {rates}; {band}")
    if made.rungs[0].low is not None:
        said.append(
            f"Bands: mean of {made.seeds} seeds +- 2 standard deviations, lower by the last measured drop a doubling."
        )
    said += ["", "Give a run up when it diverges, or when its validation loss is above"]
    said += [f"  {loss:.3f} at {share:.0%} of its iterations" for share, loss in made.limits.items()]
    said += [
        f"(the trial's own loss at that share of its schedule + {SLACK:g}: with more tokens seen it should be lower).",
        "",
        "Then: if one rate is best on all rungs, take it. If the best rate moves, the slope of log(best rate) on",
        "log(tokens) is the exponent for the long run. If a best rate is the outermost, add one beyond it.",
    ]
    return said

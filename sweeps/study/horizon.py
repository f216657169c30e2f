"""The length of a trial: its schedule, evaluations and batches, carried over from the baseline's own run.

A baseline's schedule keeps its fractions of max_iters: a warm-up of 500 in 20000 iterations becomes 15 in 600. All
trials see the same number of tokens, unless the horizon asks for equal FLOPs or equal time. They are evaluated at the
same shares of their length and on the same windows. engine/planning/minutes.py turns minutes into iterations.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sweeps.study.baseline import Value, with_heads
from sweeps.study.knobs import RangeKnob
from sweeps.study.model import as_yaml
from sweeps.study.sections import (
    EVALUATIONS,
    FEWEST_EVALUATIONS,
    MOST_EVALUATIONS,
    IterHorizon,
    MinuteHorizon,
    ShapeSpeed,
)
from sweeps.study.study import Study, tidy
from sweeps.text import joined
from trainer.config import TrainConfig
from trainer.errors import ConfigError
from trainer.model.size import flops_per_token

MOST_WINDOWS = 2048
TOKEN_TOLERANCE = 0.02
"""Trials' tokens may differ by this share. It moves the loss by less than 0.01 nats, below the noise of seeds."""
_OF_BRANCHES = 2
"""times as many windows, an evaluation of a branch"""
STAND_IN = 7_207_200
"""iterations of a trial while its length is unknown; most numbers of evaluations divide it"""
EQUAL = {"tokens": "tokens", "flops": "FLOPs of training", "time": "time"}
"""what is equal for all trials, in words"""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The evaluations of a trial with the baseline's batch: one at iteration 0, then `evaluations` more."""

    evaluations: int
    interval: int
    """iterations between evaluations; the last one is at the horizon, whatever the interval"""


def provisional(study: Study) -> Study:
    """Return the study, with STAND_IN iterations in place of a horizon in minutes that isn't fitted yet."""
    if not isinstance(study.horizon, MinuteHorizon) or study.fit is not None:
        return study
    return study.model_copy(update={"horizon": IterHorizon(iters=STAND_IN)})


def minute_horizon(study: Study) -> MinuteHorizon:
    """Return the horizon of a study whose horizon is in minutes."""
    assert isinstance(study.horizon, MinuteHorizon)
    return study.horizon


def grid(study: Study) -> Grid:
    """Return a number of evaluations near the one that the study asks for, which divides the horizon if possible.

    If trials have other batch sizes, the number of evaluations must divide their iterations too, so that evaluation k
    is at the same share of the tokens. Then the number that keeps the tokens most equal is taken.
    """
    iters = study.iters
    if study.fit is not None:
        return Grid(evaluations=study.fit.evaluations, interval=iters // study.fit.evaluations)
    if iters < FEWEST_EVALUATIONS:
        return Grid(evaluations=iters, interval=1)
    dividing, batches = _dividing(iters), other_batches(study)
    if dividing and batches:

        def cost(evaluations: int) -> tuple[float, int]:
            lengths = (iters * study.sequences_per_iter / batch for batch in batches)
            difference = max(unequal(length, evaluations) for length in lengths)
            return round(difference, 6), abs(evaluations - study.evaluations)

        evaluations = min(dividing, key=cost)
        return Grid(evaluations=evaluations, interval=iters // evaluations)
    return _nearest_grid(iters, study.evaluations)


def _nearest_grid(iters: int, wanted: int) -> Grid:
    """Return the evaluations at equal intervals, 20 to 40, that divide `iters` if possible and are near `wanted`."""
    fewest, most = FEWEST_EVALUATIONS, min(MOST_EVALUATIONS, iters)
    intervals = {math.ceil(iters / evaluations) for evaluations in range(fewest, most + 1)}
    allowed = [interval for interval in intervals if fewest <= math.ceil(iters / interval) <= MOST_EVALUATIONS]

    def cost(interval: int) -> tuple[bool, int, int]:
        return iters % interval != 0, abs(math.ceil(iters / interval) - wanted), interval

    interval = min(allowed, key=cost)
    return Grid(evaluations=math.ceil(iters / interval), interval=interval)


def eval_interval(iters: int) -> int:
    """Return the iterations between evaluations of a run: it has about 30, and if possible 20 to 40 that divide it."""
    if dividing := _dividing(iters):
        return iters // min(dividing, key=lambda evaluations: abs(evaluations - EVALUATIONS))
    return max(1, iters // EVALUATIONS)


def _dividing(iters: int) -> list[int]:
    """Return the allowed numbers of evaluations that divide `iters`."""
    return [count for count in range(FEWEST_EVALUATIONS, MOST_EVALUATIONS + 1) if iters % count == 0]


def unequal(iters: float, evaluations: int) -> float:
    """Return the share by which tokens differ when `iters` becomes the nearest multiple of `evaluations`."""
    return abs(_multiple(iters, evaluations) / iters - 1)


def _multiple(iters: float, of: int) -> int:
    return of * max(1, round(iters / of))


def other_batches(study: Study) -> list[int]:
    """Return the sequences per iteration of all possible trials, without the baseline's."""
    batch_size, accumulation = (int(study.baseline[name]) for name in ("batch_size", "gradient_accumulation_steps"))
    knob = study.knobs.get("batch_size")
    batches = set()
    if knob is not None:
        sizes = knob.wholes() if isinstance(knob, RangeKnob) else knob.choices
        batches = {int(size) * accumulation for size in sizes}
    for candidate in study.candidates:
        size = int(candidate.get("batch_size", batch_size))
        batches.add(size * int(candidate.get("gradient_accumulation_steps", accumulation)))
    return sorted(batches - {study.sequences_per_iter})


def at_horizon(
    study: Study,
    changes: Mapping[str, Value],
    *,
    seed: int,
    vocab_size: int,
    warmup_fraction: float | None = None,
) -> TrainConfig:
    """Return the trial of the study's baseline with `changes`, in nanoGPT's names and iterations of the baseline's run.

    `warmup_fraction` is a share of the trial's iterations and overrides warmup_iters. A min_lr that isn't among the
    changes stays as it is. If the learning rate falls below it, min_lr keeps the baseline's ratio instead. Raises
    ConfigError for a trial that can't be run, or can't see the same tokens.
    """
    config = _changed_baseline(study, in_trial(study, changes), seed=seed, vocab_size=vocab_size)
    evaluations = grid(study)
    iters, interval = study.iters, evaluations.interval
    share = tokens_share(study, config)
    if config.sequences_per_iter != study.sequences_per_iter or share != 1:
        iters, interval = _of_equal_length(study, config, evaluations, share=share)
    fraction = config.warmup_iters / config.max_iters if warmup_fraction is None else warmup_fraction
    windows = evaluation_windows(study)
    return _lasting(
        config,
        iters,
        decay=config.lr_decay_iters / config.max_iters * iters,
        warmup=max(1, round(fraction * iters)) if fraction > 0 else 0,
        eval_interval=interval,
        eval_windows=windows,
        final_windows=max(study.final_windows, windows),
    )


def in_trial(study: Study, changes: Mapping[str, Value]) -> dict[str, Value]:
    """Return changes of the baseline's run as changes of the control: a branch is as long as its horizon."""
    if study.origin is None:
        return dict(changes)
    share = study.iters / float(study.baseline["max_iters"])
    return {
        name: max(1, round(float(value) * share)) if name in ("warmup_iters", "lr_decay_iters") and value else value
        for name, value in changes.items()
    }


def _changed_baseline(study: Study, changes: Mapping[str, Value], *, seed: int, vocab_size: int) -> TrainConfig:
    """Return the baseline with `changes`, at the length of its own run; in a branch, the control with `changes`."""
    baseline = study.control
    settings = {**baseline, **changes}
    if "n_head" in changes:
        settings.pop("head_size", None)
    elif "head_size" in changes:
        settings.pop("n_head", None)
    rate = float(settings["learning_rate"])
    if "min_lr" not in changes and float(settings["min_lr"]) > rate:
        settings["min_lr"] = min(rate, tidy(float(baseline["min_lr"]) / float(baseline["learning_rate"]) * rate))
    return TrainConfig.from_mapping({**with_heads(settings), **study.continued, "seed": seed, "vocab_size": vocab_size})


def stretched(config: TrainConfig, *, iters: int) -> TrainConfig:
    """Return `config` at another length: warm-up and decay keep their fractions of the run, the rates stay.

    Evaluations follow from `eval_interval`. Raises ConfigError for a length that no config can have.
    """
    # A warm-up may round to 0 here, unlike a trial's.
    share = iters / config.max_iters
    warmup = round(config.warmup_iters * share)
    decay = config.lr_decay_iters * share
    return _lasting(config, iters, decay=decay, warmup=warmup, eval_interval=eval_interval(iters))


def _lasting(config: TrainConfig, iters: int, *, decay: float, warmup: int, **evaluation: int) -> TrainConfig:
    """Return `config` at `iters` iterations, its decay rounded and its warm-up ending before the decay does."""
    lr_decay_iters = max(1, round(decay))
    return config.replace(
        max_iters=iters,
        lr_decay_iters=lr_decay_iters,
        warmup_iters=min(warmup, lr_decay_iters - 1) if config.decay_lr else warmup,
        **evaluation,
    )


def tokens_share(study: Study, config: TrainConfig) -> float:
    """Return a trial's tokens as a share of the baseline's: 1, unless FLOPs or time are equal instead.

    Equal FLOPs are those of training. Equal time includes evaluations, at a third of the cost of a trained token. All
    shapes are evaluated on the same number of tokens.
    """
    if study.equal == "tokens":
        return 1.0
    baseline = TrainConfig.from_mapping({**with_heads(study.control), "vocab_size": config.vocab_size})
    if study.equal == "flops":
        return flops_per_token(baseline) / flops_per_token(config)
    assert study.fit is not None
    speed, baseline_speed = (speed_of(study.fit.speeds, shape) for shape in (config, baseline))
    evaluated, trained = study.fit.evaluated / 3, study.iters * study.tokens_per_iter
    return ((trained + evaluated) * (speed / baseline_speed) - evaluated) / trained


def speed_of(speeds: Sequence[ShapeSpeed], config: TrainConfig) -> float:
    """Return the tokens per second of the config's width and depth.

    Between measured shapes, seconds per token are interpolated linearly. Beyond them the nearest shape counts.
    """
    cost = {(shape.n_embd, shape.n_layer): 1 / shape.tokens_per_s for shape in speeds}
    if (config.n_embd, config.n_layer) in cost:
        return 1 / cost[config.n_embd, config.n_layer]
    widths = sorted({width for width, _ in cost})
    depths = {width: sorted(depth for measured, depth in cost if measured == width) for width in widths}
    around = {width: known for width, known in depths.items() if known[0] <= config.n_layer <= known[-1]} or depths
    by_width = [
        (width, _interpolated(config.n_layer, [(depth, cost[width, depth]) for depth in known]))
        for width, known in around.items()
    ]
    return 1 / _interpolated(config.n_embd, by_width)


def _interpolated(x: int, points: Sequence[tuple[int, float]]) -> float:
    """Return the value at `x` of the line through `points`, which are sorted by x; constant beyond the ends."""
    right = bisect.bisect_left(points, x, key=lambda point: point[0])
    if right in (0, len(points)):
        return points[min(right, len(points) - 1)][1]
    (x0, y0), (x1, y1) = points[right - 1 : right + 1]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _of_equal_length(study: Study, config: TrainConfig, grid: Grid, *, share: float) -> tuple[int, int]:
    """Return the iterations and evaluation interval that give a config `share` of the baseline's tokens."""
    exact = study.iters * study.sequences_per_iter / config.sequences_per_iter * share
    iters = _multiple(exact, grid.evaluations)
    if study.equal != "tokens":  # fitting has checked that the rounding is small enough
        return iters, iters // grid.evaluations
    if study.iters % grid.evaluations:
        fewest = FEWEST_EVALUATIONS
        below = study.iters - study.iters % fewest
        raise ConfigError(
            f"batch_size={config.batch_size} needs a horizon divisible by a number of evaluations from {fewest} to "
            f"{MOST_EVALUATIONS}; {study.iters} iterations are not; nearest: {max(below, fewest)} and {below + fewest}"
        )
    if abs(iters / exact - 1) > TOKEN_TOLERANCE:
        raise ConfigError(
            f"batch_size={config.batch_size} x {config.gradient_accumulation_steps} would see the baseline's tokens in "
            f"{exact:.4g} iterations, but {grid.evaluations} evaluations at equal intervals need {iters}; use batch "
            "sizes that divide or multiply the baseline's, or a longer horizon"
        )
    return iters, iters // grid.evaluations


def evaluation_windows(study: Study) -> int:
    """Return the fixed windows per split at each evaluation, so that evaluations cost at most a tenth of a trial.

    An evaluated token costs a third of a trained one: forward takes 2N FLOPs per token, forward and backward 6N. Each
    evaluation covers W windows of both splits. With W = 0.12 x trained sequences / evaluations, the cost is 2/3 x
    0.12 = 8 % of the training. The evaluation at 0 and the larger final one take the rest of the tenth. There are at
    least two windows, because one has no standard error. A branch gets twice as many: what it shows is small.
    """
    if study.fit is not None:
        return study.fit.windows
    windows = windows_of(study.iters * study.sequences_per_iter, grid(study).evaluations)
    return min(MOST_WINDOWS, _OF_BRANCHES * windows) if study.branches else windows


def windows_of(sequences: float, evaluations: int) -> int:
    """Return the windows per split at each evaluation of a run over this number of sequences."""
    return min(MOST_WINDOWS, max(2, math.floor(0.12 * sequences / evaluations)))


def fit_in_words(study: Study) -> Iterator[str]:
    """Describe how a fitted horizon came about: its length, then the speeds that it rests on."""
    fit = study.fit
    assert fit is not None
    tokens = fit.iters * study.tokens_per_iter
    others = "" if study.equal == "tokens" else f"; the other trials get equal {EQUAL[study.equal]}"
    minutes = as_yaml(minute_horizon(study).minutes)
    yield f"{minutes} minutes are {fit.iters:,} iterations of the baseline, {tokens:,} tokens{others}"
    several_depths = len({shape.n_layer for shape in fit.speeds}) > 1
    yield "tokens/s per worker: " + joined(
        f"{shape.tokens_per_s:,.0f} at width {shape.n_embd}" + (f", depth {shape.n_layer}" if several_depths else "")
        for shape in fit.speeds
    )

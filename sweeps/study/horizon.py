"""A study's settings at the length of its trials: schedule, evaluations and batches of every trial.

A baseline's schedule comes along by its fractions of max_iters (warm-up 500 of 20000 becomes 15 of
600). All trials see the same tokens, unless the horizon asks for equal FLOPs or equal time, and are evaluated at the
same shares of them, on the same windows.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sweeps.study.baseline import Value, with_heads
from sweeps.study.knobs import RangeKnob
from sweeps.study.model import as_yaml
from sweeps.study.sections import IterHorizon, MinuteHorizon, ShapeSpeed
from sweeps.study.study import Study, tidy
from sweeps.text import joined
from trainer.config import TrainConfig
from trainer.errors import ConfigError

FEWEST, MOST = 20, 40
"""Evaluations of a trial: fewer hide a plateau from the pruner, more cost time and rows."""
MOST_WINDOWS = 2048
TOKEN_TOLERANCE = 0.02
"""Two per cent of the tokens move the loss by less than 0.01 nats: below the noise of seeds."""

STAND_IN = 7_207_200
"""iterations, for what is checked or built before the length is known: most numbers of evaluations divide it"""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where a trial of the baseline's batch is evaluated: at 0 and `evaluations` times after it."""

    evaluations: int
    interval: int
    """iterations between them; the last evaluation is at the horizon, whatever the interval"""


def provisional(study: Study) -> Study:
    """The study itself, or one of another length in place of a horizon in minutes that isn't fitted yet."""
    if not isinstance(study.horizon, MinuteHorizon) or study.fit is not None:
        return study
    return study.model_copy(update={"horizon": IterHorizon(iters=STAND_IN)})


def minute_horizon(study: Study) -> MinuteHorizon:
    """The horizon of a study whose horizon is in minutes."""
    assert isinstance(study.horizon, MinuteHorizon)
    return study.horizon


def grid(study: Study) -> Grid:
    """The evaluations, near the number that the study asks for, at iterations that divide its horizon if they can.

    Where trials have other batch sizes, their iterations must be a multiple of the number of
    evaluations, so that evaluation k is at the same share of the tokens; the number that keeps
    tokens most equal is taken.
    """
    iters, wanted = study.iters, study.evaluations
    if study.fit is not None:
        return Grid(evaluations=study.fit.evaluations, interval=iters // study.fit.evaluations)
    if iters < FEWEST:
        return Grid(evaluations=iters, interval=1)
    others = other_batches(study)
    if others:
        divisors = [count for count in range(FEWEST, min(MOST, iters) + 1) if iters % count == 0]
        if divisors:
            base = study.sequences_per_iter
            best = min(
                divisors,
                key=lambda count: (
                    round(max(unequal(iters * base / other, count) for other in others), 6),
                    abs(count - wanted),
                ),
            )
            return Grid(evaluations=best, interval=iters // best)
    near = {math.ceil(iters / count) for count in range(FEWEST, min(MOST, iters) + 1)}
    allowed = [interval for interval in near if FEWEST <= math.ceil(iters / interval) <= MOST]
    interval = min(allowed, key=lambda each: (iters % each != 0, abs(math.ceil(iters / each) - wanted), each))
    return Grid(evaluations=math.ceil(iters / interval), interval=interval)


def unequal(iters: float, evaluations: int) -> float:
    """Share by which tokens differ when `iters` become the nearest multiple of `evaluations`."""
    return abs(_multiple(iters, evaluations) / iters - 1)


def _multiple(iters: float, of: int) -> int:
    return of * max(1, round(iters / of))


def other_batches(study: Study) -> list[int]:
    """Sequences an iteration, other than the baseline's, of trials that the study can make."""
    batch, accumulation = (int(study.baseline[name]) for name in ("batch_size", "gradient_accumulation_steps"))
    knob = study.knobs.get("batch_size")
    found = set()
    if knob is not None:
        sizes = knob.wholes() if isinstance(knob, RangeKnob) else knob.choices
        found = {int(size) * accumulation for size in sizes}
    for candidate in study.candidates:
        found.add(
            int(candidate.get("batch_size", batch)) * int(candidate.get("gradient_accumulation_steps", accumulation))
        )
    return sorted(found - {study.sequences_per_iter})


def at_horizon(
    study: Study,
    changes: Mapping[str, Value],
    *,
    seed: int,
    vocab_size: int,
    warmup_fraction: float | None = None,
) -> TrainConfig:
    """The study's baseline with `changes` (nanoGPT's names, iterations of the baseline's own run), as a trial.

    `warmup_fraction`, of the trial's iterations, stands above warmup_iters. A min_lr that isn't
    among the changes stays as it is, unless the learning rate falls below it: then it keeps the
    baseline's ratio. Raises ConfigError for what can't be run, or can't see the same tokens.
    """
    settings = {**study.baseline, **changes}
    if "n_head" in changes:
        settings.pop("head_size", None)
    elif "head_size" in changes:
        settings.pop("n_head", None)
    base, rate = study.baseline, float(settings["learning_rate"])
    if "min_lr" not in changes and float(settings["min_lr"]) > rate:
        settings["min_lr"] = tidy(float(base["min_lr"]) / float(base["learning_rate"]) * rate)
    own = TrainConfig.from_mapping({**with_heads(settings), "seed": seed, "vocab_size": vocab_size})

    where = grid(study)
    iters, interval = study.iters, where.interval
    share = tokens_share(study, own)
    if own.sequences_per_iter != study.sequences_per_iter or share != 1:
        iters, interval = _of_equal_length(study, own, where, share=share)
    decay = max(1, round(own.lr_decay_iters / own.max_iters * iters))
    fraction = own.warmup_iters / own.max_iters if warmup_fraction is None else warmup_fraction
    warmup = max(1, round(fraction * iters)) if fraction > 0 else 0
    windows = evaluation_windows(study)
    return own.replace(
        max_iters=iters,
        lr_decay_iters=decay,
        warmup_iters=min(warmup, decay - 1) if own.decay_lr else warmup,
        eval_interval=interval,
        eval_windows=windows,
        final_windows=max(study.final_windows, windows),
    )


def tokens_share(study: Study, config: TrainConfig) -> float:
    """Tokens of a trial as a share of the baseline's: 1, unless FLOPs or time are equal instead.

    Equal FLOPs are those of training. In equal time, evaluations are a part of it, at a third of a trained token's cost
    (as the tokens that a shape evaluates are the same for all).
    """
    if study.equal == "tokens":
        return 1.0
    baseline = TrainConfig.from_mapping({**with_heads(study.baseline), "vocab_size": config.vocab_size})
    if study.equal == "flops":
        from trainer.model.size import flops_per_token  # torch comes with it, and only this mode needs it

        return flops_per_token(baseline) / flops_per_token(config)
    assert study.fit is not None
    own, base = (speed_of(study.fit.speeds, each) for each in (config, baseline))
    evaluated, trained = study.fit.evaluated / 3, study.iters * study.tokens_per_iter
    return ((trained + evaluated) * (own / base) - evaluated) / trained


def speed_of(speeds: Sequence[ShapeSpeed], config: TrainConfig) -> float:
    """Tokens a second of the config's width and depth; between measured ones seconds a token are taken as linear.

    Beyond what was measured the nearest holds.
    """
    cost = {(each.n_embd, each.n_layer): 1 / each.tokens_per_s for each in speeds}
    if (config.n_embd, config.n_layer) in cost:
        return 1 / cost[config.n_embd, config.n_layer]
    depths = {width: sorted(depth for other, depth in cost if other == width) for width, _ in sorted(cost)}
    around = {width: of for width, of in depths.items() if of[0] <= config.n_layer <= of[-1]} or depths
    by_width = [
        (width, _between(config.n_layer, [(each, cost[width, each]) for each in of])) for width, of in around.items()
    ]
    return 1 / _between(config.n_embd, by_width)


def _between(x: int, points: Sequence[tuple[int, float]]) -> float:
    """The line through `points`, sorted by the first of each, at `x`; level beyond the ends."""
    right = bisect.bisect_left([each for each, _ in points], x)
    if right in (0, len(points)):
        return points[min(right, len(points) - 1)][1]
    (x0, y0), (x1, y1) = points[right - 1 : right + 1]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _of_equal_length(study: Study, config: TrainConfig, where: Grid, *, share: float) -> tuple[int, int]:
    """Iterations and evaluation interval that give another batch or shape `share` of the baseline's tokens."""
    exact = study.iters * study.sequences_per_iter / config.sequences_per_iter * share
    iters = _multiple(exact, where.evaluations)
    if study.equal != "tokens":  # a horizon is fitted so that these are near enough
        return iters, iters // where.evaluations
    if study.iters % where.evaluations:
        good = study.iters - study.iters % FEWEST
        raise ConfigError(
            f"batch_size={config.batch_size} needs a horizon that {FEWEST} to {MOST} evaluations divide, which "
            f"{study.iters} iterations are not; nearest: {max(good, FEWEST)} and {good + FEWEST}"
        )
    if abs(iters / exact - 1) > TOKEN_TOLERANCE:
        raise ConfigError(
            f"batch_size={config.batch_size} x {config.gradient_accumulation_steps} would see the baseline's tokens in "
            f"{exact:.4g} iterations, and {where.evaluations} evaluations at the baseline's shares of them need "
            f"{iters}; use batch sizes that divide or multiply the baseline's, or a longer horizon"
        )
    return iters, iters // where.evaluations


def evaluation_windows(study: Study) -> int:
    """Fixed windows a split at each evaluation, so that evaluations cost a tenth of a trial at most.

    An evaluated token costs a third of a trained one (forward 2N, forward and backward 6N FLOP a
    token), and W windows of each of two splits are evaluated. With W = 0.12 x trained sequences /
    evaluations, that is 2/3 x 0.12 = 8 % of the training; the evaluation at 0 and the larger final
    one take the rest of the tenth. Two windows at least, or there is no standard error.
    """
    if study.fit is not None:
        return study.fit.windows
    return windows_of(study.iters * study.sequences_per_iter, grid(study).evaluations)


def windows_of(sequences: float, evaluations: int) -> int:
    """Windows a split of so many evaluations of a run over so many sequences."""
    return min(MOST_WINDOWS, max(2, math.floor(0.12 * sequences / evaluations)))


def fit_in_words(study: Study) -> Iterator[str]:
    """How a fitted horizon came about, for a person."""
    fit = study.fit
    assert fit is not None
    tokens = fit.iters * study.tokens_per_iter
    alike = "" if study.equal == "tokens" else f", in equal {EQUAL[study.equal]} for the others"
    minutes = as_yaml(minute_horizon(study).minutes)
    yield f"{minutes} minutes are {fit.iters:,} iterations, {tokens:,} tokens, of the baseline{alike}"
    deep = len({each.n_layer for each in fit.speeds}) > 1
    yield "tokens/s of a worker: " + joined(
        f"{each.tokens_per_s:,.0f} at width {each.n_embd}" + (f", depth {each.n_layer}" if deep else "")
        for each in fit.speeds
    )


EQUAL = {"tokens": "tokens", "flops": "FLOPs of training", "time": "time"}
"""What trials have alike, in words."""


FEWEST_EVALUATIONS, EVALUATIONS, MOST_EVALUATIONS = 20, 30, 40


def stretched(config: TrainConfig, *, iters: int) -> TrainConfig:
    """`config` at `iters` iterations: warm-up and decay by their fractions of the run, the rates as they are.

    Evaluations are spread over it, where possible 20 to 40 that divide the run, so that its last iteration is
    evaluated. Raises ConfigError for a length that no config can have.
    """
    share = iters / config.max_iters
    decay = max(1, round(config.lr_decay_iters * share))
    warmup = round(config.warmup_iters * share)
    return config.replace(
        max_iters=iters,
        lr_decay_iters=decay,
        warmup_iters=min(warmup, decay - 1) if config.decay_lr else warmup,
        eval_interval=eval_interval(iters),
    )


def eval_interval(iters: int) -> int:
    """Iterations between evaluations: a divisor of `iters` that makes 20 to 40, nearest to 30; else about 30."""
    counts = [n for n in range(FEWEST_EVALUATIONS, MOST_EVALUATIONS + 1) if iters % n == 0]
    if counts:
        return iters // min(counts, key=lambda n: abs(n - EVALUATIONS))
    return max(1, iters // EVALUATIONS)

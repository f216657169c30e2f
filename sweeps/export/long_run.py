"""From a short trial to a long run: what carries over, and what isn't known.

A schedule is carried by its shape: warm-up and decay as fractions of the run, min_lr as a share of the peak
(Bergsma et al., arXiv 2502.15938, on how hard decay to about zero is to beat). For the best learning rate at
another length there are two answers of opposite sign, so neither is applied; rates to try are given instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from trainer.config import TrainConfig

TRUSTED = 4
"""Times the measured horizon beyond which a learning rate found there is a guess."""
BJORCK = -0.32
"""Exponent of the best learning rate in training tokens (Bjorck et al., arXiv 2409.19913)."""
BJORCK_SMALL = -0.65
"""The same for small models, where they find it steeper."""
STEP_LAW = 0.307
"""The same after the Step Law (Li et al., arXiv 2503.04715): the other sign."""


def remarks(config: TrainConfig, *, iters: int, train_tokens: int) -> Iterator[str]:
    """What is known, and what is not, when `config` is to train for `iters` iterations; the gravest first.

    `train_tokens` is the size of the training split. Nothing for the run's own length.
    """
    share = iters / config.max_iters
    if iters == config.max_iters:
        return
    yield from _learning_rate(config, share)
    if config.decay_lr:
        yield (
            f"Carried over: warmup_iters and lr_decay_iters as fractions of the run, and min_lr as "
            f"{config.min_lr / config.learning_rate:.3g} of learning_rate; decay to about zero is hard to beat "
            "(arXiv 2502.15938)."
        )
    yield from _dropout(config, iters=iters, train_tokens=train_tokens)
    yield from _weight_decay(config, share)


def _learning_rate(config: TrainConfig, share: float) -> Iterator[str]:
    if share > TRUSTED:
        yield (
            f"WARNING: this run is {share:.3g} times as long as the trial that chose its learning_rate; beyond "
            f"{TRUSTED} times that rate is a guess. Run a ladder instead of one config (sweep export --ladder DIR "
            f"writes it): {TRUSTED // 2} and {TRUSTED} times the trial's length first, each with three rates, and see "
            "which way the best one moves."
        )
    down, small, up = (_two_digits(config.learning_rate * share**power) for power in (BJORCK, BJORCK_SMALL, STEP_LAW))
    yield (
        "learning_rate is the trial's own. How the best one moves with the length of the run is disputed: "
        f"Bjorck et al. (arXiv 2409.19913) find tokens^{BJORCK}, which gives {down:g}, and up to "
        f"tokens^{BJORCK_SMALL} for small models, {small:g}; the Step Law (arXiv 2503.04715) finds "
        f"tokens^+{STEP_LAW}, {up:g}."
    )
    ratio = config.min_lr / config.learning_rate
    tries = (f"--learning_rate={rate!r} --min_lr={_two_digits(rate * ratio)!r}" for rate in (down, up))
    yield f"Rates to try beside it, each with an --out_dir of its own: {' ; '.join(tries)}"


def _dropout(config: TrainConfig, *, iters: int, train_tokens: int) -> Iterator[str]:
    trial, run = (n * config.tokens_per_iter / train_tokens for n in (config.max_iters / config.data_fraction, iters))
    seen = f"the trial made {trial:.3g} epochs of its data, this run makes {run:.3g}"
    if max(trial, run) <= 1:
        yield f"dropout={config.dropout:g} was chosen without repeated data, and stays so: {seen}."
    else:
        yield (
            f"dropout={config.dropout:g} is good for the trial's number of epochs only: {seen}. More epochs want more "
            "of it, fewer less; watch whether the training loss leaves the validation loss behind."
        )


def _weight_decay(config: TrainConfig, share: float) -> Iterator[str]:
    if not config.weight_decay:
        return
    tau = 1 / (config.learning_rate * config.weight_decay)
    yield (
        f"weight_decay has two candidates. AdamW forgets over 1/(learning_rate*weight_decay) = {tau:.3g} iterations; "
        f"kept in epochs (arXiv 2405.13698) it stays {config.weight_decay:g}, as written here; kept as a share of the "
        f"run (arXiv 2505.13738) it would be --weight_decay={_two_digits(config.weight_decay / share)!r} instead."
    )


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")

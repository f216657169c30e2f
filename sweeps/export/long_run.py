"""Remarks on a long run with a short trial's settings: what carries over, and what isn't known.

A decay is carried over by its shape: as a fraction of the run, min_lr as a share of the peak (Bergsma et al., arXiv
2502.15938, on how hard decay to about zero is to beat). For the best learning rate at another
length, the literature has two answers of opposite sign. So neither is applied, and rates to try are given instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from trainer.config import TrainConfig

TRUSTED = 4
"""How many times longer than its trial a run may be before the trial's learning rate is a guess."""
BJORCK = -0.32
"""Exponent of the best learning rate in training tokens (Bjorck et al., arXiv 2409.19913)."""
BJORCK_SMALL = -0.65
"""The same exponent for small models, where they find a steeper one."""
STEP_LAW = 0.307
"""The same exponent by the Step Law (Li et al., arXiv 2503.04715), with the opposite sign."""


def remarks(
    config: TrainConfig,
    *,
    iters: int,
    train_tokens: int,
    run: TrainConfig | None = None,
    taken: Collection[str] | None = None,
) -> Iterator[str]:
    """Yield what is known and what isn't when the trial `config` becomes a run of `iters`, the most important first.

    `run` is that run; None: the trial's settings at that length. `taken` are the settings that come from the trial;
    None: all. The others were set for the run's own length. `train_tokens` is the size of the training split. Yields
    nothing for the config's own length.
    """
    if iters == config.max_iters:
        return
    run = run or config
    if config.init_from == "branch":
        yield (
            f"The branch ran for {config.max_iters} iterations. Its warm-up and decay keep their fractions of the "
            f"{iters}, and its rates stay. Nothing was measured at this length."
        )
        return
    times = iters * run.tokens_per_iter / (config.max_iters * config.tokens_per_iter)
    yield f"The trial saw {config.max_iters * config.tokens_per_iter} tokens, this run sees {times:.3g} times as many."
    if taken is None or "learning_rate" in taken:
        yield from _learning_rate(run, times)
    if config.decay_lr:
        yield (
            f"Carried over: the shape of the decay, with min_lr at {run.min_lr / run.learning_rate:.3g} times "
            "learning_rate; decay to about zero is hard to beat (arXiv 2502.15938). The warm-up has at least the "
            "trial's tokens, and no more than before unless it is shown to matter."
        )
    if taken is None or "dropout" in taken:
        yield from _dropout(config, iters=iters, tokens_per_iter=run.tokens_per_iter, train_tokens=train_tokens)
    if taken is None or "weight_decay" in taken:
        yield from _weight_decay(run, times)


def _learning_rate(config: TrainConfig, times: float) -> Iterator[str]:
    if times > TRUSTED:
        yield (
            f"WARNING: this run is {times:.3g} times as long as the trial that chose its learning_rate. Beyond "
            f"{TRUSTED} times, that rate is a guess. Run a ladder instead of one config (sweep export --ladder DIR "
            f"writes it): first {TRUSTED // 2} and {TRUSTED} times the trial's length, each with three rates, to see "
            "which way the best rate moves."
        )
    down, small, up = (_two_digits(config.learning_rate * times**power) for power in (BJORCK, BJORCK_SMALL, STEP_LAW))
    yield (
        "learning_rate is the trial's own. How the best rate moves with the length of the run is disputed. "
        f"Bjorck et al. (arXiv 2409.19913) find tokens^{BJORCK}, which gives {down:g}, and for small models up to "
        f"tokens^{BJORCK_SMALL}, which gives {small:g}. The Step Law (arXiv 2503.04715) finds tokens^+{STEP_LAW}, "
        f"which gives {up:g}."
    )
    ratio = config.min_lr / config.learning_rate
    commands = (f"--learning_rate={rate!r} --min_lr={_two_digits(rate * ratio)!r}" for rate in (down, up))
    yield f"Rates to try as well, each with its own --out_dir: {' ; '.join(commands)}"


def _dropout(config: TrainConfig, *, iters: int, tokens_per_iter: int, train_tokens: int) -> Iterator[str]:
    trial = config.max_iters * config.tokens_per_iter / config.data_fraction / train_tokens
    run = iters * tokens_per_iter / train_tokens
    epochs = f"the trial made {trial:.3g} epochs of its data, this run makes {run:.3g}"
    if max(trial, run) <= 1:
        yield f"dropout={config.dropout:g} was chosen without repeated data, and the run repeats none either: {epochs}."
    else:
        yield (
            f"dropout={config.dropout:g} fits only the trial's number of epochs: {epochs}. More epochs call for more "
            "dropout, fewer for less. Watch whether the training loss falls away from the validation loss."
        )


def _weight_decay(config: TrainConfig, times: float) -> Iterator[str]:
    forgotten = config.learning_rate * config.weight_decay  # share of a weight per iteration; 0 also by underflow
    if not forgotten:
        return
    tau = 1 / forgotten
    yield (
        f"weight_decay has two candidates. AdamW forgets over 1/(learning_rate*weight_decay) = {tau:.3g} iterations. "
        f"If that should stay the same in epochs (arXiv 2405.13698), weight_decay stays {config.weight_decay:g}, as "
        "written here. If it should stay the same share of the run (arXiv 2505.13738), use "
        f"--weight_decay={_two_digits(config.weight_decay / times)!r} instead."
    )


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")

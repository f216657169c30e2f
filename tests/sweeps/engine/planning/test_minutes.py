"""Minutes to iterations: examples by hand, a search over every length, and properties for all measured speeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sweeps.engine.planning.minutes import estimated, fitted, shapes
from sweeps.errors import SpecError
from sweeps.store.records import DataFacts
from sweeps.study import proposals
from sweeps.study.horizon import STAND_IN, fit_in_words, provisional, speed_of
from sweeps.study.sections import ShapeSpeed
from sweeps.study.study import Study
from trainer.config import TrainConfig

DATA = DataFacts(
    path="/data", fingerprint="f", vocab_size=1000, train_tokens=10**9, val_tokens=10**8, bytes_per_token=None
)
WIDTHS = {"n_embd": {"low": 32, "high": 96, "step": 32}}
TOKENS = 8 * 32
"""per iteration"""


def study(minutes: float, *, equal: str = "tokens", **changes: Any) -> Study:
    """Return a study of three widths whose horizon is in minutes."""
    defaults: dict[str, Any] = {
        "name": "small",
        "baseline": {
            "n_layer": 3,
            "n_embd": 64,
            "head_size": 16,
            "block_size": 32,
            "batch_size": 8,
            "gradient_accumulation_steps": 1,
            "learning_rate": 1e-3,
            "min_lr": 1e-4,
            "warmup_iters": 10,
            "max_iters": 200,
            "lr_decay_iters": 200,
        },
        "horizon": {"minutes": minutes, "equal": equal},
        "evaluations": 20,
        "final_windows": 64,
        "knobs": WIDTHS,
    }
    return Study.model_validate({**defaults, **changes})


def at(speeds: Mapping[int, float], *, depth: int = 3) -> list[ShapeSpeed]:
    """Return measured shapes from tokens/s by width."""
    return [ShapeSpeed(n_embd=width, n_layer=depth, tokens_per_s=speed) for width, speed in speeds.items()]


def trials(study: Study) -> dict[int, TrainConfig]:
    """Return the baseline at each width."""
    params = proposals.baseline_params(study)
    return {
        width: proposals.config_of(study, {**params, "n_embd": width}, seed=1, vocab_size=1000)
        for width in (32, 64, 96)
    }


def evaluated(config: TrainConfig) -> int:
    """Return the evaluated tokens: both splits at 0 and at each evaluation, and the final windows."""
    evaluations = math.ceil(config.max_iters / config.eval_interval) + 1
    return (evaluations * 2 * config.eval_windows + config.final_windows) * config.block_size


def seconds(config: TrainConfig, speed: float) -> float:
    """Return the seconds of a run at `speed` tokens/s; an evaluated token costs a third of a trained one."""
    return (config.max_iters * config.tokens_per_iter + evaluated(config) / 3) / speed


# what is equal between trials: tokens, FLOPs or time


def test_equal_tokens_by_hand() -> None:
    """400 iterations of 256 tokens; 19 windows, as 0.12 x 3200 / 20 = 19.2; 21 x 2 x 19 + 64 = 862 of 32 evaluated.

    (102 400 + 27 584 / 3) / 1000 = 111.6 s; the next length that 20 to 40 evaluations divide, 403, takes 112.0 s.
    """
    length = fitted(study(111.6 / 60), at({32: 4000.0, 64: 2000.0, 96: 1000.0}), DATA)
    assert length.fit is not None
    assert (length.iters, length.fit.evaluations, length.fit.windows, length.fit.evaluated) == (400, 20, 19, 27584)
    assert {config.max_iters for config in trials(length).values()} == {400}
    assert fitted(study(111.5 / 60), at({32: 4000.0, 64: 2000.0, 96: 1000.0}), DATA).iters < 400


@pytest.mark.parametrize("minutes", [0.07, 0.15, 0.4, 1.0])
def test_equal_tokens_fill_the_minutes_of_the_slowest_trial(minutes: float) -> None:
    """Compared with the longest of all horizons in iterations that fit into the minutes."""
    fitting = []
    for iters in range(10, 60 * math.ceil(minutes) * 1000 // TOKENS + 1):
        config = proposals.baseline_config(study(1, horizon={"iters": iters}), seed=1, vocab_size=1000)
        divides = iters < 20 or iters % config.eval_interval == 0
        if divides and seconds(config, 1000.0) <= 60 * minutes:
            fitting.append(iters)
    length = fitted(study(minutes), at({32: 4000.0, 64: 2000.0, 96: 1000.0}), DATA)
    assert length.iters == max(fitting)
    written = proposals.baseline_config(study(1, horizon={"iters": length.iters}), seed=1, vocab_size=1000)
    assert proposals.baseline_config(length, seed=1, vocab_size=1000) == written


def flops(width: int) -> int:
    """Return 6 N + 12 L C T per token, N without positions, three blocks, 1000 tokens in the vocabulary."""
    return 6 * (1000 * width + 3 * (12 * width**2 + 2 * width) + width) + 12 * 3 * width * 32


def test_equal_flops_give_a_wide_model_fewer_tokens() -> None:
    """Narrow models use the device poorly, so the narrowest takes longest here."""
    speeds = {32: 3000.0, 64: 2000.0, 96: 1500.0}
    configs = trials(fitted(study(10, equal="flops"), at(speeds), DATA))
    spent = {width: config.max_iters * TOKENS * flops(width) for width, config in configs.items()}
    assert spent[32] == pytest.approx(spent[64], rel=0.02)
    assert spent[96] == pytest.approx(spent[64], rel=0.02)
    assert configs[32].max_iters > configs[64].max_iters > configs[96].max_iters
    assert {config.max_iters / config.eval_interval for config in configs.values()} == {20}
    taken = {width: seconds(config, speeds[width]) for width, config in configs.items()}
    assert max(taken, key=taken.__getitem__) == 32
    assert 0.95 * 600 < taken[32] <= 1.02 * 600


def test_equal_time_gives_every_width_the_minutes() -> None:
    speeds = {32: 3000.0, 64: 2000.0, 96: 1500.0}
    length = fitted(study(10, equal="time"), at(speeds), DATA)
    configs = trials(length)
    for width, config in configs.items():
        assert seconds(config, speeds[width]) == pytest.approx(600, rel=0.025)
    assert configs[64].max_iters == length.iters
    assert {config.max_iters / config.eval_interval for config in configs.values()} == {20}
    assert len({(config.eval_windows, config.final_windows) for config in configs.values()}) == 1


@pytest.mark.parametrize("equal", ["flops", "time"])
def test_the_schedule_of_every_trial_ends_with_the_trial(equal: str) -> None:
    length = fitted(study(10, equal=equal), at({32: 3000.0, 64: 2000.0, 96: 1500.0}), DATA)
    for config in trials(length).values():
        assert config.lr_decay_iters == config.max_iters
        assert config.warmup_iters == pytest.approx(0.05 * config.max_iters, abs=1)


@pytest.mark.parametrize("equal", ["flops", "time"])
def test_studies_of_one_shape_are_the_same_in_all_modes(equal: str) -> None:
    knobs = {"dropout": {"low": 0.0, "high": 0.3}, "batch_size": {"choices": [4, 8]}}
    iters, with_equal_tokens = (
        fitted(study(0.3, equal=mode, knobs=knobs), at({64: 2000.0}), DATA).iters for mode in (equal, "tokens")
    )
    assert iters == with_equal_tokens


# shapes between those that were measured


@pytest.mark.parametrize(
    ("width", "depth", "seconds_per_token"),
    [
        (32, 2, 1.0),
        (64, 6, 8.0),
        (32, 4, 2.0),  # halfway between 1 and 3
        (48, 2, 1.5),  # between 1 and 2
        (48, 4, 3.5),  # between (1 + 3) / 2 and (2 + 8) / 2
        (16, 2, 1.0),  # the nearest
        (96, 6, 8.0),
        (32, 9, 3.0),
        (40, 3, 100.0),  # a shape that only a candidate has
    ],
)
def test_the_speed_of_a_shape_is_interpolated_in_width_and_depth(
    width: int, depth: int, seconds_per_token: float
) -> None:
    costs = {(32, 2): 1.0, (32, 6): 3.0, (64, 2): 2.0, (64, 6): 8.0, (40, 3): 100.0}
    speeds = [ShapeSpeed(n_embd=w, n_layer=d, tokens_per_s=1 / cost) for (w, d), cost in costs.items()]
    config = TrainConfig(n_embd=width, n_head=1, n_layer=depth)
    assert 1 / speed_of(speeds, config) == pytest.approx(seconds_per_token)


# the shapes that are measured


def test_the_shapes_of_a_study_are_measured_with_their_slowest_settings() -> None:
    knobs = {
        **WIDTHS,
        "n_layer": {"low": 2, "high": 8},
        "dropout": {"low": 0.0, "high": 0.3},
        "batch_size": {"choices": [4, 8, 16]},
    }
    configs = shapes(study(1, knobs=knobs, candidates=[{"n_layer": 1}, {"dropout": 0.5}]), vocab_size=1000)
    swept = {(width, depth) for width in (32, 64, 96) for depth in (2, 8)}
    assert {(config.n_embd, config.n_layer) for config in configs} == swept | {(64, 3), (64, 1)}
    assert len(configs) == 8
    assert {config.dropout for config in configs} == {0.5}
    assert {config.batch_size for config in configs} == {4}
    assert {(config.n_embd // config.n_head, config.vocab_size) for config in configs} == {(16, 1000)}


def test_a_range_of_many_widths_is_measured_in_part() -> None:
    knobs = {"n_embd": {"low": 16, "high": 1600, "step": 16, "log": False}}
    widths = [config.n_embd for config in shapes(study(1, knobs=knobs), vocab_size=1000)]
    assert {16, 64, 1600} <= set(widths)
    assert len(widths) in (13, 14)


def test_an_unfitted_study_is_checked_at_a_stand_in_length() -> None:
    unfitted = study(1)
    assert provisional(unfitted).iters == STAND_IN
    length = fitted(unfitted, at({32: 4000.0, 64: 2000.0, 96: 1000.0}), DATA)
    assert provisional(length) is length
    with pytest.raises(AssertionError, match="before it is fitted"):
        _ = unfitted.iters


# too few minutes


def test_too_few_minutes_are_refused_with_the_fewest_that_do() -> None:
    """10 iterations are 2560 tokens; those of 11 x 2 x 2 + 64 evaluated windows of 32 cost a third as much."""
    with pytest.raises(SpecError) as error:
        fitted(study(0.05), at({32: 400.0, 64: 200.0, 96: 100.0}), DATA)
    assert str(error.value) == (
        "horizon.minutes: 0.05 minutes are 0 iterations of the baseline, because the slowest trial (n_embd=96, "
        "n_layer=3) trains at 100 tokens/s; 10 iterations are needed: write minutes: 0.62"
    )
    assert math.isclose((2560 + (44 + 64) * 32 / 3) / 100 / 60, 0.6187, abs_tol=1e-4)
    assert fitted(study(0.62), at({32: 400.0, 64: 200.0, 96: 100.0}), DATA).iters == 10


@pytest.mark.parametrize("equal", ["tokens", "flops", "time"])
@pytest.mark.parametrize("knobs", [WIDTHS, {**WIDTHS, "batch_size": {"choices": [3, 8, 20]}}])
@pytest.mark.parametrize("minutes", [1e-3, 0.05, 0.5])
def test_the_minutes_that_the_message_names_are_enough(equal: str, knobs: dict[str, Any], minutes: float) -> None:
    speeds = at({32: 3000.0, 64: 2000.0, 96: 1500.0})
    try:
        assert fitted(study(minutes, equal=equal, knobs=knobs), speeds, DATA).iters >= 10
        return
    except SpecError as error:
        message = str(error)
    enough = float(message.rpartition("minutes: ")[2])
    assert enough > minutes
    length = fitted(study(enough, equal=equal, knobs=knobs), speeds, DATA)
    assert f"; {length.iters} iterations are needed" in message or length.iters >= 10


# properties


@given(
    st.tuples(*[st.floats(50, 1e5)] * 3),
    st.floats(0.01, 200),
    st.sets(st.sampled_from([2, 4, 8, 12, 16, 24]), min_size=1),
    st.integers(20, 40),
    st.sampled_from(["tokens", "flops", "time"]),
)
@settings(max_examples=80, deadline=None)
def test_trials_are_equal_in_tokens_flops_or_time(
    measured: tuple[float, float, float], minutes: float, sizes: set[int], evaluations: int, equal: str
) -> None:
    sizes = sizes | {8, 16}
    knobs = {**WIDTHS, "batch_size": {"choices": sorted(sizes)}}
    speeds = dict(zip((32, 64, 96), measured, strict=True))
    unfitted = study(minutes, equal=equal, knobs=knobs, evaluations=evaluations)
    try:
        length = fitted(unfitted, at(speeds), DATA)
    except SpecError:
        assume(False)
    params, costs = proposals.baseline_params(length), []
    for width, speed in speeds.items():
        for size in sizes:
            config = proposals.config_of(
                length, {**params, "n_embd": width, "batch_size": size}, seed=1, vocab_size=DATA.vocab_size
            )
            trained = config.max_iters * config.tokens_per_iter
            assert seconds(config, speed) <= 60 * minutes * 1.03
            costs.append({"tokens": trained, "flops": trained * flops(width), "time": seconds(config, speed)}[equal])
            assert math.ceil(config.max_iters / config.eval_interval) == length.fit.evaluations  # type: ignore[union-attr]
            assert config.max_iters % config.eval_interval == 0
    assert max(costs) <= min(costs) * 1.02 / 0.98


@given(st.floats(500, 1e5), st.floats(0.2, 100), st.integers(20, 40))
@settings(max_examples=60, deadline=None)
def test_the_minutes_are_used_up(speed: float, minutes: float, evaluations: int) -> None:
    """Evenly spaced evaluations cost at most a few per cent of them, except in a short trial."""
    length = fitted(study(minutes, evaluations=evaluations), at({32: speed * 2, 64: speed * 1.5, 96: speed}), DATA)
    taken = seconds(proposals.baseline_config(length, seed=1, vocab_size=1000), speed)
    assert taken <= 60 * minutes
    assert taken >= 60 * minutes * (0.9 if length.iters >= 100 else 0.6)


# in a plan


def test_a_plan_fits_with_an_estimated_speed() -> None:
    unfitted = study(111.6 / 60)
    speeds = {32: 4000.0, 64: 2000.0, 96: 1000.0}
    length = estimated(unfitted, DATA, lambda config: speeds[config.n_embd])
    assert length == fitted(unfitted, at(speeds), DATA)
    assert estimated(length, DATA, lambda _: None) is length
    with pytest.raises(SpecError, match=r"the speed of this device is not known.*horizon\.iters=600"):
        estimated(unfitted, DATA, lambda _: None)


def test_the_fit_is_described_with_its_speeds() -> None:
    length = fitted(study(10, equal="time"), at({32: 3000.0, 64: 2000.0, 96: 1500.0}), DATA)
    sentence, speeds = fit_in_words(length)
    tokens = f"{length.iters * TOKENS:,} tokens"
    assert (
        sentence
        == f"10 minutes are {length.iters:,} iterations of the baseline, {tokens}; the other trials get equal time"
    )
    assert speeds == "tokens/s per worker: 3,000 at width 32, 2,000 at width 64 and 1,500 at width 96"

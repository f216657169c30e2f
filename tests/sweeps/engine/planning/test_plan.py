"""The plan: the runs of a study, their times, memory and warnings."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.engine.planning.plan import plan
from sweeps.engine.planning.speed import Speed, makespan, seen
from sweeps.store.records import DataFacts
from sweeps.study.study import Study
from sweeps.text import duration
from tests.helpers import synthetic
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.machine import device
from trainer.machine.device import Device
from trainer.model import size

CARD = device.named("RTX 4070")
LAPTOP = Device(kind="cpu", name="a laptop", count=2, peak=40e9, memory=8 << 30, free=8 << 30)


def study(**changes: Any) -> Study:
    """Return a small study: 2 baseline seeds, 1 candidate, 3 single-knob trials, 5 for the sampler."""
    settings: dict[str, Any] = {
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
        "horizon": {"iters": 200},
        "evaluations": 20,
        "final_windows": 16,
        "knobs": {"dropout": {"low": 0.0, "high": 0.3}, "n_embd": {"low": 32, "high": 96, "step": 16}},
        "candidates": [{"learning_rate": 5e-4, "min_lr": 5e-5}],
        "baseline_seeds": 2,
        "trials": 9,
        "confirm": {"max_trials": 0},
    }
    return Study.model_validate({**settings, **changes})


def facts(**changes: Any) -> DataFacts:
    """Return the facts of a million training tokens; `changes` replace DataFacts' fields."""
    fields = {
        "path": "/data",
        "fingerprint": "f",
        "vocab_size": 1000,
        "train_tokens": 1_000_000,
        "val_tokens": 100_000,
        "bytes_per_token": None,
    }
    return DataFacts(**{**fields, **changes})


def test_the_runs_of_every_phase_are_counted() -> None:
    planned = plan(study(), facts(), CARD)
    # single-knob trials: dropout at 0.3 (0 is the baseline's), n_embd at 32 and 96
    assert {phase.name: phase.trials for phase in planned.phases} == {
        "baseline": 2,
        "candidates": 1,
        "one-at-a-time": 3,
        "sampler": 5,
        "confirm": 0,
    }
    assert (planned.trials, planned.iters, planned.workers) == (11, 200, 1)
    assert planned.tokens_per_trial == 200 * 8 * 32
    assert planned.tokens == 11 * 200 * 8 * 32
    assert planned.epochs == pytest.approx(0.0512)
    assert planned.warnings == ()


def flops_of_a_run(width: int, *, layers: int = 3, vocab: int = 1000) -> float:
    """Return a run's FLOPs by hand: 6 N + 12 L C T per token, N without positions; an evaluated token costs a third."""
    n = vocab * width + layers * (12 * width**2 + 2 * width) + width
    trained = 200 * 8 * 32
    # 21 evaluations of both splits (0.12 * 1600 sequences / 20 = 9 windows each), 16 windows at the end
    evaluated = (21 * 2 * 9 + 16) * 32
    return (6 * n + 12 * layers * width * 32) * (trained + evaluated / 3)


def seconds_on_card(width: int, *, layers: int = 3) -> float:
    """Return a run's seconds on an RTX 4070 by hand."""
    return flops_of_a_run(width, layers=layers) / (58.3e12 * 0.7 * width / (width + 150))


def test_the_time_on_a_card_is_flops_at_a_share_of_its_peak_that_falls_with_the_width() -> None:
    planned = plan(study(), facts(), CARD)
    assert [width.n_embd for width in planned.widths] == [32, 48, 64, 80, 96]
    for width in planned.widths:
        assert width.seconds_per_trial == pytest.approx(seconds_on_card(width.n_embd))
        assert width.efficiency == pytest.approx(0.7 * width.n_embd / (width.n_embd + 150))
    seconds = {phase.name: phase.seconds for phase in planned.phases}
    assert seconds["baseline"] == pytest.approx(2 * seconds_on_card(64))
    assert seconds["one-at-a-time"] == pytest.approx(sum(map(seconds_on_card, (64, 32, 96))))
    expected = sum(map(seconds_on_card, (32, 48, 64, 80, 96))) / 5
    assert seconds["sampler"] == pytest.approx(5 * expected)
    assert planned.seconds == pytest.approx(sum(seconds.values()))
    text = "\n".join(planned.lines())
    assert "RTX 4070 (58.3 TFLOP/s per card in bfloat16)" in text
    assert "estimated from 12% to 27% of the card's dense peak (assumed; less for narrow models)" in text


def test_a_width_has_its_parameters_and_its_speed() -> None:
    (width,) = (width for width in plan(study(), facts(), CARD).widths if width.n_embd == 64)
    assert width.n_params == 1000 * 64 + 32 * 64 + 3 * (12 * 64**2 + 2 * 64) + 64
    flops = 6 * (width.n_params - 32 * 64) + 12 * 3 * 64 * 32
    assert width.tokens_per_s == pytest.approx(58.3e12 * 0.7 * 64 / (64 + 150) / flops)


def test_a_cpu_reaches_a_larger_share_of_its_peak_with_a_larger_model() -> None:
    laptop = Speed(device=LAPTOP, share=1.0, data=facts(), dtype="bfloat16")

    def share(width: int, **changes: Any) -> float:
        config = TrainConfig(n_layer=4, n_head=2, n_embd=width, block_size=64, vocab_size=1000, **changes)
        speed = laptop.tokens_per_s(config)
        assert speed is not None
        return speed * size.flops_per_token(config) / 40e9

    # as measured; see sweeps/engine/planning/speed.py
    assert share(8) == pytest.approx(0.06, rel=0.15)
    assert share(32) == pytest.approx(0.31, rel=0.15)
    assert share(64) == pytest.approx(0.48, rel=0.15)
    assert share(128) == pytest.approx(0.62, rel=0.15)
    assert share(256) == pytest.approx(0.68, rel=0.15)
    assert share(64, dropout=0.2) == pytest.approx(0.94 * share(64), rel=0.15)


def test_on_a_cpu_dropout_slows_the_samplers_trials() -> None:
    phases = plan(study(), facts(), LAPTOP).phases
    per_run = {phase.name: phase.seconds / phase.trials for phase in phases if phase.trials}
    widths_only = plan(study(knobs={"n_embd": {"low": 32, "high": 96, "step": 16}}), facts(), LAPTOP)
    (without_dropout,) = (phase.seconds / phase.trials for phase in widths_only.phases if phase.name == "sampler")
    assert per_run["sampler"] == pytest.approx(without_dropout / 0.93)
    (baseline,) = (width.seconds_per_trial for width in widths_only.widths if width.n_embd == 64)
    assert per_run["baseline"] == pytest.approx(baseline)


@pytest.mark.parametrize(
    ("seconds", "workers", "total"),
    [
        ([], 2, 0.0),
        ([3.0], 4, 3.0),
        ([2.0] * 5, 2, 6.0),
        ([5.0, 1.0, 1.0, 1.0, 1.0], 2, 5.0),
        ([1.0, 1.0, 1.0, 1.0, 5.0], 2, 7.0),
        ([1.0, None], 2, None),
    ],
)
def test_the_makespan_is_that_of_a_list_schedule(
    seconds: list[float | None], workers: int, total: float | None
) -> None:
    assert makespan(seconds, workers=workers) == total


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=20), st.integers(1, 5))
def test_the_makespan_is_between_even_sharing_and_one_worker(seconds: list[float], workers: int) -> None:
    total = makespan(seconds, workers=workers)
    assert total is not None
    slack = 1e-9 * sum(seconds)
    assert max(max(seconds), sum(seconds) / workers) - slack <= total <= sum(seconds) + slack
    # any list schedule takes at most twice the best one's time (Graham 1966)
    assert total <= 2 * max(max(seconds), sum(seconds) / workers) + slack


@pytest.mark.parametrize(
    ("where", "devices", "workers", "relative_speed"),
    [
        (LAPTOP, "auto", 2, 1.0),
        (LAPTOP, ["cpu", "cpu"], 2, 1.0),
        (LAPTOP, ["cpu"], 1, 1.0),  # one thread, even if other cores are idle
        (LAPTOP, ["cpu"] * 4, 4, 0.5),
        (CARD, "auto", 1, 1.0),
        (CARD, ["cuda:0", "cuda:0"], 2, 0.5),
        (CARD, ["cuda:0", "cuda:1"], 2, 1.0),
    ],
)
def test_workers_share_the_devices(where: Device, devices: Any, workers: int, relative_speed: float) -> None:
    alone = plan(
        study(), facts(), Device(kind=where.kind, name="one", count=1, peak=where.peak, memory=None, free=None)
    )
    planned = plan(study(workers={"devices": devices}), facts(), where)
    assert planned.workers == workers
    for shared, whole in zip(planned.widths, alone.widths, strict=True):
        assert shared.tokens_per_s == pytest.approx(relative_speed * whole.tokens_per_s)


def test_wall_time_and_worker_time_are_told_apart() -> None:
    alone = plan(study(confirm={"max_trials": 4}), facts(), LAPTOP)
    worker_time = sum(phase.seconds or 0.0 for phase in alone.phases)
    assert sum(phase.wall_seconds or 0.0 for phase in alone.phases) == pytest.approx(alone.seconds)
    assert worker_time / 2 <= (alone.seconds or 0.0) < 0.6 * worker_time  # two workers
    last = next(line for line in alone.lines() if line.startswith("  together"))
    assert last.split() == ["together", "15", "runs", *_words(worker_time), *_words(alone.seconds)]


def _words(seconds: float | None) -> list[str]:
    assert seconds is not None
    return duration(seconds).split()


@pytest.mark.parametrize(("busy", "slower"), [(0.0, 1.0), (1.0, 1.5), (2.0, 2.0)])
def test_other_processes_slow_the_workers_of_a_cpu_down(busy: float, slower: float) -> None:
    """Two workers and `busy` others share two cores evenly."""
    alone, beside = plan(study(), facts(), LAPTOP), plan(study(), facts(), LAPTOP, busy=busy)
    assert beside.seconds == pytest.approx(slower * (alone.seconds or 0.0))
    assert any(f"beside {busy:.1f} other busy processes" in line for line in beside.lines()) is (busy > 0)
    assert plan(study(), facts(), CARD, busy=busy).seconds == plan(study(), facts(), CARD).seconds


def test_the_disk_holds_the_checkpoints_that_are_kept() -> None:
    planned = plan(study(workers={"devices": ["cpu", "cpu"]}), facts(), LAPTOP)
    params = {width.n_embd: width.n_params for width in planned.widths}
    # two baseline seeds, the best, and two runs in flight with two checkpoints each while one replaces the other
    assert planned.disk_bytes == 12 * (2 * params[64] + (1 + 3 + 3) * params[96])


def test_trials_of_other_depths_have_their_own_time() -> None:
    deep = plan(study(knobs={"n_layer": {"low": 1, "high": 5}}), facts(), CARD)
    (sampler,) = (phase for phase in deep.phases if phase.name == "sampler")
    expected = sum(seconds_on_card(64, layers=layers) for layers in range(1, 6)) / 5
    assert sampler.seconds == pytest.approx(sampler.trials * expected)
    assert [width.n_embd for width in deep.widths] == [64]


@pytest.mark.parametrize(
    ("knob", "widths"),
    [
        ({"choices": [64, 256]}, [64, 256]),
        ({"low": 16, "high": 528, "step": 16}, [16, 64, 96, 144, 192, 224, 272, 320, 352, 400, 448, 480, 528]),
        ({"low": 16, "high": 112, "round": True}, [16, 32, 48, 64, 80, 96, 112]),
    ],
)
def test_a_range_of_many_widths_is_shown_in_part(knob: dict[str, Any], widths: list[int]) -> None:
    planned = [width.n_embd for width in plan(study(knobs={"n_embd": knob}), facts(), CARD).widths]
    assert set(planned) >= {widths[0], 64, widths[-1]}
    assert len(planned) == len(widths)
    assert all(abs(width - expected) <= 16 for width, expected in zip(planned, widths, strict=True))


def warnings(*, of: Study | None = None, where: Device = CARD, **data: Any) -> str:
    """Return the plan's warnings as lines."""
    return "\n".join(plan(of or study(), facts(**data), where).warnings)


def test_designed_runs_beyond_the_trials_are_left_out_with_a_warning() -> None:
    planned = plan(study(trials=2), facts(), CARD)
    assert {phase.name: phase.trials for phase in planned.phases} == {
        "baseline": 2,
        "candidates": 1,
        "one-at-a-time": 1,
        "sampler": 0,
        "confirm": 0,
    }
    assert "candidates and single-knob trials are 4 runs, but trials=2: the last 2 are left out" in "\n".join(
        planned.warnings
    )
    assert "take all 4 trials, so the sampler gets none" in warnings(of=study(trials=4))
    assert warnings(of=study(trials=5)) == ""


def test_a_single_baseline_seed_is_warned_of() -> None:
    assert "baseline_seeds=1 can't show" in warnings(of=study(baseline_seeds=1))


def test_a_validation_split_that_is_too_small_is_warned_of() -> None:
    # 9 windows per evaluation and 16 at the end, of 32 tokens each, and one token more
    assert warnings(val_tokens=16 * 32 + 1) == ""
    text = warnings(val_tokens=16 * 32)
    assert "holds 15 windows of 32 tokens, fewer than the 16 of the final loss" in text
    assert "an evaluation" not in text
    assert "fewer than the 9 of an evaluation" in warnings(val_tokens=100)


def test_four_epochs_and_more_are_warned_of() -> None:
    tokens = 200 * 8 * 32
    assert warnings(train_tokens=tokens // 4) == ""
    assert "epochs" in warnings(train_tokens=tokens // 4 - 1)
    text = warnings(train_tokens=tokens // 10)
    # 10 epochs: 5120 * (1 + 15.39 * (1 - exp(-9 / 15.39))) = 40 004
    assert "makes 10 epochs" in text
    assert "51.2k tokens are worth 40k fresh ones" in text
    assert "favours dropout, weight decay and narrow models" in text


def test_the_epochs_of_trials_on_part_of_the_data_are_listed_without_a_warning() -> None:
    tokens = 200 * 8 * 32
    knobs = {**study().knobs, "data_fraction": {"choices": [0.25, 0.5, 1.0]}}
    planned = plan(study(knobs=knobs, trials=20), facts(train_tokens=tokens), CARD)
    assert (planned.epochs, planned.epochs_on_part) == (1.0, {"0.25": 4.0, "0.5": 2.0})
    assert {phase.name: phase.trials for phase in planned.phases}[
        "one-at-a-time"
    ] == 3 + 4  # two amounts, each on two seeds
    assert "epochs by data_fraction: 4 with 0.25 and 2 with 0.5" in list(planned.lines())
    assert planned.warnings == ()  # no warning of the quarter's 4 epochs: data_fraction asks about them
    part = study(baseline={**study().baseline, "data_fraction": 0.1})
    assert plan(part, facts(train_tokens=tokens), CARD).epochs == pytest.approx(10)
    assert "makes 10 epochs" in warnings(of=part, train_tokens=tokens)
    assert not any("data_fraction" in line for line in plan(part, facts(), CARD).lines())


def test_a_sweep_of_days_says_what_to_do() -> None:
    slow = dataclasses.replace(CARD, peak=1e7)
    said = warnings(of=study(hours=None), where=slow)
    assert re.search(r"the sweep needs about \d+ h \d\d min here: run it on a faster card, give it a deadline", said)
    assert "--set baseline.n_embd=64" in said
    assert "give it a deadline" not in warnings(of=study(hours=1.0), where=slow)
    assert "the sweep needs" not in warnings(of=study(hours=None))


def test_a_card_of_unknown_peak_has_no_times() -> None:
    unknown = Device(kind="cuda", name="GTX 1080", count=1, peak=None, memory=None, free=None)
    planned = plan(study(), facts(), unknown)
    assert planned.seconds is None
    assert all(phase.seconds is None for phase in planned.phases if phase.trials)
    assert planned.warnings == (
        "GTX 1080: no estimate of time, because its peak in bfloat16 is not known; give it in TFLOP/s, as in "
        "`sweep plan --peak 58`",
    )
    assert "peak not known" in "\n".join(planned.lines())
    float32 = study(baseline={**study().baseline, "dtype": "float32"})
    assert "no estimate of time, because its peak in float32 is not known" in warnings(of=float32, where=unknown)
    assert "no estimate" not in warnings(of=float32, where=LAPTOP)


def test_float32_is_planned_at_the_cards_own_peak_for_it() -> None:
    float32 = study(baseline={**study().baseline, "dtype": "float32"})
    planned, mixed = plan(float32, facts(), CARD), plan(study(), facts(), CARD)
    assert planned.seconds == pytest.approx(2 * mixed.seconds)  # TF32: 29.15 of 58.3 TFLOP/s
    assert "(29.1 TFLOP/s per card in float32)" in next(planned.lines())


def test_a_t4_trains_in_float16_and_the_plan_says_so() -> None:
    planned = plan(study(), facts(), device.named("Tesla T4"))
    text = "\n".join(planned.lines())
    assert "Tesla T4 (65 TFLOP/s per card in float16)" in text
    assert "note: Tesla T4 has no bfloat16: runs train in float16, with a scaled loss" in text
    assert not plan(study(), facts(), CARD).notes


def test_what_the_machine_has_and_does_not_use_is_noted() -> None:
    planned = plan(study(), facts(), dataclasses.replace(LAPTOP, note="Apple's GPU is not used"))
    assert "note: Apple's GPU is not used" in list(planned.lines())


def test_more_work_than_hours_is_warned_of_with_remedies() -> None:
    slow = Device(kind="cuda", name="slow", count=1, peak=1e9, memory=None, free=None)
    hours = plan(study(), facts(), slow).seconds / 3600
    assert warnings(of=study(hours=hours * 1.01), where=slow) == ""
    text = warnings(of=study(hours=hours * 0.9), where=slow)
    assert "lower the horizon to about 1" in text
    assert "or trials to about 7" in text
    smaller = plan(study(trials=7), facts(), slow)
    assert smaller.seconds <= hours * 0.9 * 3600
    assert "or trials to" not in warnings(of=study(hours=hours * 0.1), where=slow)


def test_a_plan_is_written_as_json_and_as_lines() -> None:
    planned = plan(study(hours=0.001), facts(train_tokens=10_000), LAPTOP)
    parsed = json.loads(json.dumps(planned.as_json()))
    assert parsed["trials"] == 11
    first = planned.phases[0]
    times = {"seconds": first.seconds, "wall_seconds": first.wall_seconds}
    assert parsed["phases"][0] == {"name": "baseline", "trials": 2, **times}
    assert parsed["device"]["name"] == "a laptop"
    text = "\n".join(planned.lines())
    for word in (
        "11 runs on 2 workers",
        "40 GFLOP/s per core",
        "sampler",
        "n_embd",
        "estimated from",
        "disk",
        "warning: ",
    ):
        assert word in text
    assert text.count("warning: ") == len(planned.warnings) == 2


class TestPilot:
    """The plan of a study whose horizon may be doubled."""

    def piloted(self, most: int, **changes: Any) -> Study:
        pilot = {"effect": 0.1, "max_iters": most}
        return study(**{"baseline_seeds": 3, "pilot": pilot, "workers": {"devices": ["cpu"]}, **changes})

    def test_it_says_what_may_run(self) -> None:
        lines = list(plan(self.piloted(1700), facts(), LAPTOP).lines())
        assert (
            "pilot: 3 runs of 200 iterations, then of 400, ... until seeds differ by at most 0.025 nats (sd), at most "
            "1,600; the last 3 are the baseline's"
        ) in lines
        (time,) = (line for line in lines if line.startswith("this plan is for 200 iterations"))
        assert "if the pilot chooses 1,600, the sweep takes about" in time
        assert any("then of 400 until seeds" in line for line in plan(self.piloted(400), facts(), LAPTOP).lines())
        short = list(plan(self.piloted(399), facts(), LAPTOP).lines())
        assert any("3 runs of 200 iterations until seeds" in line for line in short)
        assert not any("this plan is for" in line for line in short)
        assert not any("pilot" in line for line in plan(study(), facts(), LAPTOP).lines())

    def test_its_longest_time_is_that_of_the_longest_trials_and_of_the_shorter_runs_of_the_baseline(self) -> None:
        """Plans of plain studies at each length are the oracle: one worker, so seconds add up."""
        planned = plan(self.piloted(800), facts(), LAPTOP)
        assert planned.pilot is not None
        plain = {
            iters: plan(self.piloted(800, pilot=None, horizon={"iters": iters}), facts(), LAPTOP)
            for iters in (200, 400, 800)
        }
        assert planned.seconds == plain[200].seconds
        baseline = [plain[iters].phases[0].seconds for iters in (200, 400)]
        assert planned.pilot.seconds == pytest.approx(plain[800].seconds + sum(baseline))  # type: ignore[operator, arg-type]
        assert planned.as_json()["pilot"] == {
            "lengths": (200, 400, 800),
            "largest_sd": 0.025,
            "seconds": planned.pilot.seconds,
        }

    def test_hours_that_only_the_longest_trials_exceed_are_warned_of(self) -> None:
        planned = plan(self.piloted(800), facts(), LAPTOP)
        assert planned.seconds is not None
        hours = 2 * planned.seconds / 3600
        (warning,) = plan(self.piloted(800, hours=hours), facts(), LAPTOP).warnings
        assert "if the pilot chooses its longest trials, the sweep needs about" in warning
        assert "lower pilot.max_iters=800, or raise hours" in warning
        assert plan(self.piloted(800, hours=10 * hours), facts(), LAPTOP).warnings == ()

    def test_a_device_of_unknown_speed_has_lengths_without_times(self) -> None:
        unknown = Device(kind="cuda", name="unknown", count=1, peak=None, memory=None, free=None)
        planned = plan(self.piloted(800, workers={"devices": "auto"}), facts(), unknown)
        assert planned.pilot is not None
        assert planned.pilot.seconds is None
        assert not any("this plan is for" in line for line in planned.lines())


def test_a_sweep_of_the_default_size_ends_overnight_on_a_midrange_card() -> None:
    """40M parameters, 600 iterations of 65 536 tokens, 40 trials and 3 seeds, widths 192 to 768: 8 hours."""
    overnight = study(
        baseline={
            "n_layer": 12,
            "n_embd": 384,
            "head_size": 32,
            "block_size": 1024,
            "batch_size": 16,
            "gradient_accumulation_steps": 4,
            "max_iters": 20000,
            "lr_decay_iters": 20000,
            "warmup_iters": 500,
        },
        horizon={"iters": 600},
        evaluations=30,
        final_windows=2048,
        knobs={"dropout": {"low": 0.0, "high": 0.3}, "n_embd": {"low": 192, "high": 768, "step": 64}},
        baseline_seeds=3,
        trials=40,
        hours=8,
    )
    planned = plan(overnight, facts(vocab_size=50304, train_tokens=10**8, val_tokens=5 * 10**6), CARD)
    assert planned.trials == 43
    assert 6.5 * 3600 < planned.seconds < 8 * 3600
    assert planned.warnings == ()


def test_the_confirm_phase_is_planned_with_all_of_its_trials() -> None:
    planned = plan(study(confirm={"max_trials": 7}), facts(), CARD)
    (confirm,) = (phase for phase in planned.phases if phase.name == "confirm")
    (sampler,) = (phase for phase in planned.phases if phase.name == "sampler")
    assert (confirm.trials, planned.trials) == (7, 18)
    assert confirm.seconds / 7 == pytest.approx(7 / 8 * sampler.seconds / 5)  # a quarter has half the length
    hours = 0.9 * planned.seconds / 3600
    assert "or confirm.max_trials to about 5" in warnings(of=study(confirm={"max_trials": 7}, hours=hours))


def test_the_samplers_mean_time_is_over_all_widths_and_depths() -> None:
    both = {"n_embd": {"choices": [32, 64]}, "n_layer": {"choices": [1, 2, 3]}}
    (sampler,) = (phase for phase in plan(study(knobs=both), facts(), CARD).phases if phase.name == "sampler")
    seconds = [seconds_on_card(width, layers=layers) for width, layers in itertools.product([32, 64], [1, 2, 3])]
    assert sampler.seconds == pytest.approx(sampler.trials * sum(seconds) / 6)


# a horizon in minutes


def test_minutes_are_planned_with_an_estimated_speed_and_a_warning() -> None:
    planned = plan(study(horizon={"minutes": 0.5}), facts(), CARD)
    assert any("0.5 minutes are" in warning and "an estimate" in warning for warning in planned.warnings)
    # the widest, 96, is the slowest, and trials of every width see as many tokens
    (widest,) = (width for width in planned.widths if width.n_embd == 96)
    at_that_length = plan(study(horizon={"iters": planned.iters}), facts(), CARD)
    assert planned.phases == at_that_length.phases
    assert planned.iters * 8 * 32 == pytest.approx(30 * widest.tokens_per_s, rel=0.11)  # evaluations take the rest


def test_minutes_cannot_be_planned_without_a_speed() -> None:
    float32 = study(horizon={"minutes": 0.5}, baseline={**study().baseline, "dtype": "float32"})
    unknown = device.card_of("GTX 1080", "8GiB", 8.9)
    with pytest.raises(UserError, match=r"horizon\.minutes: the speed of this device is not known"):
        plan(float32, facts(), unknown)


def wide(**changes: Any) -> Study:
    """Return a study of the size that suits a card of 12 GB."""
    baseline = {
        **study().baseline, "n_layer": 12, "n_embd": 384, "head_size": 64, "block_size": 1024, "batch_size": 8,
        "gradient_accumulation_steps": 8,
    }  # fmt: skip
    baseline.pop("n_head", None)
    knobs = {"n_embd": {"choices": [384, 512, 768, 1024, 1536]}}
    return study(baseline=baseline, knobs=knobs, candidates=[], **changes)


def test_a_card_of_12_gb_has_a_micro_batch_per_width() -> None:
    planned = plan(wide(), facts(vocab_size=50304), CARD)
    rows = {row.n_embd: row for row in planned.widths}
    assert {width: (row.micro_batch, row.accumulation) for width, row in rows.items()} == {
        384: (16, 4),
        512: (16, 4),
        768: (8, 8),
        1024: (8, 8),
        1536: (2, 32),
    }
    assert rows[768].peak_bytes / 2**20 == pytest.approx(6340, abs=2)
    assert not any(row.measured for row in rows.values())
    assert planned.warnings == () or not any("infeasible" in warning for warning in planned.warnings)
    shown = "\n".join(planned.lines())
    assert re.search(r"768 +\S+ +6,3\d\d MiB +8 x 8 +\S+ estimated", shown)


def test_widths_that_do_not_fit_are_named_in_a_warning() -> None:
    planned = plan(wide(), facts(vocab_size=50304), device.card_of("RTX 4070", "3GiB"))
    infeasible = [row.n_embd for row in planned.widths if row.micro_batch is None]
    assert infeasible == [768, 1024, 1536]
    (warning,) = (text for text in planned.warnings if "not even one sequence" in text)
    assert "n_embd 768, 1024 and 1536" in warning
    assert "none fits" in "\n".join(planned.lines())


def test_a_card_known_by_its_memory_alone_has_splits_and_no_times() -> None:
    planned = plan(wide(), facts(vocab_size=50304), device.card_of(None, "12GiB"))
    assert [row.micro_batch for row in planned.widths] == [16, 16, 8, 8, 2]
    assert all(row.tokens_per_s is None and row.seconds_per_trial is None for row in planned.widths)


def test_measured_speeds_replace_estimates() -> None:
    depth = int(study().baseline["n_layer"])
    planned = plan(study(), facts(), LAPTOP, seen={(depth, 64): 1000.0, (depth + 1, 96): 1.0})
    rows = {row.n_embd: row for row in planned.widths}
    assert (rows[64].tokens_per_s, rows[64].measured) == (1000.0, True)
    trained, evaluated = 200 * 8 * 32, (21 * 2 * 9 + 16) * 32
    assert rows[64].seconds_per_trial == pytest.approx((trained + evaluated / 3) / 1000)
    assert not rows[96].measured
    assert rows[96] == next(row for row in plan(study(), facts(), LAPTOP).widths if row.n_embd == 96)
    baseline = next(phase for phase in planned.phases if phase.name == "baseline")
    assert study().baseline["n_embd"] == 64
    assert baseline.seconds == pytest.approx(baseline.trials * (rows[64].seconds_per_trial or 0.0))
    assert "estimated from measured speeds and" in "\n".join(planned.lines())
    assert "measured speeds" not in "\n".join(plan(study(), facts(), LAPTOP).lines())


def test_measured_speeds_are_medians_over_the_runs_of_a_shape() -> None:
    config = synthetic.BASELINE
    runs = [
        synthetic.run(1),
        synthetic.run(2, config=config.replace(n_layer=2)),
        synthetic.run(3, config=config.replace(n_embd=768), device="cuda:0"),
        synthetic.run(4, config=config.replace(n_embd=192), points=()),
    ]
    assert seen(runs, config, device="cpu") == {(6, 384): 40_000.0, (2, 384): 40_000.0}
    assert seen(runs, config, device="cuda") == {(6, 768): 40_000.0}


def test_a_width_in_json_has_its_memory_speed_and_micro_batch() -> None:
    (row, *_) = plan(study(), facts(), LAPTOP).as_json()["widths"]
    names = ("n_embd", "n_params", "peak_bytes", "micro_batch", "accumulation", "tokens_per_s", "efficiency")
    assert set(row) == {*names, "measured", "seconds_per_trial"}

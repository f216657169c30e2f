"""Short protocols against whole runs: scores worked out by hand, and configs that differ by the change alone."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.verdict.branch_vs_retrain import (
    BRANCHES,
    FIRST_SEED,
    RACES,
    Bench,
    as_json,
    designed,
    markdown_lines,
    results_of,
)
from benchmarks.verdict.protocol_scores import (
    Compared,
    Effect,
    agreement,
    by_kind,
    effect_of,
    noise_of,
    pooled_sd,
    power,
    prediction,
    seeds_to_decide,
)
from benchmarks.verdict.retrained_changes import (
    BASELINE,
    CHANGES,
    NOISY,
    SHAPES,
    Change,
    branch,
    origin_of,
    squeezed,
    study_of,
)
from benchmarks.verdict.train_directly import Task, Trained


def effect(*differences: float) -> Effect:
    return Effect(differences=differences)


def compared(short: float, whole: float | tuple[float, ...], kind: str = "rate") -> Compared:
    wholes = whole if isinstance(whole, tuple) else (whole, whole)
    return Compared(name=f"{short}", kind=kind, short=effect(short, short), whole=effect(*wholes))


def test_effects_are_paired_by_seed_and_leave_out_what_diverged() -> None:
    baseline, changed = {1: 3.0, 2: 3.5, 3: 3.2, 4: 3.0}, {2: 3.0, 1: 2.9, 3: math.inf}
    assert effect_of(baseline, changed).differences == pytest.approx((0.1, 0.5))
    assert effect_of(baseline, changed).mean == pytest.approx(0.3)
    assert effect_of({1: math.inf}, {1: math.inf}).differences == ()
    assert (effect(0.1, 0.2).sign, effect(-0.1, -0.2).sign, effect(0.1, -0.2).sign) == (1, -1, 0)


def test_signs_count_where_the_whole_runs_agree_on_one() -> None:
    changes = [compared(0.1, 0.4), compared(-0.1, -0.2), compared(0.01, -0.1), compared(0.2, (0.1, -0.1))]
    found = agreement("rate", changes)
    assert (found.n, found.right, found.told) == (4, 2, 3)
    assert found.ratio == pytest.approx(0.25)  # of 0.25, 0.5 and -0.1
    assert found.rank == pytest.approx(0.8)  # ranks 3 1 2 4 against 4 1 2 3
    assert agreement("rate", changes[:2]).rank is None
    assert agreement("rate", changes[3:]).ratio is None


def test_kinds_are_counted_apart_and_together() -> None:
    changes = [compared(0.1, 0.2), compared(-0.1, 0.1, "schedule"), compared(0.3, 0.3)]
    assert [(each.kind, each.right, each.told) for each in by_kind(changes)] == [
        ("rate", 2, 2),
        ("schedule", 0, 1),
        ("all", 2, 3),
    ]
    assert [each.kind for each in by_kind(changes[:1])] == ["rate"]


def test_the_end_is_predicted_by_least_squares_through_0() -> None:
    gaps, ends = np.array([0.1, 0.2, -0.1, 0.05]), np.array([0.25, 0.3, -0.2, 0.2])
    found = prediction(1 / 4, [compared(gap, end) for gap, end in zip(gaps, ends, strict=True)])
    (slope,), (squares,), *_ = np.linalg.lstsq(gaps[:, None], ends, rcond=None)
    assert (found.slope, found.error) == pytest.approx((slope, math.sqrt(squares / 4)))
    assert (found.share, found.n, found.rank) == (1 / 4, 4, pytest.approx(1.0))


def test_noise_is_pooled_over_changes_by_degrees_of_freedom() -> None:
    first, second = np.array([0.1, 0.3, 0.2]), np.array([-0.1, 0.4])
    expected = math.sqrt((2 * first.var(ddof=1) + second.var(ddof=1)) / 3)
    effects = [effect(*first), effect(*second), effect(0.7), effect()]
    assert pooled_sd(effects) == pytest.approx(expected)
    assert math.isnan(pooled_sd([effect(0.1)]))
    noise = noise_of("branch", 100, [effect(0.1, 0.1)], compute_per_seed=5.0, nats=0.01)
    assert (noise.sd, noise.seeds, noise.compute) == (0.0, 2, 10.0)


@pytest.mark.parametrize(("sd", "n"), [(0.01, 4), (0.01, 10), (0.002, 3), (0.05, 100), (0.001, 2)])
def test_power_is_that_of_simulated_t_tests(sd: float, n: int) -> None:
    from scipy import stats

    draws = np.random.default_rng(0).normal(0.01, sd, size=(20_000, n))
    shown = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05
    assert power(n, sd, nats=0.01) == pytest.approx(float(shown.mean()), abs=0.012)


@pytest.mark.parametrize("sd", [0.0, 0.0005, 0.005, 0.02, 0.15])
def test_the_fewest_seeds_with_that_power(sd: float) -> None:
    n = seeds_to_decide(sd, nats=0.01)
    assert n >= 2
    assert power(n, sd, nats=0.01) >= 0.8
    assert n == 2 or power(n - 1, sd, nats=0.01) < 0.8


@pytest.fixture(scope="module")
def bench() -> Bench:
    study = study_of(3072)
    config = squeezed(study, BASELINE, iters=3072, seed=1337, vocab_size=512)
    origin = origin_of(config, Path("/runs/ckpt.pt"), "0" * 64, step=2048)
    return Bench(study=study, iters=3072, origin=origin, vocab_size=512)


def test_a_change_changes_one_setting_in_every_protocol(bench: Bench) -> None:
    by_name = {change.name: change for change in (*CHANGES, *SHAPES)}
    study = bench.study

    def whole(change: Change) -> Any:
        return squeezed(study, change, iters=3072, seed=1, vocab_size=512)

    def short(change: Change) -> Any:
        return branch(study, change, origin=bench.origin, iters=384, seed=1, vocab_size=512)

    base, control = whole(BASELINE), short(BASELINE)
    assert (base.max_iters, base.warmup_iters, base.learning_rate, base.min_lr) == (3072, 96, 2e-3, 2e-4)
    assert (control.max_iters, control.warmup_iters, control.init_from) == (384, 0, "branch")
    rate = bench.origin.learning_rate
    assert control.learning_rate == rate < base.learning_rate
    three = by_name["learning_rate x 3"]
    assert whole(three) == base.replace(learning_rate=6e-3)
    assert short(three).learning_rate == pytest.approx(3 * rate)
    warm = by_name["warm-up 0.3"]
    assert whole(warm) == base.replace(warmup_iters=922)
    assert short(warm) == control.replace(warmup_iters=115)
    larger = whole(by_name["batch_size 32"])
    assert (larger.batch_size, larger.max_iters, larger.lr_decay_iters, larger.warmup_iters) == (32, 1536, 1536, 48)
    assert whole(by_name["n_embd 64"]) == base.replace(n_embd=64, n_head=4)
    for change in CHANGES:
        differ = {name for name, value in short(change).as_dict().items() if value != control.as_dict()[name]}
        assert 1 <= len(differ - {"max_iters", "lr_decay_iters", "eval_interval"}) <= 1, change.name
    third = squeezed(study, BASELINE, iters=1024, seed=1, vocab_size=512)
    assert (third.max_iters, third.lr_decay_iters, third.warmup_iters, third.learning_rate) == (1024, 1024, 32, 2e-3)


def test_there_are_enough_changes_and_shapes() -> None:
    assert len(CHANGES) >= 12
    assert len(SHAPES) == 6
    names = [change.name for change in (BASELINE, *CHANGES, *SHAPES)]
    assert len(set(names)) == len(names)


def test_races_are_beginnings_of_the_whole_runs(bench: Bench) -> None:
    whole = bench.task("whole", SHAPES[0], 3072, FIRST_SEED)
    assert bench.task("race", SHAPES[0], 1024, FIRST_SEED) == whole
    further = bench.task("race", SHAPES[0], 1024, FIRST_SEED + 5)
    assert further == Task(config=whole.config.replace(seed=FIRST_SEED + 5), until=1024)
    assert {share * 3072 % whole.config.eval_interval for share in RACES} == {0}
    assert bench.task("branch", NOISY[0], 48, FIRST_SEED).origin == Path("/runs/ckpt.pt")


def losses_by_hand(bench: Bench) -> Any:
    """Return made-up runs: each change gains its place in the list in whole runs, a tenth of it in short ones."""
    gains = {change.name: number / 100 for number, change in enumerate((BASELINE, *CHANGES, *SHAPES))}
    losses: Any = {}
    for protocol, change, iters, seeds in designed(bench):
        gain = gains[change.name] if protocol == "whole" else gains[change.name] / 10
        curve = {step: 5 - step / 3072 - gain * step / 3072 for step in range(0, 3073, 128)}
        losses[protocol, change.name, iters] = {
            FIRST_SEED + seed: Trained(loss=4 - gain + seed / 10, curve=curve) for seed in range(seeds)
        }
    return losses


def test_tables_are_made_of_all_runs(bench: Bench) -> None:
    results = results_of(bench, losses_by_hand(bench))
    assert [change.short.mean / change.whole.mean for change in results.branches] == pytest.approx([0.1] * len(CHANGES))
    overall = results.agreements[-1]
    assert (overall.kind, overall.right, overall.told, overall.ratio) == ("all", 18, 18, pytest.approx(0.1))
    assert overall.rank == pytest.approx(1)
    assert [each.slope for each in results.predictions] == pytest.approx([4, 3])
    protocols = [each.protocol for each in results.noise]
    assert protocols == ["branch"] * 4 + ["squeezed"] * 4 + ["race"] * 2 + ["race of a shape"] * 2
    assert {each.seeds for each in results.noise} == {2}
    race, shape = results.noise[-4], results.noise[-2]
    assert (race.iters, race.compute) == (768, 2 * 2 * 768 * 1024 * 43_168)
    wide, deep = 512 * 64 + 64 * 64 + 2 * (12 * 64**2 + 2 * 64) + 64, 43_168 + 2 * (12 * 32**2 + 2 * 32)
    assert shape.compute == 2 * 768 * 1024 * (43_168 + (wide + deep) / 2)
    squeezed_192, branch_192 = (
        next(each for each in results.noise if (each.protocol, each.iters) == (protocol, 192))
        for protocol in ("squeezed", "branch")
    )
    assert squeezed_192.compute == branch_192.compute == 2 * 2 * 192 * 1024 * 43_168
    text = "\n".join(markdown_lines(results, whole=1.0))
    assert "| learning_rate x 3 | rate | +0.0010 (0.0000) | +0.0100 (0.0000) | right |" in text
    assert "| all | 18 | 18 of 18 | 1.00 | 0.10 |" in text
    kept = json.loads(json.dumps(as_json(results, whole=1.0)))
    assert kept["branches"][0]["whole_effect"]["mean"] == pytest.approx(0.01)
    assert [each["share"] for each in kept["races"]] == list(RACES)


def test_every_compared_run_is_designed(bench: Bench) -> None:
    runs = {(protocol, change.name, iters): seeds for protocol, change, iters, seeds in designed(bench)}
    assert runs["branch", "dropout 0", 384] == runs["branch", "baseline", 48] == runs["squeezed", "baseline", 1536] == 6
    assert runs["branch", "beta2 0.95", 384] == 3
    assert bench.lengths(BRANCHES) == [48, 96, 192, 384]
    assert dataclasses.asdict(BASELINE)["settings"] == {}

"""Micro-batches: divisors, splits that fit, the fastest split, and limits after running out of memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.machine import microbatch
from trainer.machine.memory import needed
from trainer.machine.microbatch import MIB, Infeasible, Limits, Measured, divisors, fitting, smaller, split

GIB = 2**30
CONFIG = TrainConfig(
    n_layer=12, n_head=12, n_embd=384, block_size=1024, vocab_size=50304, batch_size=8, gradient_accumulation_steps=8
)


@given(st.integers(1, 5000))
def test_divisors_are_all_there_largest_first(sequences: int) -> None:
    assert divisors(sequences) == [n for n in range(sequences, 0, -1) if sequences % n == 0]


@given(st.integers(1, 300), st.integers(1, 300))
def test_the_walk_ends_at_one(batch: int, accumulation: int) -> None:
    config = CONFIG.replace(batch_size=batch, gradient_accumulation_steps=accumulation)
    walked, size = [batch], smaller(config, batch)
    while size is not None:
        walked.append(size)
        size = smaller(config, size)
    assert walked == sorted({*walked}, reverse=True)
    assert walked[-1] == 1
    assert all(batch * accumulation % divisor == 0 for divisor in walked)


@pytest.mark.parametrize("size", divisors(64))
def test_a_split_is_the_same_run(size: int) -> None:
    parts = split(CONFIG, size)
    assert parts.batch_size == size
    assert parts.sequences_per_iter == CONFIG.sequences_per_iter
    assert (parts.windows, parts.windows_at_the_end) == (CONFIG.windows, CONFIG.windows_at_the_end)
    changed = ("batch_size", "gradient_accumulation_steps", "eval_windows", "final_windows")
    assert {name: value for name, value in parts.as_dict().items() if name not in changed} == {
        name: value for name, value in CONFIG.as_dict().items() if name not in changed
    }


def test_a_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="5 doesn't divide 64"):
        split(CONFIG, 5)


@pytest.mark.parametrize(
    ("width", "heads", "largest"), [(384, 12, 16), (512, 16, 16), (768, 12, 8), (1024, 16, 8), (1536, 16, 2)]
)
def test_a_card_of_12_gib(width: int, heads: int, largest: int) -> None:
    """Compiled, bfloat16, context 1024, vocabulary 50304: the largest divisor of 64 whose estimate fits."""
    config = CONFIG.replace(n_embd=width, n_head=heads)
    free = 12 * GIB - 500 * MIB
    splits = fitting(config, kind="cuda", mixed=True, free=free)
    sizes = [parts.batch_size for parts in splits]
    assert sizes == [size for size in divisors(64) if size <= sizes[0]]
    usable = free * 0.92 / 1.05
    assert needed(splits[0], kind="cuda", mixed=True).total <= usable
    assert needed(split(config, 2 * sizes[0]), kind="cuda", mixed=True).total > usable
    assert sizes[0] == largest


def test_no_split_exceeds_the_largest_allowed() -> None:
    sizes = [parts.batch_size for parts in fitting(CONFIG, kind="cuda", mixed=True, free=80 * GIB, largest=4)]
    assert sizes == [4, 2, 1]


def test_missing_memory_is_reported() -> None:
    free = GIB // 2
    peak = needed(split(CONFIG, 1), kind="cuda", mixed=True).total
    missing = (peak * 1.05 / 0.92 - free) / MIB
    with pytest.raises(Infeasible, match=f"512 MiB are free: {missing:,.0f} MiB are missing"):
        fitting(CONFIG, kind="cuda", mixed=True, free=free)
    assert microbatch.fits(peak, free + microbatch.missing_bytes(peak, free) + 1)
    assert not microbatch.fits(peak, free + microbatch.missing_bytes(peak, free) - MIB)


def test_a_cpu_keeps_the_configs_micro_batch_if_it_fits() -> None:
    splits = fitting(CONFIG, kind="cpu", mixed=False, free=10**15)
    assert microbatch.as_asked(splits, CONFIG).batch_size == 8
    assert microbatch.as_asked([parts for parts in splits if parts.batch_size <= 2], CONFIG).batch_size == 2
    assert microbatch.as_asked([parts for parts in splits if parts.batch_size > 8], CONFIG).batch_size == 16


def measured(size: int, speed: float | None, *, retries: int = 0, peak: int = GIB) -> Measured:
    return Measured(batch_size=size, tokens_per_s=speed, peak_bytes=peak if speed else 0, retries=retries)


@pytest.mark.parametrize(
    ("measurements", "size"),
    [
        ([measured(32, 100.0), measured(16, 99.0), measured(8, 90.0)], 16),  # the smaller within 3 %
        ([measured(32, 100.0), measured(16, 96.9), measured(8, 90.0)], 32),
        ([measured(32, 100.0), measured(16, 98.0), measured(8, 97.0)], 8),
        ([measured(32, 200.0, retries=3), measured(16, 99.0), measured(8, 90.0)], 16),  # too little memory for 32
        ([measured(32, None), measured(16, None), measured(8, 90.0)], 8),
        ([measured(32, None), measured(16, 10.0, retries=1)], None),
    ],
)
def test_the_smallest_that_is_as_fast(measurements: list[Measured], size: int | None) -> None:
    assert microbatch.fastest(measurements) == size


def test_three_are_tried_out_and_three_more_if_none_fits() -> None:
    tried: list[int] = []

    def measure(config: TrainConfig) -> Measured:
        tried.append(config.batch_size)
        return measured(config.batch_size, None if config.batch_size > 8 else float(config.batch_size))

    splits = [split(CONFIG, size) for size in (64, 32, 16, 8, 4, 2, 1)]
    assert microbatch.tried_out(splits, measure, free=80 * GIB).batch_size == 8
    assert tried == [64, 32, 16, 8, 4, 2]


def test_a_single_split_is_not_tried_out() -> None:
    def measure(config: TrainConfig) -> Measured:
        raise AssertionError(config)

    assert microbatch.tried_out([split(CONFIG, 1)], measure, free=GIB).batch_size == 1


def test_a_split_without_memory_to_spare_is_not_taken() -> None:
    splits = [split(CONFIG, size) for size in (4, 2)]

    def measure(config: TrainConfig) -> Measured:
        return measured(config.batch_size, 9.0, peak=config.batch_size * GIB)

    assert microbatch.tried_out(splits, measure, free=3 * GIB).batch_size == 2


def test_nothing_fits_when_tried_out() -> None:
    splits = [split(CONFIG, 2), split(CONFIG, 1)]
    with pytest.raises(Infeasible, match="ran out of memory when tried out"):
        microbatch.tried_out(splits, lambda config: measured(config.batch_size, None), free=GIB)


def test_an_out_of_memory_is_remembered_for_its_shape_and_device() -> None:
    limits = Limits()
    assert limits.of(CONFIG, "cuda:0") is None
    assert limits.ran_out(CONFIG, "cuda:0", batch_size=16)
    assert limits.of(CONFIG.replace(learning_rate=1e-3, weight_decay=0.3, seed=9), "cuda:0") == 8
    assert limits.of(CONFIG, "cuda:1") is None
    assert limits.of(CONFIG.replace(n_embd=768), "cuda:0") is None
    assert limits.of(CONFIG.replace(dropout=0.1), "cuda:0") is None
    assert not limits.ran_out(CONFIG, "cuda:0", batch_size=1)


@pytest.mark.parametrize(("free", "total", "sharers", "share"), [(10, 24, 1, 10), (10, 24, 2, 10), (20, 24, 2, 12)])
def test_workers_share_a_device(free: int, total: int, sharers: int, share: int) -> None:
    assert microbatch.share(free, total, sharers) == share

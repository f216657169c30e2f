"""The reader of training logs: every shape found in the wild, refusals of foreign ones, and that nothing breaks it."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.diagnose.log import read_log, read_log_file
from sweeps.diagnose.run import LoggedIter, LoggedPoint, LoggedRun
from sweeps.errors import LogError
from tests.helpers.training_logs import HEAD, RESUMED, SETTINGS, iter_line, loss_at, run_lines, step_line, text_of


def one(text: str) -> LoggedRun:
    (run,) = read_log(text, name="run.log")
    return run


def steps(run: LoggedRun) -> list[int]:
    return [point.step for point in run.points]


def test_nanogpts_own_form() -> None:
    run = one(HEAD + "step 0: train loss 4.4652, val loss 4.4726\n"
              "iter 0: loss 4.4637, time 397.55ms, mfu -100.00%\n"
              "iter 10: loss 4.0819, time 20.13ms, mfu 12.87%\n"
              "step 50: train loss 2.7653, val loss 2.7634\n"
              "saving checkpoint to out-small\n")  # fmt: skip
    assert run.points == (
        LoggedPoint(step=0, train_loss=4.4652, val_loss=4.4726, lr=None, line=25),
        LoggedPoint(step=50, train_loss=2.7653, val_loss=2.7634, lr=None, line=28),
    )
    assert run.iters[0] == LoggedIter(
        step=0, loss=4.4637, lr=None, lr_share=None, seconds=pytest.approx(0.39755), mfu=None, line=26
    )
    assert run.iters[1].mfu == pytest.approx(0.1287)
    assert dict(run.settings) == pytest.approx(SETTINGS)
    assert (run.trainer, run.parameters, run.tokens_per_iter) == ("nanoGPT", 100_000, 16_384)
    assert (run.bits, run.resumed_at, run.notes, run.lines, run.last_step) == ((), (), (), (1, 28), 50)


LINES: dict[str, tuple[str, int, float | None, float]] = {
    "a timestamp before it": ("2023-03-22 09:32:32 step 3000: train loss 4.0390, val loss 4.0427", 3000, 4.039, 4.0427),
    "a timestamp in brackets": ("[2023-04-14 09:55:30,333] step 5: train loss 4.0, val loss 4.1", 5, 4.0, 4.1),
    "a container's name": ("trainer-1  | step 5: train loss 4.0, val loss 4.1", 5, 4.0, 4.1),
    "a rank": ("[rank0]:step 5: train loss 4.0, val loss 4.1", 5, 4.0, 4.1),
    "the mark of a comment": ("# step 5: train loss 4.0, val loss 4.1", 5, 4.0, 4.1),
    "indented, with Windows' end of line": ("   step 5: train loss 4.0, val loss 4.1\r", 5, 4.0, 4.1),
    "more fields": ("step 5: train loss 4.0, val loss 4.1, time elapsed 70.87s", 5, 4.0, 4.1),
    "of all steps": ("Step 1,500/20,000: train loss 4.0, val loss 4.1", 1500, 4.0, 4.1),
    "called iter": ("iter 500: train loss 4.0, val loss 4.1", 500, 4.0, 4.1),
    "colours": ("\x1b[32mstep\x1b[0m 5: train loss \x1b[1m4.0\x1b[0m, val loss 4.1\x1b[K", 5, 4.0, 4.1),
    "an arrow key inside a number": ("step 5: train loss 4.^[[A04, val loss 4.1", 5, 4.04, 4.1),
    "an arrow key's bytes": ("st\x1b[Bep 5: train loss 4.0, val loss 4.\x1bOA1", 5, 4.0, 4.1),
    "Ctrl-C": ("^Cstep 5: train loss 4.0, val loss 4.1", 5, 4.0, 4.1),
    "a stray key before it": ("qstep 5: train loss 4.0, val loss 4.1", 5, 4.0, 4.1),
    "a key that was erased": ("step 5: train loss 4.x\b \b0, val loss 4.1", 5, 4.0, 4.1),
    "NULs": ("\0\0step 5: train loss 4.0, val loss 4.1", 5, 4.0, 4.1),
    "no training loss": ("step 5: val loss 4.1", 5, None, 4.1),
    "an exponent": ("step 5: train loss 4.0e+00, val loss 4.1E0", 5, 4.0, 4.1),
    "infinity": ("step 5: train loss inf, val loss -inf", 5, math.inf, -math.inf),
    "after a progress bar": ("  5%|█  | 5/100\rstep 5: train loss 4.0, val loss 4.1", 5, 4.0, 4.1),
}


@pytest.mark.parametrize("name", LINES)
def test_lines_of_evaluations(name: str) -> None:
    line, step, train, val = LINES[name]
    run = one(line + "\n")
    assert run.points == (LoggedPoint(step=step, train_loss=train, val_loss=val, lr=None, line=1),)
    assert run.notes == ()


ITERS: dict[str, tuple[str, LoggedIter]] = {
    "no mfu": (
        "iter 10: loss 2.1, time 102.5ms",
        LoggedIter(step=10, loss=2.1, lr=None, lr_share=None, seconds=0.1025, mfu=None, line=1),
    ),
    "a rate and a colon": (
        "iter 10: loss 1.7004, time 69641.57ms, lr:0.0003 , mfu: 3.1%",
        LoggedIter(step=10, loss=1.7004, lr=3e-4, lr_share=None, seconds=69.64157, mfu=0.031, line=1),
    ),
    "fields in another order": (
        "iter 10: loss 10.5924, grad_norm 2.0571, lr 6.00e-05, time 104.3ms",
        LoggedIter(step=10, loss=10.5924, lr=6e-5, lr_share=None, seconds=0.1043, mfu=None, line=1),
    ),
    "seconds": (
        "iter 10: loss=2.1, time 1.5s",
        LoggedIter(step=10, loss=2.1, lr=None, lr_share=None, seconds=1.5, mfu=None, line=1),
    ),
}


@pytest.mark.parametrize("name", ITERS)
def test_lines_of_iterations(name: str) -> None:
    line, expected = ITERS[name]
    (read,) = one(line + "\n").iters
    assert read.seconds == pytest.approx(expected.seconds)
    assert read.mfu == pytest.approx(expected.mfu)
    assert (read.step, read.loss, read.lr, read.lr_share) == (expected.step, expected.loss, expected.lr, None)


def test_nan_and_infinity_are_losses() -> None:
    run = one("iter 100: loss 4.8, time 1ms\niter 110: loss nan, time 1ms\nstep 120: train loss nan, val loss inf\n")
    assert math.isnan(run.iters[1].loss)
    assert run.points[0].val_loss == math.inf


def test_two_losses_in_one_line_are_both_read() -> None:
    run = one("iter 0: loss 4.4, time 1ms, mfu 1.0%step 5: train loss 4.0, val loss 4.1iter 5: loss 4.2, time 2ms\n")
    assert steps(run) == [5]
    assert [(entry.step, entry.loss, entry.seconds) for entry in run.iters] == [(0, 4.4, 0.001), (5, 4.2, 0.002)]


DAMAGED = [
    "step 100: train loss 3.0123, val lo",
    "step 100: train loss 3.0123,",
    "step 100: train loss 3.01x3, val loss 3.1",
    "step 100: train loss 3.0123, val loss 3.1w5",
    "step 100: trqain loss 3.0123, val loss 3.1",
    "step 100: train loss , val loss ",
    "step 100: train loss 3.0123, val loss 3.1\0\0\0",
    "step 100: train loss 3.\ufffd123, val loss 3.1034",
]


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_passed_over_whole_and_noted(line: str) -> None:
    run = one(text_of([step_line(0, 4.0), step_line(50, 3.5), line, step_line(150, 3.0)]))
    assert steps(run) == [0, 50, 150]
    assert len(run.notes) == 1
    assert "1 line cut or damaged and passed over: 3" in run.notes[0]


@pytest.mark.parametrize("cut", ["step 100: train loss 3.0123, val loss 3.1", "iter 90: loss 3."])
def test_a_number_that_the_files_end_cut_is_not_read(cut: str) -> None:
    text = text_of([step_line(0, 4.0), iter_line(0, 4.0), "iter 40: loss 3.7012"])
    run = one(text + cut)
    assert steps(run) == [0]
    assert [entry.step for entry in run.iters] == [0, 40]
    assert "cut or damaged" in run.notes[0]
    assert len(one(text + cut + "\n").notes) == 0


def test_several_runs_in_one_file() -> None:
    second = HEAD.replace("dropout = 0.1", "dropout = 0.0")
    text = HEAD + text_of(run_lines(range(0, 201, 50))) + second + text_of(run_lines(range(0, 101, 50), shift=0.01))
    first, other = read_log(text, name="two.log")
    assert (steps(first), steps(other)) == ([0, 50, 100, 150, 200], [0, 50, 100])
    assert (first.settings["dropout"], other.settings["dropout"]) == (0.1, 0.0)
    assert (first.lines, other.lines) == ((1, 34), (35, 64))
    assert first.notes == other.notes == ()


def test_the_same_run_started_twice_from_scratch_is_two_runs() -> None:
    text = HEAD + text_of(run_lines(range(0, 201, 50)))
    first, second = read_log(text + text, name="two.log")
    assert steps(first) == steps(second) == [0, 50, 100, 150, 200]


def test_runs_without_heads_are_told_apart_by_their_steps_even_if_their_first_lines_are_equal() -> None:
    lines = [step_line(0, 4.2823), *[step_line(step, loss_at(step)) for step in (500, 1000)]]
    again = [step_line(0, 4.2823), *[step_line(step, loss_at(step) - 0.05) for step in (500, 1000, 1500)]]
    first, second = read_log(text_of(lines + again), name="two.log")
    assert (steps(first), steps(second)) == ([0, 500, 1000], [0, 500, 1000, 1500])


def test_a_file_of_another_run_that_begins_in_the_middle_is_a_run_of_its_own() -> None:
    lines = [step_line(step, loss_at(step)) for step in range(0, 2001, 500)]
    other = [step_line(step, loss_at(step) - 0.6) for step in range(1000, 3001, 500)]
    first, second = read_log(text_of(lines + other), name="two.log")
    assert (steps(first)[-1], steps(second)[0]) == (2000, 1000)


def test_a_run_that_crashed_before_its_first_loss_leaves_no_settings_behind() -> None:
    crashed = HEAD.replace("n_layer = 2", "n_layer = 9\nweight_decay = 0.7")
    run = one(crashed + "torch.cuda.OutOfMemoryError\n" + HEAD + text_of(run_lines([0, 50])))
    assert dict(run.settings) == pytest.approx(SETTINGS)


@pytest.mark.parametrize("head", [RESUMED, ""])
def test_a_resumed_run_is_one_run_and_its_lost_steps_are_passed_over(head: str) -> None:
    lost = run_lines(range(0, 251, 50))
    more = run_lines(range(150, 351, 50), shift=0.004)
    run = one(HEAD + text_of(lost) + head + text_of(more))
    assert steps(run) == [0, 50, 100, 150, 200, 250, 300, 350]
    assert run.points[3].val_loss == pytest.approx(loss_at(150) + 0.004, abs=1e-4)
    assert run.points[2].val_loss == pytest.approx(loss_at(100), abs=1e-4)
    assert run.resumed_at == (150,)
    assert run.notes == ("The run was resumed at step 150; its losses up to step 250 before that were passed over.",)


def test_settings_that_changed_on_resuming_are_noted() -> None:
    changed = RESUMED.replace("learning_rate = 3e-3", "learning_rate = 1e-3")
    run = one(HEAD + text_of(run_lines([0, 50])) + changed + text_of(run_lines([100, 150])))
    assert run.settings["learning_rate"] == 1e-3
    assert run.notes == (
        "Where it was resumed at step 100, settings changed: learning_rate 0.003 → 0.001 and min_lr 3e-4 → 1e-4.",
    )


def test_a_log_that_begins_with_a_resumed_run_says_so() -> None:
    run = one(RESUMED + text_of(run_lines([100, 150])))
    assert run.notes == ("The log begins at step 100 of a resumed run; what came before is not in it.",)


@pytest.mark.parametrize("copies", [2, 4])
def test_lines_that_every_process_printed_count_once(copies: int) -> None:
    run = one(text_of([line for line in run_lines(range(0, 201, 50)) for _ in range(copies)]))
    assert steps(run) == [0, 50, 100, 150, 200]
    assert run.notes == (f"{10 * (copies - 1)} lines with losses stood there twice and counted once.",)


def test_lines_copied_again_from_a_terminals_scrollback_count_once() -> None:
    lines = run_lines(range(0, 501, 50))
    run = one(text_of([*lines[:16], *lines[8:16], *lines[12:]]))
    assert steps(run) == list(range(0, 501, 50))
    assert run.resumed_at == ()


def test_processes_that_write_into_one_file_at_once_are_refused() -> None:
    lines = [step_line(step, loss_at(step) + shift) for step in range(0, 301, 50) for shift in (0.0, 0.9, -0.9)]
    with pytest.raises(LogError, match="several processes write into one file; give the log of one run"):
        read_log(text_of(lines), name="mixed.log")


def test_a_config_with_timestamps_and_what_cannot_be_read_of_it() -> None:
    head = HEAD.replace("warmup_iters = 50\n", "import time\nfork_flag = 3\nwarmup_iters = f(5e1)\nn_emb = 3\n")
    stamped = "".join(f"2024-01-01 10:00:{number % 60:02d} {line}\n" for number, line in enumerate(head.splitlines()))
    run = one(stamped + text_of(run_lines([0, 50])))
    assert dict(run.settings) == pytest.approx({key: SETTINGS[key] for key in SETTINGS if key != "warmup_iters"})
    (note,) = run.notes
    assert note.startswith("Line 13 and 3 more lines of the config config/small.py passed over: 'import time' sets")


def test_the_settings_of_nanogpts_own_print_of_a_config_are_read_beside_lines_of_other_programs() -> None:
    head = HEAD.replace("n_layer = 2\n", "n_layer = 2\nW0101 torch warning: something, no Python\n")
    assert dict(one(head + text_of(run_lines([0]))).settings) == pytest.approx(SETTINGS)


NANOCHAT = """\
Vocab size: 8,192
Parameter counts:
wte                     : 8,388,608
total                   : 285,214,240
Tokens / micro-batch: 4,096
Total batch size 16,384 => gradient accumulation steps: 4
Step 00000 | Validation bpb: 3.228247
step 00000/200000 (0.00%) | loss: 9.012936 | lrm: 0.00 | dt: 1436.54ms | tok/sec: 11,405 | bf16_mfu: 0.00 | epoch: 1
step 00850/200000 (0.42%) | loss: 4.505882 | lrm: 0.43 | dt: 1342.45ms | tok/sec: 12,204 | bf16_mfu: 41.5 | epoch: 1\
step 00850/200000 (0.42%) | loss: 4.505882 | lrm: 0.43 | dt: 1342.45ms | tok/sec: 12,204 | bf16_mfu: 41.5 | epoch: 1
Step 02000 | Validation bpb: 1.329710
step 02000/200000 (1.00%) | loss: 3.710056 | lrm: 1.00 | dt: 1415.18ms | tok/sec: 11,577 | bf16_mfu: 41.50 | epoch: 1
"""


def test_nanochats_form_keeps_bits_per_byte_apart_from_nats() -> None:
    run = one(NANOCHAT)
    assert (run.trainer, run.points, run.parameters, run.tokens_per_iter) == ("nanochat", (), 285_214_240, 16_384)
    assert [(entry.step, entry.val_bits) for entry in run.bits] == [(0, 3.228247), (2000, 1.32971)]
    assert [(entry.step, entry.loss, entry.lr_share) for entry in run.iters] == [
        (0, 9.012936, 0.0),
        (850, 4.505882, 0.43),
        (2000, 3.710056, 1.0),
    ]
    assert run.iters[1].seconds == pytest.approx(1.34245)
    assert run.iters[1].mfu == pytest.approx(0.415)
    assert run.notes == ("1 line with losses stood there twice and counted once.",)


OLDER_HEAD = """\
Vocab size: 65,536
num_layers: 4
Tokens / micro-batch / rank: 4 x 512 = 2,048
Tokens / micro-batch: 4,096
Total batch size 16,384 => gradient accumulation steps: 4
Number of parameters: 36,700,160
Estimated FLOPs per token: 1.4e+08
Calculated number of iterations from target data:param ratio: 44,800
"""
NEWER_HEAD = """\
COMPUTE_DTYPE: torch.bfloat16 (auto)
Vocab size: 65,536
Parameter counts:
wte                     : 16,777,216
lm_head                 : 16,777,216
total                   : 36,700,160
Auto-computed optimal batch size: 16,384 tokens
Tokens / micro-batch: 4,096
Total batch size 16,384 => gradient accumulation steps: 4
"""
NANOCHAT_LINES = {
    "October 2025": (OLDER_HEAD, ".4f", "", "mfu: 41.50 | total time: 0.27m"),
    "gradient's norm": (OLDER_HEAD, ".4f", " grad norm: 0.5100 |", "mfu: 41.50 | total time: 0.27m"),
    "time to go": (OLDER_HEAD, ".4f", " grad norm: 0.5100 |", "mfu: 41.50 | total time: 0.27m | eta: 100.5m"),
    "epochs": (NEWER_HEAD, ".6f", "", "mfu: 41.50 | epoch: 1 | total time: 0.27m | eta: 100.5m"),
    "place in the data": (
        *(NEWER_HEAD, ".6f", ""),
        "bf16_mfu: 41.50 | epoch: 1 pq: 2 rg: 77 | total time: 0.27m | eta: 100.5m",
    ),
}


@pytest.mark.parametrize("version", NANOCHAT_LINES)
def test_every_version_of_nanochats_pretraining_log_holds_the_same(version: str) -> None:
    """The forms are those of its print statements: head, evaluation, iteration, summary."""
    head, digits, norm, rest = NANOCHAT_LINES[version]
    text = head
    for step in range(0, 500, 100):
        text += f"Step {step:05d} | Validation bpb: {3 - step / 250:{digits}}\n"
        text += f"Step {step:05d} | CORE metric: 0.0312\n" if step else ""
        text += (
            f"step {step:05d}/44800 ({step / 448:.2f}%) | loss: {9 - step / 100:.6f} |{norm} lrm: 0.50 | "
            f"dt: 1342.45ms | tok/sec: 12,204 | {rest}\n"
        )
    text += "Peak memory usage: 5000.00MiB\nTotal training time: 11.00m\nMinimum validation bpb: 1.4000\n"
    run = one(text)
    assert (run.trainer, run.points, run.notes) == ("nanochat", (), ())
    assert (run.parameters, run.tokens_per_iter, run.vocab_size) == (36_700_160, 16_384, 65_536)
    assert [(entry.step, entry.val_bits) for entry in run.bits] == [
        (step, pytest.approx(3 - step / 250)) for step in range(0, 500, 100)
    ]
    assert [(entry.step, entry.loss, entry.lr_share) for entry in run.iters] == [
        (step, 9 - step / 100, 0.5) for step in range(0, 500, 100)
    ]
    assert [entry.seconds for entry in run.iters] == pytest.approx([1.34245] * 5)
    assert [entry.mfu for entry in run.iters] == pytest.approx([0.415] * 5)


def test_nanochats_fine_tuning_of_2025_has_losses_in_nats() -> None:
    text = "".join(
        (f"Step {step:05d} | Validation loss: {2 - step / 100:.6f}\n" if step % 10 == 0 else "")
        + f"Step {step:05d}/00701 | Training loss: {2.5 - step / 100:.6f}| lrm: 0.500000| num_tokens: 10,000\n"
        for step in range(30)
    )
    run = one(text + "Step 00030 | mmlu_acc: 0.312500, arc_easy_acc: 0.400000\n")
    assert (run.trainer, run.bits, run.notes) == ("nanochat", (), ())
    assert [(point.step, point.val_loss, point.train_loss) for point in run.points] == [
        *((0, 2.0, None), (10, 1.9, None)),
        (20, 1.8, None),
    ]
    assert len(run.iters) == 30
    assert (run.iters[-1].loss, run.iters[-1].lr_share) == (2.21, 0.5)


def test_a_log_that_is_rewritten_in_one_line_is_read_whole() -> None:
    """autoresearch's train.py ends its lines with a carriage return, and has its validation loss below, without a step.

    A card that it doesn't know has an mfu of 0.
    """
    text = "Vocab size: 8,192\n" + "".join(
        f"\rstep {step:05d} ({step / 9.53:.1f}%) | loss: {4 - step / 100:.6f} | lrm: 1.00 | dt: 322ms | "
        f"tok/sec: 1,625,889 | mfu: 0.0% | epoch: 1 | remaining: {300 - step}s    "
        for step in range(90)
    )
    run = one(text + "\n---\nval_bpb:          0.997900\ntraining_seconds: 300.1\nmfu_percent:      0.00\n")
    assert (run.trainer, run.points, run.bits, run.vocab_size) == ("nanochat", (), (), 8192)
    assert [(entry.step, entry.loss) for entry in run.iters] == [
        (step, pytest.approx(4 - step / 100)) for step in range(90)
    ]
    assert {(entry.seconds, entry.mfu) for entry in run.iters} == {(0.322, None)}


FOREIGN: dict[str, tuple[str, str]] = {
    "llm.c": ("s:0 tel:11.0092\ns:0 trl:11.0091 lr:0.000001 norm:15.37\ns:250 tel:6.1710\n", "llm.c (main.log)"),
    "modded-nanogpt": (
        "step:0/1750 val_loss:11.0092 train_time:0ms step_avg:nanms\nstep:1/1750 train_time:99ms step_avg:99.1ms\n"
        "step:250/1750 val_loss:6.1710 train_time:12345ms step_avg:98.76ms\n",
        "modded-nanogpt",
    ),
    "modded-nanogpt by a logger": (
        "10:00:01 INFO step:0/99, tokens seen: 0.5M, val_loss:11.0092 train_time:0.1s step_avg:9ms\n"
        "10:00:02 INFO step:250/999, tokens seen: 0.9M, val_loss:6.1710 train_time:9.1s step_avg:9ms\n",
        "modded-nanogpt",
    ),
    "build-nanogpt": ("0 val 11.0092\n0 hella 0.2463\n0 train 10.9\n250 val 6.1710\n", "build-nanogpt (log.txt)"),
    "LitGPT": (
        "Epoch 1 | iter 9 step 0 | loss train: 11.1, val: 11.0092 | iter time: 9 ms\n"
        "Epoch 1 | iter 99 step 250 | loss train: 6.2, val: 6.1710 | iter time: 9 ms\n",
        "LitGPT",
    ),
    "Megatron-LM": (
        " iteration      100/  500000 | consumed samples: 9 | lm loss: 1.1E+01 |\n"
        " validation loss at iteration 0 | lm loss value: 1.10092E+01 | lm loss PPL: 6E+04 |\n"
        " validation loss at iteration 250 | lm loss value: 6.171E+00 | lm loss PPL: 4E+02 |\n",
        "Megatron-LM",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_another_trainers_log_is_refused_with_a_command_that_converts_it(name: str, tmp_path: Path) -> None:
    text, named = FOREIGN[name]
    file = tmp_path / "a log.txt"
    file.write_text(text)
    with pytest.raises(LogError) as caught:
        read_log_file(file)
    message = str(caught.value)
    assert f"is a log of {named}" in message
    assert "\n" not in message
    if shutil.which("sed"):
        command = message.partition("losses: ")[2]
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
        (run,) = read_log_file(tmp_path / "converted.log")
        assert [(point.step, point.val_loss) for point in run.points] == [(0, 11.0092), (250, 6.171)]


TABLES = {
    "of runs": ('"arm","seed","val_loss"\r\n"a","1","3.5"\r\n', ""),
    "results.tsv": ("commit\tval_bpb\tmemory_gb\tstatus\tdescription\na1b2c3d\t0.9979\t44.0\tkeep\tbaseline\n", ""),
    "of wandb": ('"Step","small - val/loss"\n"0","11.0092"\n"250","6.1710"\n', "awk"),
    "of TensorBoard": ("Wall time,Step,Value\n1.7e9,0,11.0092\n1.7e9,250,6.1710\n", "awk"),
    "with tabs": ("iter\ttrain_loss\tval_loss\n0\t9\t11.0092\n250\t6\t6.1710\n", "awk"),
    "trainer_state.json": (
        json.dumps({"log_history": [{"step": 0, "eval_loss": 11.0092}, {"step": 9, "loss": 7.0}]}, indent=2),
        "jq",
    ),
    "trainer_state.json of a run without evaluations": (
        json.dumps({"log_history": [{"step": 0, "loss": 11.0092}, {"step": 9, "train_loss": 7.0}]}),
        "jq",
    ),
    "JSON lines of training alone": ('{"_step": 0, "train/loss": 11.0092}\n{"_step": 9, "train/loss": 7.0}\n', "jq"),
    "LLaMA-Factory's trainer_log.jsonl": (
        '{"current_steps": 0, "total_steps": 9, "loss": 11.0092, "lr": 0.1}\n{"current_steps": 9, "eval_loss": 7.0}\n',
        "jq",
    ),
    "JSON lines": ('{"step": 0, "val_loss": 11.0092}\n{"step": 9, "train_loss": 7.0}\n', "jq"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_refused_with_what_it_is(name: str, tmp_path: Path) -> None:
    text, program = TABLES[name]
    file = tmp_path / "given.txt"
    file.write_text(text)
    with pytest.raises(LogError, match=r"is (a table|JSON|the HF Trainer's state)") as caught:
        read_log_file(file)
    command = str(caught.value).partition(f": {program}")[2]
    if program and shutil.which(program):
        subprocess.run(["sh", "-c", program + command], cwd=tmp_path, check=True)
        (run,) = read_log_file(tmp_path / "converted.log")
        assert (0, 11.0092) in [
            *((point.step, point.val_loss) for point in run.points),
            *((entry.step, entry.loss) for entry in run.iters),
        ]


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("step    1/19560 | loss 11.009 (+nanz)| norm 15.36 (+nanz)| lr 8.57e-07 | 3279 ms", "main.log or log.txt"),
        ("step     0 | loss: 10.955029 | lr 8.3916e-07 | norm: 15.3 | dt: 9ms | tok/sec: 9", "main.log or log.txt"),
        ("{'loss': 2.1, 'grad_norm': 0.3, 'learning_rate': 5e-05, 'epoch': 0.1}", "trainer_state.json"),
        ("12%|# | 50/409 [04:24<30:53, 5.1s/it] {'loss': '1.136', 'epoch': '0.1225'}", "trainer_state.json"),
        ("Step 3/467 | Example step 0 | Pass 0 | loss: 0.031000 | Average reward: 0.25", "base_train or chat_sft"),
    ],
)
def test_a_screen_whose_losses_are_in_another_file_points_to_it(line: str, instead: str) -> None:
    with pytest.raises(LogError, match=instead):
        read_log(f"{line}\n{line}\n", name="screen.txt")


def test_a_converted_curve_appended_below_the_log_is_still_refused() -> None:
    foreign = "".join(f"s:{step} trl:4.0 lr:0.001 norm:1.0\n" for step in range(5))
    with pytest.raises(LogError, match=r"llm\.c"):
        read_log(foreign + "step 0: val loss 4.0\n", name="both.log")


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty; expected a nanoGPT log"),
    "only blanks": (b" \n\n\0\0\n", "is empty; expected a nanoGPT log"),
    "random bytes": (bytes(range(256)) * 40, "is binary; expected a nanoGPT log"),
    "a checkpoint": (b"PK\x03\x04" + bytes(100), "such as a PyTorch checkpoint"),
    "compressed": (gzip.compress(b"step 0: train loss 4.0, val loss 4.1\n"), "decompress it with gunzip"),
    "TensorBoard": (
        b'\x18\0\0\0\0\0\0\0\xa3\x7fK"\t\0\0\xc0 \x12\xda\x41\x1a\rbrain.Event:2',
        "download the validation",
    ),
    "prose": (b"Dear diary,\nno loss today.\n", "has no loss: it begins with 'Dear diary,'"),
    "a training script": (b'print(f"step {iter_num}: train loss {losses[0]:.4f}, val loss {x}")\n', "has no loss"),
    "all damaged": (b"step 100: train loss 3.0123, val lo\n", "has no loss; 1 line of that kind cut or damaged"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_log_is_refused_in_one_line_with_its_name(name: str, tmp_path: Path) -> None:
    content, expected = FILES[name]
    file = tmp_path / "given.log"
    file.write_bytes(content)
    with pytest.raises(LogError) as caught:
        read_log_file(file)
    assert str(caught.value).startswith(f"{file} ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="cannot be read: No such file"):
        read_log_file(tmp_path / "nowhere.log")
    with pytest.raises(LogError, match="is a folder"):
        read_log_file(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_encodings_of_other_systems(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    file.write_bytes((HEAD.replace("stories", "erzählungen") + text_of(run_lines([0, 50]))).encode(encoding))
    (run,) = read_log_file(file)
    assert steps(run) == [0, 50]
    assert run.settings["n_embd"] == 64


def test_a_hole_of_nuls_after_a_power_failure_costs_its_lines_only() -> None:
    lines = run_lines(range(0, 301, 50))
    run = one(text_of([*lines[:7], lines[7][:20] + "\0" * 5000, *lines[8:]]))
    assert steps(run) == list(range(0, 301, 50))
    assert len(run.iters) == 6


@given(
    st.text(
        alphabet=st.sampled_from([*"step iter:0123456789.,|/loss train val bpb nan\n\r\x1b[A^\b{}'\t"]), max_size=300
    )
)
def test_no_text_makes_it_raise_another_error(text: str) -> None:
    try:
        runs = read_log(text, name="any.log")
    except LogError:
        return
    assert all(run.last_step >= 0 for run in runs)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.data())
def test_every_run_has_each_step_once_and_in_order(given_steps: list[int], data: st.DataObject) -> None:
    losses = data.draw(st.lists(st.sampled_from([2.0, 2.1, 4.0]), min_size=len(given_steps), max_size=len(given_steps)))
    text = text_of([step_line(step, loss) for step, loss in zip(given_steps, losses, strict=True)])
    try:
        runs = read_log(text, name="any.log")
    except LogError:
        return
    for run in runs:
        assert steps(run) == sorted(set(steps(run)))
    lines = [point.line for run in runs for point in run.points]
    assert len(lines) == len(set(lines))


def test_reading_a_log_imports_no_heavy_library() -> None:
    code = "import sys, sweeps.diagnose.log; print(*(n for n in ('torch', 'scipy', 'optuna') if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("digits", ["", ",", "9" * 5000])
@pytest.mark.parametrize("line", ["tokens per iteration will be: {}", "Total batch size {} => gradient accumulation"])
def test_a_number_that_no_run_can_have_is_left_out(line: str, digits: str) -> None:
    """Python refuses to read one of more than 4300 digits."""
    run = one(f"{line.format(digits)}\nVocab size: {digits}1\nstep 0: train loss 4.1, val loss 4.2\n")
    assert run.tokens_per_iter is None
    assert run.vocab_size == (None if len(digits) > 18 else 1)
    assert run.points


@pytest.mark.parametrize("digits", ["9" * 400, "9" * 5000])
@pytest.mark.parametrize("line", ["number of parameters: {}M", "number of parameters: {}.5"])
def test_a_number_of_parameters_that_no_model_can_have_is_left_out(line: str, digits: str) -> None:
    run = one(f"{line.format(digits)}\nstep 0: train loss 4.1, val loss 4.2\n")
    assert run.parameters is None
    assert run.points

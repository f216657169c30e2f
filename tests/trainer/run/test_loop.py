"""The training loop: parity with nanoGPT's, bit-identical resuming, and every outcome."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.helpers import nanogpt_oracle
from tests.helpers.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset, open_dataset
from trainer.errors import CheckpointError
from trainer.model.gpt import GPT
from trainer.points import Answer, Point, Result
from trainer.run import checkpoint, loop
from trainer.run.loop import train
from trainer.run.sampling import NanogptFeed, StepFeed, window_starts

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = TrainConfig(
    n_layer=2, n_head=2, n_embd=16, block_size=16, dropout=0.1, learning_rate=1e-2, min_lr=1e-3, warmup_iters=3,
    lr_decay_iters=24, max_iters=24, batch_size=4, gradient_accumulation_steps=2, eval_interval=4, eval_windows=8,
    final_windows=40, device="cpu",
)  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return random_walk_folder(tmp_path / "data")


@dataclasses.dataclass
class Watched:
    """A run's result, points and losses."""

    result: Result
    points: list[Point]
    losses: list[tuple[int, float]]

    def numbers(self) -> list[tuple[float | None, ...]]:
        """Return all numbers of the points that must not depend on time."""
        return [(p.step, p.train_loss, p.train_se, p.val_loss, p.val_se, p.lr, p.grad_norm) for p in self.points]


def watch(
    config: TrainConfig,
    data: Dataset,
    out: Path | None = None,
    stop_at: int = -1,
    answer: Answer = Answer.PAUSE,
    pausing: Callable[[], bool] = lambda: False,
) -> Watched:
    points: list[Point] = []
    losses: list[tuple[int, float]] = []

    def report(point: Point) -> Answer:
        points.append(point)
        return answer if point.step == stop_at else Answer.GO

    def on_iter(step: int, loss: float) -> None:
        losses.append((step, loss))

    result = train(config, data, report, out=out, on_iter=on_iter, pausing=pausing)
    return Watched(result, points, losses)


class TestParity:
    """`sampling: nanogpt` trains as nanoGPT does."""

    @pytest.mark.parametrize("dropout", [0.0, 0.2])
    def test_losses_are_those_of_nanogpts_loop(self, tmp_path: Path, dropout: float) -> None:
        data = random_walk_folder(tmp_path / "data", vocab_size=40)
        settings = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12, "batch_size": 3}
        config = TrainConfig(
            **settings, dropout=dropout, gradient_accumulation_steps=2, learning_rate=1e-2, min_lr=1e-3, warmup_iters=5,
            lr_decay_iters=25, max_iters=30, weight_decay=0.2, grad_clip=0.5, eval_interval=10, eval_iters=3,
            sampling="nanogpt", device="cpu",
        )  # fmt: skip
        ours = watch(config, data)
        oracle = nanogpt_oracle.run(
            data.tokens("train"), data.tokens("val"), layers=2, heads=2, width=16, block=12, vocab=40, dropout=dropout,
            accumulation=2, batch=3, peak=1e-2, floor=1e-3, warmup=5, decay_end=25, iters=30, weight_decay=0.2,
            clip=0.5, interval=10, eval_iters=3,
        )  # fmt: skip
        assert [step for step, _ in ours.losses] == list(range(31))
        assert np.abs(np.array([loss for _, loss in ours.losses]) - oracle.losses).max() < 1e-5
        assert [point.step for point in ours.points] == [0, 10, 20, 30]
        for point in ours.points:
            assert (point.train_loss, point.val_loss) == pytest.approx(oracle.evaluations[point.step], abs=1e-5)
        assert ours.points[-1].val_loss < ours.points[0].val_loss - 0.2  # the comparison is of a model that learns

    def test_a_checkpoint_that_nanogpt_wrote_is_resumed(self, data: Dataset, tmp_path: Path) -> None:
        config = SMALL.replace(sampling="nanogpt", eval_iters=2, eval_windows=0, final_windows=0)
        out = tmp_path / "out"
        before = watch(config, data, out)
        for state in out.glob("state-*.pt"):
            state.unlink()  # as nanoGPT leaves it
        longer = config.replace(max_iters=40, lr_decay_iters=40, weight_decay=0.3, beta2=0.9, init_from="resume")
        after = watch(longer, data, out)
        assert after.losses[0][0] == 24
        assert after.result.step == 40
        assert after.points[0].val_loss == pytest.approx(before.points[-1].val_loss, abs=0.3)
        saved = torch.load(out / "ckpt.pt", weights_only=True)
        # nanoGPT would train on with the checkpoint's weight decay and betas
        assert saved["optimizer"]["param_groups"][0]["weight_decay"] == 0.3
        assert saved["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.9)

    def test_another_programs_checkpoint_needs_init_from_resume(self, data: Dataset, tmp_path: Path) -> None:
        watch(SMALL, data, tmp_path)
        for state in tmp_path.glob("state-*.pt"):
            state.unlink()
        with pytest.raises(CheckpointError, match="a checkpoint of another program; set init_from=resume"):
            watch(SMALL, data, tmp_path)

    def test_nothing_left_to_train(self, data: Dataset, tmp_path: Path) -> None:
        watch(SMALL, data, tmp_path)
        with pytest.raises(CheckpointError, match="has done 24 iterations and max_iters is 24; raise max_iters"):
            watch(SMALL.replace(init_from="resume", dropout=0.0), data, tmp_path)

    def test_nothing_to_resume(self, data: Dataset, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"holds no ckpt\.pt to resume from"):
            watch(SMALL.replace(init_from="resume"), data, tmp_path)


class TestARun:
    """One run from start to end."""

    def test_a_run_learns_and_ends_on_the_large_window_set(self, data: Dataset) -> None:
        run = watch(SMALL.replace(dropout=0.0, max_iters=120, lr_decay_iters=120, eval_interval=20), data)
        assert run.result.outcome == "complete"
        assert run.result.step == 120
        assert [point.step for point in run.points] == [0, 20, 40, 60, 80, 100, 120]
        # the walk has five equally likely successors, so its entropy is ln 5
        assert run.result.val_loss is not None
        assert math.log(5) - 0.05 < run.result.val_loss < 2.6 < run.points[0].val_loss
        assert run.result.val_se is not None
        assert run.result.val_se < run.points[-1].val_se  # 40 windows against 8
        assert run.result.val_loss == pytest.approx(run.points[-1].val_loss, abs=4 * run.points[-1].val_se)

    def test_the_grid_ends_at_max_iters(self, data: Dataset) -> None:
        run = watch(SMALL.replace(eval_interval=10), data)
        assert [point.step for point in run.points] == [0, 10, 20, 24]
        assert run.points[1].tokens == 10 * 8 * 16
        assert [step for step, _ in run.losses] == list(range(24))
        assert run.points[0].grad_norm is None
        assert run.points[0].tokens_per_s is None

    def test_evaluations_do_not_touch_the_training(self, data: Dataset) -> None:
        often = watch(SMALL.replace(eval_interval=1, eval_windows=3), data)
        seldom = watch(SMALL.replace(eval_interval=24, log_interval=1), data)
        assert often.losses == seldom.losses
        assert often.result.val_loss == seldom.result.val_loss

    @pytest.mark.parametrize("batch_size", [1, 2, 8])
    def test_the_split_into_micro_batches_does_not_change_the_run(self, data: Dataset, batch_size: int) -> None:
        plain = SMALL.replace(dropout=0.0)
        split = plain.replace(batch_size=batch_size, gradient_accumulation_steps=8 // batch_size)
        expected, actual = watch(plain, data), watch(split, data)
        differences = [a - b for (_, a), (_, b) in zip(actual.losses, expected.losses, strict=True)]
        assert np.abs(differences).max() < 2e-5

    def test_the_same_seed_gives_the_same_run_and_another_does_not(self, data: Dataset) -> None:
        assert watch(SMALL, data).losses == watch(SMALL, data).losses
        assert watch(SMALL, data).losses != watch(SMALL.replace(seed=7), data).losses

    def test_standard_error_is_over_windows(self, data: Dataset, tmp_path: Path) -> None:
        """The last evaluation by hand: the loss of every window, their mean and sd / sqrt(n)."""
        config = SMALL.replace(dropout=0.0, vocab_size=data.vocab_size)
        run = watch(config, data, tmp_path)
        single = watch(config.replace(eval_windows=1), data)
        assert math.isnan(single.points[-1].val_se)
        assert run.points[-1].val_se > 0
        loaded = checkpoint.load(tmp_path)
        assert loaded is not None
        model = GPT(config).eval()
        model.load_state_dict(loaded.model)
        tokens = torch.from_numpy(data.tokens("val").astype(np.int64))
        losses = []
        for start in window_starts(len(tokens), block_size=16, count=8):
            window = tokens[start : start + 17]
            logits = model.lm_head(model.hidden(window[None, :-1]))[0]
            losses.append(F.cross_entropy(logits, window[1:]).item())
        assert run.points[-1].val_loss == pytest.approx(np.mean(losses), abs=1e-5)
        assert run.points[-1].val_se == pytest.approx(np.std(losses, ddof=1) / math.sqrt(8), rel=1e-4)

    def test_stopped_by_the_callback(self, data: Dataset, tmp_path: Path) -> None:
        run = watch(SMALL, data, tmp_path, stop_at=12, answer=Answer.STOP)
        assert (run.result.outcome, run.result.step, run.result.val_loss) == ("stopped", 12, None)
        assert run.points[-1].step == 12

    def test_clipping_bounds_the_update(self, data: Dataset) -> None:
        clipped = watch(SMALL.replace(grad_clip=1e-9, weight_decay=0.0), data)
        free = watch(SMALL.replace(grad_clip=0.0), data)
        assert clipped.points[-1].grad_norm is not None
        assert clipped.points[-1].grad_norm > 1e-3  # measured before clipping
        assert clipped.result.val_loss != free.result.val_loss

    def test_not_a_number_is_diverged_with_its_step(self, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = 0
        real = GPT.forward

        def poisoned(self: GPT, *args: torch.Tensor, **options: float) -> torch.Tensor:
            nonlocal calls
            calls += 1
            loss = real(self, *args, **options)
            return loss * math.nan if calls > 2 * 6 else loss  # two micro-batches per iteration

        monkeypatch.setattr(GPT, "forward", poisoned)
        run = watch(SMALL.replace(log_interval=50), data)
        assert run.result.outcome == "diverged"
        assert run.result.reason == "the training loss is not finite at step 6"

    def test_an_exploded_loss_is_diverged(self, data: Dataset) -> None:
        run = watch(SMALL.replace(learning_rate=1e3, grad_clip=0.0, warmup_iters=0, dropout=0.0), data)
        assert run.result.outcome == "diverged"
        assert "exploded" in run.result.reason or "not finite" in run.result.reason
        assert run.result.val_loss is None

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore"),
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: 8 bytes\nx"
            ),
        ],
    )
    def test_out_of_memory_is_infeasible(
        self, data: Dataset, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
    ) -> None:
        def full(*_: object, **__: object) -> torch.Tensor:
            raise error

        monkeypatch.setattr(GPT, "forward", full)
        result = watch(SMALL, data).result
        first_line = str(error).split("\n")[0]
        assert (result.outcome, result.reason) == ("infeasible", f"out of memory: {first_line}")

    def test_a_cpu_without_memory_is_infeasible(self, data: Dataset) -> None:
        """A real allocation of half a petabyte for the embedding."""
        large = SMALL.replace(n_embd=2**16, n_head=1, n_layer=1, vocab_size=2**31 - 1)
        result = watch(large, data).result
        assert (result.outcome, result.step) == ("infeasible", 0)

    def test_other_errors_are_errors(self, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> torch.Tensor:
            raise RuntimeError("expected scalar type Long")

        monkeypatch.setattr(GPT, "forward", broken)
        with pytest.raises(RuntimeError, match="expected scalar type Long"):
            watch(SMALL, data)

    @pytest.mark.parametrize(("dtype", "scales"), [(torch.bfloat16, False), (torch.float16, True)])
    def test_mixed_precision_learns_alike(
        self, data: Dataset, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, scales: bool
    ) -> None:
        """A card's path through autocast and GradScaler, with the CPU's implementations."""
        config = SMALL.replace(dropout=0.0)
        full = watch(config, data)
        enabled: list[bool] = []
        real = torch.amp.GradScaler

        def scaler(device: str, *, enabled_: list[bool] = enabled, **options: bool) -> torch.amp.GradScaler:
            enabled_.append(options["enabled"])
            return real(device, init_scale=2.0**8, **options)

        monkeypatch.setattr("trainer.machine.device.precision", lambda device, asked: dtype)
        monkeypatch.setattr(torch.amp, "GradScaler", scaler)
        mixed = watch(config, data)
        assert enabled == [scales]
        assert mixed.losses != full.losses
        assert mixed.result.val_loss == pytest.approx(full.result.val_loss, abs=0.05)
        for point, expected in zip(mixed.points[1:], full.points[1:], strict=True):
            assert point.grad_norm == pytest.approx(expected.grad_norm, rel=0.2)  # clipped after unscaling

    def test_eval_only(self, data: Dataset) -> None:
        run = watch(SMALL.replace(eval_only=True), data)
        assert (run.result.outcome, run.result.step, len(run.points), run.losses) == ("complete", 0, 1, [])

    def test_label_smoothing_changes_the_training_and_not_the_measure(self, data: Dataset) -> None:
        plain, smoothed = watch(SMALL, data), watch(SMALL.replace(label_smoothing=0.2), data)
        assert plain.points[0].val_loss == smoothed.points[0].val_loss
        assert plain.losses != smoothed.losses


class TestResuming:
    """An interrupted and resumed run ends as an uninterrupted one, bit for bit."""

    @pytest.mark.parametrize("sampling", ["step", "nanogpt"])
    @pytest.mark.parametrize("stop_at", [0, 4, 12, 20, 24])
    def test_paused_and_resumed(self, data: Dataset, tmp_path: Path, stop_at: int, sampling: str) -> None:
        config = SMALL.replace(sampling=sampling, eval_iters=2)
        whole = watch(config, data)
        paused = watch(config, data, tmp_path, stop_at=stop_at)
        assert (paused.result.outcome, paused.result.step) == ("paused", stop_at)
        resumed = watch(config, data, tmp_path)
        assert resumed.numbers() == whole.numbers()
        assert resumed.losses == whole.losses
        assert resumed.result.val_loss == whole.result.val_loss

    @pytest.mark.parametrize("log_interval", [1, 50])
    @pytest.mark.parametrize("sampling", ["step", "nanogpt"])
    @pytest.mark.parametrize("steps", [0, 1, 3, 4, 6, 23, 24])
    def test_paused_before_any_step_and_resumed(
        self, data: Dataset, tmp_path: Path, steps: int, sampling: str, log_interval: int
    ) -> None:
        config = SMALL.replace(sampling=sampling, eval_iters=8, log_interval=log_interval)
        whole = watch(config, data)
        updates = 0
        feed = StepFeed if sampling == "step" else NanogptFeed
        advance = feed.advance

        def counting(self: StepFeed | NanogptFeed) -> None:
            nonlocal updates
            updates += 1
            advance(self)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(feed, "advance", counting)
            paused = watch(config, data, tmp_path, pausing=lambda: updates == 2 * steps)  # two micro-batches per step
        assert (paused.result.outcome, paused.result.step) == ("paused", steps)
        assert [point.step for point in paused.points] == list(range(0, steps, 4))
        saved = checkpoint.load(tmp_path)
        assert saved is not None
        assert saved.iter_num == steps
        resumed = watch(config, data, tmp_path)
        assert resumed.numbers() == whole.numbers()
        assert resumed.losses == whole.losses
        assert resumed.result.val_loss == whole.result.val_loss

    @pytest.mark.parametrize("sampling", ["step", "nanogpt"])
    def test_paused_over_and_over(self, data: Dataset, tmp_path: Path, sampling: str) -> None:
        """Also in the middle of evaluations, the last one included, each time a little later."""
        config = SMALL.replace(sampling=sampling, eval_iters=8)
        whole = watch(config, data)
        for patience in itertools.count(1):
            asked = itertools.count(1)
            run = watch(config, data, tmp_path, pausing=lambda: next(asked) > patience)  # noqa: B023  # used at once
            if run.result.outcome != "paused":
                break
        assert patience > 5
        assert run.numbers() == whole.numbers()
        assert run.losses == whole.losses
        assert run.result.val_loss == whole.result.val_loss

    def test_losses_that_nobody_has_read_are_read_before_a_pause(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = 0
        real = GPT.forward

        def poisoned(self: GPT, *args: torch.Tensor, **options: float) -> torch.Tensor:
            nonlocal calls
            calls += 1
            loss = real(self, *args, **options)
            return loss * math.nan if calls > 2 else loss  # two micro-batches per iteration

        monkeypatch.setattr(GPT, "forward", poisoned)
        run = watch(SMALL.replace(log_interval=50), data, tmp_path, pausing=lambda: calls == 2 * 3)
        assert run.result.outcome == "diverged"
        assert run.result.reason == "the training loss is not finite at step 1"

    def test_the_speed_of_a_paused_interval_counts_all_of_its_steps_and_seconds(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ticks = itertools.count()
        monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))  # a second per look
        whole = watch(SMALL, data)
        asked = itertools.count(1)
        assert watch(SMALL, data, tmp_path, pausing=lambda: next(asked) > 7).result.step == 3
        resumed = watch(SMALL, data, tmp_path)
        assert [point.tokens_per_s for point in resumed.points] == [point.tokens_per_s for point in whole.points]

    @pytest.mark.parametrize("killed_after", [0, 1, 5, 11, 17, 23])
    def test_killed_in_any_step_and_resumed(self, data: Dataset, tmp_path: Path, killed_after: int) -> None:
        whole = watch(SMALL, data)

        def die(step: int, loss: float) -> None:
            if step == killed_after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(SMALL, data, lambda point: Answer.GO, out=tmp_path, on_iter=die)
        resumed = watch(SMALL, data, tmp_path)
        assert resumed.numbers() == whole.numbers()
        assert resumed.losses == whole.losses
        assert resumed.result.val_loss == whole.result.val_loss

    def test_a_complete_run_returns_its_result_again(self, data: Dataset, tmp_path: Path) -> None:
        first, again = watch(SMALL, data, tmp_path), watch(SMALL, data, tmp_path)
        assert again.numbers() == first.numbers()
        assert (again.result.outcome, again.result.val_loss) == ("complete", first.result.val_loss)

    def test_the_last_answer_of_the_replay_counts(self, data: Dataset, tmp_path: Path) -> None:
        watch(SMALL, data, tmp_path, stop_at=12)
        stopped = watch(SMALL, data, tmp_path, stop_at=12, answer=Answer.STOP)
        assert (stopped.result.outcome, stopped.result.step) == ("stopped", 12)
        continued = watch(SMALL, data, tmp_path, stop_at=8, answer=Answer.STOP)
        assert continued.result.outcome == "complete"

    def test_another_config_is_refused_with_the_differences(self, data: Dataset, tmp_path: Path) -> None:
        watch(SMALL, data, tmp_path, stop_at=8)
        with pytest.raises(CheckpointError, match=r"another run \(dropout: 0.1 there, 0.3 here\)"):
            watch(SMALL.replace(dropout=0.3), data, tmp_path)

    def test_part_of_the_data(self, data: Dataset, tmp_path: Path) -> None:
        half = SMALL.replace(data_fraction=0.5)
        whole = watch(half, data)
        assert whole.numbers() != watch(SMALL, data).numbers()
        watch(half, data, tmp_path, stop_at=12)
        with pytest.raises(CheckpointError, match=r"another run \(data_fraction: 0.5 there, 1.0 here\)"):
            watch(SMALL, data, tmp_path)
        assert watch(half, data, tmp_path).numbers() == whole.numbers()

    def test_a_checkpoint_older_than_a_setting_counts_as_its_default(self, data: Dataset, tmp_path: Path) -> None:
        watch(SMALL, data, tmp_path, stop_at=12)
        path = tmp_path / "state-12.pt"
        state = torch.load(path)
        del state["settings"]["data_fraction"]
        torch.save(state, path)
        with pytest.raises(CheckpointError, match=r"data_fraction: 1.0 there, 0.5 here"):
            watch(SMALL.replace(data_fraction=0.5), data, tmp_path)
        assert watch(SMALL, data, tmp_path).numbers() == watch(SMALL, data).numbers()

    def test_other_data_is_refused(self, data: Dataset, tmp_path: Path) -> None:
        watch(SMALL, data, tmp_path / "out", stop_at=8)
        other = random_walk_folder(tmp_path / "other", seed=5)
        with pytest.raises(CheckpointError, match=r"another run \(data: "):
            watch(SMALL, other, tmp_path / "out")

    def test_seconds_add_up_over_processes(self, data: Dataset, tmp_path: Path) -> None:
        paused = watch(SMALL, data, tmp_path, stop_at=12)
        resumed = watch(SMALL, data, tmp_path)
        assert resumed.result.seconds > paused.points[-1].seconds


def test_only_better_checkpoints_when_asked(data: Dataset, tmp_path: Path) -> None:
    config = SMALL.replace(always_save_checkpoint=False, learning_rate=1e-9, min_lr=0.0, weight_decay=0.0)
    run = watch(config, data, tmp_path, stop_at=20, answer=Answer.STOP)
    loaded = checkpoint.load(tmp_path)
    best = min((point for point in run.points if point.step), key=lambda point: point.val_loss)
    assert loaded is None or loaded.iter_num <= best.step


def test_vocabulary_comes_from_the_data(tmp_path: Path) -> None:
    random_walk_folder(tmp_path, vocab_size=33)
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 64}))
    run = watch(SMALL.replace(max_iters=4, lr_decay_iters=4), open_dataset(tmp_path))
    assert run.points[0].val_loss == pytest.approx(math.log(64), abs=0.1)

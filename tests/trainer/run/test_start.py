"""Runs that start from another run's checkpoint: branches, and going on with the origin's own schedule."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import nanogpt_oracle
from tests.helpers.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.errors import CheckpointError
from trainer.points import Answer, Point, Result
from trainer.run.loop import train
from trainer.run.sampling import batch_starts
from trainer.schedule import lr_at

pytestmark = pytest.mark.usefixtures("one_thread")

ORIGIN = TrainConfig(
    n_layer=2, n_head=2, n_embd=16, block_size=16, learning_rate=1e-2, min_lr=1e-3, warmup_iters=3, lr_decay_iters=24,
    max_iters=24, batch_size=4, gradient_accumulation_steps=2, eval_interval=4, eval_windows=8, final_windows=40,
    device="cpu",
)  # fmt: skip
STEP = 12
"""iterations of the origin when it was left"""


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return random_walk_folder(tmp_path / "data")


@dataclass
class Watched:
    """A run's result, points and losses."""

    result: Result
    points: list[Point]
    losses: list[tuple[int, float]]

    def numbers(self) -> list[tuple[float | None, ...]]:
        """Return all numbers of the points that must not depend on time."""
        return [(p.step, p.tokens, p.train_loss, p.val_loss, p.val_se, p.lr, p.grad_norm) for p in self.points]


def watch(config: TrainConfig, data: Dataset, *, stop_at: int = -1, **options: Any) -> Watched:
    points: list[Point] = []
    losses: list[tuple[int, float]] = []

    def report(point: Point) -> Answer:
        points.append(point)
        return Answer.PAUSE if point.step == stop_at else Answer.GO

    result = train(config, data, report, on_iter=lambda *each: losses.append(each), **options)
    return Watched(result, points, losses)


def origin_of(data: Dataset, folder: Path, config: TrainConfig = ORIGIN) -> Path:
    """Train an origin for STEP iterations and return its checkpoint, alone in its folder as nanoGPT leaves it."""
    watch(config, data, stop_at=STEP, out=folder)
    for state in folder.glob("state-*.pt"):
        state.unlink()
    return folder / "ckpt.pt"


def from_(origin: Path, init_from: str = "branch", **changes: Any) -> TrainConfig:
    sha256 = hashlib.sha256(origin.read_bytes()).hexdigest()
    return ORIGIN.replace(init_from=init_from, origin=sha256, **changes)


class TestABranch:
    """init_from=branch: the origin's weights and moments, iterations from 0."""

    def test_losses_are_those_of_adamw_by_hand(self, data: Dataset, tmp_path: Path) -> None:
        """With the config's rates, weight decay and betas, not those that the checkpoint's optimizer holds."""
        path = origin_of(data, tmp_path / "origin")
        config = from_(
            path, weight_decay=3.0, beta1=0.8, beta2=0.99, learning_rate=2e-2, warmup_iters=2, batch_size=8,
            gradient_accumulation_steps=1, grad_clip=0.5, seed=5,
        )  # fmt: skip
        ours = watch(config, data, origin=path)
        tokens, batches = data.tokens("train"), []
        for step in range(10):
            starts = batch_starts(5, step, n_starts=len(tokens) - 16, size=8)
            rows = torch.from_numpy(np.stack([tokens[start : start + 17] for start in starts]).astype(np.int64))
            batches.append((rows[:, :-1], rows[:, 1:]))
        form, rates = torch.load(path, weights_only=True), [lr_at(step, config) for step in range(10)]
        losses = nanogpt_oracle.go_on(form, batches, rates=rates, weight_decay=3.0, betas=(0.8, 0.99), clip=0.5)
        assert [step for step, _ in ours.losses] == list(range(24))
        assert np.abs(np.array([loss for _, loss in ours.losses[:10]]) - losses).max() < 1e-5
        # the checkpoint's own weight decay or betas, or no moments, would show
        assert form["optimizer"]["param_groups"][0]["weight_decay"] == 0.1
        assert form["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.95)
        for decay, betas in ((0.1, (0.8, 0.99)), (3.0, (0.9, 0.95))):
            others = nanogpt_oracle.go_on(form, batches, rates=rates, weight_decay=decay, betas=betas, clip=0.5)
            assert np.abs(np.array(others) - losses).max() > 1e-3
        for state in form["optimizer"]["state"].values():
            state["exp_avg"].zero_()
        fresh = nanogpt_oracle.go_on(form, batches, rates=rates, weight_decay=3.0, betas=(0.8, 0.99), clip=0.5)
        assert np.abs(np.array(fresh) - losses).max() > 1e-3

    def test_it_begins_where_the_origin_is(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        there = watch(ORIGIN, data, stop_at=STEP).points[-1]
        first = watch(from_(path), data, origin=path).points[0]
        assert (first.step, first.tokens, first.lr) == (0, 0, ORIGIN.learning_rate / 4)
        assert (first.train_loss, first.val_loss) == (there.train_loss, there.val_loss)

    def test_batches_are_those_of_a_run_from_scratch(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        one, two = (watch(from_(path, seed=seed), data, origin=path).losses for seed in (1, 2))
        assert one[0] != two[0]
        assert one == watch(from_(path, seed=1), data, origin=path.parent).losses  # a folder stands for its ckpt.pt

    @pytest.mark.parametrize("changes", [{}, {"n_embd": 48, "n_head": 6, "n_layer": 3}], ids=["same", "grown"])
    def test_it_is_paused_and_resumed_bit_for_bit(self, data: Dataset, tmp_path: Path, changes: dict[str, Any]) -> None:
        """Also in the middle of evaluations, and without the origin's file once it has a checkpoint of its own."""
        path = origin_of(data, tmp_path / "origin")
        config = from_(path, dropout=0.1, **changes)
        whole = watch(config, data, origin=path)
        gone = tmp_path / "gone.pt"
        for patience in itertools.count(1):
            asked = itertools.count(1)
            file = path if patience == 1 else gone
            run = watch(config, data, out=tmp_path / "out", origin=file, pausing=lambda: next(asked) > patience)  # noqa: B023
            if run.result.outcome != "paused":
                break
        assert patience > 5
        assert run.numbers() == whole.numbers()
        assert run.losses == whole.losses
        assert run.result.val_loss == whole.result.val_loss

    @pytest.mark.parametrize("killed_after", [0, 5, 23])
    def test_it_is_killed_and_resumed_bit_for_bit(self, data: Dataset, tmp_path: Path, killed_after: int) -> None:
        path = origin_of(data, tmp_path / "origin")
        config = from_(path, dropout=0.1)
        whole = watch(config, data, origin=path)

        def die(step: int, loss: float) -> None:
            if step == killed_after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(config, data, lambda _: Answer.GO, out=tmp_path / "out", origin=path, on_iter=die)
        resumed = watch(config, data, out=tmp_path / "out", origin=path)
        assert (resumed.numbers(), resumed.losses) == (whole.numbers(), whole.losses)
        assert resumed.result.val_loss == whole.result.val_loss

    def test_growing_changes_no_loss_at_first(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        plain = watch(from_(path), data, origin=path)
        grown = watch(from_(path, n_layer=4, n_embd=32, n_head=4), data, origin=path, out=tmp_path / "out")
        assert grown.points[0].val_loss == pytest.approx(plain.points[0].val_loss, abs=1e-5)
        assert grown.losses[0][1] == pytest.approx(plain.losses[0][1], abs=1e-5)
        assert abs(grown.losses[-1][1] - plain.losses[-1][1]) > 1e-4
        saved = torch.load(tmp_path / "out" / "ckpt.pt", weights_only=True)
        assert (saved["model_args"]["n_layer"], saved["model_args"]["n_embd"]) == (4, 32)
        updates = [int(state["step"]) for state in saved["optimizer"]["state"].values()]
        # per block 4 matrices and 2 norms; wte, wpe and ln_f; new blocks' moments begin anew
        assert sorted(updates) == [24] * 2 * 6 + [STEP + 24] * (2 * 6 + 3)

    def test_its_checkpoint_is_nanogpts(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        watch(from_(path), data, origin=path, out=tmp_path / "out")
        saved = torch.load(tmp_path / "out" / "ckpt.pt", weights_only=True)
        assert saved["config"]["init_from"] == "resume"
        assert "origin" not in saved["config"]
        assert saved["iter_num"] == 24

    def test_parity_mode_draws_from_torchs_stream(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        config = from_(path, sampling="nanogpt", eval_iters=2, eval_windows=0, final_windows=0)
        whole = watch(config, data, origin=path)
        assert whole.points[0].val_loss < 2.9 < np.log(32)
        watch(config, data, origin=path, out=tmp_path / "out", stop_at=8)
        assert watch(config, data, origin=path, out=tmp_path / "out").losses == whole.losses


class TestGoingOn:
    """init_from=resume with an origin: step numbers and schedule go on."""

    def test_it_equals_the_run_that_was_never_left(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        whole, rest = watch(ORIGIN, data), watch(from_(path, "resume"), data, origin=path)
        assert rest.losses == whole.losses[STEP:]
        assert [(p.step, p.tokens, p.train_loss, p.val_loss, p.lr) for p in rest.points] == [
            (p.step, p.tokens, p.train_loss, p.val_loss, p.lr) for p in whole.points if p.step >= STEP
        ]
        assert (rest.result.step, rest.result.val_loss) == (24, whole.result.val_loss)

    def test_the_origins_step_is_evaluated_off_the_grid(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        config = from_(path, "resume", eval_interval=5)
        whole = watch(config, data, origin=path)
        assert [point.step for point in whole.points] == [12, 15, 20, 24]
        assert whole.points[0].val_loss == watch(ORIGIN, data).points[3].val_loss
        for stop_at in (12, 15):
            watch(config, data, origin=path, out=tmp_path / "out", stop_at=stop_at)
        resumed = watch(config, data, origin=path, out=tmp_path / "out")
        assert (resumed.numbers(), resumed.losses) == (whole.numbers(), whole.losses)

    def test_nothing_left_to_train(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        with pytest.raises(CheckpointError, match="has done 12 iterations and max_iters is 12; raise max_iters"):
            watch(from_(path, "resume", max_iters=12), data, origin=path)

    def test_it_keeps_the_shape(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        with pytest.raises(CheckpointError, match=r"n_layer=3, but the origin's is 2; .*set init_from to branch"):
            watch(from_(path, "resume", n_layer=3), data, origin=path)


class TestRefusals:
    """What isn't the origin, or doesn't suit it."""

    def test_another_file(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        config, other = from_(path), origin_of(data, tmp_path / "other", ORIGIN.replace(seed=2))
        sha256 = hashlib.sha256(other.read_bytes()).hexdigest()
        with pytest.raises(CheckpointError, match=rf"its sha256 begins with {sha256[:12]}.*set origin to {sha256}"):
            watch(config, data, origin=other)

    def test_no_file(self, data: Dataset, tmp_path: Path) -> None:
        config = from_(origin_of(data, tmp_path / "origin"))
        with pytest.raises(CheckpointError, match="but no file was given for it"):
            watch(config, data)
        with pytest.raises(CheckpointError, match=r"nowhere\.pt: there is no such file"):
            watch(config, data, origin=tmp_path / "nowhere.pt")

    def test_a_file_that_nobody_asked_for(self, data: Dataset, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="the config names no origin"):
            watch(ORIGIN, data, origin=origin_of(data, tmp_path / "origin"))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"n_layer": 1}, "n_layer=1 is below the origin's 2.*race"),
            ({"n_embd": 8}, "n_embd=8 is below the origin's 16.*race"),
            ({"n_head": 4}, "n_head=4, but .* 2 heads.*race"),
            ({"block_size": 8}, "block_size=8, but the origin's is 16.*race"),
            ({"vocab_size": 64}, "vocab_size=64, but the origin's is 32"),
        ],
    )
    def test_shapes(self, data: Dataset, tmp_path: Path, changes: dict[str, int], words: str) -> None:
        path = origin_of(data, tmp_path / "origin")
        with pytest.raises(CheckpointError, match=words):
            watch(from_(path, **changes), data, origin=path)

    def test_data_with_more_tokens_than_the_origin_knows(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        larger = random_walk_folder(tmp_path / "larger", vocab_size=40)
        with pytest.raises(CheckpointError, match="the origin's vocabulary has 32 tokens and the data's 40"):
            watch(from_(path), larger, origin=path)

    def test_a_larger_vocabulary_is_the_runs(self, data: Dataset, tmp_path: Path) -> None:
        """nanoGPT pads GPT-2's vocabulary."""
        path = origin_of(data, tmp_path / "origin", ORIGIN.replace(vocab_size=50))
        whole = watch(from_(path), data, origin=path)
        assert whole.result.outcome == "complete"
        watch(from_(path), data, origin=path, out=tmp_path / "out", stop_at=8)
        assert watch(from_(path), data, origin=path, out=tmp_path / "out").losses == whole.losses

    def test_a_folder_of_another_run(self, data: Dataset, tmp_path: Path) -> None:
        """A branch and going on are two runs, and so are branches of two origins."""
        path = origin_of(data, tmp_path / "origin")
        watch(from_(path), data, origin=path, out=tmp_path / "out", stop_at=8)
        for config in (from_(path, "resume"), from_(path).replace(origin="0" * 64)):
            with pytest.raises(CheckpointError, match=r"holds a checkpoint of another run .*; name another folder"):
                watch(config, data, origin=path, out=tmp_path / "out")

    def test_the_origins_own_folder(self, data: Dataset, tmp_path: Path) -> None:
        path = origin_of(data, tmp_path / "origin")
        before = path.read_bytes()
        for init_from in ("branch", "resume"):
            with pytest.raises(CheckpointError, match="holds a checkpoint of another program; name another folder"):
                watch(from_(path, init_from), data, origin=path, out=path.parent)
        assert path.read_bytes() == before


@pytest.mark.parametrize("init_from", ["branch", "resume"])
def test_the_origin_is_only_read(data: Dataset, tmp_path: Path, init_from: str) -> None:
    path = origin_of(data, tmp_path / "origin")
    before, files = (path.read_bytes(), path.stat().st_mtime_ns), list(path.parent.iterdir())
    watch(from_(path, init_from), data, origin=path, out=tmp_path / "out")
    assert ((path.read_bytes(), path.stat().st_mtime_ns), list(path.parent.iterdir())) == (before, files)

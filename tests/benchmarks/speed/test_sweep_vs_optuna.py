"""The comparison of whole sweeps: the plain script trains the trainer's own model, and each is scored alike."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import nn

from benchmarks.speed import plain_sweep, plain_train, sweep_vs_optuna, throughput
from benchmarks.speed.sweep_vs_optuna import Ended, Trial
from benchmarks.speed.throughput import random_tokens
from sweeps.study import proposals, space
from sweeps.study.load import load
from trainer.config import TrainConfig
from trainer.model.gpt import GPT
from trainer.schedule import lr_at

CONFIG = TrainConfig(
    n_layer=2,
    n_head=2,
    n_embd=16,
    block_size=8,
    vocab_size=40,
    batch_size=4,
    gradient_accumulation_steps=2,
    max_iters=6,
    lr_decay_iters=6,
    warmup_iters=2,
    eval_interval=3,
    eval_windows=5,
    final_windows=9,
    learning_rate=1e-2,
    min_lr=1e-3,
)


def ended(system: str, seed: int, *trials: tuple[float, float], full: float = 2.0, budget: float = 60) -> Ended:
    made = tuple(Trial(seconds=seconds, loss=loss) for seconds, loss in trials)
    return Ended(system=system, seed=seed, budget=budget, trials=made, started=9, pruned=1, full=full)


class TestScore:
    OURS = ended("plateau", 1, (10, 3.0), (20, 2.5), (30, 2.2), full=2.1)
    PEER = ended("median", 1, (12, 2.9), (25, 2.4), (50, 2.6), full=2.3)

    def test_the_time_to_a_loss_is_that_of_the_first_trial_as_low(self) -> None:
        assert self.OURS.best == 2.2
        assert self.OURS.seconds_to(2.5) == 20
        assert self.OURS.seconds_to(2.49) == 30
        assert self.OURS.seconds_to(2.1) is None
        assert ended("median", 1).best == math.inf
        assert ended("median", 1).seconds_to(9.0) is None

    def test_a_row_is_ours_less_the_peers(self) -> None:
        other = ended("median", 2, (5, 1.0), full=1.5)
        (row,) = sweep_vs_optuna.compare([self.OURS, self.PEER, other])  # ours has no second seed
        assert row["seeds"] == [1]
        assert row["difference"] == [pytest.approx(-0.2)]
        assert (row["peer_to_its_best"], row["ours_to_peers_best"]) == ([25], [30])
        assert (row["ours_to_its_best"], row["peer_to_ours_best"]) == ([30], [None])

    def test_the_table_says_what_was_left_out_and_what_was_not_reached(self) -> None:
        text = sweep_vs_optuna.table([self.OURS, self.PEER], {"asha": "Ray is not installed"})
        assert "asha: skipped, Ray is not installed" in text
        assert "differs by -0.2000" in text
        assert "the peer as low after none" in text

    def test_what_has_ended_is_not_run_again(self, tmp_path: Path) -> None:
        ran: list[tuple[str, int]] = []

        def run(system: str, seed: int, out: Path) -> Ended:
            assert not out.exists()
            out.mkdir()
            ran.append((system, seed))
            return ended(system, seed, (10, 3.0))

        (tmp_path / "plateau-1").mkdir()  # was cut off
        first = sweep_vs_optuna.rounds(["plateau", "median"], range(1, 3), tmp_path, run)
        assert ran == [("plateau", 1), ("median", 1), ("plateau", 2), ("median", 2)]
        assert sweep_vs_optuna.rounds(["plateau", "median"], range(1, 3), tmp_path, run) == first
        assert len(ran) == 4


class TestTheEvaluator:
    def test_every_window_once_whatever_its_batch(self, tmp_path: Path) -> None:
        tokens = np.random.default_rng(0).integers(0, 40, 150 * 8 + 5).astype(np.uint16)  # three batches, and a rest
        tokens.tofile(tmp_path / "val.bin")
        torch.manual_seed(0)
        model = GPT(CONFIG)
        losses = []
        for start in range(0, 150 * 8, 8):
            x, y = (torch.from_numpy(tokens[start + by : start + by + 8].astype(np.int64))[None] for by in (0, 1))
            losses.append(nn.functional.cross_entropy(model.lm_head(model.eval().hidden(x))[0], y[0]).item())
        found = sweep_vs_optuna.full_loss(model.train(), tmp_path, CONFIG)
        assert found == pytest.approx(sum(losses) / 150, rel=1e-5)


class TestThePlainScript:
    def test_its_initial_weights_have_the_trainers_spread(self) -> None:
        config = CONFIG.replace(n_embd=128)
        spread = {"c_fc": 0.02, "c_attn": 0.02, "attn_proj": 0.01, "mlp_proj": 0.01}  # 0.02 / sqrt(2 * 2 layers)
        model = plain_train.initial(config)
        for name, expected in spread.items():
            assert getattr(model.blocks[1], name).weight.std().item() == pytest.approx(expected, rel=0.05)
        assert model.wte.weight is model.lm_head.weight
        torch.manual_seed(config.seed)
        ours = dict(GPT(config).named_parameters())
        for theirs, mine in (("attn_proj", "attn.c_proj"), ("mlp_proj", "mlp.c_proj"), ("c_fc", "mlp.c_fc")):
            expected_std = ours[f"transformer.h.0.{mine}.weight"].std().item()
            assert getattr(model.blocks[0], theirs).weight.std().item() == pytest.approx(expected_std, rel=0.05)

    def test_it_follows_the_schedule_and_evaluates_as_often(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = random_tokens(tmp_path / "data", 40)
        rates, windows = [], []
        step, estimate = torch.optim.AdamW.step, plain_train.estimate

        def noted_step(self: torch.optim.AdamW) -> None:
            rates.append({group["lr"] for group in self.param_groups})
            step(self)

        def noted_estimate(*given: Any, **options: int) -> float:
            windows.append(options["windows"])
            return estimate(*given, **options)

        monkeypatch.setattr(torch.optim.AdamW, "step", noted_step)
        monkeypatch.setattr(plain_train, "estimate", noted_estimate)
        told = list(plain_train.training(plain_train.initial(CONFIG), CONFIG, data))
        assert [each[0] for each in told] == [0, 3, 6]
        assert rates == [{lr_at(at, CONFIG)} for at in range(6)]
        assert windows == [5, 5, 5, 5, 9, 5]
        assert told[0][2] == pytest.approx(math.log(40), abs=0.1)

    def test_it_learns(self, tmp_path: Path) -> None:
        np.tile(np.arange(40, dtype=np.uint16), 500).tofile(tmp_path / "train.bin")
        np.tile(np.arange(40, dtype=np.uint16), 500).tofile(tmp_path / "val.bin")
        config = CONFIG.replace(max_iters=60, lr_decay_iters=60, eval_interval=60)
        (_, _, before), (_, _, after) = plain_train.training(plain_train.initial(config), config, tmp_path)
        assert after < before - 1

    def test_its_lines_are_what_the_sweep_reads(self, tmp_path: Path) -> None:
        data = random_tokens(tmp_path / "data", 40)
        folder = tmp_path / "0"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG.as_dict()))
        command = [sys.executable, "-m", "benchmarks.speed.plain_train", str(folder), str(data)]
        said = subprocess.run(command, cwd=sweep_vs_optuna.ROOT, capture_output=True, text=True, check=True).stdout
        found = [plain_sweep.LINE.fullmatch(line) for line in said.splitlines()]
        assert [match and int(match[1]) for match in found] == [0, 3, 6]
        model = throughput.PlainGPT(CONFIG)
        model.load_state_dict(torch.load(folder / plain_train.CHECKPOINT, weights_only=True))


def test_the_peers_search_the_space_of_the_study() -> None:
    study = load(sweep_vs_optuna.STUDY, devices_have_cuda=False)
    distributions = space.distributions(study)
    search = optuna.create_study()
    trial = search.ask()
    params = plain_sweep.suggested(trial, distributions)
    assert trial.distributions == distributions
    assert params == trial.params
    proposals.config_of(study, params, seed=1, vocab_size=512)


def test_a_whole_sweep_of_the_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the peer's own command, in this process: trials are told, kept and scored."""
    small = tmp_path / "small.yaml"
    text = sweep_vs_optuna.STUDY.read_text().replace("{type: bpe, vocab_size: 512}", "{type: bytes}")
    for name, value in {"iters": 40, "n_layer": 1, "block_size": 16, "final_windows": 20}.items():
        text = re.sub(rf"\b{name}: \d+", f"{name}: {value}", text)
    small.write_text(re.sub("low: 32, high: 112", "low: 32, high: 64", text))
    data = random_tokens(tmp_path / "data", 257)
    monkeypatch.setattr(sweep_vs_optuna, "STUDY", small)
    trials = iter(range(1))
    real = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        """No deadline but one trial: how many a budget holds is the machine's."""
        given = dict(zip(command[6::2], command[7::2], strict=True))
        monkeypatch.setattr("sys.argv", command[2:])
        monkeypatch.setattr(optuna.Study, "optimize", lambda study, objective, **_: limited(study, objective))
        assert given["--pruner"] == "median"
        assert (command[:3], options["check"]) == ([sys.executable, "-m", "benchmarks.speed.plain_sweep"], True)
        plain_sweep.main()

    def limited(study: optuna.Study, objective: Any) -> None:
        for _ in trials:
            trial = study.ask()
            study.tell(trial, objective(trial))

    monkeypatch.setattr(subprocess, "run", run)
    found = sweep_vs_optuna.peer("median", 3, data, tmp_path / "out", budget=1e6)
    monkeypatch.setattr(subprocess, "run", real)
    assert (found.system, found.seed, found.started, found.pruned, len(found.trials)) == ("median", 3, 1, 0, 1)
    assert found.full == pytest.approx(math.log(257), abs=0.5)
    assert found.trials[0].seconds > 0


def test_systems_that_are_not_here_are_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install 'ray[tune]'" in sweep_vs_optuna.missing("asha")
    assert sweep_vs_optuna.missing("median") == ""

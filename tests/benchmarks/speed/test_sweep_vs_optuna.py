"""The comparison of whole sweeps: the plain script trains the trainer's model, and all systems are scored alike."""

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

from benchmarks.commands import ROOT
from benchmarks.speed import plain_sweep, plain_train, sweep_vs_optuna
from benchmarks.speed.plain_gpt import PlainGPT
from benchmarks.speed.plain_trial import CHECKPOINT
from benchmarks.speed.sweep_vs_optuna import EndedSweep, TimedTrial
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


def ended(system: str, seed: int, *trials: tuple[float, float], full: float = 2.0, budget: float = 60) -> EndedSweep:
    timed = tuple(TimedTrial(seconds=seconds, loss=loss) for seconds, loss in trials)
    return EndedSweep(system=system, seed=seed, budget=budget, trials=timed, started=9, pruned=1, full=full)


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

    def test_a_row_is_this_project_less_the_peer(self) -> None:
        unmatched = ended("median", 2, (5, 1.0), full=1.5)  # this project has no second seed
        (row,) = sweep_vs_optuna.compare_systems([self.OURS, self.PEER, unmatched])
        assert row["seeds"] == [1]
        assert row["difference"] == [pytest.approx(-0.2)]
        assert (row["peer_to_its_best"], row["ours_to_peers_best"]) == ([25], [30])
        assert (row["ours_to_its_best"], row["peer_to_ours_best"]) == ([30], [None])

    def test_the_table_names_skipped_systems_and_losses_not_reached(self) -> None:
        text = sweep_vs_optuna.table([self.OURS, self.PEER], {"asha": "Ray is not installed"})
        assert "asha: skipped, Ray is not installed" in text
        assert "differs by -0.2000" in text
        assert "the peer as low after none" in text

    def test_an_ended_sweep_is_not_run_again(self, tmp_path: Path) -> None:
        ran: list[tuple[str, int]] = []

        def run(system: str, seed: int, out: Path) -> EndedSweep:
            assert not out.exists()
            out.mkdir()
            ran.append((system, seed))
            return ended(system, seed, (10, 3.0))

        (tmp_path / "plateau-1").mkdir()  # left by an interrupted sweep
        first = sweep_vs_optuna.rounds(["plateau", "median"], range(1, 3), tmp_path, run)
        assert ran == [("plateau", 1), ("median", 1), ("plateau", 2), ("median", 2)]
        assert sweep_vs_optuna.rounds(["plateau", "median"], range(1, 3), tmp_path, run) == first
        assert len(ran) == 4


class TestTheEvaluator:
    def test_every_window_counts_once_in_any_batch(self, tmp_path: Path) -> None:
        tokens = (
            np.random.default_rng(0).integers(0, 40, 150 * 8 + 5).astype(np.uint16)
        )  # three batches, and a remainder
        tokens.tofile(tmp_path / "val.bin")
        torch.manual_seed(0)
        model = GPT(CONFIG)
        losses = []
        for start in range(0, 150 * 8, 8):
            x, y = (torch.from_numpy(tokens[start + by : start + by + 8].astype(np.int64))[None] for by in (0, 1))
            losses.append(nn.functional.cross_entropy(model.lm_head(model.eval().hidden(x))[0], y[0]).item())
        full_loss = sweep_vs_optuna.full_loss(model.train(), tmp_path, CONFIG)
        assert full_loss == pytest.approx(sum(losses) / 150, rel=1e-5)


class TestThePlainScript:
    def test_its_initial_weights_have_the_trainers_spread(self) -> None:
        config = CONFIG.replace(n_embd=128)
        expected_stds = {"c_fc": 0.02, "c_attn": 0.02, "attn_proj": 0.01, "mlp_proj": 0.01}  # 0.02 / sqrt(2 * 2 layers)
        model = plain_train.initial(config)
        for name, expected in expected_stds.items():
            assert getattr(model.blocks[1], name).weight.std().item() == pytest.approx(expected, rel=0.05)
        assert model.wte.weight is model.lm_head.weight
        torch.manual_seed(config.seed)
        trainer_parameters = dict(GPT(config).named_parameters())
        for plain_name, trainer_name in (
            ("attn_proj", "attn.c_proj"),
            ("mlp_proj", "mlp.c_proj"),
            ("c_fc", "mlp.c_fc"),
        ):
            expected_std = trainer_parameters[f"transformer.h.0.{trainer_name}.weight"].std().item()
            assert getattr(model.blocks[0], plain_name).weight.std().item() == pytest.approx(expected_std, rel=0.05)

    def test_it_follows_the_schedule_and_the_evaluations(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = random_tokens(tmp_path / "data", 40)
        rates, windows = [], []
        step, estimate = torch.optim.AdamW.step, plain_train.estimate

        def recorded_step(self: torch.optim.AdamW) -> None:
            rates.append({group["lr"] for group in self.param_groups})
            step(self)

        def recorded_estimate(*arguments: Any, **options: int) -> float:
            windows.append(options["windows"])
            return estimate(*arguments, **options)

        monkeypatch.setattr(torch.optim.AdamW, "step", recorded_step)
        monkeypatch.setattr(plain_train, "estimate", recorded_estimate)
        evaluations = list(plain_train.training(plain_train.initial(CONFIG), CONFIG, data))
        assert [step for step, _, _ in evaluations] == [0, 3, 6]
        assert rates == [{lr_at(at, CONFIG)} for at in range(6)]
        assert windows == [5, 5, 5, 5, 9, 5]
        assert evaluations[0][2] == pytest.approx(math.log(40), abs=0.1)

    def test_it_learns(self, tmp_path: Path) -> None:
        np.tile(np.arange(40, dtype=np.uint16), 500).tofile(tmp_path / "train.bin")
        np.tile(np.arange(40, dtype=np.uint16), 500).tofile(tmp_path / "val.bin")
        config = CONFIG.replace(max_iters=60, lr_decay_iters=60, eval_interval=60)
        (_, _, before), (_, _, after) = plain_train.training(plain_train.initial(config), config, tmp_path)
        assert after < before - 1

    def test_the_sweep_reads_its_lines(self, tmp_path: Path) -> None:
        data = random_tokens(tmp_path / "data", 40)
        folder = tmp_path / "0"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG.as_dict()))
        command = [sys.executable, "-m", "benchmarks.speed.plain_train", str(folder), str(data)]
        stdout = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        matches = [plain_sweep.LINE.fullmatch(line) for line in stdout.splitlines()]
        assert [match and int(match[1]) for match in matches] == [0, 3, 6]
        model = PlainGPT(CONFIG)
        model.load_state_dict(torch.load(folder / CHECKPOINT, weights_only=True))


def test_the_peers_search_the_space_of_the_study() -> None:
    study = load(sweep_vs_optuna.STUDY, devices_have_cuda=False)
    distributions = space.distributions(study)
    search = optuna.create_study()
    trial = search.ask()
    params = plain_sweep.suggested(trial, distributions)
    assert trial.distributions == distributions
    assert params == trial.params
    proposals.config_of(study, params, seed=1, vocab_size=512)


def test_a_whole_sweep_of_a_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer's own command runs in this process; its trials are reported, kept and scored."""
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
        """Run one trial without a deadline, because the number that a budget holds depends on the machine."""
        peer_options = dict(zip(command[6::2], command[7::2], strict=True))
        monkeypatch.setattr("sys.argv", command[2:])
        monkeypatch.setattr(optuna.Study, "optimize", lambda study, objective, **_: limited(study, objective))
        assert peer_options["--pruner"] == "median"
        assert (command[:3], options["check"]) == ([sys.executable, "-m", "benchmarks.speed.plain_sweep"], True)
        plain_sweep.main()

    def limited(study: optuna.Study, objective: Any) -> None:
        for _ in trials:
            trial = study.ask()
            study.tell(trial, objective(trial))

    monkeypatch.setattr(subprocess, "run", run)
    sweep = sweep_vs_optuna.run_peer("median", 3, data, tmp_path / "out", budget=1e6)
    monkeypatch.setattr(subprocess, "run", real)
    assert (sweep.system, sweep.seed, sweep.started, sweep.pruned, len(sweep.trials)) == ("median", 3, 1, 0, 1)
    assert sweep.full == pytest.approx(math.log(257), abs=0.5)
    assert sweep.trials[0].seconds > 0


def test_systems_that_are_not_installed_are_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install 'ray[tune]'" in sweep_vs_optuna.missing("asha")
    assert sweep_vs_optuna.missing("median") == ""

"""The benchmark of training speed: the plain loop trains the trainer's model, and a ratio is of one round."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from benchmarks.speed import throughput
from benchmarks.speed.plain_gpt import PlainGPT
from trainer.config import TrainConfig
from trainer.model.gpt import GPT
from trainer.model.size import parameters

OPTIONS = argparse.Namespace(layers=2, block_size=16, batch_size=3)
CONFIG = throughput.config_of(64, 50, 0.0, OPTIONS)


def plain_of(model: GPT) -> PlainGPT:
    """Return the plain model with the trainer's weights."""
    plain = PlainGPT(CONFIG)
    plain_names = {"attn.c_attn": "c_attn", "attn.c_proj": "attn_proj", "mlp.c_fc": "c_fc", "mlp.c_proj": "mlp_proj"}
    state = {}
    for name, value in model.state_dict().items():
        renamed = name.removeprefix("transformer.").replace("h.", "blocks.", 1) if ".h." in name else name
        renamed = renamed.removeprefix("transformer.")
        for trainer_name, plain_name in plain_names.items():
            renamed = renamed.replace(trainer_name, plain_name)
        state[renamed] = value
    plain.load_state_dict(state)
    return plain


def test_the_plain_model_computes_what_the_trainers_does() -> None:
    torch.manual_seed(1)
    model = GPT(CONFIG).train()
    plain = plain_of(model)
    x, y = torch.randint(50, (3, 16)), torch.randint(50, (3, 16))
    loss, plain_loss = model(x, y), plain(x, y)
    torch.testing.assert_close(loss, plain_loss)
    loss.backward()
    plain_loss.backward()
    torch.testing.assert_close(model.lm_head.weight.grad, plain.lm_head.weight.grad)


def test_a_ratio_is_of_one_rounds_two_turns() -> None:
    row = throughput.row_of(CONFIG, [(100.0, 150.0), (50.0, 100.0), (80.0, 100.0)], peak=1e9)
    assert (row.ratio, row.lowest, row.highest, row.rounds) == (1.5, 1.25, 2.0, 3)
    assert (row.plain, row.ours) == (80, 100)
    assert row.ours_mfu / row.plain_mfu == pytest.approx(100 / 80)


@pytest.mark.parametrize(("seconds", "peak"), [(2.0, 1e10), (4.0, 1e10), (2.0, 1e6)])
def test_a_turn_takes_about_its_seconds_at_the_guessed_share_of_the_peak(seconds: float, peak: float) -> None:
    iterations = throughput.iterations(CONFIG, seconds=seconds, peak=peak)
    flops = 6 * (parameters(CONFIG) - 16 * 64) + 12 * 2 * 64 * 16
    assert iterations == max(2, -(-seconds * throughput.GUESS * peak // (flops * 48)))


def test_one_run_measures_both(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ["--widths", "32", "--vocabularies", "40", "--dropouts", "0.1", "--layers", "1", "--block-size", "8"]
    monkeypatch.setattr("sys.argv", ["throughput", *sizes, "--rounds", "1", "--seconds", "0.01", "--json"])
    throughput.main()
    (row,) = json.loads(capsys.readouterr().out)
    assert row["plain"] > 0
    assert row["ours"] > 0
    assert row["ratio"] == pytest.approx(row["ours"] / row["plain"])


def test_random_tokens_form_a_data_folder(tmp_path: Path) -> None:
    folder = throughput.random_tokens(tmp_path / "data", 40)
    x, y = throughput.plain_batch(TrainConfig(block_size=8, batch_size=3), folder)
    assert x.shape == y.shape == (3, 8)
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert int(x.max()) < 40

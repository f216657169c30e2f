"""Diagnoses as people and programs get them: facts, outlook, page, JSON, drawing, and what the command reads."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.diagnose import source, usual
from sweeps.diagnose.as_json import as_json, several
from sweeps.diagnose.content import LARGEST
from sweeps.diagnose.diagnosis import Diagnosis, diagnosis_of
from sweeps.diagnose.drawing import draw
from sweeps.diagnose.findings.finding import Code
from sweeps.diagnose.judgement import RunState
from sweeps.diagnose.log import read_log
from sweeps.diagnose.measured import Given
from sweeps.diagnose.outlook import PARAMETERS, TOKENS, doubling_gain, path_of
from sweeps.diagnose.page import MOST, page
from sweeps.errors import LogError
from tests.helpers.logged_runs import SETTINGS, Simulated, falling, flat
from tests.helpers.training_logs import FINEWEB, FINEWEB_SETTINGS, HEAD, step_line, text_of
from trainer.errors import ConfigError

SHAPE = {
    **FINEWEB_SETTINGS,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 384,
    "block_size": 1024,
    "batch_size": 16,
    "gradient_accumulation_steps": 32,
    "dropout": 0.1,
}
"""the public FineWeb run's settings"""
ENDED = 3.5228
"""nats; what that run reached at step 20,000"""
RUN_TIME = "time 3910.00ms, mfu 12.88%"


def fineweb(**given: Any) -> Diagnosis:
    lines = [step_line(500 * n, loss, loss + 0.06 if n > 2 else loss - 0.03) for n, loss in enumerate(FINEWEB)]
    lines = [f"{line}\niter {500 * n + 100}: loss {4.0:.4f}, {RUN_TIME}" for n, line in enumerate(lines)]
    (run,) = read_log(text_of(lines), name="fineweb.log")
    return diagnosis_of(run, Given(settings=SHAPE, **given))


def test_the_run_that_the_project_started_from() -> None:
    diagnosis = fineweb()
    assert diagnosis.judgement.state in (RunState.IMPROVING, RunState.PLATEAU)
    assert {finding.code for finding in diagnosis.findings[:2]} == {Code.CAPACITY_LIMITED, Code.DROPOUT_ON_UNDERFIT}
    assert diagnosis.contradicted[0].code is Code.OVERFITTING
    ahead = diagnosis.outlook.at_end
    assert ahead.step == 20_000
    assert ahead.low <= ENDED <= ahead.high
    assert ahead.high - ahead.low < 0.08


def test_the_published_law_by_its_closed_form() -> None:
    """Chinchilla's refit at N = 40.95 million parameters and D = 7.6 thousand million tokens, by a calculator."""
    assert doubling_gain(*PARAMETERS, 40_953_216) == pytest.approx(0.2325, abs=2e-4)
    assert doubling_gain(*TOKENS, 7.76e9) == pytest.approx(0.1126, abs=2e-4)
    assert doubling_gain(1.0, 1.0, 4.0) == pytest.approx(1 / 8)


def test_facts() -> None:
    facts = fineweb(card="NVIDIA GeForce RTX 4070", data_tokens=3_800_000_000, bytes_per_token=4.5).facts
    assert facts.parameters == 50304 * 384 + 1024 * 384 + 12 * (12 * 384**2 + 2 * 384) + 384
    assert facts.tokens_per_update == 524_288
    assert facts.epochs == pytest.approx(14_600 * 524_288 / 3.8e9)
    assert facts.perplexity == pytest.approx(math.exp(facts.loss))
    assert facts.bits_per_byte == pytest.approx(facts.loss / math.log(2) / 4.5)
    assert facts.mfu == pytest.approx(0.1288 * 312 / 58.3, rel=0.01)  # nanoGPT's mfu is in units of an A100


def test_mfu_by_the_printed_one_where_the_size_isnt_known() -> None:
    lines = [f"iter {10 * n}: loss {5 - n / 100:.4f}, time 100.00ms, mfu 20.00%" for n in range(30)]
    (run,) = read_log(text_of(lines), name="run.log")
    assert diagnosis_of(run, Given(card="A100")).facts.mfu == pytest.approx(0.2)
    assert diagnosis_of(run, Given(card="RTX 4090")).facts.mfu == pytest.approx(0.2 * 312 / 165.2)
    with pytest.raises(ConfigError, match="--device GTX 9999: its peak isn't known"):
        diagnosis_of(run, Given(card="GTX 9999"))


@pytest.mark.parametrize(("size", "rate", "tokens"), [(124_000_000, 6.4e-4, 491_520), (10_700_000, 9.8e-4, 16_384)])
def test_usual_values_are_those_of_their_sources(size: int, rate: float, tokens: int) -> None:
    assert usual.learning_rate(size) == pytest.approx(rate, rel=0.02)
    assert usual.tokens_per_update(size) == pytest.approx(tokens, rel=1e-3)


@given(size=st.integers(1, 10**13))
def test_usual_values_are_positive_and_monotone(size: int) -> None:
    assert usual.learning_rate(size) >= usual.learning_rate(2 * size) > 0
    assert 1024 <= usual.tokens_per_update(size) <= usual.tokens_per_update(2 * size) <= 500_000


def test_the_forecast_covers_curves_of_its_own_law() -> None:
    """The 90 % interval of the last loss, from curves cut at 70 %."""
    inside = []
    for seed in range(40):
        run = Simulated(last=1400, noise=0.01, seed=seed, settings={"decay_lr": False})
        expected = run.diagnosis().outlook.at_end
        truth = falling(2000) + np.random.default_rng(1000 + seed).normal(0, 0.01)
        inside.append(expected.low <= truth <= expected.high)
    assert np.mean(inside) >= 0.75


def test_the_fitted_path_passes_through_the_losses_and_ends_in_the_forecast() -> None:
    diagnosis = Simulated(last=1400, noise=0.0, settings={"decay_lr": False}).diagnosis()
    path = path_of(diagnosis.measured, 2000)
    assert path is not None
    assert path.mean[-1] == pytest.approx(diagnosis.outlook.at_end.value)
    late = path.steps > 200
    assert np.abs(path.mean - np.array([falling(step) for step in path.steps]))[late].max() < 0.05
    assert (path.low < path.mean).all()


def test_json_has_its_keys_and_only_numbers_that_json_knows() -> None:
    found = several([Simulated().diagnosis(), Simulated(train=flat, val=flat).diagnosis()])
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert found["verdict"] in list(RunState)
    assert found["earlier"][0]["verdict"] == "improving"
    for key in ("since", "slope_per_1k", "noise", "forecast", "law", "facts", "findings", "contradicted", "notes"):
        assert key in found
    assert {"code", "evidence", "knob", "direction", "check"} <= found["findings"][0].keys()


def test_json_of_a_run_that_is_nan() -> None:
    run = Simulated(train=lambda _: math.nan, val=lambda _: math.inf)
    assert json.loads(json.dumps(as_json(run.diagnosis()), allow_nan=False))["verdict"] == "nan"


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_page_has_at_most_40_lines_of_its_width(width: int, dropout: float) -> None:
    run = Simulated(train=lambda step: flat(step) + 0.05, val=flat, settings={"dropout": dropout}, noise=0.03)
    diagnosis = run.diagnosis()
    lines = page(diagnosis, width=width, earlier=[diagnosis] * 5)
    assert len(lines) <= MOST
    assert max(map(len, lines)) <= width
    assert "plateau" in lines[0] or "improving" in lines[0]


def test_the_drawn_curve_falls_from_left_to_right() -> None:
    drawn = draw(Simulated(noise=0.0).diagnosis(), width=80, height=9)
    columns = {line.index("●"): number for number, line in enumerate(drawn[:-1]) if "●" in line}
    assert len(drawn) == 10
    assert list(columns) == sorted(columns)


@given(values=st.lists(st.floats(0, 20), min_size=2, max_size=50), width=st.integers(30, 120))
@settings(max_examples=40, deadline=None)
def test_anything_is_drawn_within_its_width(values: list[float], width: int) -> None:
    (run,) = read_log(text_of([step_line(10 * n, value, value) for n, value in enumerate(values)]), name="a.log")
    lines = draw(diagnosis_of(run), width=width, height=9)
    assert max(map(len, lines[:-1])) <= width


def sweep(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["diagnose", *arguments])
    error = str(result.exception) if result.exception is not None and result.exit_code == 1 else ""
    return result.exit_code, result.stdout, error


def test_the_command_reads_a_log_with_its_config_and_its_runs(tmp_path: Path) -> None:
    log, config = tmp_path / "train.log", tmp_path / "train_x.py"
    log.write_text(text_of([*Simulated(seed=1).lines(), *Simulated(train=flat, val=flat).lines()]), encoding="utf-8")
    config.write_text("".join(f"{key} = {value!r}\n" for key, value in SETTINGS.items()) + "import os\n", "utf-8")
    code, out, _ = sweep(str(log), "--config", str(config), "--json", "--tokens", "1000000")
    found = json.loads(out)
    assert code == 0
    assert len(found["earlier"]) == 1
    assert found["facts"]["epochs"] == pytest.approx(2000 * 16 * 128 / 1e6)
    assert any("train_x.py:" in note and "passed over" in note for note in found["notes"])


def test_mistakes_are_named(tmp_path: Path) -> None:
    assert "give a log" in sweep()[2]
    assert "can't stand beside" in sweep("-", "a.log")[2]
    missing = sweep(str(tmp_path / "a.log"), str(tmp_path / "b.log"))[2]
    assert "a.log" in missing
    assert "b.log" in missing
    (tmp_path / "x.py").write_text("import os\n", encoding="utf-8")
    log = tmp_path / "t.log"
    log.write_text(text_of(Simulated().lines()), encoding="utf-8")
    assert "has no line such as" in sweep(str(log), "--config", str(tmp_path / "x.py"))[2]
    assert "leave one out" in sweep(str(log), "--data", str(tmp_path), "--tokens", "5")[2]


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", bytes(range(256)) * 200, b"PK\x03\x04rest", b"s:0 tel:11.0\ns:50 trl:8.5 lr:1e-3\n"]
)
def test_what_cant_be_read_is_refused_and_json_says_so(content: bytes, tmp_path: Path) -> None:
    log = tmp_path / "odd.log"
    log.write_bytes(content)
    code, _, error = sweep(str(log))
    assert code == 1  # main() turns it into 2
    assert "odd.log" in error
    code, out, _ = sweep(str(log), "--json")
    assert code == 2
    assert json.loads(out)["verdict"] == "unreadable"


def test_a_log_larger_than_the_limit_is_refused_with_a_remedy(tmp_path: Path) -> None:
    log = tmp_path / "large.log"
    with log.open("wb") as file:
        file.write(b"iter 0: loss 4.0000, time 1.00ms\n")
        file.truncate(2**30)  # sparse: takes no room
    with pytest.raises(LogError, match=r"more than 64 MiB.*grep -a '\^step'"):
        source.read_logs([str(log)])


def test_a_live_log_is_diagnosed_when_its_writer_pauses_and_at_its_end() -> None:
    lines = Simulated().lines()
    receive, send = os.pipe()
    found = source.live_runs(receive)
    with os.fdopen(send, "wb", buffering=0) as writer:
        writer.write(text_of(lines[:10]).encode() + b"step 5")
        (first,) = next(found)
        writer.write(text_of(["00: train loss 4.0000, val loss 4.0000", *lines[11:]]).encode())
    (last,) = list(found)[-1]
    os.close(receive)
    assert len(first.points) == 10
    assert len(last.points) == len(lines)


def test_standard_input_that_never_ends_is_refused() -> None:
    receive, send = os.pipe()

    def write() -> None:
        with os.fdopen(send, "wb") as writer:
            block = b"x" * 2**20
            try:
                for _ in range(LARGEST // 2**20 + 2):
                    writer.write(block)
            except BrokenPipeError:
                return

    thread = threading.Thread(target=write)
    thread.start()
    with pytest.raises(LogError, match="standard input has more than"):
        list(source.live_runs(receive))
    os.close(receive)
    thread.join()


def test_the_installed_command_ends_with_code_2_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweeps", "diagnose", str(tmp_path / "none.log")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_settings_printed_at_the_head_are_the_runs(tmp_path: Path) -> None:
    log = tmp_path / "t.log"
    log.write_text(HEAD + text_of([step_line(50 * n, 4.5 / (1 + n) ** 0.3) for n in range(21)]), encoding="utf-8")
    found = json.loads(sweep(str(log), "--json")[1])
    assert found["facts"]["max_iters"] == 1000
    assert found["facts"]["vocab_size"] == 96
    assert found["facts"]["learning_rate"] == pytest.approx(3e-4)


@pytest.mark.parametrize(
    ("stdin", "why"), [("<&-", "is closed; name a log"), ("0> /dev/null", "cannot be read: Bad file descriptor")]
)
def test_a_stdin_that_cannot_be_read_is_an_error_of_one_line(tmp_path: Path, stdin: str, why: str) -> None:
    command = ["sh", "-c", f'exec "$@" {stdin}', "sh", sys.executable, "-m", "sweeps", "diagnose", "-"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard input")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_stdin_of_the_command(tmp_path: Path) -> None:
    log = tmp_path / "t.log"
    log.write_text(text_of(Simulated().lines()), encoding="utf-8")
    with log.open("rb") as file:
        command = [sys.executable, "-m", "sweeps", "diagnose", "-", "--json"]
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["verdict"] == "improving"


def test_a_table_of_keeps_is_judged_as_by_the_command_for_tables(tmp_path: Path) -> None:
    table = tmp_path / "results.tsv"
    rows = ["commit\tval_bpb\tstatus", "a\t1.00\tkeep", "b\t0.95\tkeep", "c\t0.99\tdiscard"]
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    diagnosed = CliRunner().invoke(app, ["diagnose", str(table), "--json"])
    judged = CliRunner().invoke(app, ["judge", str(table), "--json"])
    assert (diagnosed.exit_code, diagnosed.stdout) == (judged.exit_code, judged.stdout)
    assert json.loads(diagnosed.stdout)["keeps"] is not None


def test_a_page_in_ascii_has_nothing_that_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "t.log"
    log.write_text(text_of(Simulated(train=lambda step: flat(step) + 0.05, val=flat).lines()), encoding="utf-8")
    command = [sys.executable, "-m", "sweeps", "diagnose", str(log)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.isascii()
    assert "?  Whether" in done.stdout
    assert not re.findall(r"\?(?!  )", done.stdout.replace("\n", "  "))

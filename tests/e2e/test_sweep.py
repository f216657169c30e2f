"""The command `sweep` as a user runs it: real workers, real text, a study that takes seconds."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from docs import json_objects
from sweeps.cli import main
from tests.helpers.data_folders import random_walk_folder
from tests.helpers.json_types import has_fields
from trainer import config_file

STUDY = """
name: tiny
data: {parquet: docs.parquet, min_chars: 20, val_fraction: 0.3}
tokenizer: {type: bytes}
baseline: {n_layer: 1, n_embd: 16, head_size: 8, block_size: 16, batch_size: 4, gradient_accumulation_steps: 1,
  learning_rate: 1e-2, min_lr: 1e-3, warmup_iters: 100, lr_decay_iters: 1000, max_iters: 1000, dropout: 0.1}
horizon: {iters: 20}
evaluations: 20
final_windows: 64
knobs:
  learning_rate: {low: 1e-3, high: 3e-2, log: true}
  dropout: {low: 0.0, high: 0.3}
candidates: [{learning_rate: 5e-3}, {n_layer: 2}]
baseline_seeds: 2
trials: 8
confirm: {max_trials: 0}
"""
COMMAND = [sys.executable, "-m", "sweeps"]


@dataclass(frozen=True)
class Done:
    """The output of a command that has ended."""

    stdout: str
    stderr: str

    def last_object(self) -> dict[str, Any]:
        """Return the JSON object in the last line of the output."""
        parsed: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return parsed


def sweep(folder: Path, *arguments: str, code: int = 0) -> Done:
    """Run `sweep` in another process, and check its exit code."""
    done = subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return Done(done.stdout, done.stderr)


class Call(Protocol):
    """A function that runs `sweep` in this process, which has imported torch already, and checks its exit code."""

    def __call__(self, folder: Path, *arguments: str, code: int = 0) -> Done: ...


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def called(folder: Path, *arguments: str, code: int = 0) -> Done:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["sweep", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        return Done(out, err)

    return called


def write_documents(path: Path) -> None:
    words = ["loss", "plateau", "width", "rate", "decay", "warm", "up", "drop", "the", "a", "of", "and", "knob", "seed"]
    generator = np.random.default_rng(0)
    documents = [" ".join(generator.choice(words, size=40)) for _ in range(60)]
    pq.write_table(pa.table({"text": documents}), path, row_group_size=20)


def write_study(folder: Path) -> None:
    """Write the study and its documents into the folder."""
    write_documents(folder / "docs.parquet")
    (folder / "tiny.yaml").write_text(STUDY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the study has been run. Tests must not change what it holds."""
    folder = tmp_path_factory.mktemp("work")
    write_study(folder)
    (folder / "run.json").write_text(json.dumps(sweep(folder, "run", "tiny.yaml", "--json").last_object()))
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder, for tests that write to it."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def ran(folder: Path) -> dict[str, Any]:
    """Return the JSON object with which `sweep run --json` ended."""
    parsed: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return parsed


class TestRun:
    """`sweep run`: to the end, once more, with more trials, and after an interrupt."""

    def test_it_ends_with_one_json_object(self, folder: Path, ran: dict[str, Any]) -> None:
        results = {"study", "store", "report", "seconds", "trials", "baseline", "best", "verdict", "answer"}
        assert set(ran) == results | {"start", "noise", "races"}
        assert ran["start"]["kind"] == "scratch"
        assert ran["study"] == "tiny"
        assert ran["store"] == str(folder / "runs/tiny/study.db")
        assert ran["report"] == str(folder / "runs/tiny/report.html")
        assert ran["trials"] == {
            "complete": ran["trials"]["complete"],
            "pruned": 10 - ran["trials"]["complete"],
            "diverged": 0,
            "infeasible": 0,
            "truncated": 0,
            "halted": 0,
            "failed": 0,
        }
        assert ran["baseline"]["seeds"] == 2
        assert 2 < ran["baseline"]["mean"] < 6
        assert ran["best"]["val_loss"] <= ran["baseline"]["mean"] + ran["baseline"]["sd"]
        assert set(ran["best"]["config"]) >= {"learning_rate", "min_lr", "warmup_iters", "n_embd", "max_iters"}
        assert ran["best"]["config"]["max_iters"] == 20
        assert ran["best"]["config"]["warmup_iters"] == 2  # 100 of 1000, kept as a fraction

    def test_optuna_loads_the_store_and_finds_the_same_best_trial(self, folder: Path, ran: dict[str, Any]) -> None:
        storage = optuna.storages.RDBStorage(f"sqlite:///{ran['store']}")
        study = optuna.load_study(study_name="tiny", storage=storage)
        assert study.best_trial.number == ran["best"]["trial"]
        assert study.best_value == ran["best"]["val_loss"]
        assert set(study.best_trial.params) == {"learning_rate", "dropout"}
        steps = [list(trial.intermediate_values) for trial in study.trials]
        assert steps[0] == list(range(21))  # evaluations, not iterations
        # hidden from the sampler: the second seed, and the candidate with two layers
        confirm = optuna.load_study(study_name="tiny-confirm", storage=storage)
        assert (len(study.trials), len(confirm.trials)) == (8, 2)
        storage.remove_session()
        storage.engine.dispose()

    def test_every_evaluation_has_a_row(self, ran: dict[str, Any]) -> None:
        connection = sqlite3.connect(ran["store"])
        rows = connection.execute(
            "select run.phase, count(*), min(point.val_se) from point join run on run.id = point.run_id "
            "where run.outcome = 'complete' group by run.id"
        ).fetchall()
        connection.close()
        assert {count for _, count, _ in rows} == {21}
        assert all(error > 0 for _, _, error in rows)
        assert {phase for phase, _, _ in rows} == {"baseline", "search"}

    def test_running_it_again_changes_nothing(self, call: Call, folder: Path, ran: dict[str, Any]) -> None:
        again = call(folder, "run", "tiny.yaml", "--json").last_object()
        assert {**again, "seconds": 0} == {**ran, "seconds": 0}

    def test_a_report_that_cannot_be_written_hides_no_verdict(self, copy: Path) -> None:
        report = copy / "runs" / "tiny" / "report.html"
        report.unlink()
        report.mkdir()
        done = subprocess.run([*COMMAND, "run", "tiny.yaml"], cwd=copy, check=False, capture_output=True, text=True)
        assert done.returncode == 2
        assert (
            done.stderr == f"error: {report}: cannot be written: Is a directory; `sweep report` writes it once it can\n"
        )
        assert "sweep verdict tiny --full" in done.stdout.splitlines()[-1]  # the last line of the answer

    def test_a_report_in_a_place_that_cannot_be_written_is_an_error_of_one_line(self, call: Call, folder: Path) -> None:
        for place, why in ((folder / "runs", "Is a directory"), (folder / "tiny.yaml" / "x.html", "File exists")):
            done = call(folder, "report", "tiny", "-o", str(place), code=2)
            assert done.stderr == f"error: {place}: cannot be written: {why}; name another file with -o\n"

    def test_a_folder_that_is_gone_is_an_error_of_one_line(self, call: Call, tmp_path: Path) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        environment = {**os.environ, "GONE": str(gone)}
        script = 'cd "$GONE" && rmdir "$GONE" && exec "$@"'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *COMMAND, "status", "tiny"],
            env=environment, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: the folder that you are in was deleted or moved")

    def test_a_changed_study_is_refused_with_the_differences(self, call: Call, folder: Path) -> None:
        done = call(folder, "run", "tiny.yaml", "--set", "knobs.dropout.high=0.5", code=2)
        assert "knobs.dropout.high: 0.3 → 0.5" in done.stderr
        assert done.stderr.startswith("error: ")

    def test_more_trials_go_on_from_those_that_have_been_run(self, call: Call, copy: Path, ran: dict[str, Any]) -> None:
        more = call(copy, "run", "tiny.yaml", "--set", "trials=9", "--json").last_object()
        assert sum(ran["trials"].values()) == 10
        assert sum(more["trials"].values()) == 11
        assert more["baseline"] == ran["baseline"]

    def test_without_a_terminal_it_prints_lines_and_the_verdict(self, call: Call, tmp_path: Path) -> None:
        write_study(tmp_path)
        done = call(tmp_path, "run", "tiny.yaml", "--set", "trials=2", "--out", "elsewhere")
        assert "run 1 starts on cpu: baseline, seed 1337" in done.stdout
        last_screen = done.stdout.partition("\n\n")[2]
        assert len(last_screen.strip().splitlines()) <= 25
        assert last_screen.splitlines()[-2:] == [
            f"store    {tmp_path / 'elsewhere/study.db'}",
            "more     sweep verdict tiny --out elsewhere --full",
        ]
        full = call(tmp_path, "verdict", "tiny", "--out", "elsewhere", "--full").stdout
        assert "Baseline: 2 seeds, mean " in full
        assert full.startswith(last_screen.partition(".")[0][:40])
        assert "note: trials=2 leaves out 4 of the candidates" in done.stdout
        assert (tmp_path / "elsewhere/study.db").exists()
        assert (tmp_path / "elsewhere/report.html").exists()
        assert not (tmp_path / "runs").exists()

    @pytest.mark.parametrize(
        ("sent", "send", "sender", "code"),
        [
            (signal.SIGINT, os.killpg, "Ctrl-C", 130),  # to the driver and the workers, as a terminal does
            (signal.SIGTERM, os.kill, "SIGTERM", 143),  # to the driver, as `docker stop` does
            (signal.SIGTERM, os.killpg, "SIGTERM", 143),  # as systemd does
            (signal.SIGHUP, os.killpg, "SIGHUP", 129),  # as a terminal does that closes
        ],
    )
    def test_an_interrupted_sweep_is_run_again_to_the_same_end(
        self,
        call: Call,
        tmp_path: Path,
        ran: dict[str, Any],
        sent: signal.Signals,
        send: Callable[[int, int], None],
        sender: str,
        code: int,
    ) -> None:
        write_study(tmp_path)
        process = subprocess.Popen(
            [*COMMAND, "run", "tiny.yaml", "--set", "workers.devices=[cpu]"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("run 3 starts"):
                send(process.pid, sent)
                break
        output, _ = process.communicate()
        assert process.returncode == code
        assert f"interrupted by {sender}: runs pause at their next step; {sender} again stops them now" in output
        assert "interrupted: sweep run tiny goes on" in output
        again = call(tmp_path, "run", "tiny.yaml", "--json").last_object()
        assert sum(again["trials"].values()) == 10
        assert again["trials"]["failed"] == 0
        assert again["baseline"] == ran["baseline"]  # the same losses in another process

    @pytest.mark.parametrize("moment", ["preparing", "loading"])
    def test_sigterm_outside_of_a_session_ends_the_command(self, tmp_path: Path, moment: str) -> None:
        write_study(tmp_path)
        function = {"preparing": "sweeps.engine.session.prepare_data", "loading": "sweeps.study.load.load"}[moment]
        program = textwrap.dedent(f"""
            import pkgutil, signal, sys
            from unittest import mock
            from sweeps import cli
            real = pkgutil.resolve_name({function!r})
            def interrupted(*args, **options):
                signal.raise_signal(signal.SIGTERM)
                return real(*args, **options)
            with mock.patch({function!r}, interrupted):
                cli.main()
        """)
        ended = subprocess.run([sys.executable, "-c", program, "run", "tiny.yaml"], cwd=tmp_path, capture_output=True)
        assert (ended.returncode, ended.stderr) == (143, b"")
        assert not (tmp_path / "runs/tiny/study.db").exists()


class TestConfirm:
    """`sweep confirm`: seeds added to a finished search."""

    def test_added_seeds_give_a_verdict(self, call: Call, copy: Path) -> None:
        screened = call(copy, "verdict", "tiny", "--json").last_object()
        assert (screened["study"], screened["verdict"], screened["races"]) == ("tiny", None, [])
        confirmed = call(copy, "confirm", "tiny", "--max-trials", "3", "--json").last_object()
        assert sum(confirmed["trials"].values()) == 13
        verdict = call(copy, "verdict", "tiny", "--json").last_object()["verdict"]
        assert verdict == confirmed["verdict"]
        assert verdict["word"] in ("breaks", "improves", "none")
        assert {"name", "verdict", "effect", "ci", "p", "n", "from", "to"} <= verdict["knobs"][0].keys()
        assert "tiny: 13 of " in call(copy, "status", "tiny").stdout
        assert "What it rests on" in call(copy, "verdict", "tiny", "--full").stdout
        answer = call(copy, "verdict", "tiny", "--json").last_object()["answer"]
        assert call(copy, "verdict", "tiny").stdout.startswith(answer["sentence"][:60])
        assert {row["knob"] for row in answer["rows"]} - {None} == {knob["name"] for knob in verdict["knobs"]}


OPTIONS = {
    "run": ["tiny.yaml"],
    "confirm": ["tiny", "--max-trials", "2"],
    "plan": ["tiny.yaml"],
    "prepare": ["tiny.yaml"],
    "status": ["tiny"],
    "verdict": ["tiny"],
    "report": ["tiny", "-o", "here.html"],
    "export": ["tiny", "-o", "best.py", "--checkpoint", "ckpt", "--ladder", "ladder", "--force"],
    "diagnose": ["train.log"],
    "judge": ["runs.csv"],
    "init": ["another"],
}
NEVER_ENDS = {"dashboard"}
LOG = "".join(
    f"step {250 * i}: train loss {3.5 + 1 / (i + 1):.4f}, val loss {3.6 + 1 / (i + 1):.4f}\n" for i in range(30)
)
TABLE = "arm,seed,loss\n" + "".join(
    f"{arm},{seed},{3 + (arm == 'a') + seed / 100}\n" for arm in "ab" for seed in range(3)
)


class TestJson:
    """What commands with `--json` print has the fields that docs/reference/json.md lists."""

    def test_every_command_is_tried(self) -> None:
        assert OPTIONS.keys() == json_objects.COMMANDS.keys() - NEVER_ENDS

    @pytest.mark.parametrize("command", OPTIONS)
    def test_it_is_as_documented(self, call: Call, copy: Path, command: str) -> None:
        (copy / "train.log").write_text(LOG)
        (copy / "runs.csv").write_text(TABLE)
        printed = call(copy, command, *OPTIONS[command], "--json").last_object()
        has_fields(printed, json_objects.COMMANDS[command], set())
        json.dumps(printed, allow_nan=False)


class TestBrowsing:
    """Commands that read a study that has been run."""

    @pytest.mark.parametrize("named", ["tiny", "tiny.yaml", "runs/tiny", "runs/tiny/study.db"])
    def test_status_takes_a_name_a_file_a_folder_or_a_database(
        self, call: Call, folder: Path, named: str, ran: dict[str, Any]
    ) -> None:
        status = call(folder, "status", named, "--json").last_object()
        assert status["best"] == ran["best"]
        assert status["planned"] == 10
        assert "tiny: 10 of 10 runs" in call(folder, "status", named).stdout

    def test_an_unknown_study_is_refused_with_the_known_ones(self, call: Call, folder: Path) -> None:
        done = call(folder, "status", "other", code=2)
        assert "runs/other/study.db; under runs/ there is tiny" in done.stderr

    def test_report_writes_a_page_and_prints_its_path(self, call: Call, folder: Path, tmp_path: Path) -> None:
        done = call(folder, "report", "tiny", "-o", str(tmp_path / "r.html"))
        assert done.stdout.strip() == str(tmp_path / "r.html")
        page = (tmp_path / "r.html").read_text()
        assert 'id="verdict"' in page
        assert "tiny" in page

    def test_plan_runs_nothing(self, call: Call, folder: Path) -> None:
        before = (folder / "runs/tiny/study.db").read_bytes()
        plan = call(folder, "plan", "tiny.yaml", "--json").last_object()
        assert plan["trials"] == 10
        assert plan["iters"] == 20
        assert plan["tokens_per_trial"] == 20 * 4 * 16
        assert plan["resolved"]["name"] == "tiny"
        assert (folder / "runs/tiny/study.db").read_bytes() == before
        short, full = (call(folder, "plan", "tiny.yaml", *options).stdout for options in ([], ["--full"]))
        assert "resolved study:" not in short
        shown = yaml.safe_load(full.partition("resolved study:\n")[2])
        assert shown == plan["resolved"]

    def test_an_exported_config_is_the_best_trials(
        self, call: Call, folder: Path, tmp_path: Path, ran: dict[str, Any]
    ) -> None:
        refused = call(folder, "export", "tiny", code=2)
        assert "--force exports trial" in refused.stderr
        best = ["export", "tiny", "--trial", str(ran["best"]["trial"])]
        call(folder, *best, "-o", str(tmp_path / "best.py"), "--checkpoint", str(tmp_path / "ckpt"))
        settings = config_file.read_config(tmp_path / "best.py")
        assert settings["learning_rate"] == ran["best"]["config"]["learning_rate"]
        assert Path(str(settings["dataset"])) == next((folder / "runs/data").glob("docs-bytes-*"))
        assert (tmp_path / "ckpt/ckpt.pt").exists()
        longer = json.loads(call(folder, *best, "--iters", "1000", "--json").stdout)
        assert longer["config"]["max_iters"] == 1000
        assert longer["config"]["warmup_iters"] == 100

    def test_the_exported_config_trains_to_the_same_loss(
        self, folder: Path, tmp_path: Path, ran: dict[str, Any]
    ) -> None:
        """The config, the data folder and the seed determine a run, also outside of a sweep."""
        config = {key: value for key, value in ran["best"]["config"].items() if key != "device"}
        (tmp_path / "best.yaml").write_text(json.dumps(config))
        data = next((folder / "runs/data").glob("docs-bytes-*"))
        subprocess.run(
            [sys.executable, "-m", "trainer", "best.yaml", "--data", data, "--out", "out", "--points", "points.jsonl"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        last = json.loads((tmp_path / "points.jsonl").read_text().splitlines()[-1])
        assert last["val_loss"] == pytest.approx(ran["best"]["val_loss"], abs=1e-5)

    def test_prepare_describes_data_that_are_prepared_already(self, call: Call, folder: Path) -> None:
        data = call(folder, "prepare", "tiny.yaml", "--json").last_object()
        assert data["vocab_size"] == 257
        assert data["bytes_per_token"] == pytest.approx(1.0, abs=0.02)
        assert data["train_tokens"] > data["val_tokens"] > 1000


class TestOwnRun:
    """The user's data folder and nanoGPT config."""

    def test_a_nanogpt_data_folder_and_config_are_swept(self, call: Call, tmp_path: Path) -> None:
        random_walk_folder(tmp_path / "walk", tokens=8000)
        (tmp_path / "train_mine.py").write_text(
            "n_layer = 1\nn_head = 2\nn_embd = 24\nblock_size = 16\nbatch_size = 4\ngradient_accumulation_steps = 1\n"
            "learning_rate = 5e-4\nmin_lr = 5e-5\nwarmup_iters = 10\nlr_decay_iters = 100\nmax_iters = 100\n"
        )
        (tmp_path / "tiny.yaml").write_text(STUDY)
        options = ["--data", "walk", "--baseline", "train_mine.py", "--set", "trials=1", "--set", "candidates=[]"]
        done = call(tmp_path, "run", "tiny.yaml", *options, "--json")
        summary = done.last_object()
        assert summary["trials"]["complete"] == 3
        assert summary["best"]["config"]["n_embd"] == 24
        assert summary["best"]["config"]["vocab_size"] == 32
        assert "learning_rate" in done.stderr  # a note that its range was widened to the config's value

    def test_a_meta_pkl_that_would_run_code_is_refused(self, call: Call, tmp_path: Path) -> None:
        random_walk_folder(tmp_path / "walk")
        (tmp_path / "walk/meta.pkl").write_bytes(pickle.dumps(sqlite3.connect))
        (tmp_path / "tiny.yaml").write_text(STUDY)
        done = call(tmp_path, "run", "tiny.yaml", "--data", "walk", code=2)
        assert "meta.pkl" in done.stderr


class TestInit:
    """A study to start from, without a clone of the repository."""

    def test_a_new_study_can_be_planned_and_is_not_overwritten(self, call: Call, tmp_path: Path) -> None:
        assert "mine.yaml" in call(tmp_path, "init", "mine").stdout
        data = ["--set", "data={parquet: docs.parquet}", "--set", "data.val_fraction=0.3"]
        options = ["--profile", "cpu", *data, "--set", "tokenizer={type: bytes}"]
        write_documents(tmp_path / "docs.parquet")
        assert call(tmp_path, "plan", "mine.yaml", *options, "--json").last_object()["study"] == "mine"
        done = call(tmp_path, "init", "mine", code=2)
        assert "exists already" in done.stderr

    def test_the_schema_is_json(self, call: Call, tmp_path: Path) -> None:
        schema = json.loads(call(tmp_path, "schema").stdout)
        assert "properties" in schema
        assert call(tmp_path, "schema", "--json").last_object() == schema

    def test_the_file_of_a_new_study_is_named_as_json(self, call: Call, tmp_path: Path) -> None:
        done = call(tmp_path, "init", "mine", "--json")
        assert json.loads(done.stdout) == {"study": "mine", "file": str(tmp_path / "mine.yaml")}


class TestMistakes:
    """Mistakes of the user: exit code 2, and a line with the remedy."""

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["run", "none.yaml"], "none.yaml: cannot be read"),
            (["run", "tiny.yaml", "--set", "knobs.dropot.high=1"], "dropout"),
            (["run", "tiny.yaml", "--profile", "cuda"], "profile"),
            (["run"], "Missing argument"),
            (["rnu"], "No such command"),
            (["run", "tiny.yaml"], "docs.parquet"),
        ],
    )
    def test_a_mistake_is_reported_without_a_traceback(
        self, call: Call, tmp_path: Path, arguments: list[str], words: str
    ) -> None:
        (tmp_path / "tiny.yaml").write_text(STUDY)
        done = call(tmp_path, *arguments, code=2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr

    def test_every_command_has_help(self, call: Call, tmp_path: Path) -> None:
        shown = call(tmp_path, "--help").stdout
        assert call(tmp_path).stdout == call(tmp_path, "-h").stdout == shown
        assert "--debug" in shown
        assert "--install-completion" in shown
        for command in ["run", "plan", "prepare", "status", "report", "export", "dashboard", "init", "schema"]:
            assert command in shown
            assert len(call(tmp_path, command, "--help").stdout) > 100
            assert call(tmp_path, command, "-h").stdout == call(tmp_path, command, "--help").stdout

    def test_it_says_its_version(self, call: Call, tmp_path: Path) -> None:
        assert call(tmp_path, "--version").stdout == f"plateau-sweep {importlib.metadata.version('plateau-sweep')}\n"

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_shells_complete_it(self, shell: str) -> None:
        environment = {**os.environ, "_SWEEP_COMPLETE": f"source_{shell}"}
        program = "import sys; sys.argv = ['sweep']; from sweeps.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "_SWEEP_COMPLETE=complete_" in done.stdout

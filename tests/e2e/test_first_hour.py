"""A first hour in miniature: somebody's config and data folder, and the commands of docs/guide/your-own-run.md."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.test_sweep import Call, call  # noqa: F401  # `call` is a fixture
from tests.helpers.exports import nanogpt_configurator
from tests.helpers.nanogpt_configs import NANOGPT

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide" / "your-own-run.md"
SMALLER = ["horizon.iters=20", "start.train.max_iters=60", "race=null", "candidates=[]", "trials=2", "baseline_seeds=2"]
"""what makes the guide's sweep one of seconds"""


def a_folder_of_characters(folder: Path) -> None:
    """Write what nanoGPT's data/shakespeare_char/prepare.py writes, of another text."""
    text = "".join(path.read_text() for path in sorted((ROOT / "sweeps").rglob("*.py")))[:60_000]
    characters = sorted(set(text))
    numbers = {character: number for number, character in enumerate(characters)}
    ids = np.array([numbers[character] for character in text], dtype=np.uint16)
    folder.mkdir(parents=True)
    ids[: int(0.9 * len(ids))].tofile(folder / "train.bin")
    ids[int(0.9 * len(ids)) :].tofile(folder / "val.bin")
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": numbers}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def commands_of_the_guide() -> list[list[str]]:
    """Return the arguments of `sweep` in the section "A first hour", each command once."""
    section = GUIDE.read_text().partition("## A first hour")[2].partition("\n## ")[0]
    lines = re.sub(r" \\\n\s+", " ", section).splitlines()
    return [line.split()[1:] for line in lines if line.startswith("    sweep ")]


@pytest.mark.usefixtures("call")
def test_a_first_hour(tmp_path: Path, call: Call) -> None:  # noqa: F811
    a_folder_of_characters(tmp_path / "data" / "shakespeare_char")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "train_shakespeare_char.py").write_text(NANOGPT["train_shakespeare_char"])
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    whole, planned, ran, exported = commands_of_the_guide()

    said = call(tmp_path, *whole).stdout
    assert "note: data: " in said
    assert "data/shakespeare_char, as the dataset of config/train_shakespeare_char.py" in said
    assert re.search(r"warning: the sweep needs about \d+ h", said)

    smaller = [option for change in (*SMALLER, "confirm.max_trials=3") for option in ("--set", change)]
    assert "on 2 workers" in call(tmp_path, *planned, *smaller, "--set", "workers.devices=[cpu,cpu]").stdout
    said = call(tmp_path, *ran, *smaller).stdout
    last_screen = said[said.rindex("\n\n", 0, said.index("report   ")) :] if "report   " in said else ""
    assert len(said.partition("\nknob ")[2].splitlines()) <= 25, last_screen
    assert (tmp_path / "runs" / "plateau" / "report.html").is_file()

    call(tmp_path, *exported, "--force")
    written = (tmp_path / "config" / "train_next.py").read_text()
    settings = nanogpt_configurator(written)
    assert settings["dataset"] == "shakespeare_char"
    assert settings["init_from"] == "resume"
    assert settings["wandb_project"] == "shakespeare-char"
    assert (tmp_path / settings["out_dir"] / "ckpt.pt").is_file()

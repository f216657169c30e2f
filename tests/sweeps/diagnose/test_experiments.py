"""Tables of keep/discard experiments: the verdict on the search, and lines that can't be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.diagnose.experiments import Experiments, read_experiments
from sweeps.errors import LogError

HEAD = "commit\tval_bpb\tmemory_gb\tstatus\tdescription"


def table(folder: Path, rows: Sequence[tuple[float, str]]) -> Path:
    lines = [f"a{n:06x}\t{bits:.6f}\t44.0\t{status}\ttry {n}" for n, (bits, status) in enumerate(rows)]
    path = folder / "results.tsv"
    path.write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")
    return path


def read(folder: Path, rows: Sequence[tuple[float, str]]) -> Experiments:
    found = read_experiments([str(table(folder, rows))])
    assert found is not None
    return found


FALLING = [(1.0 - 0.01 * n, "keep") for n in range(15)]
STUCK = [*FALLING, *[(0.99, "discard")] * 9, (0.0, "crash"), (0.8595, "keep"), *[(0.9, "discard")] * 3]


def test_a_search_that_still_gains_and_one_that_is_stuck(tmp_path: Path) -> None:
    falling = read(tmp_path, FALLING)
    assert (falling.state, falling.since) == ("improving", None)
    assert falling.gain == pytest.approx(0.1)
    stuck = read(tmp_path, STUCK)
    assert (stuck.state, stuck.since) == ("plateau", 15)
    assert stuck.gain == pytest.approx(0.0005)  # less than 0.02 nats per token of 4.5 bytes: 0.0064 bits per byte
    assert len(stuck.kept) == 16


def test_a_short_table_isnt_judged(tmp_path: Path) -> None:
    assert read(tmp_path, FALLING[:10]).state == "too_short"


def test_the_command_prints_a_page_or_json(tmp_path: Path) -> None:
    path = str(table(tmp_path, STUCK))
    page = " ".join(CliRunner().invoke(app, ["diagnose", path]).stdout.split())
    assert "29 experiments, plateau since experiment 15" in page
    assert "16 kept, 12 discarded, 1 crashed." in page
    found = json.loads(CliRunner().invoke(app, ["diagnose", path, "--json"]).stdout)
    assert (found["verdict"], found["experiments"], len(found["kept"])) == ("plateau", 29, 16)


def test_every_line_that_cant_be_read_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, FALLING)
    path.write_text(path.read_text(encoding="utf-8") + "x\tabc\t1\tkeep\tz\nx\t1.0\t1\tmaybe\tz\n", encoding="utf-8")
    with pytest.raises(LogError, match=r"line 17: .*abc.*line 18: status 'maybe'"):
        read_experiments([str(path)])


def test_other_tables_are_left_to_the_reader_of_logs(tmp_path: Path) -> None:
    path = tmp_path / "loss.csv"
    path.write_text("step,loss\n1,2.0\n", encoding="utf-8")
    assert read_experiments([str(path)]) is None
    assert read_experiments(["-"]) is None

"""Output that can't be written: the command goes on without it, and says so where nobody has chosen it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from sweeps import streams
files = streams.outlast()
for number in range(20_000):
    print("a line – with a dash", number)
open(sys.argv[1], "w").write(f"the end; {streams.what_was_lost(files)}")
"""


def end_of(folder: Path, *redirections: str, **environment: str) -> str:
    """Run the program in a shell with the redirections, and return what it says at its end."""
    command = f'"$0" -c "$1" "$2" {" ".join(redirections)}'
    place = folder / "end.txt"
    subprocess.run(
        ["bash", "-c", command, sys.executable, PROGRAM, str(place)],
        check=True,
        env={**os.environ, **environment},
        capture_output=True,
    )
    return place.read_text()


@pytest.mark.parametrize(
    "redirections",
    [">&-", ">&- 2>&-", "> /dev/null", "| head -1"],
)
def test_an_end_that_someone_chose_is_nobodys_error(tmp_path: Path, redirections: str) -> None:
    assert end_of(tmp_path, redirections) == "the end; "


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    assert end_of(tmp_path, "> /dev/full") == "the end; the output can't be written: No space left on device"


def test_what_an_encoding_lacks_is_a_question_mark(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    assert end_of(tmp_path, f"> {out}", PYTHONIOENCODING="ascii") == "the end; "
    lines = out.read_text(encoding="ascii").splitlines()
    assert (len(lines), lines[0]) == (20_000, "a line ? with a dash 0")


def test_the_command_says_that_its_output_was_lost() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("a device that is always full")
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123  # a device
        done = subprocess.run(
            [sys.executable, "-m", "sweeps", "schema"], check=False, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (2, "error: the output can't be written: No space left on device\n")

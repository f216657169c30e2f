"""A check of the image with a real engine: a whole sweep, stopped half-way and taken up again, then its dashboard.

    mkdir -p runs
    export COMPOSE_FILE=docker/compose.yaml:docker/compose.cpu.yaml SWEEP_USER=$(id -u):$(id -g)
    docker compose build
    python docker/check.py

It takes two minutes on two cores, and writes runs/smoke, which must not exist. `--compose docker-compose` names another
command. docs/experiments/docker.md has what it printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "runs" / "smoke"
DASHBOARD = "http://127.0.0.1:8080"
HALF_WAY = "run 16 starts"
"""the line at which the sweep of about 32 runs is stopped"""
LENGTH = 60
"""steps of a run"""
PATIENCE = 120.0
"""seconds that the dashboard has to become healthy"""


@dataclass
class Session:
    """One `compose up sweep`."""

    seconds_to_first_run: float | None = None
    lines: list[str] = field(default_factory=list)
    exit_code: int = 0

    def having(self, words: str) -> list[str]:
        return [line for line in self.lines if words in line]


class Compose:
    """The compose command, in this folder and for the smoke study."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._options: dict[str, Any] = {
            "cwd": ROOT,
            "env": {**os.environ, "SWEEP_STUDY": "studies/smoke.yaml"},
            "text": True,
        }

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *arguments]
        return subprocess.run(command, check=check, capture_output=True, **self._options)  # noqa: S603  # the user's own

    def sweep(self, at_line: Callable[[Session], None] = lambda _: None) -> Session:
        """Run the sweep until it ends, and call `at_line` after each of its lines."""
        session, began = Session(), time.monotonic()
        command = [*self._command, "up", "--no-log-prefix", "--exit-code-from", "sweep", "sweep"]
        with subprocess.Popen(  # noqa: S603  # the user's own
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **self._options
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                session.lines.append(line.rstrip())
                if session.seconds_to_first_run is None and line.startswith("run "):
                    session.seconds_to_first_run = time.monotonic() - began
                at_line(session)
        session.exit_code = process.returncode
        return session


class Stopper:
    """Stops the sweep half-way, once."""

    def __init__(self, compose: Compose) -> None:
        self._compose = compose
        self.seconds: float | None = None

    def __call__(self, session: Session) -> None:
        if self.seconds is None and session.lines[-1].startswith(HALF_WAY):
            began = time.monotonic()
            self._compose("stop", "sweep")
            self.seconds = time.monotonic() - began


def paused() -> dict[str, int]:
    """Return the step of each run that has a checkpoint and isn't complete."""
    states = {state.parent.name: int(state.stem.removeprefix("state-")) for state in STUDY.glob("runs/*/state-*.pt")}
    return {run: step for run, step in sorted(states.items()) if step < LENGTH}


def complete(session: Session) -> int:
    return sum(bool(re.match(r"run \d+ complete", line)) for line in session.lines)


def headline(lines: Sequence[str]) -> str:
    """Return the paragraph above what the verdict rests on."""
    end = lines.index("What it rests on") - 1
    begin = max(number for number, line in enumerate(lines[:end]) if not line)
    return " ".join(lines[begin + 1 : end])


def expect(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"failed: {what}")


def dashboard_answers() -> int:
    """Wait for the dashboard. Returns the number of its studies."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"{DASHBOARD}/api/studies", timeout=5) as response:  # noqa: S310  # http
                return len(json.loads(response.read())["study_summaries"])
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--compose", default="docker compose", metavar="COMMAND")
    compose = Compose(parser.parse_args().compose.split())
    expect(not STUDY.exists(), f"{STUDY} must not exist")

    stop = Stopper(compose)
    first = compose.sweep(stop)
    print(f"seconds from `up` to the first run: {first.seconds_to_first_run:.1f}")
    expect(stop.seconds is not None, "the sweep ended before it was stopped:\n" + "\n".join(first.lines[-20:]))
    print(f"seconds of `stop`: {stop.seconds:.1f}; exit code {first.exit_code}")
    expect(first.exit_code == 143, "a stopped sweep exits with 143, one that was killed with 137")
    expect(bool(first.having("interrupted by SIGTERM")), "the sweep says that SIGTERM interrupted it")
    steps = paused()
    print(f"paused: {', '.join(f'run {run} at step {step}' for run, step in steps.items()) or 'none'}")

    second = compose.sweep()
    taken_up = [run for run in steps if second.having(f"run {run} starts") and second.having(f"run {run} complete")]
    print(
        f"completed by the second session: {', '.join(f'run {run}' for run in taken_up)}; exit code {second.exit_code}"
    )
    expect(taken_up == list(steps), "what was paused is completed")
    expect(second.exit_code == 0, "the sweep taken up ends with 0:\n" + "\n".join(second.lines[-20:]))
    expect(bool(second.having("What it rests on")), "the sweep ends with its verdict")
    print(f"verdict: {headline(second.lines)}")
    print(f"complete runs: {complete(first)} before the stop, {complete(second)} after it")

    compose("up", "--detach", "dashboard")
    try:
        print(f"dashboard: {dashboard_answers()} studies at {DASHBOARD}")
        health = compose("exec", "dashboard", "python", "/opt/plateau-sweep/health.py", check=False)
        expect(health.returncode == 0, f"the health check succeeds: {health.stderr}")
        written = compose("exec", "dashboard", "python", "-c", "open('/opt/file', 'w')", check=False)
        expect("Read-only file system" in written.stderr + written.stdout, "the root is read-only")
        compose("stop", "dashboard")
        state = json.loads(compose("ps", "--all", "--format", "json", "dashboard").stdout)
        expect(state["ExitCode"] == 143, f"a stopped dashboard exits with 143, not {state['ExitCode']}")
    finally:
        compose("down")

    owners = {f"{path.stat().st_uid}:{path.stat().st_gid}" for path in STUDY.rglob("*")}
    print(f"owner of the files: {', '.join(sorted(owners))}")
    expect(owners == {os.environ["SWEEP_USER"]}, f"the files belong to {os.environ['SWEEP_USER']}")


if __name__ == "__main__":
    main()

"""What is lost when a sweep is killed at random? Compares disturbed sweeps of real training with undisturbed ones.

Two studies of some 45 runs, one from scratch and one of branches, are run undisturbed, and then again while a random
choice of this happens to them: a worker is killed, the driver is killed, a checkpoint is truncated or a bit of it is
flipped between two sessions, and the disk is full for a while (a small tmpfs, where one can be mounted). After each end
of the driver `sweep run` is started again, until the study is finished. Then every trial must be there once, with the
outcome, the parameters and, to the last bit, the losses of the undisturbed sweep; Optuna must know the same trials; the
store must pass SQLite's integrity check and the report must build. If a study is finished before N kills, it is
disturbed once more from its start.

    python -m benchmarks.reliability.chaos --kills 150 --json

The exit code is 1 if anything was lost. Takes about 5 seconds per kill on two idle cores, and 2 minutes beside.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna
import psutil

from benchmarks.commands import ROOT, at_least, parser_of
from benchmarks.reliability.chaos_studies import studies
from benchmarks.reliability.comparison import NOTHING, Comparison, compare
from sweeps.store.records import Results
from sweeps.store.sqlite import url_of
from sweeps.store.store import Reader
from tests.helpers.data_folders import random_walk_folder

SWEEP = (sys.executable, "-m", "benchmarks.reliability.saving_sweep")
WORKER_KILLS = 2
"""kills of workers per session: after the third crash of one run it has failed, as it should"""
LONGEST = 25.0
"""seconds that a session is left alone at most"""
TMPFS = "48m"
USERS_ERROR = 2
"""exit code of a sweep that tells why it can't go on, a full disk for example"""


class Broken(Exception):
    """A sweep that ended as it should never end."""


@dataclass
class Chaos:
    """What happens to one study. `rng` decides what happens when."""

    study: Path
    folder: Path
    rng: random.Random
    on_tmpfs: bool
    kills: int = 0
    damaged: int = 0
    full: int = 0
    """times that the disk was full until the sweep had ended"""
    left_running: int = 0
    """processes that outlived their driver"""

    def run(self, *, kills: int) -> None:
        """Disturb the study's sweep until it is finished, with at most `kills` kills. Raises Broken."""
        while self._session(kills=kills) != 0:
            if self.rng.random() < 0.3:
                self._damage_a_checkpoint()

    def _session(self, *, kills: int) -> int:
        """Start `sweep run` and disturb it until it ends. Returns its exit code."""
        log = self.study.with_suffix(".log")
        with log.open("ab") as output:
            command = (*SWEEP, "run", str(self.study), "--out", str(self.folder))
            driver = subprocess.Popen(  # noqa: S603
                command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
            )
        fills = self.on_tmpfs and self.rng.random() < 0.25
        until = time.monotonic() + self.rng.uniform(1.0, LONGEST)
        workers_left = WORKER_KILLS
        children: dict[int, psutil.Process] = {}
        while driver.poll() is None:
            time.sleep(self.rng.uniform(0.05, 2.0))
            children |= {child.pid: child for child in children_of(driver.pid)}
            if self.kills >= kills or driver.poll() is not None:
                continue
            if time.monotonic() > until:
                self._end(driver, fills=fills)
            elif workers_left and self.rng.random() < 0.4:
                workers_left -= 1
                self.kills += kill(self.rng, list(children.values()))
        self._reap(list(children.values()))
        if driver.returncode not in (0, USERS_ERROR, -signal.SIGKILL):
            raise Broken(f"`sweep run` ended with exit code {driver.returncode}; the end of {log}:\n{tail(log)}")
        if driver.returncode == USERS_ERROR and not fills:
            raise Broken(f"`sweep run` refused to go on; the end of {log}:\n{tail(log)}")
        return driver.returncode

    def _end(self, driver: subprocess.Popen[bytes], *, fills: bool) -> None:
        """End a session: fill its disk until it gives up, or kill its driver."""
        if not fills:
            driver.kill()
            driver.wait()
            self.kills += 1
            return
        with full_disk(self.folder):
            try:
                driver.wait(60)
            except subprocess.TimeoutExpired:
                driver.kill()
                driver.wait()
                self.kills += 1
            else:
                self.full += 1

    def _reap(self, children: list[psutil.Process]) -> None:
        """Wait for the driver's children, which end with it, and count those that don't."""
        _, alive = psutil.wait_procs(children, timeout=30)
        self.left_running += len(alive)
        for process in alive:
            process.kill()

    def _damage_a_checkpoint(self) -> None:
        """Truncate a file of an unfinished run's checkpoint, or flip a bit of it."""
        unfinished = {str(run.id) for run in results_in(self.folder).runs if run.unfinished} if self._begun() else set()
        files = [path for path in sorted((self.folder / "runs").glob("*/*.pt")) if path.parent.name in unfinished]
        if not files:
            return
        path = self.rng.choice(files)
        content = bytearray(path.read_bytes())
        place = self.rng.randrange(len(content))
        if self.rng.random() < 0.5:
            del content[place:]
        else:
            content[place] ^= 1 << self.rng.randrange(8)
        path.unlink()  # a checkpoint and the one before may be one file by two names
        path.write_bytes(content)
        self.damaged += 1

    def _begun(self) -> bool:
        try:
            with Reader(url_of(self.folder / "study.db")) as reader:
                return bool(reader.names())
        except Exception:  # noqa: BLE001  # killed before there was a store, or before it held anything
            return False


def children_of(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def kill(rng: random.Random, processes: list[psutil.Process]) -> int:
    """Kill one of the processes that are alive; return how many were killed."""
    alive = [process for process in processes if process.is_running()]
    if not alive:
        return 0
    with contextlib.suppress(psutil.NoSuchProcess):
        rng.choice(alive).kill()
    return 1


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Fill the disk of `folder` meanwhile."""
    ballast = folder.parent / "ballast"
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        yield
    finally:
        ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small tmpfs at `folder` meanwhile; yield whether that is possible here."""
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={TMPFS}", "none", str(folder))
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0  # noqa: S603
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(("umount", "-l", str(folder)), check=True)  # noqa: S603, S607


def results_in(folder: Path) -> Results:
    with Reader(url_of(folder / "study.db")) as reader:
        return reader.results(reader.names()[0])


def optuna_trials(folder: Path) -> dict[str, list[optuna.trial.FrozenTrial]]:
    """Return Optuna's trials of a store, by the names of its studies."""
    storage = optuna.storages.RDBStorage(url_of(folder / "study.db"))
    try:
        names = optuna.get_all_study_names(storage)
        return {name: optuna.load_study(study_name=name, storage=storage).get_trials() for name in names}
    finally:
        storage.remove_session()
        storage.engine.dispose()


def check_files(folder: Path) -> None:
    """Check the store's integrity and that the report builds. Raises Broken."""
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as connection:
        (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
    if answer != "ok":
        raise Broken(f"{folder / 'study.db'}: PRAGMA integrity_check says {answer}")
    command = (sys.executable, "-m", "sweeps", "report", str(folder), "-o", str(folder.parent / "report.html"))
    built = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603
    if built.returncode:
        raise Broken(f"the report of {folder} doesn't build:\n{built.stderr}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-30:])


def run_whole(study: Path, folder: Path) -> Results:
    """Run the study undisturbed. Raises Broken."""
    command = (*SWEEP, "run", str(study), "--out", str(folder))
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603
    if ended.returncode:
        raise Broken(f"the undisturbed sweep of {study} failed:\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}")
    return results_in(folder)


def chaos(work: Path, *, kills: int, seed: int) -> tuple[int, Comparison]:
    """Disturb both studies below `work` until there were `kills` kills. Raises Broken."""
    data = random_walk_folder(work / "data", tokens=40_000)
    whole: dict[str, Results] = {}
    done, total = 0, NOTHING
    texts = studies(str(data.path))
    for number, (name, text) in enumerate(rounds(texts)):
        if done >= kills and number >= len(texts):
            break
        study = work / f"{name}.yaml"
        if name not in whole:
            study.write_text(text)
            say(f"{name}: undisturbed")
            whole[name] = run_whole(study, work / f"{name}-whole")
        place = work / f"round-{number}"
        with small_disk(place) as on_tmpfs:
            if not on_tmpfs and number == 0:
                say("note: no tmpfs can be mounted here, so the disk is never full")
            disturbed = Chaos(study, place / name, random.Random(f"{seed}:{number}"), on_tmpfs)
            share = math.ceil(kills / len(texts)) if number < len(texts) else kills - done
            disturbed.run(kills=share)
            check_files(disturbed.folder)
            found = compare(whole[name], results_in(disturbed.folder), optuna_trials(disturbed.folder))
        found += Comparison(trials=0, lost=0, twice=0, orphans=disturbed.left_running, differing=0)
        done, total = done + disturbed.kills, total + found
        say(
            f"{name}: {disturbed.kills} kills, {disturbed.damaged} damaged checkpoints, {disturbed.full} full disks: "
            f"{found}"
        )
    return done, total


def rounds(texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the studies by turns, for ever."""
    while True:
        yield from texts.items()


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=at_least(1), default=150, help="kills of workers and drivers (default 150)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of what happens when (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    work = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        kills, found = chaos(work, kills=arguments.kills, seed=arguments.seed)
    except Broken as error:
        sys.exit(f"error: {error}\n{work} is kept")
    shutil.rmtree(work)
    numbers = {"kills": kills, **asdict(found)}
    print(json.dumps(numbers) if arguments.json else "\n".join(f"{name:<10}{n:>6}" for name, n in numbers.items()))
    if any((found.lost, found.twice, found.orphans, found.differing)):
        sys.exit(1)


if __name__ == "__main__":
    main()

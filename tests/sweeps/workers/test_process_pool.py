"""Workers: one contract for both pools, and what only processes have: death, logs, environment, orphans."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps import signals
from sweeps.paths import log_of
from sweeps.workers.launch import devices_for, environment
from sweeps.workers.pool import Crashed, Died, Finished, Job, Message, PointMessage, Pool, Work
from sweeps.workers.process_pool import ProcessPool
from sweeps.workers.worker import TrainJob
from tests.helpers import fake_training
from tests.helpers.data_folders import random_walk_folder
from tests.helpers.inline_pool import InlinePool
from trainer.config import TrainConfig
from trainer.points import Answer
from trainer.run import checkpoint

CONFIG = TrainConfig(
    n_layer=1,
    n_head=1,
    n_embd=16,
    block_size=16,
    vocab_size=257,
    batch_size=2,
    gradient_accumulation_steps=1,
    learning_rate=1e-3,
    min_lr=1e-4,
    max_iters=4,
    lr_decay_iters=4,
    warmup_iters=1,
    eval_interval=1,
)
GO, STOP, PAUSE = Answer.GO, Answer.STOP, Answer.PAUSE
BUG, USERS_MISTAKE, DEATH = 0.1, 0.2, 0.3


def job(folder: Path, run: int = 1, *, attempt: int = 1, device: str = "cpu", dropout: float = 0.0) -> Job:
    config = CONFIG.replace(dropout=dropout)
    out = folder / "runs" / str(run)
    return Job(run=run, attempt=attempt, config=config, data=folder, out=out, device=device)


def talk(pool: Pool, answers: dict[int, Answer] | None = None) -> list[Message]:
    """Everything said until all jobs have ended, each point answered: GO, or what `answers` has for its step."""
    said: list[Message] = []
    while len(pool.idle()) < len(pool.devices):
        for message in pool.wait(60.0):
            said.append(message)
            if isinstance(message, PointMessage):
                pool.answer(message.run, (answers or {}).get(message.point.step, GO))
    return said


def steps(said: Sequence[Message]) -> list[int]:
    return [message.point.step for message in said if isinstance(message, PointMessage)]


Make = Callable[[Sequence[str], Work], Pool]


class PoolContract:
    """What every pool does."""

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    def test_a_job_reports_waits_for_answers_and_finishes(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path, run=7, attempt=2))
        said = talk(pool)
        assert steps(said) == [0, 1, 2, 3, 4]
        assert {(message.run, message.attempt) for message in said} == {(7, 2)}
        last = said[-1]
        assert isinstance(last, Finished)
        assert last.result.outcome == "complete"
        assert last.result.val_loss == fake_training.final_loss(CONFIG)

    def test_nothing_comes_before_a_point_is_answered(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path))
        assert steps(pool.wait(60.0)) == [0]
        assert pool.wait(0.0) == []
        pool.answer(1, STOP)
        assert isinstance(pool.wait(60.0)[0], Finished)

    def test_stop_ends_the_run(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path))
        said = talk(pool, {2: STOP})
        assert steps(said) == [0, 1, 2]
        assert isinstance(said[-1], Finished)
        assert said[-1].result.outcome == "stopped"

    def test_a_paused_run_goes_on_with_its_history_first(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path))
        paused = talk(pool, {2: PAUSE})[-1]
        assert isinstance(paused, Finished)
        assert paused.result.outcome == "paused"
        pool.start(job(tmp_path, attempt=2))
        said = talk(pool)
        assert steps(said) == [0, 1, 2, 3, 4]
        assert said[-1].attempt == 2

    def test_asked_to_pause_a_run_pauses_at_the_latest_with_its_next_answer(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu", "cpu"], fake_training.train)  # the second worker has no job, and no process yet
        pool.start(job(tmp_path))
        assert steps(pool.wait(60.0)) == [0]
        pool.pause()
        pool.answer(1, PAUSE)
        (paused,) = talk(pool)
        assert isinstance(paused, Finished)
        assert (paused.result.outcome, paused.result.step) == ("paused", 0)

    def test_every_device_has_its_job(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu", "cpu"], fake_training.train)
        assert pool.devices == ("cpu", "cpu")
        assert pool.idle() == ["cpu", "cpu"]
        pool.start(job(tmp_path, run=1))
        assert pool.idle() == ["cpu"]
        pool.start(job(tmp_path, run=2))
        assert pool.idle() == []
        with pytest.raises(ValueError, match="no idle worker on cpu for run 3"):
            pool.start(job(tmp_path, run=3))
        said = talk(pool)
        assert [message.run for message in said if isinstance(message, Finished)] in ([1, 2], [2, 1])
        assert pool.idle() == ["cpu", "cpu"]

    def test_a_bug_is_told_with_its_traceback_and_the_worker_lives(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.misbehave)
        pool.start(job(tmp_path, dropout=BUG))
        (crashed,) = talk(pool)
        assert isinstance(crashed, Crashed)
        assert not crashed.user_error
        assert "Traceback" in crashed.text
        assert crashed.text.rstrip().endswith("RuntimeError: a bug")
        pool.start(job(tmp_path, run=2))
        assert isinstance(talk(pool)[-1], Finished)

    def test_a_users_mistake_is_told_in_its_own_words(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.misbehave)
        pool.start(job(tmp_path, dropout=USERS_MISTAKE))
        assert talk(pool) == [Crashed(run=1, attempt=1, text="/nowhere/data: is gone", user_error=True)]

    def test_a_dead_worker_is_told_and_replaced(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.misbehave)
        pool.start(job(tmp_path, dropout=DEATH))
        (died,) = talk(pool)
        assert isinstance(died, Died)
        assert (died.run, died.attempt) == (1, 1)
        assert "exit code 3" in died.text
        pool.start(job(tmp_path, run=2))
        assert isinstance(talk(pool)[-1], Finished)

    def test_nothing_is_heard_of_a_killed_run(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu", "cpu"], fake_training.train)
        pool.start(job(tmp_path, run=1))
        while not steps(pool.wait(60.0)):
            pass
        pool.kill(1)
        assert pool.idle() == ["cpu", "cpu"]
        pool.answer(1, GO)
        pool.start(job(tmp_path, run=1, attempt=2))
        assert {message.attempt for message in talk(pool)} == {2}

    def test_without_a_job_there_is_nothing_to_wait_for(self, make: Make) -> None:
        assert make(["cpu"], fake_training.train).wait(3600.0) == []

    def test_it_closes_in_the_middle_and_twice(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path))
        pool.wait(60.0)
        pool.close()
        pool.close()


class TestInlinePool(PoolContract):
    @pytest.fixture
    def make(self) -> Iterator[Make]:
        pools: list[Pool] = []

        def build(devices: Sequence[str], work: Work) -> Pool:
            pools.append(InlinePool(devices, work=work))
            return pools[-1]

        yield build
        for pool in pools:
            pool.close()

    def test_turns_are_taken_in_order(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu", "cpu"], fake_training.train)
        pool.start(job(tmp_path, run=1))
        pool.start(job(tmp_path, run=2))
        said = talk(pool)
        assert [message.run for message in said] == [1, 2] * 6


class TestProcessPool(PoolContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[Make]:
        pools: list[Pool] = []

        def build(devices: Sequence[str], work: Work) -> Pool:
            pools.append(ProcessPool(devices, logs=tmp_path / "logs", cores=2, work=work))
            return pools[-1]

        yield build
        for pool in pools:
            pool.close()

    def look(self, pool: Pool, one: Job) -> dict[str, Any]:
        pool.start(one)
        last = talk(pool)[-1]
        assert isinstance(last, Finished)
        seen: dict[str, Any] = json.loads(last.result.reason)
        return seen

    def test_a_worker_is_another_process_and_stays_warm(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.look_around)
        first = self.look(pool, job(tmp_path, run=1))
        assert first["pid"] != os.getpid()
        assert self.look(pool, job(tmp_path, run=2))["pid"] == first["pid"]
        assert first["ignores_interrupts"]
        # one thread, though two cores are there: its sums don't depend on how many workers there are
        assert (first["OMP_NUM_THREADS"], first["MALLOC_MMAP_MAX_"]) == ("1", "0")
        assert "MALLOC_MMAP_MAX_" not in os.environ

    def test_workers_of_a_cpu_begin_with_all_imported_and_the_environment_of_now(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for run, word in enumerate(("Monday", "Tuesday"), start=1):
            monkeypatch.setenv("OF_THE_DAY", word)
            seen = self.look(make(["cpu"], fake_training.look_around), job(tmp_path, run=run))
            assert (seen["OF_THE_DAY"], seen["warm"], seen["CUDA_VISIBLE_DEVICES"]) == (word, True, "")

    def test_where_nothing_can_be_forked_from_they_start_afresh(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise OSError("AF_UNIX path too long")

        monkeypatch.setattr(forkserver, "ensure_running", refuse)
        seen = self.look(make(["cpu"], fake_training.look_around), job(tmp_path))
        assert (seen["warm"], seen["MALLOC_MMAP_MAX_"], seen["OMP_NUM_THREADS"]) == (False, "0", "1")

    def test_workers_of_a_card_are_no_forks(self, make: Make, tmp_path: Path) -> None:
        seen = self.look(make(["cuda:0"], fake_training.look_around), job(tmp_path, device="cuda:0"))
        assert (seen["warm"], seen["MALLOC_MMAP_MAX_"]) == (False, None)

    def test_what_a_run_prints_is_in_its_log(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.look_around)
        for run in (1, 2):
            self.look(pool, job(tmp_path, run=run))
            assert log_of(tmp_path / "runs" / str(run)).read_text() == "from the depths of C\n"

    def test_a_gpu_worker_that_ran_out_of_memory_is_replaced(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cuda:0"], fake_training.look_around)
        first = self.look(pool, job(tmp_path, run=1, device="cuda:0"))
        infeasible = self.look(pool, job(tmp_path, run=2, device="cuda:0", dropout=0.5))
        after = self.look(pool, job(tmp_path, run=3, device="cuda:0"))
        assert first["pid"] == infeasible["pid"] != after["pid"]
        assert first["CUDA_VISIBLE_DEVICES"] == "0"

    def test_a_killed_process_leaves_its_last_words(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.misbehave)
        pool.start(job(tmp_path))
        assert steps(pool.wait(60.0)) == [0]
        (worker,) = multiprocessing.active_children()
        pid = worker.pid
        worker.kill()
        (died,) = talk(pool)
        assert isinstance(died, Died)
        assert died.text == "the worker on cpu was killed by SIGKILL; its last words:\ntraining run 1, attempt 1"
        (successor,) = multiprocessing.active_children()
        assert successor.pid != pid

    @pytest.mark.parametrize("device", ["cpu", "cuda:0"])
    @pytest.mark.parametrize("sent", signals.ENDING)
    def test_signals_to_all_of_a_terminal_do_not_end_it(
        self, make: Make, tmp_path: Path, sent: signal.Signals, device: str
    ) -> None:
        pool = make([device], fake_training.train)
        pool.start(job(tmp_path, device=device))
        (worker,) = multiprocessing.active_children()
        psutil.Process(worker.pid).send_signal(sent)  # it may still be starting
        assert steps(pool.wait(60.0)) == [0]
        psutil.Process(worker.pid).send_signal(sent)
        pool.answer(1, GO)
        assert isinstance(talk(pool)[-1], Finished)

    @pytest.mark.parametrize("sent", signals.ENDING)
    def test_nor_do_they_end_what_workers_are_forked_from(
        self, make: Make, tmp_path: Path, sent: signal.Signals
    ) -> None:
        self.look(make(["cpu"], fake_training.look_around), job(tmp_path, run=1))
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # there is no public name
        psutil.Process(server).send_signal(sent)
        self.look(make(["cpu"], fake_training.look_around), job(tmp_path, run=2))
        assert forkserver._forkserver._forkserver_pid == server  # type: ignore[attr-defined]

    def test_a_run_pauses_long_before_its_next_evaluation(self, make: Make, tmp_path: Path) -> None:
        """Its evaluations are a million steps apart."""
        data = random_walk_folder(tmp_path / "data")
        many = 1_000_000
        config = CONFIG.replace(max_iters=many, lr_decay_iters=many, eval_interval=many, eval_windows=2, device="cpu")
        endless = Job(run=1, attempt=1, config=config, data=data.path, out=tmp_path / "runs" / "1", device="cpu")
        pool = make(["cpu"], TrainJob())
        pool.start(endless)
        said: list[Message] = []
        while not said:
            said = pool.wait(60.0)
        assert steps(said) == [0]
        pool.answer(1, GO)
        pool.pause()
        (paused,) = talk(pool)
        assert isinstance(paused, Finished)
        assert paused.result.outcome == "paused"
        saved = checkpoint.load(endless.out)
        assert saved is not None
        assert saved.iter_num == paused.result.step < many

    def test_it_ends_with_a_parent_that_was_killed(self, tmp_path: Path) -> None:
        # it is busy with its job, and would notice the broken pipe only at its next point
        program = (
            "import sys, multiprocessing; from pathlib import Path\n"
            "from sweeps.workers.process_pool import ProcessPool\n"
            "from tests.helpers import fake_training; from tests.sweeps.workers.test_process_pool import Answer, job\n"
            "folder = Path(sys.argv[1])\n"
            "pool = ProcessPool(['cpu'], logs=folder, cores=1, work=fake_training.hang)\n"
            "pool.start(job(folder)); pool.wait(60.0); pool.answer(1, Answer.GO)\n"
            "print(multiprocessing.active_children()[0].pid, flush=True); sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.stdout is not None
            worker = psutil.Process(int(parent.stdout.readline()))
            parent.kill()
        assert ended(worker)


def ended(process: psutil.Process) -> bool:
    """Whether it ends within a minute. (Nobody may be there to reap it.)"""
    for _ in range(600):
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            process.wait(timeout=0.1)
            return True
        except psutil.TimeoutExpired:
            continue
        except psutil.NoSuchProcess:
            return True
    return False


@pytest.mark.parametrize(
    ("choice", "cuda", "cores", "expected"),
    [
        ("auto", 2, 8, ("cuda:0", "cuda:1")),
        ("auto", 0, 3, ("cpu", "cpu", "cpu")),
        ("auto", 0, 0, ("cpu",)),
        (["cuda:1"], 2, 8, ("cuda:1",)),
        (("cpu", "cpu"), 2, 8, ("cpu", "cpu")),
        ("cpu", 1, 8, ("cpu",)),
    ],
)
def test_devices_for(choice: str | Sequence[str], cuda: int, cores: int, expected: tuple[str, ...]) -> None:
    assert devices_for(choice, cuda_devices=cuda, cpu_cores=cores) == expected


@pytest.mark.parametrize(
    ("device", "inherited", "expected"),
    [
        ("cpu", {}, {"CUDA_VISIBLE_DEVICES": "", "MALLOC_TRIM_THRESHOLD_": "8589934592"}),
        ("cpu", {"MALLOC_TRIM_THRESHOLD_": "1"}, {"MALLOC_TRIM_THRESHOLD_": None, "MALLOC_MMAP_MAX_": "0"}),
        ("cpu", {}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
        ("cpu", {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}, {"GLIBC_TUNABLES": None}),
        ("cuda", {}, {"CUDA_VISIBLE_DEVICES": "0", "MALLOC_MMAP_MAX_": None}),
        ("cuda:1", {}, {"CUDA_VISIBLE_DEVICES": "1"}),
        ("cuda:1", {"CUDA_VISIBLE_DEVICES": "4,6"}, {"CUDA_VISIBLE_DEVICES": "6"}),
        ("cuda:0", {"CUDA_VISIBLE_DEVICES": "GPU-8a"}, {"CUDA_VISIBLE_DEVICES": "GPU-8a"}),
    ],
)
def test_environment(device: str, inherited: dict[str, str], expected: dict[str, str | None]) -> None:
    changes = environment(device, threads=3, inherited=inherited)
    assert changes["OMP_NUM_THREADS"] == "3"
    assert {name: changes.get(name) for name in expected} == expected

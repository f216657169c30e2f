"""Pools of workers: one contract for both, and for processes also deaths, logs, environments and orphans."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps import signals
from sweeps.paths import log_of
from sweeps.workers import launch
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
    """Return all messages until every job has ended. Points are answered by `answers` of their step, else by GO."""
    messages: list[Message] = []
    while len(pool.idle()) < len(pool.devices):
        for message in pool.wait(60.0):
            messages.append(message)
            if isinstance(message, PointMessage):
                pool.answer(message.run, (answers or {}).get(message.point.step, GO))
    return messages


def steps(messages: Sequence[Message]) -> list[int]:
    return [message.point.step for message in messages if isinstance(message, PointMessage)]


Make = Callable[[Sequence[str], Work], Pool]


class PoolContract:
    """The tests that every pool passes."""

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    def test_a_job_reports_waits_for_answers_and_finishes(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path, run=7, attempt=2))
        messages = talk(pool)
        assert steps(messages) == [0, 1, 2, 3, 4]
        assert {(message.run, message.attempt) for message in messages} == {(7, 2)}
        last = messages[-1]
        assert isinstance(last, Finished)
        assert last.result.outcome == "complete"
        assert last.result.val_loss == fake_training.final_loss(CONFIG)

    def test_a_job_says_nothing_before_its_point_is_answered(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path))
        assert steps(pool.wait(60.0)) == [0]
        assert pool.wait(0.0) == []
        pool.answer(1, STOP)
        assert isinstance(pool.wait(60.0)[0], Finished)

    def test_stop_ends_the_run(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path))
        messages = talk(pool, {2: STOP})
        assert steps(messages) == [0, 1, 2]
        assert isinstance(messages[-1], Finished)
        assert messages[-1].result.outcome == "stopped"

    def test_a_paused_run_repeats_its_history_and_goes_on(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path))
        paused = talk(pool, {2: PAUSE})[-1]
        assert isinstance(paused, Finished)
        assert paused.result.outcome == "paused"
        pool.start(job(tmp_path, attempt=2))
        messages = talk(pool)
        assert steps(messages) == [0, 1, 2, 3, 4]
        assert messages[-1].attempt == 2

    def test_asked_to_pause_a_run_pauses_at_the_latest_with_its_next_answer(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu", "cpu"], fake_training.train)  # the second worker has no job, and no process yet
        pool.start(job(tmp_path))
        assert steps(pool.wait(60.0)) == [0]
        pool.pause()
        pool.answer(1, PAUSE)
        (paused,) = talk(pool)
        assert isinstance(paused, Finished)
        assert (paused.result.outcome, paused.result.step) == ("paused", 0)

    def test_every_device_runs_one_job_at_a_time(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu", "cpu"], fake_training.train)
        assert pool.devices == ("cpu", "cpu")
        assert pool.idle() == ["cpu", "cpu"]
        pool.start(job(tmp_path, run=1))
        assert pool.idle() == ["cpu"]
        pool.start(job(tmp_path, run=2))
        assert pool.idle() == []
        with pytest.raises(ValueError, match="no idle worker on cpu for run 3"):
            pool.start(job(tmp_path, run=3))
        messages = talk(pool)
        assert [message.run for message in messages if isinstance(message, Finished)] in ([1, 2], [2, 1])
        assert pool.idle() == ["cpu", "cpu"]

    def test_a_bug_is_reported_with_its_traceback_and_the_worker_survives(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.misbehave)
        pool.start(job(tmp_path, dropout=BUG))
        (crashed,) = talk(pool)
        assert isinstance(crashed, Crashed)
        assert not crashed.user_error
        assert "Traceback" in crashed.text
        assert crashed.text.rstrip().endswith("RuntimeError: a bug")
        pool.start(job(tmp_path, run=2))
        assert isinstance(talk(pool)[-1], Finished)

    def test_a_users_mistake_is_reported_without_a_traceback(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.misbehave)
        pool.start(job(tmp_path, dropout=USERS_MISTAKE))
        assert talk(pool) == [Crashed(run=1, attempt=1, text="/nowhere/data: is gone", user_error=True)]

    def test_a_dead_worker_is_reported_and_replaced(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.misbehave)
        pool.start(job(tmp_path, dropout=DEATH))
        (died,) = talk(pool)
        assert isinstance(died, Died)
        assert (died.run, died.attempt) == (1, 1)
        assert "exit code 3" in died.text
        pool.start(job(tmp_path, run=2))
        assert isinstance(talk(pool)[-1], Finished)

    def test_a_killed_run_sends_no_further_message(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu", "cpu"], fake_training.train)
        pool.start(job(tmp_path, run=1))
        while not steps(pool.wait(60.0)):
            pass
        pool.kill(1)
        assert pool.idle() == ["cpu", "cpu"]
        pool.answer(1, GO)
        pool.start(job(tmp_path, run=1, attempt=2))
        assert {message.attempt for message in talk(pool)} == {2}

    def test_waiting_without_a_job_returns_at_once(self, make: Make) -> None:
        assert make(["cpu"], fake_training.train).wait(3600.0) == []

    def test_it_closes_during_a_job_and_may_be_closed_twice(self, make: Make, tmp_path: Path) -> None:
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

    def test_jobs_take_turns_in_order(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu", "cpu"], fake_training.train)
        pool.start(job(tmp_path, run=1))
        pool.start(job(tmp_path, run=2))
        assert [message.run for message in talk(pool)] == [1, 2] * 6


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

    def described(self, pool: Pool, job: Job) -> dict[str, Any]:
        """Return the facts of the process that runs the job; the pool's work is `describe_process`."""
        pool.start(job)
        last = talk(pool)[-1]
        assert isinstance(last, Finished)
        facts: dict[str, Any] = json.loads(last.result.reason)
        return facts

    def test_a_worker_is_another_process_and_stays_for_the_next_job(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.describe_process)
        first = self.described(pool, job(tmp_path, run=1))
        assert first["pid"] != os.getpid()
        assert self.described(pool, job(tmp_path, run=2))["pid"] == first["pid"]
        assert first["ignores_interrupts"]
        # one thread, though there are two cores: sums must not depend on the number of workers
        assert (first["OMP_NUM_THREADS"], first["MALLOC_MMAP_MAX_"]) == ("1", "0")
        assert "MALLOC_MMAP_MAX_" not in os.environ

    def test_a_cpu_worker_starts_with_its_imports_done_and_the_current_environment(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for run, weekday in enumerate(("Monday", "Tuesday"), start=1):
            monkeypatch.setenv("WEEKDAY", weekday)
            facts = self.described(make(["cpu"], fake_training.describe_process), job(tmp_path, run=run))
            assert (facts["WEEKDAY"], facts["warm"], facts["CUDA_VISIBLE_DEVICES"]) == (weekday, True, "")

    def test_without_a_fork_server_workers_are_executed(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise OSError("AF_UNIX path too long")

        monkeypatch.setattr(forkserver, "ensure_running", refuse)
        facts = self.described(make(["cpu"], fake_training.describe_process), job(tmp_path))
        assert (facts["warm"], facts["MALLOC_MMAP_MAX_"], facts["OMP_NUM_THREADS"]) == (False, "0", "1")

    def test_a_cards_worker_is_executed_not_forked(self, make: Make, tmp_path: Path) -> None:
        facts = self.described(make(["cuda:0"], fake_training.describe_process), job(tmp_path, device="cuda:0"))
        assert (facts["warm"], facts["MALLOC_MMAP_MAX_"]) == (False, None)

    @pytest.mark.parametrize("device", ["cpu", "cuda:0"])
    def test_a_script_without_a_guard_is_run_once(self, tmp_path: Path, device: str) -> None:
        """Neither a forked nor a started worker imports the program's main module again."""
        script = tmp_path / "script.py"
        script.write_text(
            "from pathlib import Path; print('begun', flush=True)\n"
            "from sweeps.workers.process_pool import ProcessPool\n"
            "from tests.helpers import fake_training; from tests.sweeps.workers.test_process_pool import job, talk\n"
            f"folder, device = Path({str(tmp_path)!r}), {device!r}\n"
            "pool = ProcessPool([device], logs=folder / 'logs', cores=1, work=fake_training.describe_process)\n"
            "pool.start(job(folder, device=device)); print(type(talk(pool)[-1]).__name__); pool.close()\n"
        )
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
        assert (done.stdout.split(), done.stderr) == (["begun", "Finished"], "")

    def test_the_output_of_a_run_is_in_its_log(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.describe_process)
        for run in (1, 2):
            self.described(pool, job(tmp_path, run=run))
            assert log_of(tmp_path / "runs" / str(run)).read_text() == "written by C\n"

    def test_a_cards_worker_is_replaced_after_running_out_of_memory(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cuda:0"], fake_training.describe_process)
        first = self.described(pool, job(tmp_path, run=1, device="cuda:0"))
        infeasible = self.described(pool, job(tmp_path, run=2, device="cuda:0", dropout=0.5))
        after = self.described(pool, job(tmp_path, run=3, device="cuda:0"))
        assert first["pid"] == infeasible["pid"] != after["pid"]
        assert first["CUDA_VISIBLE_DEVICES"] == "0"

    def test_the_last_lines_of_a_killed_worker_are_reported(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.misbehave)
        pool.start(job(tmp_path))
        assert steps(pool.wait(60.0)) == [0]
        (worker,) = multiprocessing.active_children()
        pid = worker.pid
        worker.kill()
        (died,) = talk(pool)
        assert isinstance(died, Died)
        assert died.text == "the worker on cpu was killed by SIGKILL; the end of its log:\ntraining run 1, attempt 1"
        (successor,) = multiprocessing.active_children()
        assert successor.pid != pid

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
    def test_a_stopped_worker_is_known_until_it_goes_on(self, make: Make, tmp_path: Path) -> None:
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path, run=7))
        assert steps(pool.wait(60.0)) == [0]
        assert pool.stopped() == {}
        (worker,) = multiprocessing.active_children()
        process = psutil.Process(worker.pid)
        process.suspend()
        while process.status() != psutil.STATUS_STOPPED:
            pass
        assert pool.stopped() == {7: worker.pid}
        process.resume()
        pool.answer(7, GO)
        assert isinstance(talk(pool)[-1], Finished)
        assert pool.stopped() == {}

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
        self.described(make(["cpu"], fake_training.describe_process), job(tmp_path, run=1))
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # there is no public name
        psutil.Process(server).send_signal(sent)
        self.described(make(["cpu"], fake_training.describe_process), job(tmp_path, run=2))
        assert forkserver._forkserver._forkserver_pid == server  # type: ignore[attr-defined]

    @pytest.mark.skipif(sys.platform != "linux", reason="no fork server")
    @pytest.mark.parametrize("error", [EOFError, ConnectionRefusedError, BrokenPipeError])
    @pytest.mark.parametrize("failures", [1, 3])
    def test_a_fork_server_killed_while_a_worker_starts_is_replaced(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], failures: int
    ) -> None:
        calls = self.failing(monkeypatch, [error] * failures)
        pool = make(["cpu"], fake_training.train)
        pool.start(job(tmp_path))
        assert isinstance(talk(pool)[-1], Finished)
        assert len(calls) == failures + 1

    @pytest.mark.skipif(sys.platform != "linux", reason="no fork server")
    def test_a_fork_server_that_never_comes_is_an_error(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = self.failing(monkeypatch, itertools.repeat(ConnectionRefusedError))
        with pytest.raises(ConnectionRefusedError):
            make(["cpu"], fake_training.train).start(job(tmp_path))
        assert len(calls) == len(launch.PAUSES) + 1

    def failing(self, monkeypatch: pytest.MonkeyPatch, errors: Iterable[type[Exception]]) -> list[object]:
        """Let connections to the fork server fail, without pauses. Returns the calls."""
        real, calls, left = forkserver.connect_to_new_process, list[object](), iter(errors)

        def connect(fds: Sequence[int]) -> Any:
            calls.append(fds)
            if error := next(left, None):
                raise error
            return real(fds)

        monkeypatch.setattr(forkserver, "connect_to_new_process", connect)
        monkeypatch.setattr(launch, "PAUSES", [0.0] * len(launch.PAUSES))
        return calls

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

    def test_a_worker_ends_when_its_driver_is_killed(self, tmp_path: Path) -> None:
        # the job hangs, so the worker would never notice the broken pipe
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
        ) as driver:
            assert driver.stdout is not None
            worker = psutil.Process(int(driver.stdout.readline()))
            driver.kill()
        assert ended(worker)


def ended(process: psutil.Process) -> bool:
    """Whether the process ends within a minute. It may stay a zombie, for lack of a parent that reaps it."""
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
def test_the_workers_devices_follow_from_the_choice_and_the_machine(
    choice: str | Sequence[str], cuda: int, cores: int, expected: tuple[str, ...]
) -> None:
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
def test_the_environment_of_a_worker_follows_from_its_device(
    device: str, inherited: dict[str, str], expected: dict[str, str | None]
) -> None:
    changes = environment(device, threads=3, inherited=inherited)
    assert changes["OMP_NUM_THREADS"] == "3"
    assert {name: changes.get(name) for name in expected} == expected

"""Workers on the machines of a Ray cluster: an actor per card or core.

A worker has one call in flight at a time, and its reply is the job's next message. A worker that is replaced takes its
replies with it, so nothing is heard of an earlier launch. A lost worker is replaced on its node, and given up if the
node is gone. Two attempts of a run may both live for seconds, until Ray tells the first that its node counts as dead.
It then waits for an answer that never comes, and its last checkpoint is one that the run would have written anyway.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.paths import log_of
from sweeps.workers import launch
from sweeps.workers.pool import Crashed, Died, Job, Message, PointMessage, Work
from sweeps.workers.process_pool import end_of
from sweeps.workers.ray_cluster import AUTHENTICATE, ClusterError, Slot, connected, nodes_of, slots_of
from sweeps.workers.ray_worker import About, RayWorker, copy_of, versions
from sweeps.workers.worker import TrainJob
from trainer.points import Answer

PATIENCE = 60.0
"""seconds that the first workers have to start; a card or core that others use is left out after that"""


@dataclass
class _Worker:
    """One actor and its job."""

    number: int
    slot: Slot
    actor: Any
    starting: Any
    """the reply that it awaits before the first job; None: it is there"""
    job: Job | None = None
    reply: Any = None
    """the call whose reply is the job's next message; None: the job waits for an answer"""


class RayPool:
    """A `Pool` of Ray actors, one per slot. `ray` is the connected module.

    `runs` is the folder of the study, and `data` that of its tokens: both must be the same on every machine. A worker
    writes its output to the run's log, and between runs to a log in `logs`.
    """

    def __init__(
        self,
        ray: Any,
        slots: Sequence[Slot],
        *,
        runs: Path,
        data: Path,
        logs: Path,
        say: Callable[[str], None],
        work: Work | None = None,
    ) -> None:
        """Start the workers and check their machines. Raises ClusterError with all that is wrong."""
        self._ray, self._runs, self._data, self._logs = ray, runs, data, logs
        self._work, self._say = work or TrainJob(), say
        self._probe = runs / f".probe-{uuid.uuid4().hex}"
        self._workers: list[_Worker] = []
        self._kinds: dict[str, str] = {}
        self._lost = ""
        """why the last worker that did not start was lost"""
        runs.mkdir(parents=True, exist_ok=True)
        self._probe.write_text(uuid.uuid4().hex, encoding="utf-8")
        try:
            self._workers = [self._new(number, slot) for number, slot in enumerate(slots)]
            self._check(self._welcome(PATIENCE))
        except BaseException:
            self.close()
            raise
        finally:
            for path in runs.glob(f"{self._probe.name}*"):
                path.unlink(missing_ok=True)

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(worker.slot.device for worker in self._workers)

    def kind(self, device: str) -> str:
        return self._kinds[device]

    def idle(self) -> list[str]:
        busy = any(worker.job is not None for worker in self._workers)
        self._welcome(0.0 if busy else PATIENCE)  # while others train, the loop doesn't wait for a replacement
        if not busy and all(worker.starting is not None for worker in self._workers):
            why = f" ({self._lost})" if self._lost else ""
            raise ClusterError(f"workers.ray: no worker of the cluster is left{why}; the same command goes on later")
        return [worker.slot.device for worker in self._workers if worker.job is None and worker.starting is None]

    def start(self, job: Job) -> None:
        free = [w for w in self._workers if w.job is None and w.starting is None and w.slot.device == job.device]
        if not free:
            raise ValueError(f"no idle worker on {job.device} for run {job.run}")
        free[0].job, free[0].reply = job, free[0].actor.start.remote(job)

    def wait(self, timeout: float) -> list[Message]:
        waiting = {worker.reply: worker for worker in self._workers if worker.reply is not None}
        if not waiting:
            return []
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=timeout)
        if ready:
            ready, _ = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        messages = [self._heard(waiting[reply]) for reply in ready]
        lost = {message.run for message in messages if isinstance(message, Died)}
        self._replace([worker for worker in self._workers if worker.job is not None and worker.job.run in lost])
        return messages

    def _heard(self, worker: _Worker) -> Message:
        job, reply, worker.reply = worker.job, worker.reply, None
        assert job is not None
        try:
            message: Message = self._ray.get(reply)
        except self._ray.exceptions.RayTaskError as error:  # the actor's own mistake; it lives on
            message = Crashed(run=job.run, attempt=job.attempt, text=str(error), user_error=False)
        except self._ray.exceptions.RayError as error:
            log = end_of(log_of(job.out), self._log(worker.number))
            text = f"the worker on {worker.slot.device} was lost: {_cause(error)}; the end of its log:\n{log}"
            return Died(run=job.run, attempt=job.attempt, text=text)
        if not isinstance(message, PointMessage):
            worker.job = None
        return message

    def answer(self, run: int, answer: Answer) -> None:
        for worker in self._workers:
            if worker.job is not None and worker.job.run == run:
                worker.reply = worker.actor.answer.remote(answer)

    def pause(self) -> None:
        for worker in self._workers:
            worker.actor.pause.remote()

    def stopped(self) -> Mapping[int, int]:
        return {}  # their machines don't tell

    def kill(self, run: int) -> None:
        self._replace([worker for worker in self._workers if worker.job is not None and worker.job.run == run])

    def close(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)
            worker.job = worker.reply = None
        self._workers = []

    # starting workers

    def _new(self, number: int, slot: Slot) -> _Worker:
        changes = launch.environment(slot.device.partition(":")[0], threads=slot.threads, inherited=os.environ)
        if slot.gpu:
            del changes["CUDA_VISIBLE_DEVICES"]  # Ray's part
        on_node = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(slot.node, soft=False)
        actor = (
            self._ray.remote(RayWorker)
            .options(
                num_cpus=0 if slot.gpu else 1,
                num_gpus=1 if slot.gpu else 0,
                max_concurrency=2,  # so that it can be asked to pause meanwhile
                max_restarts=0,
                scheduling_strategy=on_node,
                runtime_env={"env_vars": changes},
            )
            .remote(self._log(number), device=slot.device, threads=slot.threads, work=self._work)
        )
        return _Worker(number, slot, actor, starting=actor.about.remote(self._probe, self._data))

    def _log(self, number: int) -> Path:
        return self._logs / f"worker-{number}.log"

    def _welcome(self, timeout: float) -> dict[str, About]:
        """Wait for starting workers. Returns what they say, by device. Those whose node is gone are given up."""
        starting = {worker.starting: worker for worker in self._workers if worker.starting is not None}
        if not starting:
            return {}
        ready, _ = self._ray.wait(list(starting), num_returns=len(starting), timeout=timeout)
        heard: dict[str, About] = {}
        for reply in ready:
            worker = starting[reply]
            try:
                about: About = self._ray.get(reply)
            except self._ray.exceptions.RayTaskError:
                raise
            except self._ray.exceptions.RayError as error:
                self._give_up(worker, _cause(error))
                continue
            worker.starting = None
            heard[worker.slot.device], self._kinds[worker.slot.device] = about, about.kind
        return heard

    def _give_up(self, worker: _Worker, why: str) -> None:
        self._workers.remove(worker)
        self._lost = f"the worker on {worker.slot.device} is given up: {why}"
        self._say(self._lost)

    def _replace(self, lost: Sequence[_Worker]) -> None:
        """Put fresh workers in the place of lost ones, where their nodes are still there."""
        if not lost:
            return
        nodes = {node.id for node in nodes_of(self._ray.nodes())}
        for worker in lost:
            self._ray.kill(worker.actor)
            place = self._workers.index(worker)
            if worker.slot.node in nodes:
                self._workers[place] = self._new(worker.number, worker.slot)
            else:
                self._give_up(worker, "its node is gone")

    def _check(self, heard: Mapping[str, About]) -> None:
        """Leave out workers that did not start, and raise ClusterError with all that is wrong about the others."""
        absent = [worker for worker in self._workers if worker.starting is not None]
        for worker in absent:
            self._ray.kill(worker.actor)
            self._workers.remove(worker)
        if not self._workers:
            if not absent:
                raise ClusterError(f"workers.ray: no worker started; {self._lost}")
            free = self._ray.available_resources()
            raise ClusterError(
                f"workers.ray: none of {len(absent)} workers started in {PATIENCE:.0f} s; "
                f"{free.get('GPU', 0):g} GPUs and {free.get('CPU', 0):g} CPUs are free (see `ray status`)"
            )
        if absent:
            names = ", ".join(dict.fromkeys(worker.slot.device for worker in absent))
            self._say(
                f"{len(absent)} workers did not start and are left out: {names} (`ray status` shows who has them)"
            )
        shared = (self._runs, self._data)
        wrong = [
            text
            for device, about in heard.items()
            for text in wrong_about(device, about, probe=self._probe, shared=shared)
        ]
        if wrong:
            raise ClusterError("\n".join(dict.fromkeys(wrong)))


def wrong_about(device: str, about: About, *, probe: Path, shared: Sequence[Path]) -> Iterator[str]:
    """Yield what keeps a worker's machine from being used: no token, other versions, folders that it doesn't share."""
    if about.authentication.lower() != "token":
        yield f"workers.ray: {device}: Ray runs there for whoever reaches it, without a token; {AUTHENTICATE}"
    for name, version in versions().items():
        if about.versions[name] != version:
            yield f"workers.ray: {device}: {name} {about.versions[name]}, here {version}; install the same"
    same = about.read == probe.read_text(encoding="utf-8") and copy_of(probe, host=about.host).is_file()
    if about.trouble or not same:
        yield (
            f"workers.ray: {device}: doesn't share {' and '.join(map(str, shared))} with this machine "
            f"({about.trouble or 'what it wrote is not here'}); put both on a folder that all machines have under one "
            "path, and name it with --out"
        )


@contextlib.contextmanager
def ray_pool(
    address: str,
    *,
    gpus: int | None,
    cpus: int | None,
    runs: Path,
    data: Path,
    logs: Path,
    say: Callable[[str], None],
) -> Iterator[RayPool]:
    """Yield the workers that a study asks of the Ray cluster at `address`. Raises ClusterError."""
    with connected(address) as ray:
        slots = slots_of(nodes_of(ray.nodes()), gpus=gpus, cpus=cpus)
        pool = RayPool(ray, slots, runs=runs, data=data, logs=logs, say=say)
        try:
            yield pool
        finally:
            pool.close()


def _cause(error: Exception) -> str:
    """Return the line of Ray's message that says why; for an actor that could not be made, its error."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    if "creation task" in str(error):
        return lines[-1]
    return next((line for line in lines if "because" in line), lines[0] if lines else type(error).__name__)

"""Work for workers in tests: training by a closed form, and jobs that misbehave. Imports little: processes load it."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from pathlib import Path

from sweeps.workers.pool import Job, Report
from trainer.config import TrainConfig
from trainer.errors import DataError
from trainer.points import Answer, Point, Result


def final_loss(config: TrainConfig) -> float:
    """Return the closed form: best at a rate of 3e-3 without dropout, and a seed's luck about the same for all."""
    luck = 0.01 * math.sin(config.seed) + 1e-3 * math.sin(config.seed * (1 + 1e3 * config.learning_rate))
    return 3.0 + 0.2 * (math.log10(config.learning_rate / 3e-3)) ** 2 + config.dropout + luck


def point_at(config: TrainConfig, step: int) -> Point:
    """Return the point of a run at `step`: an exponential decay of 2 nats towards the final loss."""
    loss = final_loss(config) + 2.0 * math.exp(-5.0 * step / config.max_iters)
    return Point(
        step=step,
        tokens=step * config.tokens_per_iter,
        train_loss=loss - 0.1,
        train_se=0.01,
        val_loss=loss,
        val_se=0.01,
        lr=config.learning_rate,
        grad_norm=None if step == 0 else 1.0,
        tokens_per_s=None if step == 0 else 1e4,
        seconds=0.5 * step,
    )


def train(job: Job, report: Report) -> Result:
    """Train by the closed form, with checkpoints as of trainer.run.loop.

    A resumed run reports its history again. Only the answer to its last point counts.
    """
    config = job.config
    checkpoint = job.out / "ckpt.pt"
    last = -1
    if checkpoint.exists():
        saved = json.loads(checkpoint.read_text())
        assert saved["config"] == config.as_dict(), "another run's checkpoint"
        last = saved["step"]
    points = []
    for step in range(0, config.max_iters + 1, config.eval_interval):
        point = point_at(config, step)
        points.append(point)
        answer = report(point)
        if step < last:
            continue
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(json.dumps({"step": step, "config": config.as_dict()}))
        if answer is not Answer.GO:
            outcome = "stopped" if answer is Answer.STOP else "paused"
            return Result(outcome=outcome, step=step, points=tuple(points), seconds=point.seconds)
    return Result(
        outcome="complete",
        step=config.max_iters,
        points=tuple(points),
        val_loss=final_loss(config),
        val_se=0.005,
        seconds=points[-1].seconds,
    )


def misbehave(job: Job, report: Report) -> Result:
    """End in one of the ways in which a job can end, chosen by the dropout."""
    print(f"training run {job.run}, attempt {job.attempt}", flush=True)
    match job.config.dropout:
        case 0.1:
            raise RuntimeError("a bug")
        case 0.2:
            raise DataError("/nowhere/data: is gone")
        case 0.3:
            print("last words", flush=True)
            sys.exit(3)
        case 0.4:
            return Result(outcome="infeasible", step=0, points=(), reason="out of memory")
    return train(job, report)


def hang(job: Job, report: Report) -> Result:
    """Report one point and hang."""
    report(point_at(job.config, 0))
    threading.Event().wait()
    raise AssertionError


def describe_process(job: Job, report: Report) -> Result:
    """Describe the worker's process, as JSON in the result's reason. With dropout the result is "oom"."""
    os.write(1, b"written by C\n")
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "WEEKDAY")
    environment = {name: os.environ.get(name) for name in names}
    # glibc reads the environment in which the process was executed; a fork keeps that of its server
    executed_with = dict(entry.split("=", 1) for entry in Path("/proc/self/environ").read_text().split("\0") if entry)
    facts = {
        "pid": os.getpid(),
        "ignores_interrupts": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "MALLOC_MMAP_MAX_": executed_with.get("MALLOC_MMAP_MAX_"),
        "warm": "trainer.run.loop" in sys.modules,
    }
    reason = json.dumps({**environment, **facts})
    report(point_at(job.config, 0))
    return Result(outcome=(job.config.dropout and "oom") or "complete", step=0, points=(), reason=reason)

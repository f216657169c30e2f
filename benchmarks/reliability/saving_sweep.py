"""The command `sweep` with workers that write a checkpoint at every evaluation.

    python -m benchmarks.reliability.saving_sweep run STUDY.yaml --out OUT

A sweep's own workers write one every 30 seconds, which is longer than a run of `benchmarks.reliability.chaos` takes.
"""

from __future__ import annotations

import functools
from unittest import mock

from sweeps import cli
from sweeps.workers import process_pool
from sweeps.workers.worker import TrainJob


def main() -> None:
    with mock.patch.object(process_pool, "TrainJob", functools.partial(TrainJob, checkpoint_seconds=0.0)):
        cli.main()


if __name__ == "__main__":
    main()

"""Checks of a study against its data, its checkpoint and its log, before anything is trained.

`sweep plan` and `sweep run` make the same ones, so that a plan never shows what can't be run.
"""

from __future__ import annotations

from pathlib import Path

from sweeps.engine import origin
from sweeps.store.records import DataFacts
from sweeps.study.knobs import DATA
from sweeps.study.sections import BinData
from sweeps.study.start import CheckpointStart
from sweeps.study.study import Study
from trainer.data.lengths import shortages
from trainer.data.subset import size_of
from trainer.errors import DataError


def check_lengths(study: Study, data: DataFacts) -> None:
    """Raise DataError if a split is too short for the study's sequences, whichever part of the data a trial gets."""
    block_size = int(study.baseline["block_size"])
    swept = study.knobs[DATA].ends().values() if DATA in study.knobs else ()
    fractions = sorted({1.0, *map(float, swept)}, reverse=True)
    problems = dict.fromkeys(
        problem
        for fraction in fractions
        for problem in shortages(
            {"train": size_of(data.train_tokens, fraction=fraction), "val": data.val_tokens},
            block_size=block_size,
            data_fraction=fraction,
        )
    )
    if problems:
        more = "a longer train.bin and val.bin" if isinstance(study.data, BinData) else "more text"
        raise DataError(f"{data.path}: {'; '.join(problems)}; lower baseline.block_size or use {more}")


def check_start(study: Study, data: DataFacts) -> None:
    """Check the checkpoint and the log that the study names. Raises CheckpointError, LogError."""
    if not isinstance(study.start, CheckpointStart):
        return
    from trainer.run.origin import read_origin  # torch takes seconds to import

    facts = read_origin(Path(study.start.checkpoint).expanduser())
    origin.check_vocabulary(facts, data, named=facts.path)
    origin.logged_until(study.start, facts)

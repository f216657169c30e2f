"""Arrow tables of a study's runs and of their curves, for pandas, polars, DuckDB or Parquet."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sweeps.store.records import Run
from sweeps.study.baseline import DEFAULTS, describe_setting

NATS = "nats per token"
_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    type: pa.DataType
    unit: str
    """empty: it has none"""
    words: str
    path: str = ""
    """attribute of the row's Run or Point, such as config.n_embd; empty: its name"""

    @property
    def field(self) -> pa.Field:
        """The column in a schema. Its metadata hold the unit and the words."""
        return pa.field(self.name, self.type, metadata={"unit": self.unit, "description": self.words})

    def of(self, rows: Sequence[Any]) -> pa.Array:
        """Return the column's values in `rows`."""
        return pa.array(map(operator.attrgetter(self.path or self.name), rows), self.type)


NUMBER = Column("run", pa.int64(), "", "number of the run in its store; joins the two tables", "id")

RUNS = (
    NUMBER,
    Column("optuna_study", pa.string(), "", "Optuna study that holds its trial"),
    Column("trial", pa.int64(), "", "number of its trial in that Optuna study"),
    Column("phase", pa.string(), "", "origin, race, pilot, baseline, search or confirm"),
    Column("proposed_by", pa.string(), "", "baseline, candidate, one-at-a-time, combined, sampler, ...", "origin"),
    Column("label", pa.string(), "", "short description, such as `baseline, seed 2`"),
    Column("knob", pa.string(), "", "the one knob that differs from the baseline; null: none, or several"),
    Column("seed", pa.int64(), "", "seed of the weights and the batches"),
    Column("outcome", pa.string(), "", "running, complete, pruned, diverged, ...", "outcome.value"),
    Column("reason", pa.string(), "", "why it did not complete"),
    Column("val_loss", pa.float64(), NATS, "final validation loss; complete runs only"),
    Column("val_se", pa.float64(), NATS, "standard error of `val_loss` over the windows"),
    Column("seconds", pa.float64(), "seconds", "time it took over all its launches"),
    Column("device", pa.string(), "", "device of its last launch"),
    *(
        Column(name, _TYPES[type(default)], "", describe_setting(name), f"config.{name}")
        for name, default in DEFAULTS.items()
    ),
)
"""a row per run: how it ended, then its settings in nanoGPT's names, as absolute values"""

CURVES = (
    Column("step", pa.int64(), "updates", "optimizer updates done before the evaluation"),
    Column("tokens", pa.int64(), "tokens", "tokens trained on before the evaluation"),
    Column("train_loss", pa.float64(), NATS, "loss on fixed training windows, dropout off"),
    Column("train_se", pa.float64(), NATS, "standard error of `train_loss` over the windows"),
    Column("val_loss", pa.float64(), NATS, "loss on the small set of validation windows"),
    Column("val_se", pa.float64(), NATS, "standard error of `val_loss` over the windows"),
    Column("lr", pa.float64(), "", "learning rate of the next update"),
    Column("grad_norm", pa.float64(), "", "gradient norm of the last update, before clipping; null before the first"),
    Column("tokens_per_s", pa.float64(), "tokens per second", "training speed; null before the first update"),
    Column("seconds", pa.float64(), "seconds", "time of the run so far, evaluations included"),
)
"""a row per evaluation, after the run's number"""


def runs_table(runs: Iterable[Run]) -> pa.Table:
    """Return a row per run, with the columns of RUNS."""
    rows = tuple(runs)
    return pa.table([column.of(rows) for column in RUNS], schema=pa.schema([column.field for column in RUNS]))


def curves_table(runs: Iterable[Run]) -> pa.Table:
    """Return a row per evaluation, run by run: `run`, then the columns of CURVES."""
    rows = [(run, point) for run in runs for point in run.points]
    arrays = [NUMBER.of([run for run, _ in rows]), *(column.of([point for _, point in rows]) for column in CURVES)]
    return pa.table(arrays, schema=pa.schema([column.field for column in (NUMBER, *CURVES)]))

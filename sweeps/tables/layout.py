"""Layout of a table: which column holds the arm, the seed, the final loss, and which ones are settings.

People name their columns as their trainer does, so each role has the names that trainers use, in the order of their
preference. A column of settings is one that is left and varies without being a result: its values tell arms apart
where no column names them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.tables.rows import Cell, Table, TableError
from sweeps.text import joined

ROLES = {
    "arm": ("arm", "config", "variant", "candidate", "change", "run_name", "name", "method"),
    "seed": ("seed", "random_seed", "rng_seed", "torch_seed"),
    "loss": (
        *("final_val_loss", "val_loss", "validation_loss", "eval_loss", "final_loss", "val_bpb", "validation_bpb"),
        *("best_val_loss", "bpb", "loss", "test_loss"),
    ),
    "step": ("step", "global_step", "iter", "iteration"),
    "tokens": ("tokens", "train_tokens", "total_tokens", "tokens_seen"),
    "seconds": ("seconds", "runtime", "duration", "train_time", "training_seconds", "total_seconds", "wall_time"),
    "device": ("device", "device_kind", "device_name", "gpu", "gpu_name", "card"),
}
"""names of each role's column, the preferred first, as `normal` writes them"""
_NOT_SETTINGS = re.compile(
    r"(^|_)(id|run|uuid|url|commit|sha|hash|date|time|timestamp|created|started|ended|state|status|tags?|notes?"
    r"|description|log|path|dir|host|loss|bpb|ppl|perplexity|acc|accuracy|mfu|memory|gb|norm|ms|tps|per_s|throughput)"
    r"($|_)"
)
"""columns that tell when and where a run ran, or how it went"""
_SHAPE = {
    *("n_layer", "n_head", "n_embd", "bias", "vocab_size", "block_size", "depth", "width", "d_model", "n_heads"),
    *("batch_size", "gradient_accumulation_steps", "max_iters", "data_fraction", "device_batch_size"),
}
"""settings that determine the initial weights and the batches of a seed"""
LARGEST = 1e15
"""A loss, a number of tokens or of seconds from here on is none. Squares of smaller ones don't overflow."""
_NAMES_OF_RUNS = ("run_name", "name")
"""columns that some trainers fill with a name a run; they name arms only if the names come again"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of a table by what they hold. None: the table has none."""

    arm: str | None
    settings: tuple[str, ...]
    """columns whose values tell arms apart, where no column names them"""
    shape: tuple[str, ...]
    """columns of settings that determine the weights and batches of a seed"""
    seed: str | None
    loss: str
    step: str | None
    tokens: str | None
    seconds: str | None
    device: str | None


def normal(name: str) -> str:
    """Return a column's name as in ROLES: `Val/Loss` is val_loss, `valLoss` too."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removeprefix("summary_").removeprefix("config_")


def column_of(table: Table, names: Sequence[str]) -> str | None:
    """Return the first column with the first of these names, as `normal` writes them, that there is."""
    by_name = {normal(column): column for column in reversed(table.columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def layout_of(table: Table) -> Layout:
    """Find the columns of a table. Raises TableError if there is no final loss, or nothing tells arms apart."""
    found = {role: column_of(table, names) for role, names in ROLES.items()}
    loss = found.pop("loss")
    if loss is None:
        raise TableError(
            f"{table.path}: no column holds the final loss (there are {joined(map(repr, table.columns))}); name it "
            "val_loss, final_loss or loss"
        )
    used = {loss, *(column for column in found.values() if column)}
    settings = tuple(column for column in table.columns if column not in used and _is_setting(table, column))
    arm = found["arm"]
    if arm is not None and normal(arm) in _NAMES_OF_RUNS and settings and _differs_everywhere(table, arm):
        arm = found["arm"] = None  # a name a run, which tells nothing apart
    if arm is None and not settings:
        raise TableError(
            f"{table.path}: nothing tells arms apart: no column is named {', '.join(ROLES['arm'][:4])} or the like, "
            "and no setting varies; add a column `arm` that names what each run tries"
        )
    return Layout(
        loss=loss,
        settings=settings if arm is None else (),
        shape=tuple(column for column in table.columns if normal(column) in _SHAPE),
        **found,
    )


def _differs_everywhere(table: Table, column: str) -> bool:
    return len({row[column] for row in table.rows}) == len(table.rows)


def _is_setting(table: Table, column: str) -> bool:
    """Whether a column's values may tell arms apart: they vary, and are neither results nor names of single runs."""
    if _NOT_SETTINGS.search(normal(column)):
        return False
    values = [row[column] for row in table.rows]
    return len(set(values)) > 1 and not (_differs_everywhere(table, column) and _are_measured(values))


def _are_measured(values: Sequence[Cell]) -> bool:
    """Whether the values look measured: numbers of more than six digits."""
    numbers = [number(value) for value in values]
    return all(value is not None and len(f"{abs(value):.12g}".replace(".", "")) > 6 for value in numbers)


def number(cell: Cell) -> float | None:
    """Return a cell as a number, nan and inf included. None: it is none."""
    if cell is None or isinstance(cell, bool):
        return None
    try:
        return float(cell)
    except ValueError:
        return None
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf


def measured(cell: Cell) -> float | None:
    """Return a cell as a measured number, below LARGEST. None: it is none, such as a diverged loss."""
    value = number(cell)
    return value if value is not None and abs(value) < LARGEST else None

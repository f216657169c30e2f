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
    "arm": ("arm", "config", "variant", "candidate", "change", "run_name", "name", "method", "run"),
    "seed": ("seed", "random_seed", "rng_seed", "torch_seed"),
    "loss": (
        *("final_val_loss", "val_loss", "validation_loss", "eval_loss", "final_loss", "val_bpb", "validation_bpb"),
        *("loss_val", "loss_eval", "best_val_loss", "bpb", "loss", "test_loss", "val_nll", "nll", "cross_entropy"),
        *("val_ppl", "val_perplexity", "ppl", "perplexity", "val_error", "error_rate"),
    ),
    "step": ("step", "global_step", "iter", "iteration"),
    "tokens": ("tokens", "train_tokens", "total_tokens", "tokens_seen"),
    "seconds": ("seconds", "runtime", "duration", "train_time", "training_seconds", "total_seconds", "wall_time"),
    "device": ("device", "device_kind", "device_name", "gpu", "gpu_name", "card"),
}
"""names of each role's column, the preferred first, as `normal` writes them"""
_HIGHER = re.compile(
    r"(^|_)(acc|accuracy|score|f1|auc|auroc|bleu|rouge|reward|r2|recall|top_?\d+|core|win_rate|neg_.*)($|_)"
)
"""columns of which more is better"""
_UNKNOWN = ("value", "metric", "objective", "result", "target")
"""columns of which either may be better"""
_NOT_SETTINGS = re.compile(
    r"(^|_)(id|run|uuid|url|uri|commit|sha|hash|date|time|timestamp|created|started|ended|start|complete|state|status"
    r"|tags?|notes?|user|sweep|runtime|duration|index|unnamed|number|source"
    r"|description|log|path|dir|host|loss|bpb|ppl|perplexity|acc|accuracy|mfu|memory|gb|norm|ms|tps|per_s|throughput"
    r"|std|sd|sem|stderr)($|_)|^$"
)
"""columns that tell when and where a run ran, or how it went, and those that number the rows"""
_OTHER_UNITS = ("min", "mins", "minutes", "h", "hours", "ms")
"""units of time that stay in a column's name: it doesn't hold seconds"""
_THOUSANDS = re.compile(r"[-+]?\d{1,3}((,\d{3})+\.\d+|(,\d{3}){2,})")
"""a number with separators that can't be decimal commas"""
_NOTHING = ("", "-", "na", "n/a", "#n/a", "none", "null", "missing")
SPREADS = ("std", "sd", "stdev", "sem", "stderr", "loss_std", "val_loss_std", "std_loss", "n_seeds")
"""columns that rows of means have beside these"""
_SHAPE = {
    *("n_layer", "n_head", "n_embd", "bias", "vocab_size", "block_size", "depth", "width", "d_model", "n_heads"),
    *("batch_size", "gradient_accumulation_steps", "max_iters", "data_fraction", "device_batch_size"),
}
"""settings that determine the initial weights and the batches of a seed"""
_UNIT = re.compile(r"\s*[(\[]([^()\[\]]*)[)\]]\s*$")
_PREFIX = re.compile(r"^(summary|config|metrics?|params?|user_attrs|hparams)_(?=.)")
"""what trackers put before a name: W&B, MLflow, Optuna, TensorBoard"""
LARGEST = 1e15
"""A loss, a number of tokens or of seconds from here on is none. Squares of smaller ones don't overflow."""
_SHOWN = 12  # columns that a message lists
_NAMES_OF_RUNS = ("run_name", "name", "run")
"""columns that some trainers fill with a name a run; they name arms only if the names come again"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of a table by what they hold. None: the table has none."""

    arm: str | None
    settings: tuple[str, ...]
    """columns whose values tell arms apart, where no column names them"""
    mixed: tuple[str, ...]
    """columns of settings that vary within an arm, where a column names the arms"""
    shape: tuple[str, ...]
    """columns of settings that determine the weights and batches of a seed"""
    seed: str | None
    loss: str
    step: str | None
    tokens: str | None
    seconds: str | None
    device: str | None


def normal(name: str) -> str:
    """Return a column's name as in ROLES: val_loss of `Val/Loss`, `valLoss`, `val loss (nats)`, `metrics.val_loss`."""
    unit = _UNIT.search(name)
    if unit and unit.start() and unit[1].strip().lower() not in _OTHER_UNITS:
        name = name[: unit.start()]
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return _PREFIX.sub("", name)


def column_of(table: Table, names: Sequence[str]) -> str | None:
    """Return the first column with the first of these names, as `normal` writes them, that there is."""
    by_name = {normal(column): column for column in reversed(table.columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def layout_of(table: Table) -> Layout:
    """Find the columns of a table. Raises TableError if there is no final loss, or nothing tells arms apart."""
    found = {role: column_of(table, names) for role, names in ROLES.items()}
    loss = found.pop("loss")
    if loss is None:
        raise without_loss(table)
    roles = {name for names in ROLES.values() for name in names}
    settings = tuple(column for column in table.columns if normal(column) not in roles and _is_setting(table, column))
    arm = found["arm"]
    if arm is not None and settings and _tells_nothing_apart(table, arm):
        arm = found["arm"] = None
    if arm is None and not settings:
        raise TableError(
            f"{table.path}: nothing tells arms apart: no column is named {', '.join(ROLES['arm'][:4])} or the like, "
            "and no setting varies; add a column `arm` that names what each run tries"
        )
    return Layout(
        loss=loss,
        settings=settings if arm is None else (),
        mixed=() if arm is None else tuple(column for column in settings if _varies_within(table, arm, column)),
        shape=tuple(column for column in table.columns if normal(column) in _SHAPE),
        **found,
    )


def without_loss(table: Table) -> TableError:
    """Return the error of a table without a loss, with what its columns suggest."""
    numbers = [column for column in table.columns if any(number(row[column]) is not None for row in table.rows)]
    higher = next((column for column in numbers if _HIGHER.search(normal(column))), None)
    either = next((column for column in numbers if normal(column) in _UNKNOWN), None)
    remedy = "give a row a run, such as arm,seed,val_loss, and name the loss val_loss, final_loss or loss"
    if higher is not None:
        remedy = f"of {higher!r} more is better, but a loss is better when it's lower: add a column `loss` of -{higher}"
    elif either is not None:
        remedy = f"if lower is better, rename {either!r} to loss; if higher is better, add a column `loss` of -{either}"
    elif any(" - " in column for column in table.columns):
        remedy = "a chart's export has a column a run; export the table of runs, or give rows of arm,seed,step,val_loss"
    shown = joined(map(repr, table.columns[:_SHOWN])) + (" and others" if len(table.columns) > _SHOWN else "")
    return TableError(f"{table.path}: no column holds the final loss (there are {shown}); {remedy}")


def _tells_nothing_apart(table: Table, column: str) -> bool:
    """Whether a column of arms has one name for all runs, or is one of those that name or number runs, and does."""
    several = {row[column] for row in table.rows}
    if normal(column) not in _NAMES_OF_RUNS:
        return len(several) == 1
    return len(several) in (1, len(table.rows)) or all(number(name) is not None for name in several)


def _varies_within(table: Table, arm: str, column: str) -> bool:
    pairs = {(row[arm], row[column]) for row in table.rows}
    return len(pairs) > len({name for name, _ in pairs})


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


def is_missing(cell: Cell) -> bool:
    """Whether a cell holds nothing, in the words of spreadsheets and of pandas. nan is a number: it diverged."""
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in _NOTHING)


def number(cell: Cell) -> float | None:
    """Return a cell as a number, nan and inf included. None: it is none."""
    if cell is None or isinstance(cell, bool):
        return None
    if isinstance(cell, str) and _THOUSANDS.fullmatch(cell):
        cell = cell.replace(",", "")
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

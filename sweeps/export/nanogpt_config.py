"""A trial as nanoGPT's own config file and checkpoint: what to train next, with the evidence beside it.

nanoGPT executes its config in train.py's globals, unvalidated, so the text holds nothing but comments and
`key = literal` for keys that nanoGPT knows, in the exact type of nanoGPT's default. It is plain ASCII:
nanoGPT opens it in whatever encoding the machine has. What a config can't carry is said in its comments
and again in `Export.notes`, so that a command can print it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.export.long_run import remarks
from sweeps.store.records import DataFacts
from sweeps.study.horizon import stretched
from trainer import nanogpt
from trainer.atomic import write_text
from trainer.config import TrainConfig
from trainer.errors import CheckpointError, UserError
from trainer.nanogpt import DEFAULTS, Value

SEED = 1337
"""nanoGPT's seed, written in its train.py."""
VOCABULARY = 50304
"""nanoGPT's vocabulary where the data folder has no meta.pkl."""
FEWEST_EVAL_ITERS = 20

_SECTIONS = {
    "model": ("n_layer", "n_head", "n_embd", "block_size", "bias", "dropout"),
    "data and batch": ("dataset", "batch_size", "gradient_accumulation_steps"),
    "optimizer": ("learning_rate", "weight_decay", "beta1", "beta2", "grad_clip"),
    "schedule": ("max_iters", "decay_lr", "warmup_iters", "lr_decay_iters", "min_lr"),
    "evaluation": ("eval_interval", "eval_iters", "log_interval"),
    "checkpoint": ("out_dir", "always_save_checkpoint", "init_from"),
    "machine": ("device", "dtype", "compile"),
}
_BESIDE = {"gradient_accumulation_steps": "with torchrun it must be divisible by the number of processes"}
_COLUMNS = 110
_ASCII = str.maketrans({"→": "->", "−": "-", "±": "+-", "×": "x", "÷": "/", "–": "-", "’": "'"})


class ExportError(UserError):
    """An export that cannot be written where it was asked for, or as it was asked for."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """A nanoGPT config."""

    text: str
    """the file: comments and assignments, ASCII"""
    settings: Mapping[str, Value]
    """what the assignments set, in nanoGPT's types"""
    notes: tuple[str, ...]
    """what the config can't carry, and what isn't known about a longer run; also among the comments"""


def nanogpt_config(
    config: TrainConfig,
    *,
    data: DataFacts,
    evidence: Sequence[str] = (),
    iters: int | None = None,
    cuda: bool = True,
    out_dir: str = "out",
) -> Export:
    """`config` as a nanoGPT config that trains on the prepared folder `data.path`.

    With `iters` the schedule keeps its fractions of the run (`sweeps.export.long_run`), and evaluations are spread over
    it. `cuda=False` writes the settings of a run on the CPU. Raises ExportError.
    """
    if iters is not None and iters < 1:
        raise ExportError(f"--iters {iters}: a run has at least 1 iteration")
    long = config if iters is None else stretched(config, iters=iters)
    settings = _settings(long, data=data, cuda=cuda, out_dir=out_dir)
    differs = tuple(_differences(long, data))
    carried = () if iters is None else tuple(remarks(config, iters=iters, train_tokens=data.train_tokens))
    text = "\n".join(
        [
            "# A nanoGPT config, written by plateau-sweep.",
            "# python train.py THIS_FILE, in a checkout of karpathy/nanoGPT.",
            *_comment_block("Where it comes from", evidence),
            *_comment_block("What nanoGPT does otherwise", differs),
            *_comment_block(f"From {config.max_iters} iterations to {long.max_iters}", carried),
            *_assignments(settings),
            "",
        ]
    )
    return Export(text=text, settings=settings, notes=(*differs, *carried))


def _settings(config: TrainConfig, *, data: DataFacts, cuda: bool, out_dir: str) -> dict[str, Value]:
    # evaluations cost at most about a fifth of the training: both splits, a forward pass each
    evaluations = max(1, config.max_iters // config.eval_interval)
    affordable = 3 * config.max_iters * config.gradient_accumulation_steps // (10 * evaluations)
    values: dict[str, Value] = {
        **config.as_dict(),
        "dataset": str(Path(data.path).absolute()),
        "out_dir": out_dir,
        "log_interval": min(config.log_interval, 10),
        "eval_iters": min(config.eval_iters, max(FEWEST_EVAL_ITERS, affordable)),
        "device": "cuda" if cuda else "cpu",
        "dtype": config.dtype if cuda else "float32",
        "compile": config.compile and cuda,
    }
    # a numpy scalar would train, but its repr is no literal and its checkpoint cannot be loaded
    return {key: type(DEFAULTS[key])(values[key]) for keys in _SECTIONS.values() for key in keys}


def _differences(config: TrainConfig, data: DataFacts) -> Iterator[str]:
    """What nanoGPT does otherwise than the run did."""
    if config.sampling == "step":
        yield (
            "nanoGPT draws batches and evaluations from one random stream, ours come from (seed, step) and fixed "
            "windows: the same settings see other batches, so expect the loss to differ as it does between seeds."
        )
    if config.seed != SEED:
        yield f"nanoGPT's seed is {SEED}, written in its train.py; the run's was {config.seed}."
    if config.label_smoothing:
        yield (
            f"nanoGPT has no label smoothing, the run had label_smoothing={config.label_smoothing:g}: "
            "this config trains without it, and no loss measured here stands behind that."
        )
    if config.data_fraction < 1:
        yield (
            f"the run trained on data_fraction={config.data_fraction:g} of the training tokens, a fixed set of "
            f"documents; nanoGPT trains on all of them, about {1 / config.data_fraction:.3g} times as many."
        )
    vocabulary = config.vocab_size or data.vocab_size
    if vocabulary > 2**16:
        yield (
            f"the data folder's bins are uint32 (its vocabulary has {vocabulary} tokens); nanoGPT reads every bin as "
            "uint16 and would train on nonsense: change np.uint16 in get_batch of its train.py."
        )
    if vocabulary != VOCABULARY and not (Path(data.path) / "meta.pkl").is_file():
        yield (
            f"the run's vocabulary has {vocabulary} tokens, but the data folder holds no meta.pkl here, and without "
            f"it nanoGPT builds a model with {VOCABULARY}; prepare the folder again, or write one with vocab_size."
        )
    elif vocabulary != data.vocab_size:
        yield (
            f"the run's vocab_size={vocabulary} was set by hand; nanoGPT takes the data folder's, {data.vocab_size}."
        )
    if config.init_from == "resume":
        yield (
            "nanoGPT resumes with the weight_decay and betas of the checkpoint's optimizer, whatever the config says, "
            "and starts its data stream afresh."
        )
    if rest := config.max_iters % config.eval_interval:
        yield (
            f"nanoGPT evaluates and saves at multiples of eval_interval={config.eval_interval} only, so the last "
            f"{rest} of {config.max_iters} iterations are neither evaluated nor saved; a run of "
            f"{config.max_iters - rest} iterations ends on one."
        )


def _assignments(settings: Mapping[str, Value]) -> Iterator[str]:
    for section, keys in _SECTIONS.items():
        yield f"\n# {section}"
        for key in keys:
            beside = f"  # {_BESIDE[key]}" if key in _BESIDE else ""
            yield f"{key} = {settings[key]!a}{beside}"


def _comment_block(title: str, lines: Sequence[str]) -> list[str]:
    """Comment lines under a title; none if there is nothing to say."""
    if not lines:
        return []
    block = ["#", f"# {title}:"]
    for line in lines:
        block += textwrap.wrap(
            _printable(line),
            _COLUMNS,
            initial_indent="# - ",
            subsequent_indent="#   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return block


def _printable(text: str) -> str:
    """`text` as one line of ASCII: a name from a study can't end the comment that it stands in."""
    plain = text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")
    return re.sub(r"[\x00-\x20\x7f]+", " ", plain).strip()


def write_config(export: Export, path: Path) -> Path:
    """Write the config's text to `path`, whole or not at all.

    A file that is there already stays: ExportError unless it is the same text. Also ExportError for a name
    with "=" in it, which nanoGPT would take for a setting, and for a place that cannot be written.
    """
    if "=" in path.name:
        raise ExportError(f"{path}: nanoGPT takes an argument with '=' for a setting; choose another name with -o")
    try:
        if path.exists():
            if path.is_file() and path.read_bytes() == export.text.encode():
                return path
            raise ExportError(f"{path}: is there already, with other content; choose another name with -o")
        write_text(path, export.text)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def export_checkpoint(source: Path, export: Export, folder: Path) -> Path:
    """Write `folder`/ckpt.pt from the checkpoint in the run's folder `source`, and return its path.

    nanoGPT goes on from it with `--init_from=resume --out_dir=FOLDER`; the config it holds is `export`'s. Only
    tensors and plain Python, so it loads with weights_only=True. Raises CheckpointError for a source that isn't
    there or is damaged, ExportError for a checkpoint that is in `folder` already or can't be written.
    """
    from trainer.run import checkpoint  # torch takes seconds to import, and a config alone doesn't need it

    found = checkpoint.load(source)
    if found is None:
        raise CheckpointError(
            f"{source}: holds no checkpoint ({checkpoint.FILE}); those of the best trial and of the baseline are kept, "
            "others are deleted when the trial ends"
        )
    path = folder / checkpoint.FILE
    if path.exists():
        raise ExportError(f"{path}: is there already; choose another folder with -o")
    import torch

    form = {
        "model": {name: tensor.float() for name, tensor in found.model.items()},
        "optimizer": found.optimizer,
        "model_args": dict(found.model_args),
        "iter_num": found.iter_num,
        "best_val_loss": torch.tensor(found.best_val_loss),
        "config": {**nanogpt.DEFAULTS, **export.settings, "out_dir": str(folder.absolute())},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write(form, path)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path

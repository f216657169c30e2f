"""Config files for nanoGPT: the settings of a run, with the evidence in comments.

nanoGPT executes its config in train.py's globals without checking it. So the text holds only comments and
`key = literal` for keys that nanoGPT knows, each in the exact type of nanoGPT's default. It is plain ASCII, because
nanoGPT opens it in whatever encoding the machine has. What a config can't express is in its comments and again in
`NanogptConfig.notes`, so that a command can print it.
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
from trainer.atomic import write_text
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.nanogpt import DEFAULTS, Value

SEED = 1337
"""nanoGPT's seed, written in its train.py."""
VOCABULARY = 50304
"""nanoGPT's vocabulary where the data folder has no meta.pkl."""
FEWEST_EVAL_ITERS = 20
"""batches of an evaluation, however short the run is"""

_SECTIONS = {
    "model": ("n_layer", "n_head", "n_embd", "block_size", "bias", "dropout"),
    "data and batch": ("dataset", "batch_size", "gradient_accumulation_steps"),
    "optimizer": ("learning_rate", "weight_decay", "beta1", "beta2", "grad_clip"),
    "schedule": ("max_iters", "decay_lr", "warmup_iters", "lr_decay_iters", "min_lr"),
    "evaluation": ("eval_interval", "eval_iters", "log_interval"),
    "checkpoint": ("out_dir", "always_save_checkpoint", "init_from"),
    "machine": ("device", "dtype", "compile"),
}
_KEPT = ("eval_iters", "log_interval", "always_save_checkpoint", "device", "dtype", "compile")
"""settings of a user's own config that no trial changes; its eval_interval is kept where it suits the run's length"""
_WHERE_SET = ("wandb_log", "wandb_project", "wandb_run_name", "backend")
"""settings that are written only where the user's own config departs from nanoGPT's defaults"""
_BESIDE = {"gradient_accumulation_steps": "with torchrun it must be divisible by the number of processes"}
_COLUMNS = 110
_ASCII = str.maketrans({"→": "->", "−": "-", "±": "+-", "×": "x", "÷": "/", "–": "-", "’": "'"})


class ExportError(UserError):
    """An export that cannot be written in the place or the form that was asked for."""


@dataclass(frozen=True, kw_only=True)
class NanogptConfig:
    """A nanoGPT config."""

    text: str
    """the file: comments and assignments, ASCII"""
    settings: Mapping[str, Value]
    """what the assignments set, in nanoGPT's types"""
    notes: tuple[str, ...]
    """what it needs, what it can't express, and what isn't known about a longer run; also in the comments"""


def nanogpt_config(
    config: TrainConfig,
    *,
    data: DataFacts,
    evidence: Sequence[str] = (),
    iters: int | None = None,
    cuda: bool = True,
    out_dir: str = "out",
    own: Mapping[str, Value] | None = None,
    first: Sequence[str] = (),
) -> NanogptConfig:
    """Return `config` as a nanoGPT config that trains on the prepared folder `data.path`.

    With `iters`, the schedule keeps its fractions of the run (see `sweeps.export.long_run`) and the evaluations are
    spread over it. `evidence` goes into the comments. `cuda=False` writes the settings of a run on a CPU. `own` is the
    user's own config, whose settings of evaluation, logging and machine are kept. `first` is what has to be done before
    the config can train. Raises ExportError for fewer than 1 iteration, ConfigError for a schedule that can't be
    stretched to `iters`.
    """
    if iters is not None and iters < 1:
        raise ExportError(f"--iters {iters}: a run has at least 1 iteration")
    run = config if iters is None else stretched(config, iters=iters)
    kept, passed_over = _kept(own or {}, run, own_length=iters is None and config.init_from == "scratch")
    if "eval_interval" in kept:
        run = run.replace(eval_interval=kept.pop("eval_interval"))
    settings = {**_settings(run, data=data, cuda=cuda, out_dir=out_dir), **kept}
    differences = (*_differences(run, data), *passed_over)
    longer = () if iters is None else tuple(remarks(config, iters=iters, train_tokens=data.train_tokens))
    text = "\n".join(
        [
            "# A nanoGPT config, written by plateau-sweep.",
            "# python train.py THIS_FILE, in a checkout of karpathy/nanoGPT.",
            *_comment_block("Where it comes from", evidence),
            *_comment_block("Before it can train", first),
            *_comment_block("What nanoGPT does differently", differences),
            *_comment_block(f"From {config.max_iters} iterations to {run.max_iters}", longer),
            *_assignments(settings),
            "",
        ]
    )
    return NanogptConfig(text=text, settings=settings, notes=(*first, *differences, *longer))


def _settings(config: TrainConfig, *, data: DataFacts, cuda: bool, out_dir: str) -> dict[str, Value]:
    # evaluations cost at most about a fifth of the training: both splits, one forward pass per batch
    evaluations = max(1, config.max_iters // config.eval_interval)
    affordable = 3 * config.max_iters * config.gradient_accumulation_steps // (10 * evaluations)
    values: dict[str, Value] = {
        **config.as_dict(),
        "init_from": "scratch" if config.init_from == "scratch" else "resume",
        "dataset": str(Path(data.path).absolute()),
        "out_dir": out_dir,
        "log_interval": min(config.log_interval, 10),
        "eval_iters": min(config.eval_iters, max(FEWEST_EVAL_ITERS, affordable)),
        "device": "cuda" if cuda else "cpu",
        "dtype": config.dtype if cuda else "float32",
        "compile": config.compile and cuda,
    }
    # a numpy scalar would train, but its repr is no literal and its checkpoint can't be loaded
    return {key: type(DEFAULTS[key])(values[key]) for keys in _SECTIONS.values() for key in keys}


def _kept(own: Mapping[str, Value], run: TrainConfig, *, own_length: bool) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Return the settings of the user's own config that a run keeps, and why its eval_interval isn't among them."""
    kept = {key: own[key] for key in _KEPT if key in own}
    kept |= {key: own[key] for key in _WHERE_SET if key in own and own[key] != DEFAULTS[key]}
    interval = int(own.get("eval_interval", 0))
    if interval < 1:
        return kept, ()
    if own_length or run.max_iters % interval == 0:
        return {**kept, "eval_interval": interval}, ()
    return kept, (
        f"eval_interval is {run.eval_interval} instead of your {interval}: nanoGPT evaluates and saves at multiples of "
        f"it only, and this run ends at iteration {run.max_iters}.",
    )


def _differences(config: TrainConfig, data: DataFacts) -> Iterator[str]:
    """Yield what nanoGPT does differently from the run."""
    if config.sampling == "step":
        yield (
            "nanoGPT draws batches and evaluations from one random stream; the run drew its batches from (seed, step) "
            "and was evaluated on fixed windows. The same settings see other batches, so expect the loss to differ as "
            "it does between seeds."
        )
    if config.seed != SEED:
        yield f"nanoGPT's seed is {SEED}, written in its train.py; the run's was {config.seed}."
    if config.label_smoothing:
        yield (
            f"nanoGPT has no label smoothing; the run had label_smoothing={config.label_smoothing:g}. "
            "This config trains without it, and no loss of that was measured."
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
            "uint16 and would train on nonsense. Change np.uint16 to np.uint32 in get_batch of its train.py."
        )
    if config.init_from != "scratch":
        yield (
            "nanoGPT takes weight_decay and the betas from ckpt.pt, whatever the config or its command line says, and "
            "starts its data stream afresh."
        )
    elif vocabulary != VOCABULARY and not (Path(data.path) / "meta.pkl").is_file():
        yield (
            f"the run's vocabulary has {vocabulary} tokens, but the data folder holds no meta.pkl here. Without one, "
            f"nanoGPT builds a model with {VOCABULARY} tokens. Prepare the folder again, or write a meta.pkl with "
            "vocab_size."
        )
    elif vocabulary != data.vocab_size:
        yield (
            f"the run's vocab_size={vocabulary} was set by hand; nanoGPT takes the data folder's, {data.vocab_size}."
        )
    if rest := config.max_iters % config.eval_interval:
        yield (
            f"nanoGPT evaluates and saves at multiples of eval_interval={config.eval_interval} only, so the last "
            f"{rest} of {config.max_iters} iterations are neither evaluated nor saved; a run of "
            f"{config.max_iters - rest} iterations ends on a multiple."
        )


def _assignments(settings: Mapping[str, Value]) -> Iterator[str]:
    for section, keys in {**_SECTIONS, "logging and processes": _WHERE_SET}.items():
        written = [key for key in keys if key in settings]
        if written:
            yield f"\n# {section}"
        for key in written:
            beside = f"  # {_BESIDE[key]}" if key in _BESIDE else ""
            yield f"{key} = {settings[key]!a}{beside}"


def _comment_block(title: str, lines: Sequence[str]) -> list[str]:
    """Return `lines` as wrapped comments under a title. Empty without lines."""
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
    """Return `text` as one line of ASCII, so that a name from a study can't break out of its comment."""
    plain = text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")
    return re.sub(r"[\x00-\x20\x7f]+", " ", plain).strip()


def write_config(config: NanogptConfig, path: Path) -> Path:
    """Write the config's text to `path`, whole or not at all, and return `path`.

    Raises ExportError where a file with other content exists, for a name with "=" in it, which nanoGPT would read as a
    setting, and for a place that cannot be written.
    """
    if "=" in path.name:
        raise ExportError(f"{path}: nanoGPT reads an argument with '=' as a setting; choose another name with -o")
    try:
        if path.exists():
            if path.is_file() and path.read_bytes() == config.text.encode():
                return path
            raise ExportError(f"{path}: already exists with other content; choose another name with -o")
        write_text(path, config.text)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path

"""Config files for nanoGPT: the settings of a run, with the evidence in comments.

nanoGPT executes its config in train.py's globals without checking it. So the text holds only comments and
`key = literal` for keys that nanoGPT knows, each in the exact type of nanoGPT's default. It is plain ASCII, because
nanoGPT opens it in whatever encoding the machine has. What a config can't express is in its comments and again in
`NanogptConfig.notes`, so that a command can print it.

Where the study knows the user's own config, every setting of it stays as it is, unless it is changed for a reason that
the comments give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.export.config_text import SECTIONS, WHERE_SET, assignments, comment_block
from sweeps.export.long_run import remarks
from sweeps.store.records import DataFacts
from sweeps.study.horizon import eval_interval
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

_OF_NANOGPT = ("eval_iters", "log_interval", "always_save_checkpoint")
"""settings of evaluation and logging that a user's own config leaves at nanoGPT's defaults where it doesn't set them"""
_MACHINE = SECTIONS["machine"]
"""settings that are written only where the user's own config sets them, because nanoGPT's suit the machine"""
_WHY = {
    "out_dir": "the one before holds another run, and nanoGPT would write over it",
    "eval_interval": "so that the end of the run is evaluated and saved",
    "init_from": "as the trials were",
}


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
    changed: Mapping[str, tuple[Value, Value]]
    """settings that differ from the baseline's, or from those of the user's own config: what they were and are"""
    why: Mapping[str, str]
    """by changed setting, the reason"""
    kept: Mapping[str, Value]
    """settings that are the baseline's, or those of the user's own config"""


@dataclass(frozen=True, kw_only=True)
class Before:
    """The config that an export changes."""

    settings: Mapping[str, Value] = field(default_factory=dict)
    """what it sets, in nanoGPT's names; where it is the user's own, with nanoGPT's defaults"""
    own: Mapping[str, Value] | None = None
    """what the user's own config sets; None: the baseline was written in the study"""
    unread: Mapping[str, str] = field(default_factory=dict)
    """what the user's own config sets and isn't in the export, as it is written there"""
    why: Mapping[str, str] = field(default_factory=dict)
    """by setting, why it may differ"""
    left: tuple[str, ...] = ()
    """what the trial changes and the export doesn't"""


def nanogpt_config(
    config: TrainConfig,
    *,
    data: DataFacts,
    tested: TrainConfig | None = None,
    evidence: Sequence[str] = (),
    cuda: bool = True,
    out_dir: str = "out",
    before: Before | None = None,
    first: Sequence[str] = (),
) -> NanogptConfig:
    """Return `config` as a nanoGPT config that trains on the user's own dataset, or on the prepared folder `data.path`.

    `tested` is the config of the trial behind it, where that has another length (see `sweeps.export.long_run`).
    `evidence` goes into the comments. `cuda=False` writes the settings of a run on a CPU. `before` is the config that
    is changed. `first` is what has to be done before the config can train.
    """
    before, tested = before or Before(), tested or config
    config, interval = _evaluated(config, before)
    settings = _settings(config, data=data, cuda=cuda, out_dir=out_dir, own=before.own)
    changed = {
        key: (before.settings[key], value)
        for key, value in settings.items()
        if key in before.settings and before.settings[key] != value
    }
    why = {key: {**_WHY, **before.why}.get(key, "as in the trial") for key in changed}
    differences = (*_differences(config, data), *interval, *_start(before, config, data))
    taken = tuple(changed) if before.settings else None
    longer = tuple(remarks(tested, iters=config.max_iters, train_tokens=data.train_tokens, run=config, taken=taken))
    text = "\n".join(
        [
            "# A nanoGPT config, written by plateau-sweep.",
            "# python train.py THIS_FILE, in a checkout of karpathy/nanoGPT.",
            *comment_block("Where it comes from", evidence),
            *comment_block("Before it can train", first),
            *comment_block(
                "Changed", [f"{key}: {old!r} -> {new!r}; {why[key]}" for key, (old, new) in changed.items()]
            ),
            *comment_block("Not taken over from the trial", before.left),
            *comment_block("What nanoGPT does differently", differences),
            *comment_block(f"From {tested.max_iters} iterations to {config.max_iters}", longer),
            *comment_block("In your own config, and not read", [f"{k} = {v}" for k, v in before.unread.items()]),
            *assignments(settings),
            "",
        ]
    )
    return NanogptConfig(
        text=text,
        settings=settings,
        notes=(*first, *differences, *longer),
        changed=changed,
        why=why,
        kept={key: value for key, value in settings.items() if key in before.settings and key not in changed},
    )


def length_of(iters: int | None) -> int | None:
    """Return the length that --iters asks for. Raises ExportError for none."""
    if iters is not None and iters < 1:
        raise ExportError(f"--iters {iters}: a run has at least 1 iteration")
    return iters


def _evaluated(config: TrainConfig, before: Before) -> tuple[TrainConfig, tuple[str, ...]]:
    """Return the config with the evaluations of the user's own, or with others that suit its length and why.

    nanoGPT evaluates and saves at multiples of eval_interval only.
    """
    if before.own is None:
        return config, ()
    interval = int(before.own.get("eval_interval", DEFAULTS["eval_interval"]))
    own_length = config.max_iters == before.settings.get("max_iters")
    if 1 <= interval <= config.max_iters and (own_length or config.max_iters % interval == 0):
        return config.replace(eval_interval=interval), ()
    divides = config.max_iters % config.eval_interval == 0
    spread = config if divides else config.replace(eval_interval=eval_interval(config.max_iters))
    return spread, (
        f"eval_interval is {spread.eval_interval} instead of your {interval}: nanoGPT evaluates and saves at multiples "
        f"of it only, and this run ends at iteration {config.max_iters}.",
    )


def _settings(
    config: TrainConfig, *, data: DataFacts, cuda: bool, out_dir: str, own: Mapping[str, Value] | None
) -> dict[str, Value]:
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
    keys = [key for keys in SECTIONS.values() for key in keys]
    if own is not None:
        values |= {key: own.get(key, DEFAULTS[key]) for key in _OF_NANOGPT}
        values |= {key: own[key] for key in (*_MACHINE, "dataset", *WHERE_SET) if key in own}
        if str(own.get("init_from", "")).startswith("gpt2") and values["init_from"] == "scratch":
            values["init_from"] = own["init_from"]
        keys = [key for key in keys if key not in _MACHINE or key in own]
        keys += [key for key in WHERE_SET if key in own and own[key] != DEFAULTS[key]]
    # a numpy scalar would train, but its repr is no literal and its checkpoint can't be loaded
    return {key: type(DEFAULTS[key])(values[key]) for key in keys}


def _start(before: Before, config: TrainConfig, data: DataFacts) -> Iterator[str]:
    """Yield what of the user's own config the trials did otherwise."""
    own = before.own or {}
    start = str(own.get("init_from", "scratch"))
    if start.startswith("gpt2") and config.init_from == "scratch":
        yield (
            f"init_from = {start!r} is your own, and nanoGPT then takes the shape from there; the trials trained from "
            "scratch."
        )
    elif start != "scratch" and config.init_from == "scratch":
        yield f"init_from is 'scratch' instead of your {start!r}, as the trials were; the new out_dir holds no ckpt.pt."
    if own.get("eval_only"):
        yield "eval_only = True of your config is left out: with it, nanoGPT would train nothing."
    dataset = str(own.get("dataset", ""))
    if dataset and Path(dataset).name != Path(data.path).name:
        yield f"dataset is your own, {dataset!r}; the trials were trained on {data.path}."


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

"""Sections of a study other than baseline and knobs: data, tokenizer, horizon, sampler, pruner, confirm, workers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator
from pydantic.json_schema import SkipJsonSchema

from sweeps.study.model import Model, as_yaml, mistake

MIN_ITERS = 10
FEWEST_EVALUATIONS, EVALUATIONS, MOST_EVALUATIONS = 20, 30, 40
"""Evaluations of a trial: the limits and the default. Fewer hide a plateau from the pruner, more cost time and rows."""
MAX_CONFIRM_SEEDS = 32
"""seeds of a comparison in the confirm phase, at most"""
_DEVICE = re.compile(r"cpu|cuda(:[0-9]{1,3})?")


def _by_key(words: str, *keys: str) -> Discriminator:
    """Return a discriminator that tells the members of a union apart by a key that only one of them has."""

    def kind(value: Any) -> str | None:
        has = value.__contains__ if isinstance(value, dict) else lambda key: hasattr(value, key)
        return next((f"<{key}>" for key in keys if has(key)), None)

    return Discriminator(kind, custom_error_type="which", custom_error_message=words)


class _Documents(Model):
    val_fraction: float = Field(0.05, gt=0, le=0.5)
    """share of the documents held out for validation"""
    min_chars: int = Field(200, ge=0)
    """shortest document that is used, in characters"""
    dedup: bool = True
    """leave out documents whose text is a repetition"""


class EmbeddedData(_Documents):
    """The corpus that every machine has: the sources of Python's standard library."""

    source: Literal["embedded"]
    """embedded: the sources of Python's standard library, which need no download"""


def _files(value: Any) -> Any:
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, list | tuple) or not files or not all(isinstance(name, str) and name for name in files):
        raise mistake(f"{value!r} is not a path, glob, folder or URL, or a list of these")
    return tuple(files)


_FILES_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}


class ParquetData(_Documents):
    """Documents in a text column of parquet files."""

    parquet: Annotated[tuple[str, ...], BeforeValidator(_files), WithJsonSchema(_FILES_SCHEMA)]
    """a file, glob, folder or URL (hf://datasets/...), or a list of these"""
    text: str = Field("text", min_length=1)
    """name of the text column"""


class BinData(Model):
    """A folder of tokens written by nanoGPT's prepare.py."""

    bin: str = Field(min_length=1)
    """a folder with train.bin and val.bin, and perhaps meta.pkl"""


Data = Annotated[
    Annotated[EmbeddedData, Tag("<source>")]
    | Annotated[ParquetData, Tag("<parquet>")]
    | Annotated[BinData, Tag("<bin>")],
    _by_key("data is {source: embedded}, {parquet: FILES} or {bin: FOLDER}", "parquet", "bin", "source"),
]


class Gpt2Tokenizer(Model):
    """GPT-2's tokenizer: 50257 tokens, the vocabulary padded to 50304 as in nanoGPT."""

    type: Literal["gpt2"]
    """gpt2: GPT-2's tokenizer"""
    file: str | None = None
    """a local copy of its vocabulary, for machines without network"""


class BpeTokenizer(Model):
    """A byte-pair encoding trained on the study's own text."""

    type: Literal["bpe"]
    """bpe: a byte-pair encoding trained on the study's data"""
    vocab_size: int = Field(ge=257, le=200_000)
    """size of the vocabulary, the end-of-document token included"""


class BytesTokenizer(Model):
    """Bytes as tokens: 256 of them and an end-of-document token."""

    type: Literal["bytes"]
    """bytes: every byte is a token"""


Tokenizer = Annotated[Gpt2Tokenizer | BpeTokenizer | BytesTokenizer, Field(discriminator="type")]


class IterHorizon(Model):
    """The length of a trial in iterations."""

    iters: int = Field(ge=MIN_ITERS, le=10**9)
    """iterations (optimizer steps) of a trial"""


class TokenHorizon(Model):
    """The length of a trial in tokens."""

    tokens: int = Field(ge=1, le=10**15)
    """tokens that a trial is trained on; iterations follow from the baseline's batch"""


class ShapeSpeed(Model):
    """Training speed of one worker at one width and depth."""

    n_embd: int
    n_layer: int
    tokens_per_s: float = Field(gt=0)
    """tokens per second while training, evaluations excluded"""


class Fit(Model):
    """The length that a horizon in minutes turned out to be, fixed before the first trial."""

    iters: int
    """iterations of the baseline"""
    evaluations: int
    """evaluations of every trial, not counting the one at iteration 0"""
    windows: int
    """windows per split at each evaluation"""
    evaluated: int
    """tokens on which a trial is evaluated in all"""
    speeds: tuple[ShapeSpeed, ...]
    """the measured or estimated speeds from which the length follows"""


class MinuteHorizon(Model):
    """The length of a trial in minutes, turned into iterations by measuring the workers before the first trial."""

    minutes: float = Field(gt=0, le=100_000)
    """minutes of the slowest trial, evaluations included"""
    equal: Literal["tokens", "flops", "time"] = "tokens"
    """what is equal for trials of every width and depth: tokens, floating-point operations or time"""
    fit: SkipJsonSchema[Fit | None] = None
    """the measured speeds and the length that follows from them; not a key of the YAML"""


Horizon = Annotated[
    Annotated[IterHorizon, Tag("<iters>")]
    | Annotated[TokenHorizon, Tag("<tokens>")]
    | Annotated[MinuteHorizon, Tag("<minutes>")],
    _by_key("horizon is {iters: 600}, {tokens: 50000000} or {minutes: 5}", "iters", "tokens", "minutes"),
]

NOT_WRITTEN = "fit"
"""the one field of a section that is not a key of a study file"""


class Sampler(Model):
    """The proposer of trials after the baseline, the candidates, the single-knob trials and their combinations."""

    type: Literal["tpe", "random", "qmc", "gp", "cmaes"]
    """Optuna's sampler: tpe (multivariate), random, qmc (scrambled Sobol points), gp or cmaes"""


def _two(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise mistake(f"{value!r} is not two shares of the horizon such as [0.1, 0.8]")
    return tuple(value)


def _in_order(looks: tuple[float, float]) -> tuple[float, float]:
    first, last = looks
    if first >= last:
        raise mistake(f"the first share, {as_yaml(first)}, must be below the last, {as_yaml(last)}")
    return looks


_Share = Annotated[float, Field(gt=0, lt=1)]
_TWO_SHARES_SCHEMA = {
    "type": "array",
    "items": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "minItems": 2,
    "maxItems": 2,
}


SCRATCH_MARGIN = 0.03
"""nats; default margin of the plateau pruner for trials from scratch"""


class PlateauPruning(Model):
    """Stops a trial that is unlikely to end among the best, as predicted from its own and all other curves."""

    type: Literal["plateau"]
    """plateau: this project's own pruner"""
    # These repeat the defaults of sweeps.pruning.rule.Rule, whose import would load scipy. A test compares them.
    epsilon: float = Field(0.02, gt=0, le=0.5)
    """a trial is stopped when its chance of ending among the best tenth is below this"""
    margin: float | None = Field(None, ge=0, le=10)
    """nats: ending within this distance of the best trial counts as ending among the best; null: 0.03, and in a study
    of branches one and a half times min_effect"""
    looks: Annotated[
        tuple[_Share, _Share],
        BeforeValidator(_two),
        AfterValidator(_in_order),
        WithJsonSchema(_TWO_SHARES_SCHEMA),
    ] = (0.1, 0.8)
    """[first, last]: shares of the horizon between which a trial can be stopped, never during its warm-up"""
    min_completed: int = Field(5, ge=2, le=1000)
    """complete trials needed before any trial is stopped"""
    sentinel: float = Field(0.1, ge=0, le=1)
    """share of the stopped trials that are allowed to finish, to show what pruning costs"""


class MedianPruning(Model):
    """Stops a trial whose best loss so far is worse than the median of the other trials at the same evaluation."""

    type: Literal["median"]
    """median: Optuna's MedianPruner"""
    startup_trials: int = Field(5, ge=1, le=1000)
    """complete trials needed before any trial is stopped"""
    warmup: float = Field(0.25, ge=0, lt=1)
    """share of the horizon, from its start, in which no trial is stopped"""


class HyperbandPruning(Model):
    """Successive halving in several brackets, from impatient to patient."""

    type: Literal["hyperband"]
    """hyperband: Optuna's HyperbandPruner"""
    min_evaluations: int = Field(3, ge=1, le=20)
    """evaluations that the least patient bracket grants every trial"""
    reduction_factor: int = Field(3, ge=2, le=10)
    """at each rung, one trial in this many goes on"""


class NoPruning(Model):
    """Every trial runs to the horizon."""

    type: Literal["none"]
    """none: no trial is stopped early"""


Pruner = Annotated[PlateauPruning | MedianPruning | HyperbandPruning | NoPruning, Field(discriminator="type")]


class Confirm(Model):
    """Runs on fresh seeds after the search, on which the verdict rests."""

    seeds: int = Field(5, ge=2, le=MAX_CONFIRM_SEEDS)
    """seeds of a comparison that fewer seeds don't decide; up to 3 more if the verdict depends on them"""
    max_trials: int = Field(60, ge=0, le=100_000)
    """runs of this phase, at most, the most informative first; with 0 the verdict stays a screening"""
    min_effect: float | None = Field(None, gt=0, le=10)
    """nats by which a change must lower the loss to count; it can't be changed once the study has begun; null: 0.02,
    and in a study of branches a tenth of what going on brings, at least 0.002"""


def _devices(value: Any) -> Any:
    if value == "auto":
        return value
    if not isinstance(value, list | tuple) or not value:
        raise mistake(f"{value!r} is neither auto nor a list of devices such as [cpu, cpu] or [cuda:0]")
    for index, name in enumerate(value):
        if not isinstance(name, str) or not _DEVICE.fullmatch(name):
            raise mistake(f"{name!r} is not one of cpu, cuda, cuda:0, cuda:1, ...", index)
    return tuple(value)


_DEVICES_SCHEMA = {
    "anyOf": [
        {"const": "auto"},
        {"type": "array", "items": {"type": "string", "pattern": f"^({_DEVICE.pattern})$"}, "minItems": 1},
    ]
}


_ADDRESS = re.compile(r"auto|[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5}")


def _address(value: Any) -> Any:
    if value is None or (isinstance(value, str) and _ADDRESS.fullmatch(value)):
        return value
    if isinstance(value, str) and value.startswith("ray://"):
        raise mistake(
            f"{value!r} is an address of Ray's client; run this command on a machine of the cluster, with auto"
        )
    raise mistake(
        f"{value!r} is neither auto (the cluster that runs on this machine) nor HOST:PORT such as 10.0.0.1:6379"
    )


class Workers(Model):
    """Where trials train: one worker process per device, here or on the machines of a Ray cluster."""

    devices: Annotated[
        Literal["auto"] | tuple[str, ...], BeforeValidator(_devices), WithJsonSchema(_DEVICES_SCHEMA)
    ] = "auto"
    """auto: one worker per CUDA device, or per CPU core where there is none; or a list: [cpu, cpu], [cuda:0]"""
    ray: Annotated[str | None, BeforeValidator(_address)] = None
    """workers on a Ray cluster that exists already: auto, the one that runs here, or HOST:PORT; null: none"""
    gpus: int | None = Field(None, ge=1, le=100_000)
    """workers on the cluster's cards; null: all cards, or cpus"""
    cpus: int | None = Field(None, ge=1, le=100_000)
    """workers on the cluster's CPUs, one thread each; null: without cards all CPUs"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("gpus", "cpus"):
            if self.ray is None and getattr(self, name) is not None:
                raise mistake("counts workers of a Ray cluster; add ray: auto, or list devices instead", name)
        if self.ray is not None and self.devices != "auto":
            raise mistake("names devices of this machine, and ray has those of a cluster; use gpus or cpus", "devices")
        if self.gpus is not None and self.cpus is not None:
            raise mistake(
                "a study's workers are on cards or on CPUs, because a seed ends elsewhere there; drop one", "cpus"
            )
        return self

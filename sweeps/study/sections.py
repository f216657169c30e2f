"""The sections of a study beside its baseline and knobs: data, horizon, sampler, pruner, confirm, workers and so on."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from sweeps.study.model import Model, as_yaml, mistake

MIN_ITERS = 10
MAX_CONFIRM_SEEDS = 32
"""of a comparison in the confirm phase"""
_DEVICE = re.compile(r"cpu|cuda(:[0-9]{1,3})?")


def _by_key(words: str, *keys: str) -> Discriminator:
    """Tells the members of a union by the key that only one of them has."""

    def kind(value: Any) -> str | None:
        has = value.__contains__ if isinstance(value, dict) else lambda key: hasattr(value, key)
        return next((f"<{key}>" for key in keys if has(key)), None)

    return Discriminator(kind, custom_error_type="which", custom_error_message=words)


class _Documents(Model):
    val_fraction: float = Field(0.05, gt=0, le=0.5)
    """share of the documents held out for validation"""
    min_chars: int = Field(200, ge=0)
    """documents with fewer characters are left out"""
    dedup: bool = True
    """leave out documents whose text was there before"""


class EmbeddedData(_Documents):
    """The corpus that comes with Python: the sources of its standard library."""

    source: Literal["embedded"]
    """embedded: the sources of Python's standard library, on every machine"""


def _files(value: Any) -> Any:
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, list | tuple) or not files or not all(isinstance(name, str) and name for name in files):
        raise mistake(f"{value!r} is neither a path, glob, folder or URL nor a list of them")
    return tuple(files)


_FILES_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}


class ParquetData(_Documents):
    """Documents in a text column of parquet files."""

    parquet: Annotated[tuple[str, ...], BeforeValidator(_files), WithJsonSchema(_FILES_SCHEMA)]
    """files, globs, folders or URLs (hf://datasets/...), one or a list"""
    text: str = Field("text", min_length=1)
    """the column that holds the text"""


class BinData(Model):
    """A folder as nanoGPT's prepare.py leaves it."""

    bin: str = Field(min_length=1)
    """a folder that holds train.bin and val.bin (and meta.pkl)"""


Data = Annotated[
    Annotated[EmbeddedData, Tag("<source>")]
    | Annotated[ParquetData, Tag("<parquet>")]
    | Annotated[BinData, Tag("<bin>")],
    _by_key("data is {source: embedded}, {parquet: FILES} or {bin: FOLDER}", "parquet", "bin", "source"),
]


class Gpt2Tokenizer(Model):
    """GPT-2's 50257 tokens (vocabulary padded to 50304, as nanoGPT does)."""

    type: Literal["gpt2"]
    """GPT-2's tokenizer"""
    file: str | None = None
    """its vocabulary on disk, for machines without network"""


class BpeTokenizer(Model):
    """A byte-pair encoding trained on the study's own text."""

    type: Literal["bpe"]
    """a tokenizer trained on the data"""
    vocab_size: int = Field(ge=257, le=200_000)
    """tokens, the end of a document among them"""


class BytesTokenizer(Model):
    """Bytes: 256 and the end of a document."""

    type: Literal["bytes"]
    """each byte a token"""


Tokenizer = Annotated[Gpt2Tokenizer | BpeTokenizer | BytesTokenizer, Field(discriminator="type")]


class IterHorizon(Model):
    """The length of a trial in iterations."""

    iters: int = Field(ge=MIN_ITERS, le=10**9)
    """iterations (optimizer steps) of a trial"""


class TokenHorizon(Model):
    """The length of a trial in tokens."""

    tokens: int = Field(ge=1, le=10**15)
    """tokens that a trial sees; iterations follow from the baseline's batch"""


class ShapeSpeed(Model):
    """How fast one worker trains the baseline at another width and depth."""

    n_embd: int
    n_layer: int
    tokens_per_s: float = Field(gt=0)
    """trained on, evaluations left out"""


class Fit(Model):
    """A length of trials that is so many minutes, fixed before the first of them."""

    iters: int
    """of the baseline"""
    evaluations: int
    """of every trial, after the first one"""
    windows: int
    """a split at each evaluation"""
    evaluated: int
    """tokens that a trial is evaluated on in all"""
    speeds: tuple[ShapeSpeed, ...]
    """what the length rests on"""


class MinuteHorizon(Model):
    """The length of a trial in minutes; how far it gets in them is measured before the first trial."""

    minutes: float = Field(gt=0, le=100_000)
    """minutes that the slowest trial takes, evaluations included"""
    equal: Literal["tokens", "flops", "time"] = "tokens"
    """what trials of every width and depth have alike: tokens, floating-point operations, or time"""
    fit: SkipJsonSchema[Fit | None] = None
    """what was measured, and the length that follows; not a key of the YAML"""


Horizon = Annotated[
    Annotated[IterHorizon, Tag("<iters>")]
    | Annotated[TokenHorizon, Tag("<tokens>")]
    | Annotated[MinuteHorizon, Tag("<minutes>")],
    _by_key("horizon is {iters: 600}, {tokens: 50000000} or {minutes: 5}", "iters", "tokens", "minutes"),
]

NOT_WRITTEN = "fit"
"""the one key of a section that a study file doesn't have"""


class Sampler(Model):
    """Who proposes the trials after the baseline, the candidates and the star."""

    type: Literal["tpe", "random", "qmc", "gp", "cmaes"]
    """Optuna's sampler: tpe (multivariate), random, qmc (scrambled Sobol points), gp or cmaes"""


def _two(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise mistake(f"{value!r} is not two shares of the horizon such as [0.1, 0.8]")
    return tuple(value)


def _in_order(looks: tuple[float, float]) -> tuple[float, float]:
    first, last = looks
    if first >= last:
        raise mistake(f"the first look, {as_yaml(first)}, must be before the last, {as_yaml(last)}")
    return looks


_Share = Annotated[float, Field(gt=0, lt=1)]
_TWO_SHARES_SCHEMA = {
    "type": "array",
    "items": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "minItems": 2,
    "maxItems": 2,
}


class PlateauPruning(Model):
    """Stops a trial that will hardly end among the best, as predicted from its curve and those of the others."""

    type: Literal["plateau"]
    """this project's own pruner"""
    # a test holds these to the defaults of sweeps.pruning.rule.Rule, whose import (scipy) takes longer than this file's
    epsilon: float = Field(0.02, gt=0, le=0.5)
    """largest chance of ending among the best tenth at which a trial is stopped"""
    margin: float = Field(0.03, ge=0, le=10)
    """nats: a trial that may end within this of the best one counts as one that may be among the best"""
    looks: Annotated[
        tuple[_Share, _Share],
        BeforeValidator(_two),
        AfterValidator(_in_order),
        WithJsonSchema(_TWO_SHARES_SCHEMA),
    ] = (0.1, 0.8)
    """[first, last]: shares of the horizon between which trials are stopped, after their warm-up"""
    min_completed: int = Field(5, ge=2, le=1000)
    """trials that must be complete before any is stopped"""
    sentinel: float = Field(0.1, ge=0, le=1)
    """share of the trials to be stopped that go on all the same, to show what pruning costs"""


class MedianPruning(Model):
    """Stops a trial whose best loss so far is worse than the median of the others at the same evaluation."""

    type: Literal["median"]
    """Optuna's MedianPruner"""
    startup_trials: int = Field(5, ge=1, le=1000)
    """trials that must be complete before any is stopped"""
    warmup: float = Field(0.25, ge=0, lt=1)
    """share of the horizon in which no trial is stopped"""


class HyperbandPruning(Model):
    """Successive halving, with several brackets of patience."""

    type: Literal["hyperband"]
    """Optuna's HyperbandPruner"""
    min_evaluations: int = Field(3, ge=1, le=20)
    """evaluations that the least patient bracket grants a trial"""
    reduction_factor: int = Field(3, ge=2, le=10)
    """one trial in so many goes on at each rung"""


class NoPruning(Model):
    """Every trial runs to the horizon."""

    type: Literal["none"]
    """no trial is stopped early"""


Pruner = Annotated[PlateauPruning | MedianPruning | HyperbandPruning | NoPruning, Field(discriminator="type")]


class Confirm(Model):
    """Runs on fresh seeds after the search: what the verdict rests on."""

    seeds: int = Field(5, ge=2, le=MAX_CONFIRM_SEEDS)
    """seeds of a comparison, where fewer don't decide it; up to 3 more where one hangs on them"""
    max_trials: int = Field(60, ge=0, le=100_000)
    """most runs of this phase, the most informative first; 0: none, and the verdict stays a screening"""
    min_effect: float = Field(0.02, gt=0, le=10)
    """nats by which a change must lower the loss to count; set beforehand, as it can't change later"""


def _devices(value: Any) -> Any:
    if value == "auto":
        return value
    if not isinstance(value, list | tuple) or not value:
        raise mistake(f"{value!r} is neither auto nor a list of devices such as [cpu, cpu] or [cuda:0]")
    for index, name in enumerate(value):
        if not isinstance(name, str) or not _DEVICE.fullmatch(name):
            raise mistake(f"{name!r} is none of cpu, cuda, cuda:0, cuda:1, ...", index)
    return tuple(value)


_DEVICES_SCHEMA = {
    "anyOf": [
        {"const": "auto"},
        {"type": "array", "items": {"type": "string", "pattern": f"^({_DEVICE.pattern})$"}, "minItems": 1},
    ]
}


class Workers(Model):
    """Where trials train: one worker a device, each a process of its own."""

    devices: Annotated[
        Literal["auto"] | tuple[str, ...], BeforeValidator(_devices), WithJsonSchema(_DEVICES_SCHEMA)
    ] = "auto"
    """auto: every CUDA device, else one worker a CPU core; or a list: [cpu, cpu], [cuda:0]"""

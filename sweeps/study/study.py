"""The study: what is swept around which baseline, on what data, for how long. Frozen and fully checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from sweeps.study.baseline import Baseline, Candidate, Value, complete, head_unit, with_heads
from sweeps.study.knobs import DATA, ChoicesKnob, Knobs, RangeKnob, check_knob
from sweeps.study.model import Model, Number, as_yaml, mistake
from sweeps.study.own import OwnConfig
from sweeps.study.pilot import SEEDS, Chosen, Pilot
from sweeps.study.sections import (
    EVALUATIONS,
    FEWEST_EVALUATIONS,
    MIN_ITERS,
    MOST_EVALUATIONS,
    NOT_WRITTEN,
    Confirm,
    Data,
    EmbeddedData,
    Fit,
    Gpt2Tokenizer,
    Horizon,
    IterHorizon,
    MinuteHorizon,
    PlateauPruning,
    Pruner,
    Sampler,
    TokenHorizon,
    Tokenizer,
    Workers,
)
from sweeps.study.start import GROWN, LEAST_EFFECT, SHAPE, Origin, Race, Start, TrainStart, control_of
from sweeps.study.store_url import problem_with
from trainer.config import TrainConfig
from trainer.errors import ConfigError

CONFIRM = "-confirm"
"""suffix of the Optuna study that holds the confirm phase"""
DEFAULT_MIN_EFFECT = 0.02
"""nats; of trials from scratch"""
OF_THE_CONTROL = ("learning_rate", "min_lr", "warmup_iters")
"""knobs whose value in the control follows from the origin"""
NOT_KEYS: Any = {"notes": True, "origin": True, "own": True, "chosen": True, "horizon": {NOT_WRITTEN}}
"""fields that are not keys of a study file, as `model_dump` excludes them"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Study(Model):
    """A resolved study: profiles and overrides applied, the baseline's settings complete.

    Every mistake that can be found without training is found here or in `load`.
    """

    name: str
    """name of the study, its folder and its Optuna study: letters, digits, '.', '_', '-'"""
    data: Data = EmbeddedData(source="embedded")
    """the text to train on"""
    tokenizer: Tokenizer = Gpt2Tokenizer(type="gpt2")
    """how text becomes tokens; ignored for data: {bin: ...}, which holds tokens"""
    baseline: Baseline
    """the run that plateaus, in nanoGPT's names; missing settings have nanoGPT's defaults"""
    start: Start = "scratch"
    """where trials start: scratch, {checkpoint: out/ckpt.pt}, or {train: {max_iters: 3000}}, which trains one first"""
    race: Race | None = None
    """runs from scratch under the origin's own schedule, against its own curve: how to judge shapes"""
    horizon: Horizon
    """length of a trial; the baseline's schedule keeps its fractions of max_iters"""
    pilot: Pilot | None = None
    """before the first trial, the horizon is doubled until seeds differ little enough; null: the horizon stays"""
    evaluations: int = Field(EVALUATIONS, ge=FEWEST_EVALUATIONS, le=MOST_EVALUATIONS)
    """evaluations of a trial after the one at iteration 0; the nearest number that divides the horizon is used"""
    final_windows: int = Field(2048, ge=1, le=2**20)
    """fixed validation windows, of block_size tokens each, for a trial's final loss, which is its value"""
    hours: float | None = Field(None, gt=0, le=10_000)
    """deadline in hours over all sessions, after which the sweep reports on the trials it has; null: no deadline"""
    knobs: Knobs = Field({}, strict=False)
    """the hyperparameters to sweep, in nanoGPT's names; without any, the candidates go straight to paired seeds"""
    candidates: tuple[Candidate, ...] = Field((), strict=False)
    """advice to try first, each exactly as written: nanoGPT's names, iterations out of the baseline's max_iters"""
    baseline_seeds: int = Field(3, ge=1, le=100)
    """runs of the baseline, with seeds seed, seed + 1, ..., which measure the noise"""
    trials: int = Field(40, ge=1, le=100_000)
    """trials of the search, the baseline's excluded: candidates, single-knob trials, combinations, sampled trials"""
    seed: int = Field(1337, ge=0, le=2**31 - 1)
    """seed of every trial of the search and of the sampler"""
    sampler: Sampler = Sampler(type="tpe")
    """the proposer of trials after the candidates, the single-knob trials and their combinations"""
    pruner: Pruner = PlateauPruning(type="plateau")
    """the rule that stops hopeless trials"""
    confirm: Confirm = Confirm()
    """runs on fresh seeds that confirm or refute the result of the search"""
    store: str | None = None
    """where all results are: sqlite:///PATH, or postgresql+psycopg://USER@HOST/DATABASE; null: study.db in the study's
    folder"""
    workers: Workers = Workers()
    """where trials train"""
    notes: tuple[str, ...] = Field((), strict=False)
    """adjustments made while loading, to be shown to the user; not a key of the YAML"""
    origin: SkipJsonSchema[Origin | None] = None
    """what is known of the origin; not a key of the YAML"""
    own: SkipJsonSchema[OwnConfig | None] = None
    """the user's own nanoGPT config that the baseline comes from; not a key of the YAML"""
    chosen: SkipJsonSchema[Chosen | None] = None
    """the length that the pilot has chosen, and how; not a key of the YAML"""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if problem := problem_with_name(name):
            raise mistake(problem)
        return name

    @field_validator("baseline")
    @classmethod
    def _fill(cls, settings: dict[str, Value]) -> dict[str, Value]:
        if "head_size" in settings and "n_head" in settings:
            raise mistake("head_size already sets the number of heads (n_embd / head_size); drop n_head", "n_head")
        return complete(settings)

    @field_validator("knobs")
    @classmethod
    def _check_knobs(cls, knobs: dict[str, RangeKnob | ChoicesKnob]) -> dict[str, RangeKnob | ChoicesKnob]:
        for name, knob in knobs.items():
            check_knob(name, knob)
        return knobs

    @field_validator("candidates")
    @classmethod
    def _check_candidates(cls, candidates: tuple[dict[str, Value], ...]) -> tuple[dict[str, Value], ...]:
        for index, candidate in enumerate(candidates):
            if "head_size" in candidate and "n_head" in candidate:
                raise mistake("head_size and n_head both set the number of heads; drop one", index, "n_head")
        return candidates

    @field_validator("store")
    @classmethod
    def _check_store(cls, store: str | None) -> str | None:
        if store is not None and (problem := problem_with(store)):
            raise mistake(problem)
        return store

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not self.knobs.keys() - {DATA} and not self.candidates:
            text = "there is nothing to sweep; add a knob such as dropout: {low: 0, high: 0.3}, or candidates to test"
            raise mistake(text, "knobs")
        try:
            TrainConfig.from_mapping(with_heads(self.baseline))
        except ConfigError as error:
            raise mistake(str(error), "baseline", *setting_named(error, self.baseline)) from error
        if isinstance(self.horizon, TokenHorizon) and self.iters < MIN_ITERS:
            raise mistake(
                f"{as_yaml(self.horizon.tokens)} tokens are {self.iters} iterations of "
                f"{self.tokens_per_iter}; at least {MIN_ITERS} are needed: {MIN_ITERS * self.tokens_per_iter} tokens",
                "horizon",
                "tokens",
            )
        self._check_pilot()
        if self.race is not None and not self.branches:
            raise mistake(
                "a race runs against the curve of an origin: add start: {checkpoint: out/ckpt.pt} or "
                "start: {train: {max_iters: 3000}}, or drop it",
                "race",
            )
        if (
            self.race is not None
            and isinstance(self.start, TrainStart)
            and self.race.iters > self.start.train.max_iters
        ):
            limit = self.start.train.max_iters
            raise mistake(
                f"{self.race.iters} iterations are more than the {limit} of the origin, whose curve it runs against; "
                f"use at most {limit}",
                "race",
                "iters",
            )
        for index, candidate in enumerate(self.candidates if self.branches else ()):
            for name in (*SHAPE, "head_size"):
                if name in candidate:
                    text = "a checkpoint keeps its shape; race it from scratch instead, under race, or drop it"
                    raise mistake(text, "candidates", index, name)
        for name, knob in self.knobs.items():
            self._check_against_baseline(name, knob)
        return self

    def _check_pilot(self) -> None:
        if self.pilot is None:
            return
        if self.branches:
            raise mistake(
                "a pilot finds the length of trials from scratch, and from a checkpoint seeds differ by thousandths of "
                "a nat; drop it",
                "pilot",
            )
        if isinstance(self.horizon, MinuteHorizon):
            raise mistake(
                "a horizon in minutes leaves the length of trials to the clock; for a pilot write horizon: {iters: "
                "600} or {tokens: 50000000}, the shortest length to try",
                "pilot",
            )
        if self.chosen is None and self.pilot.max_iters < self.iters:
            raise mistake(
                f"{self.pilot.max_iters} is below the horizon of {self.iters} iterations, where the pilot begins; "
                "raise it or lower the horizon",
                "pilot",
                "max_iters",
            )
        if self.baseline_seeds < SEEDS:
            raise mistake(
                f"{self.baseline_seeds} is too few with a pilot, whose {SEEDS} seeds become the baseline's; write "
                f"baseline_seeds: {SEEDS} or more",
                "baseline_seeds",
            )

    def _check_against_baseline(self, name: str, knob: RangeKnob | ChoicesKnob) -> None:
        if self.branches and name in GROWN:
            self._check_growth(name, knob)
            return
        if name in ("min_lr", "warmup_iters") and not self.control["decay_lr"]:
            text = "has no effect while baseline.decay_lr is false; set decay_lr to true or drop the knob"
            raise mistake(text, "knobs", name)
        if name == "warmup_iters":
            # a branch decays to its own end, wherever the baseline's decay ends
            end = 1.0 if self.branches else float(self.control["lr_decay_iters"]) / float(self.control["max_iters"])
            for key, value in knob.ends().items():
                if value >= end:
                    text = f"{as_yaml(value)} must be below {as_yaml(end)}, where the baseline's decay ends"
                    raise mistake(f"{text} (lr_decay_iters / max_iters)", "knobs", name, key)
        if name == "n_embd" and not (isinstance(knob, RangeKnob) and knob.round):
            unit = self.head_unit
            for width in knob.wholes() if isinstance(knob, RangeKnob) else knob.choices:
                if width % unit:
                    word = "head_size" if "head_size" in self.baseline else "n_head"
                    raise mistake(
                        f"the width {width} is not divisible by {word}={unit}; "
                        f"use multiples of {unit} (low, high and step) or round: true",
                        "knobs",
                        name,
                    )
        value = self.knob_value(name)
        if self.branches and self.origin is None and name in OF_THE_CONTROL:
            return  # known once the origin is; the knob is widened then
        if not knob.contains(value):
            key = {"min_lr": "min_lr / learning_rate", "warmup_iters": "warmup_iters / max_iters"}.get(name, name)
            raise mistake(
                f"the baseline's {key} = {as_yaml(value)} is not among the knob's values ({knob.words()}); "
                "add it to the knob or change the baseline",
                "knobs",
                name,
            )

    def _check_growth(self, name: str, knob: RangeKnob | ChoicesKnob) -> None:
        """Check that a checkpoint can grow to every value of the knob."""
        now = int(self.baseline[name])
        values = knob.wholes() if isinstance(knob, RangeKnob) else [int(value) for value in knob.choices]
        for value in values:
            if value < now:
                why = f"a checkpoint can't shrink from {now} to {value}"
            elif name == "n_embd" and value % now:
                why = f"a checkpoint grows in width by whole factors only, and {value} is no multiple of {now}"
            else:
                continue
            raise mistake(
                f"{why}; race it from scratch instead: race: {{iters: ..., {name}: [{value}]}}", "knobs", name
            )

    def as_written(self) -> dict[str, Any]:
        """Return the study as a file's mapping, with every default written out. Keys without a value are left out."""
        return self.model_dump(mode="json", exclude=NOT_KEYS, exclude_none=True)

    @property
    def sequences_per_iter(self) -> int:
        """Sequences per iteration of the baseline."""
        return int(self.baseline["batch_size"]) * int(self.baseline["gradient_accumulation_steps"])

    @property
    def tokens_per_iter(self) -> int:
        """Tokens per iteration of the baseline."""
        return self.sequences_per_iter * int(self.baseline["block_size"])

    @property
    def iters(self) -> int:
        """Iterations of the baseline as a trial, and of every trial with its batch if trials are equal in tokens.

        A horizon in minutes must be fitted first (engine/planning/minutes.py). A pilot replaces the horizon once it
        has chosen.
        """
        if self.chosen is not None:
            return self.chosen.last.iters
        match self.horizon:
            case IterHorizon(iters=iters):
                return iters
            case TokenHorizon(tokens=tokens):
                return tokens // self.tokens_per_iter
        assert self.fit is not None, "a horizon in minutes has no length before it is fitted"
        return self.fit.iters

    @property
    def fit(self) -> Fit | None:
        """The fitted length of a horizon in minutes; None for other horizons and before it is fitted."""
        return self.horizon.fit if isinstance(self.horizon, MinuteHorizon) else None

    @property
    def equal(self) -> str:
        """What is equal for all trials: tokens, flops or time."""
        return self.horizon.equal if isinstance(self.horizon, MinuteHorizon) else "tokens"

    @property
    def branches(self) -> bool:
        """Whether trials go on from a checkpoint."""
        return self.start != "scratch"

    @property
    def control(self) -> dict[str, Value]:
        """The settings that a trial changes: the baseline's, or those of the branch with nothing changed."""
        if self.origin is None:
            return self.baseline if not self.branches else {**self.baseline, "decay_lr": True}
        return control_of(self.baseline, rate=self.origin.learning_rate, iters=self.iters)

    @property
    def continued(self) -> dict[str, Value]:
        """The settings by which a trial goes on from the origin; empty where trials start from scratch."""
        if self.origin is None:
            return {}
        vocab_size = self.origin.settings["vocab_size"]  # nanoGPT's model may have more tokens than its data
        return {"init_from": "branch", "origin": self.origin.sha256, "vocab_size": vocab_size}

    @property
    def min_effect(self) -> float:
        """Nats by which a change must lower the loss to count."""
        if self.confirm.min_effect is not None:
            return self.confirm.min_effect
        return DEFAULT_MIN_EFFECT if self.origin is None else (self.origin.min_effect or LEAST_EFFECT)

    @property
    def largest_sd(self) -> float | None:
        """Largest standard deviation over seeds that the pilot is content with, nats. None: there is no pilot."""
        return None if self.pilot is None else self.pilot.largest_sd(self.min_effect)

    @property
    def grown(self) -> dict[str, RangeKnob | ChoicesKnob]:
        """The knobs of shape in a study of branches. They are tried alone, with dropout off, and never sampled."""
        return {name: knob for name, knob in self.knobs.items() if self.branches and name in GROWN}

    @property
    def sampled(self) -> dict[str, RangeKnob | ChoicesKnob]:
        """The knobs that the sampler varies and a better config may change: all but data_fraction and grown shapes."""
        return {name: knob for name, knob in self.knobs.items() if name != DATA and name not in self.grown}

    @property
    def head_unit(self) -> int:
        """The unit that must divide a width: head_size if it is set, else n_head."""
        return head_unit(self.baseline)

    def knob_value(self, name: str) -> Number:
        """Return the baseline's value of a knob, in a branch the control's; see the function `knob_value`."""
        return knob_value(self.control, name)


def problem_with_name(name: str) -> str:
    """Return why `name` can't name a study and its folder, or an empty string if it can."""
    if not _NAME.fullmatch(name):
        return (
            f"{name!r} can't name a study and its folder; use 1 to 64 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    if name.endswith(CONFIRM):
        return f"{name!r} ends in {CONFIRM}, which is reserved for the confirm phase; choose another name"
    return ""


def knob_value(settings: Mapping[str, Value], name: str) -> Number:
    """Return a knob's value in `settings`: min_lr as a share of learning_rate, warmup_iters as a share of max_iters."""
    whole = {"min_lr": "learning_rate", "warmup_iters": "max_iters"}.get(name)
    value = settings[name]
    assert not isinstance(value, str)
    return tidy(value / float(settings[whole])) if whole else value


def tidy(value: float) -> float:
    """Round to 14 digits, so that a ratio that is taken and applied again gives the value in the file."""
    return float(f"{value:.14g}")


def setting_named(error: ConfigError, settings: Mapping[str, Value]) -> tuple[str, ...]:
    """Return the setting at the start of a ConfigError of the form `name=value ...`, if it is one of `settings`."""
    name = str(error).partition("=")[0]
    return (name,) if name in settings else ()

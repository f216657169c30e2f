"""Knobs: the hyperparameters being swept, and the values that each may take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator
from typing_extensions import TypedDict

from sweeps.study.baseline import WHOLE, describe_setting
from sweeps.study.model import AnyNumber, Model, Number, as_yaml, mistake

PARAM = {"min_lr": "min_lr_ratio", "warmup_iters": "warmup_fraction"}
"""Optuna's parameter names of the knobs that are shares of another setting; all other knobs keep their name."""

MOST_STEPS = 1_000_000
MOST_BATCH_SIZES = 64


class _Knob(Model):
    ratio_of: Literal["learning_rate"] | None = None
    """only for min_lr, which is swept as a share of the learning rate"""
    fraction_of: Literal["max_iters"] | None = None
    """only for warmup_iters, which is swept as a share of the trial's iterations"""


class RangeKnob(_Knob):
    """Ordered values from low to high."""

    low: AnyNumber
    """smallest value"""
    high: AnyNumber
    """largest value"""
    log: bool = False
    """sample on a log scale; low must be above 0"""
    step: AnyNumber | None = None
    """values are low, low + step, ..., high; without a step every value, or every whole number"""
    round: bool = False
    """only for n_embd: round a width to the nearest one that its heads divide, instead of refusing it"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high:
            raise mistake(f"low={as_yaml(self.low)} must be below high={as_yaml(self.high)}", "low")
        if self.log and self.low <= 0:
            raise mistake(f"low={as_yaml(self.low)} must be above 0 on a log scale; raise it or drop log", "low")
        if self.step is None:
            return self
        if self.log:
            raise mistake("a log scale has no steps; drop log or step", "step")
        span = self.high - self.low
        if not 0 < self.step <= span:
            raise mistake(f"step={as_yaml(self.step)} must be above 0 and at most high - low = {as_yaml(span)}", "step")
        if not span / self.step <= MOST_STEPS:
            raise mistake(f"step={as_yaml(self.step)} makes more than {MOST_STEPS} values; raise or drop it", "step")
        if not self.contains(self.high):
            below = self.low + math.floor((self.high - self.low) / self.step) * self.step
            raise mistake(
                f"high={as_yaml(self.high)} is not low plus a multiple of step={as_yaml(self.step)}; "
                f"nearest: {as_yaml(below)} and {as_yaml(below + self.step)}",
                "high",
            )
        return self

    def contains(self, value: Number) -> bool:
        """Whether `value` is one of the knob's values, up to rounding (relative 1e-9)."""
        slack = 1e-9 * max(abs(self.low), abs(self.high))
        if not self.low - slack <= value <= self.high + slack:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) * self.step <= max(slack, 1e-9 * self.step)

    def snap(self, value: Number) -> Number:
        """Clip a contained value to the range, removing the rounding error that would put it outside."""
        return min(max(value, self.low), self.high)

    def at(self, place: float) -> Number:
        """Return the value at a place, 0 to 1, on the knob's scale; the nearest step if it has steps."""
        if self.log:
            return self.snap(self.low * (self.high / self.low) ** place)
        value = self.low + (self.high - self.low) * place
        return self.snap(value if self.step is None else self.low + round((value - self.low) / self.step) * self.step)

    def place(self, value: Number) -> float:
        """Return the place of a value in the range, 0 to 1, on the knob's scale."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ends(self) -> dict[str, Number]:
        """Return the values to try alone, by name: low and high."""
        return {"low": self.low, "high": self.high}

    def words(self) -> str:
        """Describe the values: "0 to 0.3", "192 to 768 in steps of 64"."""
        steps = f" in steps of {as_yaml(self.step)}" if self.step is not None else ""
        return f"{as_yaml(self.low)} to {as_yaml(self.high)}{steps}"

    def wholes(self) -> range:
        """Return all values of a knob of whole numbers."""
        return range(int(self.low), int(self.high) + 1, int(self.step or 1))

    def spread(self, most: int) -> list[int]:
        """Return all values of a knob of whole numbers, or `most` of them, even on its scale, ends included."""
        values = self.wholes()
        if len(values) <= most:
            return list(values)
        spaced = [self.at(index / (most - 1)) for index in range(most)]
        return sorted({values[round((value - values.start) / values.step)] for value in spaced})


class ChoicesKnob(_Knob):
    """Unordered values."""

    choices: Annotated[tuple[AnyNumber, ...], Field(strict=False)]
    """at least two different values"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.choices) < 2:
            raise mistake("needs at least two values", "choices")
        for index, value in enumerate(self.choices):
            if value in self.choices[:index]:
                raise mistake(f"{as_yaml(value)} is listed twice; keep one", "choices", index)
        return self

    def contains(self, value: Number) -> bool:
        """Whether `value` is one of the knob's values, up to rounding (relative 1e-9)."""
        return any(math.isclose(value, choice, rel_tol=1e-9) for choice in self.choices)

    def snap(self, value: Number) -> Number:
        """Return the choice nearest to a contained value, removing its rounding error."""
        return min(self.choices, key=lambda choice: abs(choice - value))

    def ends(self) -> dict[str, Number]:
        """Return the values to try alone, by name: all choices."""
        return {as_yaml(value): value for value in self.choices}

    def words(self) -> str:
        """Describe the values: "one of 4, 8, 16"."""
        return "one of " + ", ".join(as_yaml(value) for value in self.choices)


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return "<choices>" if "choices" in value else "<range>"
    if isinstance(value, _Knob):
        return "<choices>" if isinstance(value, ChoicesKnob) else "<range>"
    return None


Knob = Annotated[
    Annotated[RangeKnob, Tag("<range>")] | Annotated[ChoicesKnob, Tag("<choices>")],
    Discriminator(
        _kind,
        custom_error_type="not_a_mapping",
        custom_error_message="a knob is {low: 0, high: 0.3} or {choices: [4, 8]}",
    ),
]

KNOBS = (
    "learning_rate",
    "min_lr",
    "warmup_iters",
    "dropout",
    "weight_decay",
    "n_embd",
    "beta2",
    "grad_clip",
    "label_smoothing",
    "n_layer",
    "batch_size",
    "data_fraction",
)
"""What can be swept, in nanoGPT's names."""

DATA = "data_fraction"
"""The knob that asks whether more data would help. It is tried alone on the baseline's seeds, never sampled."""

_EXTRA = {
    "min_lr": "; swept as a share of the learning rate (ratio_of: learning_rate), in a branch of the control's rate",
    "warmup_iters": "; swept as a share of the trial's iterations (fraction_of: max_iters)",
    "n_embd": "; the number of heads follows from the baseline's head_size; in a branch by growing, tried alone",
    "batch_size": "; iterations follow so that the tokens stay the same",
    DATA: "; asks whether more data would help: tried alone on each of the baseline's seeds, never sampled",
}

if TYPE_CHECKING:
    Knobs = dict[str, RangeKnob | ChoicesKnob]
else:
    Knobs = TypedDict(
        "Knobs",
        {name: Annotated[Knob, Field(description=describe_setting(name) + _EXTRA.get(name, ""))] for name in KNOBS},
        total=False,
    )
    Knobs.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)

_SHARES = {"min_lr": ("ratio_of", "learning_rate"), "warmup_iters": ("fraction_of", "max_iters")}


def batch_sizes_around(size: int) -> tuple[int, ...]:
    """Return half, the same and twice a batch size, which see equal tokens in whole iterations; 1 has no half."""
    return tuple(sorted({max(1, size // 2), size, 2 * size}))


def check_knob(name: str, knob: RangeKnob | ChoicesKnob) -> None:
    """Check the rules that depend on a knob's name. Raises the error of `mistake`."""
    for share, (key, whole) in _SHARES.items():
        declared = getattr(knob, key)
        if name == share and not declared:
            raise mistake(f"is swept as a share of {whole}, from 0 to 1: add {key}: {whole}", name)
        if name != share and declared:
            raise mistake(f"only {share} takes {key}; drop it", name, key)
    if isinstance(knob, RangeKnob) and name == DATA:
        raise mistake("is not sampled but tried at each of its values; write choices: [0.25, 0.5, 1.0]", name)
    if isinstance(knob, RangeKnob) and knob.round and name != "n_embd":
        raise mistake("only n_embd can be rounded; drop it", name, "round")
    for key, value in knob.ends().items():
        path = (name, key) if isinstance(knob, RangeKnob) else (name, "choices")
        if name in _SHARES and not 0 <= value <= 1:
            raise mistake(f"{as_yaml(value)} is not a share of {_SHARES[name][1]}; use 0 to 1", *path)
        if name in WHOLE and name not in _SHARES:
            _check_whole(value, path)
    if name in WHOLE and name not in _SHARES and isinstance(knob, RangeKnob):
        if knob.step is not None:
            _check_whole(knob.step, (name, "step"))
        if name == "batch_size" and len(knob.wholes()) > MOST_BATCH_SIZES:
            text = f"has {len(knob.wholes())} values, more than {MOST_BATCH_SIZES}; use a step, or choices: [4, 8, 16]"
            raise mistake(text, name)


def _check_whole(value: Number, path: tuple[str, ...]) -> None:
    if not isinstance(value, int):
        remedy = f"; write {int(value)}" if value.is_integer() else ""
        raise mistake(f"{value} is not a whole number{remedy}", *path)

"""Where trials start: from scratch, from the checkpoint of a run that plateaued, or from one that the sweep trains.

A trial that starts from a checkpoint is a *branch*: it goes on from the checkpoint's weights and moments, and its
schedule counts from its own start. The branch with nothing changed is the *control*: the rate as it stands at the
origin, down to the baseline's min_lr. Shapes can't change in the middle, so they *race*: from scratch under the
origin's own schedule and data order, against the origin's own curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from sweeps.study.baseline import Value
from sweeps.study.model import Model, mistake
from trainer.config import TrainConfig

MIN_ORIGIN_ITERS = 100
LEAST_EFFECT = 0.002
"""nats; the least default of min_effect in a branch"""
SHARE_OF_GOING_ON = 0.1
"""default of min_effect in a branch, as a share of what going on brings over the same iterations"""
SCHEDULE = ("learning_rate", "min_lr", "warmup_iters", "lr_decay_iters", "decay_lr", "max_iters")
"""settings of the schedule, which differ between the origin and its branches, and are never raced"""
SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "bias")
"""settings that a checkpoint fixes"""
GROWN = ("n_embd", "n_layer")
"""shapes that a branch can grow"""


class TrainLimits(Model):
    """How long the origin is trained."""

    max_iters: int = Field(ge=MIN_ORIGIN_ITERS, le=10**9)
    """iterations of the baseline's run, at most; from a third of them on, it ends where its curve is a plateau"""


class TrainStart(Model):
    """The baseline is trained first, until its curve is a plateau; its checkpoint is the origin."""

    train: TrainLimits
    """how long"""


class CheckpointStart(Model):
    """The origin is a checkpoint of nanoGPT, or of a run of this trainer."""

    checkpoint: str = Field(min_length=1)
    """ckpt.pt, or the folder that holds it"""
    log: str | None = None
    """what nanoGPT printed while it trained; shows whether the curve is a plateau, and stands in for it in races"""


def _kind(value: Any) -> str | None:
    if value == "scratch":
        return "<scratch>"
    has = value.__contains__ if isinstance(value, dict) else lambda key: hasattr(value, key)
    return next((f"<{key}>" for key in ("checkpoint", "train") if has(key)), None)


Start = Annotated[
    Annotated[Literal["scratch"], Tag("<scratch>")]
    | Annotated[CheckpointStart, Tag("<checkpoint>")]
    | Annotated[TrainStart, Tag("<train>")],
    Discriminator(
        _kind,
        custom_error_type="which",
        custom_error_message="start is scratch, {checkpoint: out/ckpt.pt} or {train: {max_iters: 3000}}",
    ),
]

_Wholes = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)]
_Numbers = Annotated[tuple[Annotated[float, Field(ge=0, strict=False)], ...], Field(strict=False)]


class Race(Model):
    """Runs from scratch with one change each, against the origin's own curve at equal tokens."""

    iters: int = Field(ge=10, le=10**9)
    """iterations of a race; one that is promising goes on to twice as many"""
    seeds: int = Field(2, ge=1, le=8)
    """seeds of every change, and of the origin's own curve; one seed gives no interval"""
    n_embd: _Wholes = ()
    """widths to race; the number of heads follows"""
    n_layer: _Wholes = ()
    """depths to race"""
    n_head: _Wholes = ()
    """numbers of heads to race"""
    dropout: _Numbers = ()
    """dropout probabilities to race"""
    weight_decay: _Numbers = ()
    """weight decays to race"""
    beta2: _Numbers = ()
    """values of AdamW's beta2 to race"""
    grad_clip: _Numbers = ()
    """gradient norms to race"""
    label_smoothing: _Numbers = ()
    """label smoothings to race"""

    @model_validator(mode="before")
    @classmethod
    def _no_schedule(cls, value: Any) -> Any:
        for name in SCHEDULE if isinstance(value, dict) else ():
            if name in value:
                raise mistake(
                    "a schedule is not raced: cut off before it has decayed, a high rate looks worse than it is; "
                    f"sweep it from the checkpoint instead, as knobs.{name}",
                    name,
                )
        if isinstance(value, dict) and "block_size" in value:
            raise mistake("losses at different context lengths can't be compared; drop it", "block_size")
        return value

    @model_validator(mode="after")
    def _something(self) -> Race:
        if not list(self.changes()):
            raise mistake("there is nothing to race; add widths or depths such as n_embd: [768]")
        return self

    def changes(self) -> Iterator[tuple[str, int | float]]:
        """Yield every change to race as (nanoGPT's name, value)."""
        for name in type(self).model_fields:
            if name not in ("iters", "seeds"):
                yield from ((name, value) for value in getattr(self, name))


class Origin(Model):
    """The origin of a study's branches, known before the first trial."""

    checkpoint: str
    """the study's own copy of the checkpoint: absolute path of the file"""
    sha256: str
    """of that file"""
    step: int
    """updates that the origin has done"""
    seed: int | None = None
    """of the origin's run; None: another program trained it"""
    learning_rate: float
    """rate of the next update under the origin's own schedule"""
    val_loss: float | None = None
    """nats per token on a branch's evaluation windows, before its first update; None: not measured yet"""
    plateau: Literal["plateau", "improving", "undetermined"] | None = None
    """what the plateau test says of the origin's curve; None: there is no curve"""
    since: int | None = None
    """first iteration of the plateau"""
    settings: dict[str, Value]
    """the origin's own TrainConfig"""
    own: dict[str, Value] = Field(default_factory=dict)
    """every nanoGPT setting that the user's checkpoint holds, out_dir and wandb_log among them; empty: the origin is a
    run of the sweep"""
    going_on: float | None = None
    """nats by which the loss falls if the origin goes on under its own schedule as long as a branch"""
    min_effect: float | None = None
    """nats; set before the first trial"""
    log: tuple[tuple[int, float], ...] = Field((), strict=False)
    """(iteration, validation loss in nats per token) of the log's evaluations, as printed"""
    log_offset: float | None = None
    """nats to add to the log's losses for our windows; None: there is no log"""
    log_offset_se: float | None = None
    """its standard error, nats"""
    notes: tuple[str, ...] = Field((), strict=False)
    """traps of the checkpoint, in sentences"""

    @property
    def config(self) -> TrainConfig:
        """The origin's own config, whose schedule counts from the start of its run."""
        return TrainConfig.from_mapping(dict(self.settings))


def min_effect_of(going_on: float) -> float:
    """Return the default of min_effect in a branch, nats: a tenth of what going on brings, at least 0.002."""
    return max(LEAST_EFFECT, float(f"{SHARE_OF_GOING_ON * going_on:.2g}"))


def control_of(baseline: Mapping[str, Value], *, rate: float, iters: int) -> dict[str, Value]:
    """Return the settings of the control: `rate`, as it stands at the origin, decays to min_lr over `iters`.

    A constant rate stays constant: min_lr is then the rate itself.
    """
    floor = float(baseline["min_lr"]) if baseline["decay_lr"] else rate
    return {
        **baseline,
        "learning_rate": rate,
        "min_lr": min(floor, rate),
        "decay_lr": True,
        "warmup_iters": 0,
        "lr_decay_iters": iters,
        "max_iters": iters,
    }

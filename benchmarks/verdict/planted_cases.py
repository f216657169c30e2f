"""The cases of planted faults: the baseline of planted.yaml with some settings broken on purpose, or none.

A fault is broken in the run that becomes the origin. Three kinds of knobs mend it: what a branch can change mends it
from the checkpoint, a shape mends it if one retrains, and a warm-up only ever matters at the start of the whole run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.study.baseline import Value
from sweeps.study.load import load
from sweeps.study.study import Study

STUDY = Path(__file__).with_name("planted.yaml")
SCRATCH = "scratch"
"""the study's profile whose trials start from scratch"""
SHAPES = ("n_embd", "n_layer")
"""what most cases race at twice its size"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The study's baseline with some settings broken."""

    name: str
    planted: tuple[str, ...] = ()
    """knobs that each mend the fault: from the checkpoint, or (shapes) in a race; of two faults, those of either"""
    from_scratch: tuple[str, ...] | None = None
    """knobs that mend it in trials from scratch; None: the same"""
    faults: Mapping[str, Value] = field(default_factory=dict)
    """broken settings of the baseline"""
    mended: Mapping[str, Value] = field(default_factory=dict)
    """settings of the branch that mends the fault; empty: no branch does"""
    shape: Mapping[str, Value] = field(default_factory=dict)
    """the shape of the baseline, where it is another than the study's"""
    raced: Mapping[str, int] | None = None
    """shapes that race, and that trials from scratch sweep; None: twice the width and twice the depth"""
    also: tuple[str, ...] = ()
    """other changes to the study, KEY=VALUE"""
    branched: tuple[str, ...] = ()
    """further ones where trials are branches"""
    squeezed: tuple[str, ...] = ()
    """further ones where trials start from scratch"""
    seed: int = 1337

    def mends(self, *, scratch: bool) -> tuple[str, ...]:
        """Return the knobs that mend the fault in branches and races, or in trials from scratch."""
        return self.from_scratch if scratch and self.from_scratch is not None else self.planted


_LOW_RATE = {"learning_rate": 2e-4, "min_lr": 2e-5}
_TWO_LAYERS, _FOUR_LAYERS = {"n_layer": 2, "n_embd": 64}, {"n_layer": 4, "n_embd": 32}
CASES = (
    Case(name="rate-low", planted=("learning_rate",), faults=_LOW_RATE, mended={"learning_rate": 2e-3}),
    Case(
        name="rate-high",  # the rate hardly decays, so a lower rate and a lower end of its decay mend the same
        planted=("learning_rate", "min_lr"),
        faults={"learning_rate": 1.2e-2, "min_lr": 6e-3},
        mended={"learning_rate": 2e-3},
        shape=_TWO_LAYERS,
    ),
    Case(
        name="rate-high-early",  # it has decayed where the origin ends: from there nothing is wrong any more
        from_scratch=("learning_rate",),
        faults={"learning_rate": 2.4e-2, "min_lr": 2.4e-3},
    ),
    Case(
        name="decays-early",  # no branch can tell by min_lr, which is a share of a rate that is nothing already
        planted=("learning_rate",),
        from_scratch=("min_lr",),
        faults={"lr_decay_iters": 400, "min_lr": 1e-6},
        mended={"learning_rate": 2e-3, "min_lr": 4e-4},
        squeezed=("knobs.warmup_iters.high=0.3",),  # the warm-up has to end before the decay does
    ),
    Case(
        name="min-lr-high",
        planted=("min_lr", "learning_rate"),
        faults={"min_lr": 4e-3},
        mended={"min_lr": 0.0},
    ),
    Case(name="dropout", planted=("dropout",), faults={"dropout": 0.4}, mended={"dropout": 0.0}, shape=_FOUR_LAYERS),
    Case(name="weight-decay", planted=("weight_decay",), faults={"weight_decay": 3.0}, mended={"weight_decay": 0.1}),
    Case(
        name="batch-small",  # the rate doesn't decay, or its decay would mend the noise of small batches
        planted=("batch_size",),
        faults={"batch_size": 4},
        mended={"batch_size": 16},
        also=(
            "baseline.max_iters=2400",
            "baseline.lr_decay_iters=3600",
            "baseline.warmup_iters=200",
            "baseline.min_lr=4e-3",
            "knobs.batch_size.choices=[4, 8, 16]",  # in a trial of equal tokens
            "knobs.learning_rate=null",  # the other handle of the same noise
            "knobs.min_lr=null",
        ),
        branched=("start.train.max_iters=2400", "race.iters=600", "horizon.iters=480"),
        squeezed=("horizon.iters=1600",),
    ),
    Case(name="narrow", planted=("n_embd",), faults={"n_embd": 16}),
    Case(
        name="shallow",  # depth shows late, so its race is as long as the run; a race of width would win, rightly
        planted=("n_layer",),
        faults={"n_layer": 1},
        shape={"n_embd": 16},
        raced={"n_layer": 4},
        branched=("race.n_embd=null", "race.iters=1200", "race.seeds=5"),
        squeezed=("knobs.n_embd=null",),
    ),
    Case(
        name="rate-low-and-dropout",
        planted=("learning_rate", "dropout"),
        faults={**_LOW_RATE, "dropout": 0.4},
        mended={"learning_rate": 2e-3, "dropout": 0.0},
    ),
    Case(
        name="narrow-and-weight-decay",
        planted=("n_embd", "weight_decay"),
        faults={"n_embd": 16, "weight_decay": 3.0},
        mended={"weight_decay": 0.1},
    ),
    Case(
        name="warmup-short",  # what it cost is in the weights; from the checkpoint nothing is wrong any more
        from_scratch=("warmup_iters",),
        faults={"warmup_iters": 0},
        also=("baseline.learning_rate=8e-3", "baseline.min_lr=8e-4"),  # a rate that needs a warm-up
    ),
    Case(name="null-1"),
    Case(name="null-2", shape=_TWO_LAYERS, seed=2337),
    Case(name="null-3", shape=_FOUR_LAYERS, seed=3337),
)
"""Settings are in nanoGPT's units and those of the baseline's own run."""


def settings(case: Case, *, seed: int = 0, scratch: bool = False) -> tuple[str, ...]:
    """Return the `--set` settings that turn the study into the case's. `seed` is added to the case's own."""
    shape = {"n_embd": 48, "n_layer": 3, **case.shape, **case.faults}
    raced = {name: 2 * int(shape[name]) for name in SHAPES} if case.raced is None else case.raced
    return (
        f"name={case.name}",
        f"seed={case.seed + seed}",
        *case.also,
        *(case.squeezed if scratch else case.branched),
        *(f"baseline.{name}={value}" for name, value in {**case.shape, **case.faults}.items()),
        *(
            f"knobs.{name}.choices=[{shape[name]}, {value}]" if scratch else f"race.{name}=[{value}]"
            for name, value in raced.items()
        ),
    )


def study_of(case: Case, *, seed: int = 0, scratch: bool = False, parquet: str | None = None) -> Study:
    """Return the case's study, resolved."""
    overrides = settings(case, seed=seed, scratch=scratch)
    profile = SCRATCH if scratch else None
    return load(STUDY, profile=profile, overrides=overrides, data=parquet, devices_have_cuda=False)


def mending(case: Case, *, scratch: bool) -> dict[str, Value]:
    """Return the settings that mend the case's fault: in a branch, or from scratch those of the study itself."""
    if not scratch:
        return dict(case.mended)
    good = load(STUDY, profile=SCRATCH, devices_have_cuda=False).baseline
    return {name: good[name] for name in case.faults}

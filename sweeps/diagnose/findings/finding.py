"""A finding: what may hold a run back, with its evidence, the knob it points at and the check that settles it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The kinds of findings."""

    NO_UPDATE = "no_update"
    PRECISION_OVERFLOW = "precision_overflow"
    INSTABILITY = "instability"
    ACCUMULATION_MIS_SCALED = "accumulation_mis_scaled"
    VAL_MISMATCH = "val_mismatch"
    RESUME_SHOCK = "resume_shock"
    RESUME_PINNED_AT_MIN_LR = "resume_pinned_at_min_lr"
    BATCH_TOO_SMALL = "batch_too_small"
    OVERFITTING = "overfitting"
    DATA_LIMITED = "data_limited"
    CAPACITY_LIMITED = "capacity_limited"
    DROPOUT_ON_UNDERFIT = "dropout_on_underfit"
    WEIGHT_DECAY_TOO_STRONG = "weight_decay_too_strong"
    LR_TOO_LOW = "lr_too_low"
    LR_TOO_HIGH = "lr_too_high"
    LR_DECAYED_EARLY = "lr_decayed_early"
    SCHEDULE_EXHAUSTED = "schedule_exhausted"
    WARMUP_TOO_LONG = "warmup_too_long"
    BATCH_NOISE = "batch_noise"
    EVAL_NOISE = "eval_noise"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One explanation that the log supports."""

    code: Code
    evidence: str
    """a sentence with its numbers"""
    knob: str | None
    """nanoGPT's name of the setting that it points at; None: no setting mends it"""
    direction: str
    """what to do with it: "up", "down", "0", or words"""
    check: str
    """the one check that settles it"""
    strength: float
    """0 to 1; ranks findings of one kind"""
    fault: bool = False
    """whether no sweep mends it, so that it comes first"""


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """One explanation that the log contradicts."""

    code: Code
    evidence: str
    """a sentence with its numbers"""

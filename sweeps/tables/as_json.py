"""The JSON object of `sweep judge --json`: its fields, and how rulings on tables become one."""

from __future__ import annotations

import dataclasses
from typing import TypedDict, cast

from sweeps.tables import keep_words, words
from sweeps.tables.keeps import KeepLog
from sweeps.tables.ruling import ArmRuling, Ruling


class ArmJson(TypedDict):
    """One arm of a table against the baseline. Gains are in the table's unit, above 0 is better."""

    arm: str
    """name of the arm"""
    word: str
    """better, worse, equal, one seed or not enough evidence"""
    gain: float | None
    """the baseline's mean loss less the arm's; null: one of them has no loss"""
    low: float | None
    """its interval's lower end; null: the noise is unknown"""
    high: float | None
    """its interval's upper end; null: the noise is unknown"""
    p: float | None
    """one-sided, of a gain of at most min_effect, by Holm's method over the arms; null: the noise is unknown"""
    seeds: int | None
    """seeds that both have"""
    method: str | None
    """layout, paired or unpaired"""
    runs: int
    """its runs"""
    diverged: int
    """those without a loss"""
    more_seeds: int | None
    """further seeds that would decide if mean and noise stay; null: it is decided, over 64, or not known"""
    devices_differ: bool
    """whether a seed ran on two kinds of device, so that the comparison is unpaired"""
    time: float | None
    """mean time of a run as a multiple of the baseline's; null: the table has none"""


class SpreadJson(TypedDict):
    """How far runs of one and the same thing differ."""

    sd: float | None
    """standard deviation in the table's unit; null: nothing was run twice"""
    degrees: int
    """degrees of freedom that it rests on"""


class LuckJson(TypedDict):
    """The best single run, and how much of it is luck."""

    arm: str
    """its arm"""
    seed: int | None
    """its seed; null: the table has none"""
    loss: float
    """its loss"""
    others: float | None
    """mean loss of its arm's other runs; null: it has no others"""
    expected: float | None
    """how far the best of so many runs lies below the mean by luck alone, less if seeds are shared; null: not known"""


class MissingJson(TypedDict):
    """What two further seeds of every arm would cost and decide."""

    runs: int
    """runs to make"""
    seconds: float | None
    """of them all; null: the table has no times"""
    detects: float | None
    """smallest gain that they would show in four of five cases; null: the noise is unknown"""


class RulingJson(TypedDict):
    """The ruling on a table of runs."""

    baseline: str
    """the arm that the others are compared with"""
    metric: str
    """the column with the loss"""
    min_effect: float
    """what a gain must exceed to count"""
    arms: list[ArmJson]
    """the arms that are shown to be better first, then by gain"""
    noise: SpreadJson
    """noise of an arm's losses, pooled over the arms"""
    best_single: LuckJson | None
    """null: under two runs have a loss"""
    missing: MissingJson | None
    """null where some change has two runs"""
    notes: list[str]
    """what was assumed or left out"""


class KeepJson(TypedDict):
    """A change that was kept."""

    row: int
    """its row in the table, from 1"""
    label: str
    """its description, or its commit"""
    loss: float
    """its loss"""
    before: float
    """loss of the last run that was kept"""
    p: float | None
    """one-sided, of no gain, by Holm's method over all experiments; null: the noise is unknown"""
    gain: float
    """how much lower it ended than the last one kept"""
    stands: bool
    """whether the gain is more than luck"""


class KeepLogJson(TypedDict):
    """What a log of keeps and discards shows."""

    metric: str
    """the column with the loss"""
    keeps: list[KeepJson]
    """every change that was kept"""
    experiments: int
    """runs with a loss after the first"""
    crashed: int
    """runs without one"""
    noise: SpreadJson
    """noise of repeats"""
    first: float
    """loss of the first run"""
    last: float
    """loss of the last one kept"""


class JudgeJson(TypedDict):
    """The ruling of `sweep judge`."""

    answer: str
    """the answer in a sentence"""
    table: RulingJson | None
    """null for a log of keeps"""
    keeps: KeepLogJson | None
    """null for a table of runs"""


def of_ruling(ruling: Ruling) -> JudgeJson:
    """Return the ruling on a table of runs."""
    luck, missing = ruling.luck, ruling.missing
    return {
        "answer": words.answer(ruling),
        "table": {
            "baseline": ruling.table.baseline,
            "metric": ruling.table.metric,
            "min_effect": ruling.min_effect,
            "arms": [_arm(arm) for arm in ruling.arms],
            "noise": {"sd": ruling.sd, "degrees": ruling.degrees},
            "best_single": None if luck is None else cast("LuckJson", dataclasses.asdict(luck)),
            "missing": None if missing is None else cast("MissingJson", dataclasses.asdict(missing)),
            "notes": list(ruling.table.notes),
        },
        "keeps": None,
    }


def _arm(arm: ArmRuling) -> ArmJson:
    effect = arm.effect
    return {
        "arm": arm.arm,
        "word": words.WORDS[arm.word],
        "gain": None if effect is None else effect.mean,
        "low": None if effect is None else effect.low,
        "high": None if effect is None else effect.high,
        "p": None if effect is None else effect.p,
        "seeds": None if effect is None else effect.n,
        "method": None if effect is None else effect.method,
        "runs": arm.runs,
        "diverged": arm.diverged,
        "more_seeds": arm.more_seeds,
        "devices_differ": arm.devices_differ,
        "time": arm.time,
    }


def of_keep_log(log: KeepLog) -> JudgeJson:
    """Return the ruling on a log of keeps and discards."""
    return {
        "answer": keep_words.answer(log),
        "table": None,
        "keeps": {
            "metric": log.metric,
            "keeps": [
                cast("KeepJson", {**dataclasses.asdict(keep), "gain": keep.gain, "stands": keep.stands})
                for keep in log.keeps
            ],
            "experiments": log.experiments,
            "crashed": log.crashed,
            "noise": {"sd": log.sd, "degrees": log.degrees},
            "first": log.first,
            "last": log.last,
        },
    }

"""Rulings on tables as JSON objects: of `sweep judge --json`."""

from __future__ import annotations

import dataclasses
from typing import Any

from sweeps.analysis.contrasts import Contrast
from sweeps.tables import keep_words, words
from sweeps.tables.keeps import KeepLog
from sweeps.tables.ruling import ArmRuling, Ruling


def of_ruling(ruling: Ruling) -> dict[str, Any]:
    """Return a ruling. Gains are in the table's unit; `low` and `high` are two-sided 95 %."""
    return {
        "answer": words.answer(ruling),
        "baseline": ruling.table.baseline,
        "metric": ruling.table.metric,
        "min_effect": ruling.min_effect,
        "arms": [_arm(arm) for arm in ruling.arms],
        "noise": {"sd": ruling.sd, "degrees": ruling.degrees},
        "best_single": None if ruling.luck is None else dataclasses.asdict(ruling.luck),
        "missing": None if ruling.missing is None else dataclasses.asdict(ruling.missing),
        "notes": list(ruling.table.notes),
    }


def _arm(arm: ArmRuling) -> dict[str, Any]:
    return {
        "arm": arm.arm,
        "word": words.WORDS[arm.word],
        **_effect(arm.effect),
        "runs": arm.runs,
        "diverged": arm.diverged,
        "more_seeds": arm.more_seeds,
        "devices_differ": arm.devices_differ,
        "time": arm.time,
    }


def _effect(effect: Contrast | None) -> dict[str, Any]:
    if effect is None:
        return dict.fromkeys(("gain", "low", "high", "p", "seeds", "method"))
    return {
        "gain": effect.mean,
        "low": effect.low,
        "high": effect.high,
        "p": effect.p,
        "seeds": effect.n,
        "method": effect.method,
    }


def of_keep_log(log: KeepLog) -> dict[str, Any]:
    """Return the ruling on a log of keeps and discards."""
    return {
        "answer": keep_words.answer(log),
        "metric": log.metric,
        "keeps": [{**dataclasses.asdict(keep), "gain": keep.gain, "stands": keep.stands} for keep in log.keeps],
        "experiments": log.experiments,
        "crashed": log.crashed,
        "noise": {"sd": log.sd, "degrees": log.degrees},
        "first": log.first,
        "last": log.last,
    }

"""Rulings on tables as the JSON object of `sweep judge --json`."""

from __future__ import annotations

from sweeps.outputs import ArmJson, JudgeJson
from sweeps.tables import keep_words, words
from sweeps.tables.keeps import KeepLog
from sweeps.tables.ruling import ArmRuling, Ruling


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
            "best_single": None
            if luck is None
            else {
                "arm": luck.arm,
                "seed": luck.seed,
                "loss": luck.loss,
                "others": luck.others,
                "expected": luck.expected,
            },
            "missing": None
            if missing is None
            else {"runs": missing.runs, "seconds": missing.seconds, "detects": missing.detects},
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
                {
                    "row": keep.row,
                    "label": keep.label,
                    "loss": keep.loss,
                    "before": keep.before,
                    "p": keep.p,
                    "gain": keep.gain,
                    "stands": keep.stands,
                }
                for keep in log.keeps
            ],
            "experiments": log.experiments,
            "crashed": log.crashed,
            "noise": {"sd": log.sd, "degrees": log.degrees},
            "first": log.first,
            "last": log.last,
        },
    }

"""A study's results in numbers: what `sweep run --json` ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps.analysis.attribution import Advice, Attribution, KnobVerdict, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.store import records
from sweeps.store.records import Results
from sweeps.study.baseline import Value
from sweeps.study.proposals import candidate_proposal
from sweeps.text import NOT_TRAINED
from sweeps.verdict.confirmed import by_word, why

_KNOB_WORDS = {
    KnobWord.ALONE: "alone",
    KnobWord.NECESSARY: "necessary",
    KnobWord.JOINT: "joint",
    KnobWord.HURTS: "hurts",
}


def summarize(findings: Findings, *, seconds: float, store: Path, report: Path) -> dict[str, Any]:
    """The study as one JSON object; losses in nats a token, paths absolute.

    `trials` counts every run that has ended, the baseline's seeds among them; `best` is the search's best complete
    trial, with absolute nanoGPT values; `baseline` and `best` are null before there is one; `verdict` is null before
    anything is confirmed.
    """
    results, noise = findings.results, findings.screening.baseline
    best = results.best
    return {
        "study": results.study.name,
        "store": str(store.absolute()),
        "report": str(report.absolute()),
        "seconds": round(seconds, 3),
        "trials": records.counts(results.runs),
        "baseline": None if noise is None else {"mean": noise.mean, "sd": noise.sd, "seeds": noise.seeds},
        "best": None
        if best is None
        else {"trial": best.trial, "val_loss": best.val_loss, "config": best.config.as_dict()},
        "verdict": verdict_of(findings),
    }


def verdict_of(findings: Findings) -> dict[str, Any] | None:
    """The confirmed verdict as JSON; None: nothing is confirmed yet.

    Effects in nats (above 0: better) with their two-sided 95 % intervals, each list the most telling first.

    `from` and `to` are absolute nanoGPT values at the trials' length; a knob's and a candidate's `p` is Holm's. The
    verdict is of the baseline with the knobs of `change`: all of them, or the one that is shown without the others.
    """
    found = findings.attribution
    if found is None:
        return None
    return {
        "broken": found.broken,
        "word": found.word.value,
        "decided": found.decided,
        "why": why(found),
        "change": list(found.change),
        "delta": None if found.effect is None else found.effect.mean,
        "ci": _interval(found.effect),
        "seeds": list(found.seeds),
        "min_effect": found.min_effect,
        "knobs": [_knob(knob) for knob in found.knobs],
        "joint": _joint(found),
        "candidates": [_candidate(each, found, findings.results) for each in by_word(found.advice)],
    }


def _knob(knob: KnobVerdict) -> dict[str, Any]:
    return {
        "name": knob.knob,
        "verdict": _KNOB_WORDS.get(knob.word, knob.word.value),
        **_tested(knob.alone),
        "from": knob.was,
        "to": knob.new,
        "necessary": knob.necessary,
        "reset": _effect(knob.reset),
        "partner": knob.partner,
        "diverged": knob.diverged,
        "more_seeds": knob.more_seeds,
    }


def _joint(found: Attribution) -> dict[str, Any] | None:
    """The pair that does what neither of its knobs does alone."""
    if found.pair is None or not any(knob.word is KnobWord.JOINT for knob in found.knobs):
        return None
    pair = found.pair
    return {"knobs": list(pair.knobs), **_tested(pair.both), "interaction": _effect(pair.interaction)}


def _candidate(each: Advice, found: Attribution, results: Results) -> dict[str, Any]:
    config = candidate_proposal(results.study, each.candidate, vocab_size=results.data.vocab_size).config.as_dict()
    baseline = found.reference.as_dict()
    changed: dict[str, Value] = {
        name: value for name, value in config.items() if name not in NOT_TRAINED and value != baseline[name]
    }
    return {
        "config": changed,
        "verdict": each.word.value,
        **_tested(each.effect),
        "diverged": each.diverged,
        "more_seeds": each.more_seeds,
    }


def _tested(effect: Contrast | None) -> dict[str, Any]:
    known = {"p": None, "n": 0} if effect is None else {"p": effect.p, "n": effect.n}
    return (_effect(effect) or {"effect": None, "ci": None}) | known


def _effect(effect: Contrast | None) -> dict[str, Any] | None:
    return None if effect is None else {"effect": effect.mean, "ci": _interval(effect)}


def _interval(effect: Contrast | None) -> list[float] | None:
    return None if effect is None or effect.low is None or effect.high is None else [effect.low, effect.high]

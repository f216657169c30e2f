"""JSON of a study's results: what `sweep run --json` ends with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from sweeps.analysis.attribution import Attribution, CandidateVerdict, KnobVerdict, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.store import records
from sweeps.store.records import Results
from sweeps.study.baseline import Value
from sweeps.study.proposals import candidate_proposal
from sweeps.text import NOT_TRAINED
from sweeps.verdict.confirmed import by_word, why
from sweeps.verdict.glance import answer_of
from sweeps.verdict.start_as_json import start_keys, with_protocols

_KNOB_WORDS = {
    KnobWord.ALONE: "alone",
    KnobWord.GAINS: "gains",
    KnobWord.NECESSARY: "necessary",
    KnobWord.JOINT: "joint",
    KnobWord.HURTS: "hurts",
}


def summarize(findings: Findings, *, seconds: float, store: Path, report: Path) -> dict[str, Any]:
    """Return the study as one JSON object, with losses in nats per token and absolute paths.

    `trials` counts every run that has ended, the baseline's seeds included. `best` is the search's best complete trial,
    with absolute nanoGPT values. `baseline` and `best` are null before there is one, `verdict` before anything is
    confirmed.
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
        "answer": answer_as_json(findings),
        **start_keys(findings),
    }


def answer_as_json(findings: Findings) -> dict[str, Any]:
    """Return the answer at a glance as plain objects: sentence, scale, rows, advice.

    Effects are unrounded, in nats gained (above 0 is better) and in bits per byte, and costs are multiples of the
    baseline's. What isn't known is null.
    """
    return dataclasses.asdict(answer_of(findings))


def verdict_of(findings: Findings) -> dict[str, Any] | None:
    """Return the confirmed verdict as JSON. None: nothing is confirmed yet.

    `headline` names the knobs for which something is shown, the one with the largest shown size first; `knobs` follows
    it. A knob that `gains` is shown to gain alone, and not yet shown to last.
    Effects are in nats (above 0 is better) with two-sided 95 % intervals, and each list has the most telling entries
    first. `from` and `to` are absolute nanoGPT values at the trials' length. The `p` of a knob or a candidate is
    corrected by Holm's method. The verdict is about the baseline with the knobs of `change`: all that the best config
    changes, or the one knob that is shown to be better without the others.
    """
    attribution = findings.attribution
    return None if attribution is None else with_protocols(_verdict(attribution, findings), findings)


def _verdict(attribution: Attribution, findings: Findings) -> dict[str, Any]:
    return {
        "broken": attribution.broken,
        "word": attribution.word.value,
        "decided": attribution.decided,
        "why": why(attribution),
        "headline": list(attribution.headline),
        "change": list(attribution.change),
        "delta": None if attribution.effect is None else attribution.effect.mean,
        "ci": _interval(attribution.effect),
        "seeds": list(attribution.seeds),
        "min_effect": attribution.min_effect,
        "knobs": [_knob(knob) for knob in attribution.knobs],
        "joint": _joint(attribution),
        "candidates": [
            _candidate(candidate, attribution, findings.results) for candidate in by_word(attribution.candidates)
        ],
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


def _joint(attribution: Attribution) -> dict[str, Any] | None:
    """Return the pair that does what neither of its knobs does alone."""
    pair = attribution.pair
    if pair is None or not any(knob.word is KnobWord.JOINT for knob in attribution.knobs):
        return None
    return {"knobs": list(pair.knobs), **_tested(pair.both), "interaction": _effect(pair.interaction)}


def _candidate(candidate: CandidateVerdict, attribution: Attribution, results: Results) -> dict[str, Any]:
    proposal = candidate_proposal(results.study, candidate.candidate, vocab_size=results.data.vocab_size)
    baseline = attribution.reference.as_dict()
    changed: dict[str, Value] = {
        name: value
        for name, value in proposal.config.as_dict().items()
        if name not in NOT_TRAINED and value != baseline[name]
    }
    return {
        "config": changed,
        "verdict": candidate.word.value,
        **_tested(candidate.effect),
        "diverged": candidate.diverged,
        "more_seeds": candidate.more_seeds,
    }


def _tested(effect: Contrast | None) -> dict[str, Any]:
    known = {"p": None, "n": 0} if effect is None else {"p": effect.p, "n": effect.n}
    return (_effect(effect) or {"effect": None, "ci": None}) | known


def _effect(effect: Contrast | None) -> dict[str, Any] | None:
    return None if effect is None else {"effect": effect.mean, "ci": _interval(effect)}


def _interval(effect: Contrast | None) -> list[float] | None:
    return None if effect is None or effect.low is None or effect.high is None else [effect.low, effect.high]

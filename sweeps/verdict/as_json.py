"""JSON of a study's results: what `sweep run --json` ends with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

from sweeps.analysis.attribution import Attribution, CandidateVerdict, KnobVerdict, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.outputs import (
    AnswerJson,
    BestJson,
    CandidateJson,
    ConfirmedJson,
    EffectJson,
    FoundJson,
    JointJson,
    KnobJson,
    StudyJson,
    TestedJson,
)
from sweeps.store import records
from sweeps.store.records import Results, Run
from sweeps.study.baseline import Value
from sweeps.study.proposals import candidate_proposal
from sweeps.text import NOT_TRAINED
from sweeps.verdict.confirmed import by_word, why
from sweeps.verdict.from_plateau import of_control
from sweeps.verdict.glance import answer_of
from sweeps.verdict.start_as_json import course, noise_of, race_as_json, start_of

_KNOB_WORDS = {
    KnobWord.ALONE: "alone",
    KnobWord.GAINS: "gains",
    KnobWord.NECESSARY: "necessary",
    KnobWord.JOINT: "joint",
    KnobWord.HURTS: "hurts",
}


def summarize(findings: Findings, *, store: Path | str, report: Path) -> StudyJson:
    """Return the study as one JSON object, with losses in nats per token and absolute paths.

    `trials` counts every run that has ended, the baseline's seeds included. `best` is the search's best complete trial,
    with absolute nanoGPT values. `baseline` and `best` are null before there is one, `verdict` before anything is
    confirmed.
    """
    results, noise = findings.results, findings.screening.baseline
    return {
        **found(findings),
        "store": str(store.absolute()) if isinstance(store, Path) else store,
        "report": str(report.absolute()),
        "seconds": round(results.seconds, 3),
        "trials": records.counts(results.runs),
        "baseline": None if noise is None else {"mean": noise.mean, "sd": noise.sd, "seeds": noise.seeds},
        "best": None if results.best is None else _best(results.best),
    }


def _best(run: Run) -> BestJson:
    assert run.val_loss is not None  # or it would not be the best
    return {"trial": run.trial, "val_loss": run.val_loss, "config": run.config.as_dict()}


def found(findings: Findings) -> FoundJson:
    """Return what the study has found: what `sweep verdict --json` prints."""
    return {
        "study": findings.study.name,
        "verdict": verdict_of(findings),
        "start": start_of(findings),
        "noise": noise_of(findings),
        "races": [race_as_json(race) for race in findings.races],
        "answer": answer_as_json(findings),
    }


def answer_as_json(findings: Findings) -> AnswerJson:
    """Return the answer at a glance. Effects are unrounded, and what isn't known is null."""
    return cast("AnswerJson", dataclasses.asdict(answer_of(findings)))  # a test holds that the fields are the same


def verdict_of(findings: Findings) -> ConfirmedJson | None:
    """Return the confirmed verdict as JSON. None: nothing is confirmed yet.

    `headline` names the knobs for which something is shown, the one with the largest shown size first; `knobs` follows
    it. A knob that `gains` is shown to gain alone, and not yet shown to last.
    Effects are in nats (above 0 is better) with two-sided 95 % intervals, and each list has the most telling entries
    first. `from` and `to` are absolute nanoGPT values at the trials' length. The `p` of a knob or a candidate is
    corrected by Holm's method. The verdict is about the baseline with the knobs of `change`: all that the best config
    changes, or the one knob that is shown to be better without the others.
    """
    attribution = findings.attribution
    return None if attribution is None else _verdict(attribution, findings)


def _verdict(attribution: Attribution, findings: Findings) -> ConfirmedJson:
    words = why(attribution)
    return {
        "broken": attribution.broken,
        "word": attribution.word.value,
        "decided": attribution.decided,
        "why": words if findings.branches is None else of_control([words])[0],
        "headline": list(attribution.headline),
        "change": list(attribution.change),
        "delta": None if attribution.effect is None else attribution.effect.mean,
        "ci": _interval(attribution.effect),
        "seeds": list(attribution.seeds),
        "min_effect": attribution.min_effect,
        "knobs": [_knob(knob, findings) for knob in attribution.knobs],
        "joint": _joint(attribution),
        "candidates": [
            _candidate(candidate, attribution, findings.results) for candidate in by_word(attribution.candidates)
        ],
    }


def _knob(knob: KnobVerdict, findings: Findings) -> KnobJson:
    """Return a knob. Races have a list of their own, since their sizes can't be ranked with these."""
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
        **course(findings, knob.knob),
    }


def _joint(attribution: Attribution) -> JointJson | None:
    """Return the pair that does what neither of its knobs does alone."""
    pair = attribution.pair
    if pair is None or not any(knob.word is KnobWord.JOINT for knob in attribution.knobs):
        return None
    return {"knobs": list(pair.knobs), **_tested(pair.both), "interaction": _effect(pair.interaction)}


def _candidate(candidate: CandidateVerdict, attribution: Attribution, results: Results) -> CandidateJson:
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


def _tested(effect: Contrast | None) -> TestedJson:
    if effect is None:
        return {"effect": None, "ci": None, "p": None, "n": 0}
    return {"effect": effect.mean, "ci": _interval(effect), "p": effect.p, "n": effect.n}


def _effect(effect: Contrast | None) -> EffectJson | None:
    return None if effect is None else {"effect": effect.mean, "ci": _interval(effect)}


def _interval(effect: Contrast | None) -> list[float] | None:
    return None if effect is None or effect.low is None or effect.high is None else [effect.low, effect.high]

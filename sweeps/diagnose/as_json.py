"""A diagnosis as plain data for `--json`. Numbers that aren't finite are null."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from sweeps.diagnose.diagnosis import Diagnosis
from sweeps.diagnose.facts import Facts
from sweeps.diagnose.judgement import RunState
from sweeps.diagnose.outlook import SOURCE, Expected
from sweeps.pruning.plateau import Slope


class SlopeJson(TypedDict):
    """A slope with its 90 % interval, nats per 1000 iterations."""

    value: float
    """negative where the loss falls"""
    low: float
    """lower end"""
    high: float
    """upper end"""


class PlateauTestJson(TypedDict):
    """What the plateau test says of the curve."""

    word: str
    """plateau, improving or undetermined"""
    reason: str
    """why it is undetermined; else empty"""
    expected_drop: float | None
    """drop that the law expects across the window"""
    observed_drop: float | None
    """drop observed"""
    schedule_known: bool
    """false: a constant rate was assumed"""


class ForecastJson(TypedDict):
    """Losses to expect as the run is configured."""

    at_max_iters: Expected | None
    """null: the run is over, its length isn't known, or there is no forecast"""
    at_twice: Expected | None
    """at twice max_iters, or at twice the steps so far where max_iters isn't known"""
    confidence: float
    """of the intervals"""
    why_none: str
    """why there is no forecast; else empty"""


class PublishedLawJson(TypedDict):
    """The trend of the published law of model and data size."""

    twice_tokens: float | None
    """nats by which twice the tokens lower the loss"""
    twice_parameters: float | None
    """nats by which twice the parameters lower it"""
    source: str
    """of the law"""
    why_none: str
    """why it isn't applied; else empty"""


class FindingJson(TypedDict):
    """One explanation that the log supports."""

    code: str
    """its kind, such as capacity_limited"""
    evidence: str
    """a sentence with its numbers"""
    knob: str | None
    """nanoGPT's name of the setting that it points at; null: no setting mends it"""
    direction: str
    """what to do with it"""
    check: str
    """the one check that settles it"""
    strength: float
    """0 to 1; ranks findings of one kind"""
    fault: bool
    """whether no sweep mends it"""


class ContradictionJson(TypedDict):
    """One explanation that the log contradicts."""

    code: str
    """its kind"""
    evidence: str
    """a sentence with its numbers"""


class DiagnosisJson(TypedDict):
    """The diagnosis of the last run of a log. One that can't be read has log, verdict, since, reason and findings."""

    log: str
    """the log's name, as given"""
    lines: Sequence[int]
    """first and last line of the run in it"""
    trainer: str
    """nanoGPT or nanochat"""
    verdict: str
    """improving, plateau, overfitting, diverged, nan, too_short, broken_data or unreadable"""
    since: int | None
    """step at which the plateau, the rise or the failure begins"""
    slow: bool
    """whether a tenth more training brings less than counts"""
    reason: str
    """why, in a sentence or two"""
    test: PlateauTestJson
    """the plateau test"""
    slope_per_1k: SlopeJson | None
    """slope over the last quarter of the run, or its last half where noise demands it"""
    noise: float | None
    """standard deviation of an evaluation"""
    unit: str
    """nats per token, or nats per byte of a log in bits per byte"""
    evaluations: int
    """evaluations with a finite loss"""
    forecast: ForecastJson
    """losses to expect"""
    law: PublishedLawJson
    """what twice the tokens or parameters bring"""
    facts: Facts
    """what is known of the run"""
    findings: Sequence[FindingJson]
    """what the log supports, faults first, then by strength"""
    contradicted: Sequence[ContradictionJson]
    """what the log contradicts"""
    undecided: Sequence[str]
    """what one log can't tell apart, in sentences"""
    notes: Sequence[str]
    """what was ignored, left out or assumed, in sentences"""


class EarlierJson(TypedDict):
    """The runs before it."""

    earlier: Sequence[Mapping[str, Any]]
    """their diagnoses, in the order of the log"""


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as data."""
    m, outlook = diagnosis.measured, diagnosis.outlook
    test = m.reading.test
    found: DiagnosisJson = {
        "log": m.run.name,
        "lines": list(m.run.lines),
        "trainer": m.run.trainer,
        "verdict": str(diagnosis.judgement.state),
        "since": diagnosis.judgement.since,
        "slow": diagnosis.judgement.slow,
        "reason": diagnosis.judgement.reason,
        "test": {
            "word": str(m.reading.word),
            "reason": m.reading.reason,
            "expected_drop": None if test is None else test.expected,
            "observed_drop": None if test is None else test.observed,
            "schedule_known": m.reading.schedule_known,
        },
        "slope_per_1k": _slope(diagnosis.judgement.late),
        "noise": m.reading.noise,
        "unit": m.reading.unit,
        "evaluations": m.reading.evaluations,
        "forecast": {
            "at_max_iters": outlook.at_end,
            "at_twice": outlook.at_twice,
            "confidence": 0.9,
            "why_none": outlook.why,
        },
        "law": {
            "twice_tokens": outlook.twice_tokens,
            "twice_parameters": outlook.twice_parameters,
            "source": SOURCE,
            "why_none": outlook.why_no_law,
        },
        "facts": diagnosis.facts,
        "findings": [
            {
                "code": str(finding.code),
                "evidence": finding.evidence,
                "knob": finding.knob,
                "direction": finding.direction,
                "check": finding.check,
                "strength": finding.strength,
                "fault": finding.fault,
            }
            for finding in diagnosis.findings
        ],
        "contradicted": [{"code": str(entry.code), "evidence": entry.evidence} for entry in diagnosis.contradicted],
        "undecided": list(diagnosis.undecided),
        "notes": list(diagnosis.notes),
    }
    plain: dict[str, Any] = _plain(found)
    return plain


def several(diagnoses: Sequence[Diagnosis]) -> dict[str, Any]:
    """Return the last diagnosis as data, with those of the runs before it under `earlier`."""
    *earlier, last = diagnoses
    return {**as_json(last), "earlier": [as_json(diagnosis) for diagnosis in earlier]}


def unreadable(name: str, why: str) -> dict[str, Any]:
    """Return the data of a log that can't be read."""
    return {"log": name, "verdict": str(RunState.UNREADABLE), "since": None, "reason": why, "findings": []}


def _slope(slope: Slope | None) -> SlopeJson | None:
    return None if slope is None else {"value": slope.value, "low": slope.low, "high": slope.high}


def _plain(value: Any) -> Any:
    """Return data without dataclasses and without numbers that JSON can't have."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Facts | Expected):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value

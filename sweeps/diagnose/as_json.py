"""A diagnosis as plain data for `--json`. Numbers that aren't finite are null."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from sweeps.diagnose.diagnosis import Diagnosis
from sweeps.diagnose.judgement import RunState
from sweeps.diagnose.outlook import SOURCE, Expected
from sweeps.pruning.plateau import Slope


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as data."""
    m, outlook = diagnosis.measured, diagnosis.outlook
    test = m.reading.test
    found: dict[str, Any] = {
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
            "at_max_iters": _expected(outlook.at_end),
            "at_twice": _expected(outlook.at_twice),
            "confidence": 0.9,
            "why_none": outlook.why,
        },
        "law": {
            "twice_tokens": outlook.twice_tokens,
            "twice_parameters": outlook.twice_parameters,
            "source": SOURCE,
            "why_none": outlook.why_no_law,
        },
        "facts": dataclasses.asdict(diagnosis.facts),
        "findings": [
            {"code": str(finding.code), **{key: value for key, value in vars(finding).items() if key != "code"}}
            for finding in diagnosis.findings
        ],
        "contradicted": [
            {"code": str(contradiction.code), "evidence": contradiction.evidence}
            for contradiction in diagnosis.contradicted
        ],
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


def _slope(slope: Slope | None) -> dict[str, float] | None:
    return None if slope is None else {"value": slope.value, "low": slope.low, "high": slope.high}


def _expected(expected: Expected | None) -> dict[str, float] | None:
    return None if expected is None else dataclasses.asdict(expected)


def _plain(value: Any) -> Any:
    """Return data without numbers that JSON can't have."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value

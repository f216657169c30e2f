"""Sources of an exported config: its data, the day of the export, versions and machine, the scale of its study."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.analysis.findings import Findings
from sweeps.store.records import Results
from sweeps.verdict.scale import scale_of


def source_lines(results: Results, *, date: str) -> Iterator[str]:
    """Yield what is needed to repeat a run, one fact per line; `date` is the day of the export."""
    data = results.data
    yield f"data: {data.path}, fingerprint {data.fingerprint}, {data.train_tokens} training tokens"
    yield f"exported on {date}"
    yield from (f"{key}: {value}" for key, value in results.provenance.items())


def scale_lines(findings: Findings) -> Iterator[str]:
    """Yield that the trials are a miniature of the run that they are to speak for, where they are."""
    if scale := scale_of(findings.study):
        yield scale

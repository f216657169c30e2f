"""Sentences about the pilot: the noise, the length that it chose for the trials, and what they can tell at all."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.analysis.findings import Findings
from sweeps.study.model import as_yaml
from sweeps.study.pilot import SEEDS


def sentences(findings: Findings) -> Iterator[str]:
    """Yield what the pilot did and what the study can detect; nothing for a study without a pilot."""
    study = findings.study
    if study.pilot is None or study.largest_sd is None:
        return
    if study.chosen is None:
        yield "The pilot has not chosen the length of trials yet."
        return
    first, last = study.chosen.tried[0], study.chosen.last
    text = f"The pilot chose {last.iters:,} iterations for a trial"
    if len(study.chosen.tried) > 1:
        noise = "" if first.sd is None else f", where its {SEEDS} seeds differed by {first.sd:.2g} nats (sd)"
        text += f", after it had begun at {first.iters:,}{noise}"
    if last.sd is None:
        yield f"{text}. There, a run of the baseline has no final loss, so the pilot could not measure the noise."
    elif last.is_enough(study.largest_sd):
        yield f"{text}. There they differ by {last.sd:.2g} nats, at most {as_yaml(study.largest_sd)} as asked."
    else:
        yield (
            f"{text}. There they still differ by {last.sd:.2g} nats, more than {as_yaml(study.largest_sd)}, and "
            f"pilot.max_iters={study.pilot.max_iters} allows no longer trials."
        )
    if sentence := detection(findings):
        yield sentence


def detection(findings: Findings) -> str:
    """Return how large an effect this study can detect at all; empty where that isn't known."""
    known = findings.sensitivity
    if known is None or known.detects is None:
        return ""
    return (
        f"The baseline's {known.seeds} seeds differ by {known.sd:.2g} nats (sd). So on {findings.study.confirm.seeds} "
        f"seeds, a change that gains {known.detects:.2g} nats is shown in four of five cases, and smaller gains are "
        "often missed."
    )

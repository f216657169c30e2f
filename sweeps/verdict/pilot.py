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
    *shorter, last = study.chosen.tried
    text = f"The pilot chose {last.iters:,} iterations for a trial"
    if shorter:
        text += f": {shorter[-1].in_words(study.largest_sd)}"
    largest = f"the {as_yaml(study.largest_sd)} that was asked for"
    if last.sd is None:
        yield f"{text}. There a run of the baseline has no final loss, so the pilot could not measure the noise."
    elif last.too_early:
        yield (
            f"{text}, the most that pilot.max_iters={study.pilot.max_iters} allows. There {SEEDS} seeds reach "
            f"{max(last.losses):.2f} nats, where token frequencies alone give {last.unigram_loss:.2f}: trials are too "
            "short to tell what the settings do to a trained model."
        )
    elif last.is_enough(study.largest_sd):
        yield f"{text}. There its {SEEDS} seeds differ by {last.sd:.2g} nats (sd), at most {largest}."
    else:
        yield (
            f"{text}. There its {SEEDS} seeds still differ by {last.sd:.2g} nats (sd), more than {largest}, and "
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

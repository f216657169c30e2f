"""Findings on how well the model fits its data: overfitting, too little data, too small a model, too much restraint."""

from __future__ import annotations

from sweeps.diagnose import usual
from sweeps.diagnose.findings.finding import Code, Finding
from sweeps.diagnose.judgement import Judgement, RunState
from sweeps.diagnose.measured import Level, Measured
from sweeps.diagnose.outlook import LEAST_VOCABULARY, PARAMETERS, TOKENS, doubling_gain
from sweeps.text import short, si

FITS = 0.05
"""nats of a gap below which the training text is fitted no better than unseen text: a run on fresh text, which can't be
memorised, differs by less, as the two splits do"""
_SURE = 2.0
"""standard errors"""
_STUCK = (RunState.PLATEAU, RunState.IMPROVING)
STRONG_DECAY = 4
"""factor above the usual weight decay that is named"""


def overfitting(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a validation loss that rises while the training loss falls."""
    if judgement.state is not RunState.OVERFITTING:
        return None
    step, loss = m.lowest
    gap = "" if m.gap is None else f"; the gap to the training loss grew to {m.gap.value:.2f} nats"
    epochs = "" if m.epochs is None else f"; {m.epochs:.3g} epochs"
    return Finding(
        code=Code.OVERFITTING,
        evidence=f"The validation loss was lowest at step {step:,} ({loss:.4f}) and is {m.level:.4f} now{gap}{epochs}.",
        knob="dropout",
        direction=f"up, or more data; stop at step {step:,}",
        check=f"evaluate the checkpoint of step {step:,}: it is better than the last one",
        strength=0.95,
    )


def data_limited(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a gap that has opened beyond its noise: the training text is fitted better and better.

    The gap counts from where it was at the first evaluations, because the two splits may differ by themselves. Where
    less than one epoch was seen, nothing can have been memorised.
    """
    gap, first = m.gap, m.first_gap
    if judgement.state in (RunState.BROKEN_DATA, RunState.DIVERGED, RunState.NAN) or gap is None or first is None:
        return None
    opened = gap.value - first.value
    se = (gap.se**2 + first.se**2) ** 0.5
    if opened < max(2 * FITS, _SURE * se) or gap.value < max(FITS, _SURE * gap.se) or (m.epochs or 2.0) <= 1:
        return None
    epochs = (
        "the data's size isn't known (--data, --tokens)" if m.epochs is None else f"{m.epochs:.3g} epochs were seen"
    )
    return Finding(
        code=Code.DATA_LIMITED,
        evidence=f"The validation loss is {gap.value:.2f} nats above the training loss, {opened:.2f} more than at the "
        f"first evaluations; {epochs}.",
        knob="dropout",
        direction="more data; else up",
        check="train the same run on half of the data (data_fraction 0.5): a lower loss with all of it settles it",
        strength=min(0.5 + opened, 0.85),
    )


def capacity_limited(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a model that can't fit even the text that it is trained on.

    The training loss is no lower than the validation loss, so that it can't be memorising, and has gone as flat. It
    isn't named where fewer than 20 tokens per parameter were seen, for then more training brings more than more width,
    nor while the rate is warming up.
    """
    gap = m.gap
    if judgement.state not in _STUCK or gap is None or gap.value > FITS + _SURE * gap.se:
        return None
    if judgement.reason.startswith("The loss has not changed") or m.reading.reason == "still in the warm-up":
        return None
    ratio = None if m.tokens is None or not m.parameters else m.tokens / m.parameters
    if ratio is not None and ratio < usual.TOKENS_PER_PARAMETER:
        return None
    flat = judgement.state is RunState.PLATEAU or judgement.slow
    falls = "" if m.training is None else f"it falls by {-m.training.value:.3f} nats per 1000 iterations and "
    evidence = (
        f"The training loss is not below the validation loss: {falls}is above it in {m.above} of "
        f"{len(m.trained)} evaluations (gap {gap.value:+.3f} ± {_SURE * gap.se:.3f})."
    ).replace("-", "−")
    if ratio is not None and m.parameters is not None and m.tokens is not None:
        evidence += f" {si(m.parameters)} parameters have seen {ratio:,.0f} tokens each; about 20 are balanced."
        if m.vocab_size is not None and m.vocab_size >= LEAST_VOCABULARY:
            wider, longer = doubling_gain(*PARAMETERS, m.parameters), doubling_gain(*TOKENS, m.tokens)
            evidence += f" By the published law twice the parameters bring {wider:.2f}, twice the tokens {longer:.2f}."
    strength = 0.3 if ratio is None else min(0.6 + ratio / 1000, 0.9)
    return Finding(
        code=Code.CAPACITY_LIMITED,
        evidence=evidence,
        knob="n_embd",
        direction="up (or n_layer)",
        check="race a model twice as wide from scratch under the same schedule and data order: it leads within a third "
        "of the run",
        strength=strength if flat else strength / 2,
    )


def dropout_on_underfit(m: Measured, judgement: Judgement) -> Finding | None:
    """Find dropout where there is nothing to regularise: the training text is fitted no better than unseen text."""
    dropout, gap = m.settings.get("dropout"), m.gap
    if not isinstance(dropout, float) or not dropout or gap is None or judgement.state not in _STUCK:
        return None
    if not _not_fitted(gap):
        return None
    return Finding(
        code=Code.DROPOUT_ON_UNDERFIT,
        evidence=f"dropout is {short(dropout)}, though the training loss (measured without it) is "
        f"{'above' if gap.value <= 0 else 'at'} the validation loss: {m.above} of {len(m.trained)} evaluations.",
        knob="dropout",
        direction="0",
        check="go on from the checkpoint for some hundred updates with dropout 0 and with it as it is",
        strength=min(0.5 + dropout, 0.95),
    )


def weight_decay_too_strong(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a weight decay of more than 4 times the usual 0.1 where there is nothing to regularise."""
    decay, gap = m.settings.get("weight_decay"), m.gap
    if not isinstance(decay, float) or decay < STRONG_DECAY * usual.WEIGHT_DECAY or judgement.state not in _STUCK:
        return None
    if gap is not None and not _not_fitted(gap):
        return None
    rate = m.peak
    updates = "" if not rate else f" It forgets within 1 / (learning_rate x weight_decay) = {1 / (rate * decay):,.0f}."
    return Finding(
        code=Code.WEIGHT_DECAY_TOO_STRONG,
        evidence=f"weight_decay is {short(decay)}; {short(usual.WEIGHT_DECAY)} is usual, and the training text isn't "
        f"fitted better than unseen text.{updates}",
        knob="weight_decay",
        direction=f"down to {short(usual.WEIGHT_DECAY)}",
        check=f"go on from the checkpoint with weight_decay {short(usual.WEIGHT_DECAY)} for as many updates",
        strength=min(0.5 + decay / 5, 0.9),
    )


def _not_fitted(gap: Level) -> bool:
    """Return whether the gap is so small, or negative, that the training text isn't fitted better than unseen text."""
    return gap.value <= max(FITS / 2, _SURE * gap.se)

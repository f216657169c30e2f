"""Findings on noise: of evaluations, of small batches, and of batches so small that the loss can't move."""

from __future__ import annotations

import math

from sweeps.diagnose import usual
from sweeps.diagnose.findings.finding import Code, Finding
from sweeps.diagnose.judgement import Judgement, RunState, worth_of
from sweeps.diagnose.measured import Measured
from sweeps.pruning.plateau import WINDOW

_STUCK = (RunState.PLATEAU, RunState.IMPROVING, RunState.TOO_SHORT)
_NEAR_PEAK = 0.5
"""share of the peak above which a rate hasn't decayed"""


def eval_noise(m: Measured, judgement: Judgement) -> Finding | None:
    """Find evaluations whose noise is larger than the 0.02 nats that count."""
    noise = m.reading.noise
    if noise is None or noise <= worth_of(m) or judgement.state not in _STUCK or m.of_training:
        return None
    if m.reading.evaluations < WINDOW:  # the bend of so few isn't told from noise
        return None
    iters = m.settings.get("eval_iters")
    factor = math.ceil((noise / (worth_of(m) / 2)) ** 2)
    now = f" with eval_iters={iters}" if iters is not None else ""
    return Finding(
        code=Code.EVAL_NOISE,
        evidence=f"Evaluations scatter by {noise:.3f} nats{now}, more than the {worth_of(m):.2g} that count.",
        knob="eval_iters",
        direction=f"up, {factor} times" + (f", to {factor * iters:,}" if isinstance(iters, int) else ""),
        check="evaluate one checkpoint twice: the two losses differ by as much",
        strength=min(0.2 + 5 * noise, 0.6),
    )


def batch_too_small(m: Measured, judgement: Judgement) -> Finding | None:
    """Find updates of less than an eighth of the usual tokens for the size."""
    tokens, size = m.tokens_per_update, m.parameters
    if tokens is None or size is None or judgement.state is RunState.NAN:
        return None
    common = usual.tokens_per_update(size)
    if tokens * usual.FROM >= common:
        return None
    return Finding(
        code=Code.BATCH_TOO_SMALL,
        evidence=f"An update has {tokens:,} tokens; for {size:,} parameters about {common:,} are usual.",
        knob="gradient_accumulation_steps",
        direction=f"up, {common / tokens:.0f} times",
        check="go on from the checkpoint with 8 times the accumulation at equal tokens: it ends lower",
        strength=min(0.4 + 0.2 * math.log10(common / tokens), 0.9),
        fault=tokens * usual.FROM**2 <= common,
    )


def batch_noise(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a rate that never decays beside small updates: the loss hovers where the gradient's noise holds it."""
    tokens, size, rate, peak = m.tokens_per_update, m.parameters, m.rate(), m.peak
    if judgement.state is not RunState.PLATEAU or tokens is None or size is None or rate is None or not peak:
        return None
    common = usual.tokens_per_update(size)
    if 2 * tokens >= common or rate < _NEAR_PEAK * peak or m.reading.reason == "still in the warm-up":
        return None
    return Finding(
        code=Code.BATCH_NOISE,
        evidence=f"The rate is still {rate / peak:.0%} of its peak, and an update has {tokens:,} tokens, where about "
        f"{common:,} are usual: the noise of the gradient keeps the loss up.".replace("%", " %"),
        knob="gradient_accumulation_steps",
        direction="up; or let the rate decay",
        check="decay the rate to 0 over the next tenth of the run: the loss falls as it does",
        strength=0.5,
    )

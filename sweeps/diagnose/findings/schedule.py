"""Findings on the learning rate and its schedule, from the settings and from what the curve did."""

from __future__ import annotations

import math

from sweeps.diagnose import usual
from sweeps.diagnose.findings.finding import Code, Finding
from sweeps.diagnose.judgement import Judgement, RunState
from sweeps.diagnose.measured import Measured
from sweeps.text import percent_whole, short

_LOW = 5
"""factor below the usual rate that is named: a third of the best rate cost 0.2 nats in a run of 3000 iterations"""
_SPENT = 0.15
"""share of the peak below which a decayed rate brings little more"""
_EARLY = 0.9
"""share of the run before which the decay must end to be early"""
_STUCK = (RunState.PLATEAU, RunState.IMPROVING, RunState.TOO_SHORT)


def lr_too_low(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a peak rate far below the usual one for the size."""
    peak, size = m.peak, m.parameters
    if judgement.state not in _STUCK or peak is None or size is None or peak <= 0:
        return None
    common = usual.learning_rate(size)
    if peak * _LOW > common:
        return None
    return Finding(
        code=Code.LR_TOO_LOW,
        evidence=f"The peak learning rate is {short(peak)}, {common / peak:.0f} times below the {common:.2g} that is "
        f"usual for {size:,} parameters; the loss is {m.level:.2f} after {m.step:,} updates.",
        knob="learning_rate",
        direction=f"up, towards {common:.2g}",
        check=f"go on for 200 updates with learning_rate {common / 3:.2g}: the loss falls at once",
        strength=min(0.6 + 0.15 * math.log10(common / peak), 0.95),
    )


def lr_too_high(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a rate far above the usual one, or unclipped gradients, in a run that blew up; or a rate 8 times usual."""
    peak, size = m.peak, m.parameters
    blown = judgement.state in (RunState.DIVERGED, RunState.NAN)
    common = None if size is None else usual.learning_rate(size)
    times = None if peak is None or common is None else peak / common
    if not blown and (times is None or times < usual.FROM):
        return None
    if judgement.state is RunState.NAN and (times is None or times < 2):
        return None  # an overflow of the precision is likelier, and has a finding of its own
    clip = m.settings.get("grad_clip")
    words = "The log doesn't say the learning rate."
    if peak is not None and times is not None and common is not None and size is not None:
        words = f"The peak rate is {short(peak)}, {times:.3g} times the {common:.2g} usual for {size:,} parameters."
    unclipped = " Gradients are not clipped (grad_clip=0)." if clip == 0 else ""
    return Finding(
        code=Code.LR_TOO_HIGH,
        evidence=f"{words}{unclipped}",
        knob="learning_rate",
        direction="down" if common is None else f"down, towards {common:.2g}",
        check="start again with a third of the rate and grad_clip 1.0: it no longer rises",
        strength=0.97 if times is not None and times > usual.FROM else 0.6,
    )


def warmup_too_long(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a warm-up of more than a tenth of the run."""
    if judgement.state not in _STUCK or m.config is None or not m.config.decay_lr:
        return None
    length, warm = m.config.max_iters, m.config.warmup_iters
    share = warm / length
    if share <= usual.WARM_UP and warm < m.step:
        return None
    if share <= usual.WARM_UP:
        return None if m.step < warm and m.step < length / 20 else _warm(m, warm, share, strength=0.4)
    return _warm(m, warm, share, strength=min(0.5 + share / 2, 0.95))


def _warm(m: Measured, warm: int, share: float, *, strength: float) -> Finding:
    rate = m.rate()
    reached = m.step < warm and rate is not None and m.peak is not None
    now = f" At step {m.step:,} the rate has reached {short(rate)} of {short(m.peak)}." if reached else ""
    shown = percent_whole(share) if share < 1 else f"{share:.3g} times"
    return Finding(
        code=Code.WARMUP_TOO_LONG,
        evidence=f"warmup_iters is {warm:,}, {shown} of the run; up to 5 % is usual.{now}",
        knob="warmup_iters",
        direction="down, to 1 % to 5 % of the run",
        check="start again with a warm-up of 2 % of the run: it is ahead within a tenth of it",
        strength=strength,
    )


def lr_decayed_early(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a rate that reached min_lr long before the run ended, or the log did."""
    if judgement.state not in _STUCK or m.config is None or not m.config.decay_lr:
        return None
    end, last = m.config.lr_decay_iters, max(m.config.max_iters, m.step)
    if end >= _EARLY * last or m.step <= end:
        return None
    return Finding(
        code=Code.LR_DECAYED_EARLY,
        evidence=f"The rate has been at min_lr={short(m.config.min_lr)} since step {end:,}, "
        f"{percent_whole(end / last)} of the run of {last:,}.",
        knob="lr_decay_iters",
        direction=f"up, to max_iters={m.config.max_iters:,}",
        check="go on from the checkpoint of that step with the longer decay: it falls further",
        strength=min(0.5 + (1 - end / last) * _still(m), 0.9),
    )


def _still(m: Measured) -> float:
    """Return how little of the peak the rate has left: 1 for a rate that fell to nothing."""
    return 0.0 if m.config is None else 1 - min(m.config.min_lr / m.config.learning_rate, 1.0)


def schedule_exhausted(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a curve that is flat because its schedule is over: the rate has fallen below 15 % of its peak."""
    share, flat = m.share(), judgement.state is RunState.PLATEAU or judgement.slow
    if not flat or share is None or share > _SPENT:
        return None
    if m.config is not None and m.step < m.config.warmup_iters:
        return None
    rate, peak = m.rate(), m.peak
    now = "" if rate is None or peak is None else f" ({short(rate)} of {short(peak)})"
    return Finding(
        code=Code.SCHEDULE_EXHAUSTED,
        evidence=f"The rate has fallen to {percent_whole(share)} of its peak{now}: the schedule is spent.",
        knob="lr_decay_iters",
        direction="up, with max_iters, from an earlier checkpoint or anew",
        check="go on from the last checkpoint with half of the peak rate, decaying to 0: it ends lower or it doesn't",
        strength=0.45,
    )

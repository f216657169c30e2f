"""Faults that no sweep mends: updates that don't arrive, overflow, blow-ups, wrong scales, other data, bad resumptions.

In public threads they are half of all "plateaus". Each has a check that settles it.
"""

from __future__ import annotations

import math

import numpy as np

from sweeps.diagnose import usual
from sweeps.diagnose.findings.finding import Code, Finding
from sweeps.diagnose.judgement import HARDER, Judgement, RunState, split_gap
from sweeps.diagnose.measured import Measured
from sweeps.pruning.law import Floats
from sweeps.text import count, short

_RISING = 0.5
"""nats above the lowest level from which on a loss was already blowing up before it became NaN"""
_SPIKE = 8.0
"""robust standard deviations above its neighbours that make a printed loss a spike; normal noise has none in 1e14"""
_SPIKE_NATS = 0.5
"""nats that a spike rises at least"""
_SCALE_SPREAD = 0.1
"""spread of the ratio of two losses below which it is a constant factor"""
_EASIER = -0.1
"""share, like HARDER, from which on the validation text is easier"""
_JUMP = 0.1
"""nats that a loss jumps at least where a run is resumed"""
_FLOAT32_STEPS = 200
"""updates in float32 that show whether precision is the cause"""


def no_update(m: Measured, judgement: Judgement) -> Finding | None:
    """Find weights that don't change: a loss that stays at its first level or is constant, or a rate of 0."""
    zero = m.step > 0 and m.rate() == 0 and m.rate(round(0.95 * m.step)) == 0
    frozen = judgement.reason.startswith("The loss has not changed")
    if not zero and not frozen:
        return None
    if zero:
        evidence = f"The learning rate is 0 at step {m.step:,}, so no update changes the weights."
    elif judgement.since:
        evidence = (
            f"The loss is {m.level:.4f} in every line from step {judgement.since:,} on; fresh batches would differ."
        )
    else:
        losses = m.pairs[:, 1] if len(m.pairs) else m.curve.losses
        evidence = (
            f"The loss is still at its first level after {m.step:,} updates: {losses[0]:.4f}, now "
            f"{np.median(losses[-4:]):.4f}"
            + (f" (an untrained model has ln {m.vocab_size} = {math.log(m.vocab_size):.2f})." if m.vocab_size else ".")
        )
    return Finding(
        code=Code.NO_UPDATE,
        evidence=evidence,
        knob="learning_rate" if zero else None,
        direction="above 0" if zero else "find what keeps updates from the weights",
        check="compare a weight before and after one optimizer.step(): it must change; then print the rate and the "
        "gradient's norm",
        strength=1.0,
        fault=True,
    )


def precision_overflow(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a loss that becomes NaN from one line to the next without having risen: an overflow, mostly of float16."""
    if judgement.state is not RunState.NAN or _was_rising(m):
        return None
    dtype = m.settings.get("dtype") if "dtype" in {**m.run.settings, **m.given.settings} else None
    before = _before(m)
    known = f"trained in {dtype}" if dtype else "the log doesn't say in which precision"
    evidence = f"The loss is not a number from step {judgement.since:,} on" + (
        f"; the line before has {before[-1, 1]:.4f}, not raised" if len(before) else ""
    )
    narrow = dtype not in ("float32", "bfloat16")
    return Finding(
        code=Code.PRECISION_OVERFLOW,
        evidence=f"{evidence} ({known}).",
        knob="dtype",
        direction="bfloat16 or float32",
        check="go on from the last checkpoint before it with dtype='float32', or in float16 without fused AdamW: a "
        f"loss that stays finite for {_FLOAT32_STEPS} updates settles it",
        strength=0.9 if narrow else 0.4,
        fault=True,
    )


def _before(m: Measured) -> Floats:
    """Return the finite training losses, printed or of evaluations."""
    rows = m.iters if len(m.iters) else m.pairs[:, :2]
    kept: Floats = rows[np.isfinite(rows).all(axis=1)]
    return kept


def _was_rising(m: Measured) -> bool:
    losses = _before(m)[:, 1]
    if len(losses) < 3:
        return False
    return float(losses[-1] - np.min(losses)) > max(_RISING, 3 * float(np.std(losses[-6:-1])))


def instability(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a blow-up, or spikes: printed losses far above their neighbours."""
    if judgement.state is RunState.DIVERGED or (judgement.state is RunState.NAN and _was_rising(m)):
        rows = m.pairs[:, :2] if len(m.pairs) else _before(m)
        lowest, worst = float(rows[:, 1].min()), float(rows[rows[:, 1].argmin() :, 1].max())
        evidence = f"The training loss rose from {lowest:.2f} to {worst:.2f} after step {judgement.since:,}."
        strength = 0.9
    else:
        spikes = _spikes(m)
        if not len(spikes):
            return None
        step, loss = spikes[spikes[:, 1].argmax()].tolist()
        evidence = (
            f"{count(len(spikes), 'printed loss')} of {len(m.iters):,} stand far above their neighbours, the highest "
            f"{loss:.2f} at step {step:,.0f}."
        ).replace("losss", "losses")
        strength = 0.3
    return Finding(
        code=Code.INSTABILITY,
        evidence=evidence,
        knob="dtype",
        direction="float32, to rule out precision; then learning_rate down or warmup_iters up",
        check=f"go on from the last checkpoint before it for {_FLOAT32_STEPS} updates with dtype='float32' and without "
        "flash attention: if it blows up again, it is the rate, not the precision",
        strength=strength,
        fault=strength > 0.5 and not _far_too_fast(m),
    )


def _far_too_fast(m: Measured) -> bool:
    """Return whether the rate is so far above the usual that precision needn't be blamed."""
    return m.peak is not None and bool(m.parameters) and m.peak > usual.FROM * usual.learning_rate(m.parameters or 1)


def _spikes(m: Measured) -> Floats:
    """Return the printed losses, (N, 2), far above the median of the 10 around them. Warm-up and descent have none."""
    rows = m.iters[np.isfinite(m.iters).all(axis=1)]
    if len(rows) < 20:
        return np.zeros((0, 2))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(rows[:, 1], 5, mode="edge"), 11)
    over = rows[:, 1] - np.median(windows, axis=1)
    spread = 1.4826 * float(np.median(np.abs(over)))
    settled = rows[:, 0] > 0.1 * m.step
    found: Floats = rows[settled & (over > max(_SPIKE * spread, _SPIKE_NATS))]
    return found


def accumulation_mis_scaled(m: Measured, judgement: Judgement) -> Finding | None:  # noqa: ARG001 (as its siblings)
    """Find printed training losses that are a constant factor off the evaluations': the accumulation's.

    Dropout and the micro-batch change a printed loss by some per cent. A factor of 1.8 or more that stays the same
    within 10 % isn't theirs.
    """
    if len(m.pairs) < 3 or len(m.iters) < 3 or not np.isfinite(m.iters[-3:]).all():
        return None
    at = np.interp(m.iters[:, 0], m.pairs[:, 0], m.pairs[:, 1])
    inside = (m.iters[:, 0] >= m.pairs[0, 0]) & (m.iters[:, 0] <= m.pairs[-1, 0]) & np.isfinite(m.iters[:, 1])
    inside &= (m.iters[:, 0] > 0.2 * m.step) & (at > 0)  # the descent is too steep to interpolate
    if inside.sum() < 3:
        return None
    ratio = m.iters[inside, 1] / at[inside]
    middle = float(np.median(ratio))
    factor = middle if middle > 1 else 1 / max(middle, 1e-9)
    if factor < 1.8 or float(np.std(ratio)) > _SCALE_SPREAD * abs(middle):
        return None
    steps = m.settings.get("gradient_accumulation_steps")
    beside = f"; gradient_accumulation_steps is {steps}" if steps is not None else ""
    more = "times" if middle > 1 else "times smaller than"
    evidence = (
        f"The printed training loss is {factor:.2f} {more} the evaluations' training loss throughout{beside}."
        if middle < 1
        else f"The printed training loss is {factor:.2f} times the evaluations' training loss throughout{beside}."
    )
    return Finding(
        code=Code.ACCUMULATION_MIS_SCALED,
        evidence=evidence,
        knob="gradient_accumulation_steps",
        direction="divide each micro-batch's loss by it once, before backward()",
        check="train 10 updates with accumulation 1 and with N at equal tokens: losses and gradient norms must agree",
        strength=0.9,
        fault=True,
    )


def val_mismatch(m: Measured, judgement: Judgement) -> Finding | None:
    """Find a validation split of another kind: its loss is off before anything can have been memorised.

    Random windows of one text differ by their noise; memorised text opens a gap only after it was seen repeatedly. A
    rise in the first fifth of a run of which the data's size isn't known may be either.
    """
    gap, broken = split_gap(m), judgement.state is RunState.BROKEN_DATA
    if gap is not None and (gap.share < _EASIER or gap.share > HARDER):
        word = "above" if gap.share > 0 else "below"
        when = "before any text was seen twice" if m.epochs is not None else "too early for anything to be memorised"
        evidence = (
            f"At step {gap.step:,} the validation loss is {abs(gap.val - gap.train):.2f} nats {word} the training loss "
            f"({gap.val:.2f} and {gap.train:.2f}), {when}."
        )
    elif _rises_early(m, judgement):
        evidence = (
            f"The validation loss rises from step {judgement.since:,} of {m.step:,} on; text that is memorised so soon "
            "must be very little (--data, --tokens)."
        )
    else:
        return None
    return Finding(
        code=Code.VAL_MISMATCH,
        evidence=evidence,
        knob=None,
        direction="check how val.bin was made; no regularisation mends it"
        if gap is None or gap.share > 0
        else "the two losses are of different text: compare each with itself only",
        check="evaluate on a slice cut from train.bin and left out of training: if its loss follows the training loss, "
        "val.bin is of other text, or damaged",
        strength=1.0 if broken else 0.3 if gap is not None else 0.9,
        fault=broken,
    )


def _rises_early(m: Measured, judgement: Judgement) -> bool:
    since = judgement.since
    return judgement.state is RunState.OVERFITTING and m.epochs is None and since is not None and since <= m.step / 5


def resume_shock(m: Measured, judgement: Judgement) -> Finding | None:  # noqa: ARG001 (as its siblings)
    """Find a loss that jumps where the run was resumed: moments lost, another batch, or the rate raised again."""
    noise = m.reading.noise or 0.0
    for at in m.run.resumed_at:
        before = m.curve.losses[m.curve.steps < at]
        after = m.curve.losses[m.curve.steps > at]
        if len(before) < 1 or len(after) < 1:
            continue
        level = float(np.median(before[-3:]))
        jump = float(after[:3].max() - level)
        if jump < max(_JUMP, 5 * noise):
            continue
        changed = next((note for note in m.run.notes if note.startswith(f"Where it was resumed at step {at},")), "")
        evidence = f"The loss jumped by {jump:.2f} nats after the run was resumed at step {at:,}."
        return Finding(
            code=Code.RESUME_SHOCK,
            evidence=f"{evidence} {changed}".strip(),
            knob="learning_rate",
            direction="down to the rate before it, with a short warm-up; load the optimizer's moments",
            check="resume for 20 updates with learning_rate = min_lr = the last rate before: without a jump, the rate "
            "or the moments were the cause",
            strength=0.8,
            fault=True,
        )
    return None


def resume_pinned_at_min_lr(m: Measured, judgement: Judgement) -> Finding | None:  # noqa: ARG001 (as its siblings)
    """Find a resumed run beyond lr_decay_iters, where nanoGPT holds the rate at min_lr.

    A run that went there in one go has a decay that ended early, which is no fault of a resumption.
    """
    if m.config is None or not m.config.decay_lr:
        return None
    end = m.config.lr_decay_iters
    resumed = m.run.resumed_at or ((m.step,) if m.settings["init_from"] == "resume" else ())
    ahead = m.given.checkpoint_step or 0
    if not resumed and ahead <= m.step and len(m.curve.steps) > 1:
        return None
    at = max(resumed, default=ahead)
    if at < end or (at == end and not resumed):  # a run that is over ends at lr_decay_iters, and isn't resumed yet
        return None
    return Finding(
        code=Code.RESUME_PINNED_AT_MIN_LR,
        evidence=f"It goes on at step {at:,}, beyond lr_decay_iters={end:,}: the rate is "
        f"min_lr={short(m.config.min_lr)}.",
        knob="lr_decay_iters",
        direction=f"up, with max_iters, beyond {at:,}",
        check="print the rate of the next update: it is min_lr until lr_decay_iters is raised",
        strength=0.9,
        fault=True,
    )

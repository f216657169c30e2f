"""The judgement of a run in one word: improving, plateau, overfitting, diverged, nan, too_short or broken_data.

The plateau test decides where it can. A log's fresh batches often leave it undetermined; then the word goes by what the
user would gain: on a plateau, a tenth more training brings less than `WORTH` at the slope of the last quarter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from sweeps.diagnose.measured import EDGE, Measured
from sweeps.pruning import law
from sweeps.pruning.forecast import diverged as exploded
from sweeps.pruning.plateau import WINDOW, CurveState, Slope, slope

WORTH = 0.02
"""nats per token that count, as a study from scratch has it by default (`confirm.min_effect`)"""
_BYTES_PER_TOKEN = 4.5
"""of English text in GPT-2's tokens, for logs in bits per byte"""
AHEAD = 0.1
"""share of the run so far by which one would go on"""
_LATE = 0.25
"""last share of the run whose slope counts"""
_TAIL = 5
"""fewest evaluations of a slope"""
_LOST = 0.5
"""share of what was learnt whose loss is a divergence, whatever the trend"""
_LOSING = 0.1
"""the same, where the training loss surely rises"""
_SAME = 3
"""evaluations with exactly the same losses that no random batches give"""
_SAME_ITERS = 10
"""printed training losses that are exactly the same"""
_LEARNT = 0.01
"""share of the first loss that even the first few updates of a run at a tenth of the right rate take off"""
LEAST_GAP = 0.1
"""nats"""
_SURE_GAP = 5.0
"""standard deviations of one evaluation's gap that aren't noise: the widest of many evaluations is taken"""
HARDER = 0.2
"""share of the training loss's fall that the validation loss hasn't made, from which on the two splits differ. Those of
one text differ by 0.5 % to 4 % at the first evaluation of nanoGPT's own runs."""
EARLY = 0.1
"""share of the run in which a gap can't come from fitting the training data, where their size isn't known"""


class RunState(StrEnum):
    """What a log can be told to be."""

    IMPROVING = "improving"
    PLATEAU = "plateau"
    OVERFITTING = "overfitting"
    DIVERGED = "diverged"
    NAN = "nan"
    TOO_SHORT = "too_short"
    BROKEN_DATA = "broken_data"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The word, since when, and why."""

    state: RunState
    since: int | None
    """step at which the plateau, the rise or the failure begins"""
    reason: str
    """a sentence"""
    late: Slope | None
    """slope of the curve over the last quarter of the run, or its last half where noise demands it, nats per 1000
    iterations"""
    slow: bool = False
    """whether a tenth more training brings less than counts"""


def judge(m: Measured) -> Judgement:
    """Judge a run."""
    late = late_slope(m)

    def word(state: RunState, since: int | None, reason: str) -> Judgement:
        return Judgement(state=state, since=since, reason=reason, late=late)

    reading = m.reading
    if reading.diverged_at is not None:
        return word(RunState.NAN, reading.diverged_at, f"Every loss from step {reading.diverged_at:,} on isn't finite.")
    if len(m.curve.steps) < 2:
        return word(RunState.TOO_SHORT, None, f"There is no curve to judge: {reading.reason}.")
    if (frozen := frozen_since(m)) is not None:
        return word(RunState.PLATEAU, frozen, f"The loss has not changed since step {frozen:,}.")
    if (blown := diverged_since(m)) is not None:
        return word(RunState.DIVERGED, blown, f"The training loss has risen since step {blown:,}.")
    if harder(m) and reading.word is not CurveState.IMPROVING:
        first = int(m.trained[0, 0])
        text = (
            "The validation loss is far above the training loss before any text was seen twice, and doesn't follow it."
        )
        return word(RunState.BROKEN_DATA, first, text)
    if reading.word is CurveState.PLATEAU:
        lowest, _ = m.lowest
        if reading.since == lowest and m.level > m.curve.losses.min():
            return _rising(m, late, lowest)
        text = "By the plateau test, the drop since then is surely less than half of what the curve promised."
        return word(RunState.PLATEAU, reading.since, text)
    if reading.word is CurveState.IMPROVING:
        text = "By the plateau test, the last 10 losses surely fall by more than half of what the curve promised."
        slow = late is not None and gain_ahead(m, late) < worth_of(m)
        return Judgement(state=RunState.IMPROVING, since=None, reason=text, late=late, slow=slow)
    if reading.reason == "still in the warm-up" and late is not None and late.high < 0:
        return word(RunState.IMPROVING, None, "The rate is still warming up, and the loss falls.")
    enough = len(m.curve.steps) > law.NEEDED + WINDOW  # but for those of the warm-up, which the test leaves out
    if reading.reason == "too few evaluations" and enough and late is not None and late.high < 0:
        text = "The plateau test has too few evaluations since the warm-up, but the loss surely falls."
        slow = gain_ahead(m, late) < worth_of(m)
        return Judgement(state=RunState.IMPROVING, since=None, reason=text, late=late, slow=slow)
    if reading.reason.startswith(("too", "still")) and reading.reason != "too close to call":
        evaluations = len(m.curve.steps)
        losses = "losses" if m.of_training else "evaluations"
        return word(RunState.TOO_SHORT, None, f"The plateau test can't judge {evaluations} {losses}: {reading.reason}.")
    return _left_open(m, late, reading.reason)


def _rising(m: Measured, late: Slope | None, lowest: int) -> Judgement:
    """Judge a run whose validation loss surely rises."""
    falls = m.training is None or m.training.value < 0
    text = f"The validation loss has surely risen since step {lowest:,}" + (", while the training loss falls." * falls)
    if m.training is None:
        text = f"The validation loss has surely risen since step {lowest:,}; the log has no training loss beside it."
    state = RunState.OVERFITTING if falls else RunState.PLATEAU
    return Judgement(state=state, since=lowest, reason=text, late=late)


def _left_open(m: Measured, late: Slope | None, why: str) -> Judgement:
    """Judge a run that the plateau test leaves undetermined, by what going on would bring.

    Under a known schedule a run that surely still falls, and by half of what its curve promised or more, isn't flat:
    near the end of a decay every curve is slow.
    """
    test, worth = m.reading.test, worth_of(m)
    gain = math.inf if late is None else gain_ahead(m, late)
    promised = test is not None and test.observed is not None and test.observed >= (test.expected or 0.0) / 2
    falling = m.reading.schedule_known and promised and late is not None and late.high < 0
    unit = m.reading.unit.split()[0]
    text = (
        f"The plateau test leaves it open ({why}). At its recent slope, a tenth more training brings "
        f"{max(gain, 0.0):.3f} {unit}, {'less' if gain < worth else 'more'} than the {worth:.2g} that count."
    )
    if gain >= worth or falling:
        return Judgement(state=RunState.IMPROVING, since=None, reason=text, late=late, slow=gain < worth)
    return Judgement(state=RunState.PLATEAU, since=_flat_since(m, worth), reason=text, late=late, slow=True)


def gain_ahead(m: Measured, line: Slope) -> float:
    """Return what a tenth more training brings at a slope, in the curve's unit."""
    return -line.value * AHEAD * m.step / 1000


def worth_of(m: Measured) -> float:
    """Return the least gain that counts, in the curve's unit."""
    return WORTH if m.reading.unit == "nats per token" else WORTH / _BYTES_PER_TOKEN


def late_slope(m: Measured) -> Slope | None:
    """Return the slope over the last quarter of the run, of at least 5 losses; None with fewer than 3.

    It is that of the last half where noise hides whether a quarter's gain counts.
    """
    steps, losses = m.curve.steps, m.curve.losses
    found: Slope | None = None
    for share in (_LATE, 2 * _LATE):
        count = max(int((steps >= (1 - share) * m.step).sum()), _TAIL)
        found = slope(losses, iterations=steps, window=count) if len(steps) >= 3 else None
        if found is None or (found.high - found.low) / 2 * AHEAD * m.step / 1000 <= worth_of(m):
            break
    return found


def _flat_since(m: Measured, worth: float) -> int:
    """Return the first step since which a tenth more has brought less than `worth`.

    The slope from there to the end, the fall of the level until then and that of the next tenth say so: a line through
    a bend alone is too flat, and so is the mean of a bend and a long flat end.
    """
    steps, losses = m.curve.steps, m.curve.losses
    tenth = AHEAD * m.step

    def level(place: int) -> float:
        return float(np.median(losses[place : place + EDGE]))

    for place in range(int(np.searchsorted(steps, 1)), len(steps) - _TAIL + 1):
        line = slope(losses[place:], iterations=steps[place:], window=len(steps))
        ahead = max(int(np.searchsorted(steps, steps[place] + tenth)), place + 1)
        mean = (level(place) - m.level) * tenth / (steps[-1] - steps[place])
        if line is not None and max(gain_ahead(m, line), mean, level(place) - level(ahead)) < worth:
            return int(steps[place])
    return int(steps[-_TAIL:][0])


def diverged_since(m: Measured) -> int | None:
    """Return the step of the lowest training loss if much of what was learnt has been lost since, else None.

    Without training losses, the validation loss must lie above its first value.
    """
    steps, losses = (m.pairs[:, 0], m.pairs[:, 1]) if len(m.pairs) >= EDGE else (m.curve.steps, m.curve.losses)
    if exploded(losses) or exploded(m.iters[:, 1]):
        return int(steps[losses.argmin()])
    if len(losses) < EDGE:
        return None
    place = int(losses.argmin())
    learnt, lost = float(losses[0] - losses[place]), float(np.median(losses[-3:]) - losses[place])
    if learnt <= 0 or place > len(losses) - 3:
        return None
    if not len(m.pairs) and not m.of_training:
        return int(steps[place]) if lost > learnt else None
    surely = m.training is not None and m.training.low > 0
    return int(steps[place]) if lost > (_LOSING if surely else _LOST) * learnt else None


def frozen_since(m: Measured) -> int | None:
    """Return the step since which the loss is exactly the same, or 0 if nothing has been learnt; else None.

    Losses of random batches differ even where the weights don't, so that without an update they stay at their first
    level, ln V, within their noise.
    """
    rows = [(point.train_loss, point.val_loss) for point in m.run.points]
    same = _alike(rows)
    if same >= _SAME:
        return m.run.points[-same].step
    same = _alike([entry.loss for entry in m.run.iters])
    if same >= _SAME_ITERS and not rows:
        return m.run.iters[-same].step
    losses = m.pairs[:, 1] if len(m.pairs) else m.curve.losses
    if m.curve.steps[0] == 0 and len(losses) >= EDGE and m.reading.noise is not None:
        fallen = abs(float(losses[0] - np.median(losses[-EDGE:])))
        if fallen < min(max(EDGE * m.reading.noise, worth_of(m)), _LEARNT * float(losses[0])):
            return 0
    return None


def _alike(values: Sequence[object]) -> int:
    """Return how many of the last values are equal."""
    return next((n for n, value in enumerate(reversed(values)) if value != values[-1]), len(values))


@dataclass(frozen=True, kw_only=True)
class SplitGap:
    """A gap between the splits at an evaluation before which no text can have been memorised."""

    step: int
    train: float
    val: float
    share: float
    """the gap as a share of the training loss's fall until then"""


def split_gap(m: Measured) -> SplitGap | None:
    """Return the widest gap of the first epoch; of the first tenth of the run where the data's size isn't known.

    None where it is below 0.1 nats or its noise, or without an evaluation of the untrained model.
    """
    if len(m.trained) < EDGE or len(m.pairs) == len(m.trained):
        return None
    share = EARLY if m.epochs is None else 1 / max(m.epochs, 1.0)
    rows = m.trained[m.trained[:, 0] <= share * m.step]
    gaps, falls = rows[:, 2] - rows[:, 1], m.pairs[0, 1] - rows[:, 1]
    wide = (np.abs(gaps) > max(LEAST_GAP, _SURE_GAP * m.gap_noise)) & (falls > 0)
    if not wide.any():
        return None
    shares = np.where(wide, gaps / np.where(wide, falls, 1.0), 0.0)
    place = int(np.abs(shares).argmax())
    step, train, val = rows[place].tolist()
    return SplitGap(step=round(step), train=train, val=val, share=float(shares[place]))


def harder(m: Measured) -> bool:
    """Return whether the validation split is another kind of data."""
    gap = split_gap(m)
    return gap is not None and gap.share > HARDER

"""The outlook of a run: its loss at the end and at twice the length, and what more tokens or parameters bring.

The forecast is the law of `sweeps/pruning/law.py`, fitted to the curve so far under its own schedule. What doubling
brings is a trend of the published law of Hoffmann et al. 2022 in the refit of Besiroglu et al. 2024 (arXiv 2404.10102),
`L = 1.8172 + 482.01 N**-0.3478 + 2085.43 D**-0.3658` for N parameters and D tokens. It was fitted to large models on
web text with a vocabulary of about 32,000, so it isn't applied to small vocabularies, and its value is no forecast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweeps.diagnose.curve import from_zero, grouped, schedule_of
from sweeps.diagnose.judgement import Judgement, RunState
from sweeps.diagnose.measured import Measured
from sweeps.pruning import law
from sweeps.pruning.law import Floats

SOURCE = "Hoffmann et al. 2022, refit of Besiroglu et al. 2024"
PARAMETERS = (482.01, 0.3478)
TOKENS = (2085.43, 0.3658)
LEAST_VOCABULARY = 8192
"""smallest vocabulary to whose losses the published law is applied"""
_FORESEEN = (RunState.IMPROVING, RunState.PLATEAU)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A predicted loss with its 90 % interval, in the curve's unit."""

    step: int
    """at which it is expected"""
    value: float
    """the loss"""
    low: float
    """lower end"""
    high: float
    """upper end"""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What may be expected. None: not known, for the reason in `why`."""

    at_end: Expected | None
    """at max_iters"""
    at_twice: Expected | None
    """at twice max_iters as configured, which is at min_lr after lr_decay_iters; else at twice the steps so far"""
    why: str
    """why there is no forecast; else empty"""
    twice_tokens: float | None
    """nats by which twice the tokens lower the loss, by the published law"""
    twice_parameters: float | None
    """nats by which twice the parameters lower it"""
    why_no_law: str
    """why the published law isn't applied; else empty"""


def outlook_of(m: Measured, judgement: Judgement) -> Outlook:
    """Return the outlook of a run."""
    at_end, at_twice, why = _forecast(m, judgement)
    tokens, size, why_no_law = m.tokens, m.parameters, _why_no_law(m)
    known = tokens is not None and size is not None and not why_no_law
    return Outlook(
        at_end=at_end,
        at_twice=at_twice,
        why=why,
        twice_tokens=doubling_gain(*TOKENS, tokens) if known and tokens else None,
        twice_parameters=doubling_gain(*PARAMETERS, size) if known and size else None,
        why_no_law=why_no_law,
    )


def doubling_gain(factor: float, exponent: float, amount: float) -> float:
    """Return by how much `factor * amount**-exponent` falls where the amount doubles."""
    return float(factor * (amount**-exponent - (2 * amount) ** -exponent))


def _why_no_law(m: Measured) -> str:
    if m.tokens is None or m.parameters is None:
        return "the numbers of tokens and parameters aren't known"
    if m.vocab_size is None or m.vocab_size < LEAST_VOCABULARY:
        vocabulary = "an unknown vocabulary" if m.vocab_size is None else f"a vocabulary of {m.vocab_size}"
        return f"it was fitted to web text in about 32,000 tokens, not to {vocabulary}"
    return ""


def _forecast(m: Measured, judgement: Judgement) -> tuple[Expected | None, Expected | None, str]:
    """Return the forecasts at the end and at twice that, and why there are none."""
    if judgement.state not in _FORESEEN:
        return None, None, f"a run that is {judgement.state} has no forecast"
    if m.config is None:
        length = None
        ends = [2 * m.step]
    else:
        length = m.config.max_iters
        ends = [length, 2 * length] if length > m.step else [2 * length]
    found = [_at(m, end) for end in ends]
    if any(expected is None for expected in found):
        return None, None, "the law can't be fitted to so few losses after the warm-up"
    at_end = found[0] if len(found) == 2 else None
    return at_end, found[-1], ""


def _at(m: Measured, end: int) -> Expected | None:
    fitted = _fitted(m, end)
    if fitted is None:
        return None
    forecast = fitted.forecast()
    return Expected(step=end, value=float(forecast.mean[0]), low=float(forecast.low[0]), high=float(forecast.high[0]))


def _fitted(m: Measured, end: int) -> law.Law | None:
    """Return the law fitted to the curve under its schedule up to `end`; None with too few losses."""
    steps, losses = from_zero(grouped(m.curve))
    if end <= steps[-1]:
        return None
    schedule, unknown = schedule_of(m.run, steps, settings=m.settings or None, end=end)
    if unknown:
        schedule = law.Schedule.of([1.0] * (len(steps) + 1), steps=np.append(steps, float(end)))
    fitted = law.fit([losses], [schedule])
    return fitted if fitted.fitted[0] else None


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedPath:
    """The fitted law along a run: (N,) losses at steps, with the 90 % interval of an evaluation."""

    steps: Floats
    mean: Floats
    low: Floats
    high: Floats


def path_of(m: Measured, end: int) -> FittedPath | None:
    """Return the fitted law from the curve's beginning to `end`, which must lie beyond the log; None without a fit."""
    fitted = _fitted(m, end)
    if fitted is None:
        return None
    seen, _ = from_zero(grouped(m.curve))
    places = int(fitted.ends[0]) + 1
    steps = np.concatenate([seen, np.linspace(seen[-1], end, places - len(seen) + 1)[1:]])
    found = [fitted.forecast(at=place) for place in range(1, places)]
    mean, low, high = (np.array([getattr(forecast, name)[0] for forecast in found]) for name in ("mean", "low", "high"))
    kept = np.isfinite(mean)
    return FittedPath(steps=steps[1:][kept], mean=mean[kept], low=low[kept], high=high[kept])

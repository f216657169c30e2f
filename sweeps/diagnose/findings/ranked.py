"""All findings of a run, ranked: faults first, then by strength; and what the log contradicts or can't tell apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sweeps.diagnose.findings import faults, fit, noise, schedule
from sweeps.diagnose.findings.finding import Code, Contradiction, Finding
from sweeps.diagnose.judgement import Judgement, RunState
from sweeps.diagnose.measured import Measured
from sweeps.text import percent_whole

RULES: tuple[Callable[[Measured, Judgement], Finding | None], ...] = (
    faults.no_update,
    faults.precision_overflow,
    faults.instability,
    faults.accumulation_mis_scaled,
    faults.val_mismatch,
    faults.resume_shock,
    faults.resume_pinned_at_min_lr,
    fit.overfitting,
    fit.data_limited,
    fit.capacity_limited,
    fit.dropout_on_underfit,
    fit.weight_decay_too_strong,
    schedule.lr_too_low,
    schedule.lr_too_high,
    schedule.warmup_too_long,
    schedule.lr_decayed_early,
    schedule.schedule_exhausted,
    noise.batch_too_small,
    noise.batch_noise,
    noise.eval_noise,
)
_MUCH = 0.2
"""share of the peak rate from which on a schedule has more to give"""
_SETTLED = (RunState.DIVERGED, RunState.NAN, RunState.BROKEN_DATA)


def ranked(m: Measured, judgement: Judgement) -> tuple[Finding, ...]:
    """Return what the log supports, faults first."""
    found = [finding for rule in RULES if (finding := rule(m, judgement)) is not None]
    return tuple(sorted(found, key=lambda finding: (not finding.fault, -finding.strength)))


def contradicted(m: Measured, judgement: Judgement) -> tuple[Contradiction, ...]:
    """Return the explanations that the log contradicts, the one that people are told most often first."""
    return tuple(_contradictions(m, judgement))


def _contradictions(m: Measured, judgement: Judgement) -> Iterator[Contradiction]:
    if judgement.state in _SETTLED or judgement.state is RunState.TOO_SHORT:
        return
    if judgement.state is not RunState.OVERFITTING and m.gap is not None and m.gap.value <= fit.FITS:
        late = "" if judgement.late is None or judgement.late.high >= 0 else ", and the validation loss still falls"
        often = f"above the validation loss in {m.above} of {len(m.trained)} evaluations"
        where = often if 2 * m.above > len(m.trained) else "not below the validation loss"
        gap = f"gap {m.gap.value:+.3f} ± {2 * m.gap.se:.3f}".replace("-", "−")
        yield Contradiction(
            code=Code.OVERFITTING, evidence=f"not overfitting: the training loss is {where} ({gap}){late}"
        )
    if m.epochs is not None and m.epochs <= 1:
        yield Contradiction(
            code=Code.DATA_LIMITED,
            evidence=f"not too little data: {m.epochs:.2g} epochs were seen, so no text was seen twice",
        )
    share = m.share()
    if share is not None and share > _MUCH and (m.config is None or m.step > m.config.warmup_iters):
        yield Contradiction(
            code=Code.SCHEDULE_EXHAUSTED,
            evidence=f"not an exhausted schedule: the rate is still {percent_whole(share)} of its peak",
        )
    if judgement.state is RunState.OVERFITTING and m.gap is not None:
        yield Contradiction(
            code=Code.CAPACITY_LIMITED,
            evidence=f"not too small a model: it fits the training text {m.gap.value:.2f} nats better than unseen text",
        )


def undecided(m: Measured, judgement: Judgement, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Say what one log can't tell apart, in sentences; a study tests exactly this."""
    said: list[str] = []
    codes = [finding.code for finding in findings if not finding.fault and finding.knob is not None]
    if judgement.state not in _SETTLED and len(codes) > 1:
        names = ", ".join(codes[:4])
        said.append(f"How much each costs ({names}) can't be told from one log: a study changes one at a time.")
    if not m.settings and judgement.state is not RunState.NAN:
        said.append("Without settings, a spent schedule and too small a model look alike: give --config or --ckpt.")
    if m.epochs is None and judgement.state in (RunState.PLATEAU, RunState.OVERFITTING, RunState.IMPROVING):
        said.append("Whether text was seen twice isn't known: give --data or --tokens.")
    return tuple(said)

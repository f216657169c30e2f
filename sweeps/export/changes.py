"""Changes of an export: which of a trial's settings are taken over into the user's own config, and why.

The best trial differs from the baseline in every knob, and most differences are the sampler's accidents. So only knobs
for which something is shown are taken over, at the length and with the batch of the user's own run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sweeps.analysis.arms import Arm
from sweeps.analysis.attribution import Attribution, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.analysis.significance import shown
from sweeps.export.branch import own_settings
from sweeps.export.nanogpt_config import Before
from sweeps.store.records import Run
from sweeps.study.baseline import NAMES, Value, with_heads
from sweeps.study.config_baseline import OF_THE_MACHINE
from sweeps.study.horizon import stretched
from sweeps.study.proposals import baseline_config
from sweeps.study.study import Study
from sweeps.text import joined, short
from sweeps.verdict import confirmed
from sweeps.verdict.effects import gain
from trainer.config import TrainConfig
from trainer.nanogpt import DEFAULTS

_LENGTHS = ("max_iters", "lr_decay_iters", "warmup_iters")
"""settings that are as long as a run"""
_EXACT = 3
"""digits up to which a value stays as the trial had it; a sampled one has more, and is rounded to two"""
_WHOLE_TRIAL = "as in the trial"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is taken over from a trial."""

    tested: TrainConfig
    """the config, at the trial's own length"""
    reference: TrainConfig
    """the baseline's, or the control's, at the same length"""
    why: Mapping[str, str] = field(default_factory=dict)
    """by setting, why it is taken over"""
    left: Mapping[str, str] = field(default_factory=dict)
    """by knob that the trial changes and the export doesn't, its value there and why it is left"""
    warm_up_shown: bool = False
    """whether the warm-up is shown to matter"""
    together: str = ""
    """what the settings that are taken over gain together; "" of a whole trial, whose gain stands elsewhere"""


def change_of(findings: Findings, run: Run, *, whole: bool) -> Change:
    """Return what is taken over from a run: the knobs that the verdict shows of its best, or else all.

    `whole` takes all settings. A best of which no knob is shown to do something without the rest is taken whole as
    well, because only the whole was shown.
    """
    study = findings.study
    reference = baseline_config(study, seed=run.config.seed, vocab_size=run.config.vocab_size)
    attribution = findings.attribution
    words: Mapping[str, str] = {}
    taken: tuple[str, ...] = ()
    if attribution is not None and run.id in (attribution.best.id, attribution.searched.id):
        words = confirmed.knob_words(attribution)
        taken = attribution.change if attribution.fewer else _without_the_rest(attribution, findings)
    warm_up_shown = "warmup_iters" in taken
    tested = findings.evidence.arms.config(Arm(frozenset(taken))) if taken and not whole else None
    if tested is None:
        names = [name for name in _changed(run.config, reference) if name != "n_head"]
        why = {name: words.get(name, _WHOLE_TRIAL) for name in names}
        return Change(tested=run.config, reference=reference, why=why, warm_up_shown=warm_up_shown)
    assert attribution is not None
    left = {
        knob.knob: f"{short(knob.new)} in trial {attribution.searched.trial}; {words[knob.knob]}"
        for knob in attribution.knobs
        if knob.knob not in taken
    }
    return Change(
        tested=tested.replace(seed=run.config.seed),
        reference=reference,
        why={name: words[name] for name in taken},
        left=left,
        warm_up_shown=warm_up_shown,
        together=_together(findings, taken) if left else "",
    )


def _without_the_rest(attribution: Attribution, findings: Findings) -> tuple[str, ...]:
    """Return the knobs that the headline credits, if they do something without the best's other changes.

    A knob that the best merely needs may do nothing by itself.
    """
    credited = [knob for knob in attribution.knobs if knob.knob in attribution.headline]
    if any(knob.word is not KnobWord.NECESSARY for knob in credited) or shown(_gain(findings, attribution.headline)):
        return attribution.headline
    return ()


def _gain(findings: Findings, knobs: tuple[str, ...]) -> Contrast | None:
    """Return what knobs of the best gain together without its other changes. None: it was not run, or there is none."""
    arm = Arm(frozenset(knobs))
    return findings.evidence.gain(arm, threshold=findings.study.min_effect) if knobs else None


def _together(findings: Findings, knobs: tuple[str, ...]) -> str:
    """Say what the knobs that are taken over gain together."""
    effect, names = _gain(findings, knobs), joined(knobs)
    if effect is None:
        return f"taken over: {names}. They were not run together without the best trial's other changes"
    return f"taken over: {names}. Without the best trial's other changes the gain is {gain(effect)}"


def own_length(study: Study, change: Change, *, iters: int | None) -> TrainConfig:
    """Return the user's own config with the change, at its own length or at `iters`; a branch at the branch's.

    Values are rounded to what a trial can tell apart. A warm-up has at least the tokens that it had in the trial, and
    at most those of the user's own, unless it is shown to matter. Raises ConfigError for a length that can't be.
    """
    tested = _rounded(change)
    if _branches(tested):
        return tested if iters is None else _warmed_up(stretched(tested, iters=iters), study, change, own=tested)
    base = TrainConfig.from_mapping(
        {**with_heads(study.baseline), "seed": tested.seed, "vocab_size": tested.vocab_size}
    )
    taken = {name: getattr(tested, name) for name in _changed(tested, change.reference)}
    fewer = base.sequences_per_iter / _batch(base, taken)
    length = iters if iters is not None else max(1, round(base.max_iters * fewer))
    long = stretched(base, iters=length)
    share = tested.lr_decay_iters / tested.max_iters
    if not math.isclose(share, change.reference.lr_decay_iters / change.reference.max_iters, rel_tol=0.01):
        long = long.replace(lr_decay_iters=max(1, round(share * length)), warmup_iters=0)
    return _warmed_up(long.replace(**taken), study, change, own=base)


def baseline_of(study: Study, *, like: TrainConfig) -> TrainConfig:
    """Return the baseline at its own length, with the seed and the vocabulary of another config."""
    return TrainConfig.from_mapping({**with_heads(study.baseline), "seed": like.seed, "vocab_size": like.vocab_size})


def _branches(config: TrainConfig) -> bool:
    return config.init_from == "branch"


def _batch(base: TrainConfig, taken: Mapping[str, Value]) -> int:
    size, accumulation = (
        int(taken.get(name, getattr(base, name))) for name in ("batch_size", "gradient_accumulation_steps")
    )
    return size * accumulation


def _warmed_up(long: TrainConfig, study: Study, change: Change, *, own: TrainConfig) -> TrainConfig:
    """Return the long run with its warm-up, in tokens between the trial's and the user's own."""
    tested, reference = change.tested, change.reference
    share, usual = tested.warmup_iters / tested.max_iters, reference.warmup_iters / reference.max_iters
    changed = abs(share - usual) > 1 / min(tested.max_iters, reference.max_iters)
    wanted = (share if changed else own.warmup_iters / own.max_iters) * long.max_iters
    if not (changed and change.warm_up_shown):
        users = baseline_of(study, like=tested)
        least = math.ceil(tested.warmup_iters * tested.tokens_per_iter / long.tokens_per_iter)
        most = users.warmup_iters * users.tokens_per_iter / long.tokens_per_iter
        wanted = min(max(wanted, least), max(most, least))
    warmup = round(wanted) if not changed else round(float(f"{wanted:.2g}"))
    return long.replace(warmup_iters=min(warmup, long.lr_decay_iters - 1) if long.decay_lr else warmup)


def _changed(config: TrainConfig, reference: TrainConfig) -> list[str]:
    """Return the settings, without lengths, that differ from the reference's."""
    old, new = reference.as_dict(), config.as_dict()
    return [name for name in NAMES if name not in _LENGTHS and new[name] != old[name]]


def _rounded(change: Change) -> TrainConfig:
    """Return the tested config with its changed numbers rounded."""
    config = change.tested
    values = {name: rounded(name, getattr(config, name)) for name in _changed(config, change.reference)}
    if "min_lr" in values and config.learning_rate:
        rate = float(values.get("learning_rate", config.learning_rate))
        values["min_lr"] = min(rate, rounded("min_lr", config.min_lr / config.learning_rate * rate))
    return config.replace(**values)


def rounded(name: str, value: Value) -> Value:
    """Round a sampled number to two digits, a share near 1 by its distance from 1. Others stay as they are."""
    if not isinstance(value, float) or float(f"{value:.{_EXACT}g}") == value:
        return value
    if name in ("beta1", "beta2"):
        return round(1 - float(f"{1 - value:.2g}"), 9)
    return float(f"{value:.2g}")


def reasons(change: Change, run: TrainConfig, *, iters: int | None) -> dict[str, str]:
    """Return why each setting of the export may differ from the user's own."""
    length = f"--iters {iters}" if iters is not None else "the same tokens with another batch"
    if _branches(run):
        length = (
            "the branch's own schedule" if iters is None else f"the branch's schedule, stretched to --iters {iters}"
        )
    why = dict.fromkeys(_LENGTHS, length)
    why |= {"n_head": "the size of a head stays", "min_lr": "it keeps its share of learning_rate"}
    if _branches(run):
        why |= dict.fromkeys(("learning_rate", "min_lr", "decay_lr"), length)
    return {**why, **change.why}


def before(study: Study, *, why: Mapping[str, str] | None = None, left: Mapping[str, str] | None = None) -> Before:
    """Return the config that an export of the study changes: the user's own as far as it is known, and the baseline."""
    own = own_settings(study)
    machine = OF_THE_MACHINE if own is None else ()  # the trial's, unless the user's own config says otherwise
    known = {} if own is None else {**DEFAULTS, **own}
    baseline = with_heads(study.baseline)
    known |= {name: value for name, value in baseline.items() if name in DEFAULTS and name not in machine}
    file = study.own
    return Before(
        settings=known,
        own=own,
        unread={} if file is None else {**file.unread, **file.others},
        why=why or {},
        left=tuple(f"{name}: {text}" for name, text in (left or {}).items()),
    )

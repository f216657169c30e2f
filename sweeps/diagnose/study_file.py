"""The study that tests what a diagnosis leaves open: one knob per finding, around the run's own settings.

Trials start from the run's checkpoint where there is one, because differences of thousandths of a nat show there, and
shapes race from scratch. Without one they are short runs from scratch. A trial takes five
minutes at the speed of the log, and at most a fifth of the run. Where no CPU could train it, the study has a profile
for machines without a card.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeps.diagnose import usual
from sweeps.diagnose.diagnosis import Diagnosis
from sweeps.diagnose.findings.finding import Code
from sweeps.diagnose.judgement import RunState
from sweeps.diagnose.measured import Measured
from sweeps.errors import LogError, SpecError
from sweeps.study.baseline import NAMES
from sweeps.study.study import problem_with_name
from sweeps.text import short
from trainer.atomic import write_text
from trainer.data.bins import GPT2_PADDED
from trainer.model.size import flops_per_token
from trainer.nanogpt import Value

_HOURS = 8
"""of the whole study, a working day"""
_MINUTES = 5
"""per trial, at most, at the speed of the log"""
_SHARE_OF_RUN = 5
"""the run's length over that of a trial, at least"""
_SHORTEST = 200
"""iterations of a trial at least"""
_EVALUATIONS = 20
"""per trial"""
_LARGEST_BATCH = 4
"""times the run's batch"""
_CORE, _PATIENCE = 5e10, 1800
"""FLOP per second of a CPU core, about, and seconds that a trial may take there"""
_MINIATURE = {
    "n_layer": 3,
    "n_embd": 64,
    "head_size": 16,
    "block_size": 64,
    "batch_size": 16,
    "gradient_accumulation_steps": 1,
}
"""the shape and batch of the flagship's cpu profile"""
_WIDE = 5
"""factor between the rate and either end of its range"""
_HOPELESS = (RunState.NAN, RunState.BROKEN_DATA, RunState.UNREADABLE)
_SHAPE = "n_embd"
_SPENT = (Code.LR_DECAYED_EARLY, Code.SCHEDULE_EXHAUSTED, Code.RESUME_PINNED_AT_MIN_LR)
_RATE = (Code.LR_TOO_LOW, Code.LR_TOO_HIGH, Code.INSTABILITY, *_SPENT)
_KNOBS: Mapping[Code, tuple[str, ...]] = {
    **dict.fromkeys(_RATE, ("learning_rate", "min_lr")),
    Code.RESUME_SHOCK: ("learning_rate", "warmup_iters"),
    Code.BATCH_NOISE: ("learning_rate", "min_lr", "batch_size"),
    Code.BATCH_TOO_SMALL: ("batch_size",),
    Code.OVERFITTING: ("dropout", "weight_decay"),
    Code.DATA_LIMITED: ("dropout", "weight_decay"),
    Code.CAPACITY_LIMITED: (_SHAPE,),
    Code.DROPOUT_ON_UNDERFIT: ("dropout",),
    Code.WEIGHT_DECAY_TOO_STRONG: ("weight_decay",),
    Code.WARMUP_TOO_LONG: ("warmup_iters",),
}
"""the knobs that test a finding"""
_ALWAYS = ("learning_rate", "min_lr")
"""knobs of a study whose findings name fewer than two"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a study's run lies; None: not there."""

    checkpoint: Path | None
    log: Path | None
    data: Path | None


def write_study_of(diagnosis: Diagnosis, path: Path, place: Place) -> None:
    """Write the study to `path`. Raises SpecError for a path that can't be written, LogError where no sweep helps."""
    if path.exists():
        raise SpecError(f"--study {path}: exists already; choose another name")
    if path.suffix not in (".yaml", ".yml") or (problem := problem_with_name(path.stem)):
        raise SpecError(f"--study {path}: {problem if path.suffix in ('.yaml', '.yml') else 'must end in .yaml'}")
    text = study_text(diagnosis, name=path.stem, place=place)
    try:
        write_text(path, text)
    except OSError as error:
        raise SpecError(f"--study {path}: cannot be written: {error.strerror or error}") from error


def study_text(diagnosis: Diagnosis, *, name: str, place: Place) -> str:
    """Return the study's YAML. Raises LogError where a sweep can't help, or settings or data aren't known."""
    m = diagnosis.measured
    if diagnosis.judgement.state in _HOPELESS or any(f.code is Code.NO_UPDATE for f in diagnosis.findings):
        first = diagnosis.findings[0] if diagnosis.findings else None
        check = "" if first is None else f"; {first.code}: {first.check}"
        raise LogError(f"--study: no sweep mends a run whose verdict is {diagnosis.judgement.state}{check}")
    if not m.settings:
        raise LogError("--study: the run's settings aren't known; give --config train_x.py or --ckpt out/ckpt.pt")
    knobs = _knobs(diagnosis)
    head = [
        f"What the log of {m.run.name} leaves open, tried one at a time. Verdict: {diagnosis.judgement.state}.",
        *(f"{finding.code}: {finding.evidence}" for finding in diagnosis.findings[:4]),
    ]
    lines = [line for sentence in head for line in textwrap.wrap(sentence, 117, break_on_hyphens=False)]
    lines = [*(f"# {line}" for line in lines), "#", f"#   sweep plan {name}.yaml", f"#   sweep run {name}.yaml", ""]
    lines += [f"name: {name}", *_start(m, place), "", f"horizon: {{iters: {_iters(m, knobs)}}}", f"hours: {_HOURS}"]
    lines += [f"evaluations: {_EVALUATIONS}", "", "knobs:"]
    branch = place.checkpoint is not None
    shape = [knob for knob in knobs if knob == _SHAPE]
    for knob, why in knobs.items():
        if not (branch and knob == _SHAPE):
            lines.append(f"  {knob}: {_range(m, knob, branch=branch)}  # {why}")
    if branch and shape:
        lines += ["", f"# {knobs[_SHAPE]}: shapes can't change in the middle, so they race from scratch"]
        lines.append(f"race: {{iters: {max(100, m.step // 3)}, n_embd: [{2 * int(m.settings['n_embd'])}]}}")
    lines += ["", *_candidates(diagnosis, branch=branch)]
    trials = max(12, 6 * len(knobs))
    lines += ["baseline_seeds: 3", f"trials: {trials}", f"confirm: {{seeds: 3, max_trials: {2 * trials}}}"]
    if not branch and _too_large_for_a_cpu(m):
        lines += ["", *_miniature(knobs)]
    return "\n".join(lines) + "\n"


def _too_large_for_a_cpu(m: Measured) -> bool:
    """Return whether the shortest trial would take a CPU core much longer than a trial should."""
    if m.config is None:
        return False
    flops = flops_per_token(m.config, m.vocab_size or GPT2_PADDED) * m.config.tokens_per_iter
    return flops * _SHORTEST / _CORE > _PATIENCE


def _miniature(knobs: Mapping[str, str]) -> Iterator[str]:
    """Yield the profile of a machine without a card, where only a miniature of the run can be trained."""
    width = _MINIATURE["n_embd"]
    yield "# Without a card, a miniature: what it shows holds for the run only as far as sizes don't matter."
    yield "profiles:"
    yield "  cpu:"
    yield f"    horizon: {{iters: {2 * _SHORTEST}}}"
    yield f"    baseline: {{{', '.join(f'{key}: {value}' for key, value in _MINIATURE.items())}}}"
    if _SHAPE in knobs:
        yield f"    knobs: {{{_SHAPE}: {{low: {width}, high: {2 * width}, step: {width}}}}}"


def _iters(m: Measured, knobs: Mapping[str, str]) -> int:
    """Return the iterations of a trial, with two digits. Where batches are swept, all have as many evaluations."""
    seconds = m.seconds_per_update
    most = m.step // _SHARE_OF_RUN if seconds is None else min(m.step // _SHARE_OF_RUN, int(60 * _MINUTES / seconds))
    iters = int(float(f"{max(most, _SHORTEST):.2g}"))
    unit = _EVALUATIONS * _LARGEST_BATCH if "batch_size" in knobs else 1
    return max(iters // unit, math.ceil(_SHORTEST / unit)) * unit


def _knobs(diagnosis: Diagnosis) -> dict[str, str]:
    """Return the knobs to sweep, each with the finding that names it first."""
    found: dict[str, str] = {}
    for finding in diagnosis.findings:
        for knob in _KNOBS.get(finding.code, ()):
            found.setdefault(knob, str(finding.code))
    if len(found) < 2:
        found |= {knob: "always worth a look" for knob in _ALWAYS if knob not in found}
    return found


def _start(m: Measured, place: Place) -> Iterator[str]:
    if place.checkpoint is not None:
        log = "" if place.log is None else f", log: {_quoted(place.log)}"
        yield f"start: {{checkpoint: {_quoted(place.checkpoint)}{log}}}"
        if place.data is not None:
            yield f"data: {{bin: {_quoted(place.data)}}}"
        return
    folder = place.data or Path("data") / str(m.settings["dataset"])
    if not (folder / "train.bin").is_file():
        raise LogError(f"--study: {folder} has no train.bin; name the run's data with --data")
    yield f"data: {{bin: {_quoted(folder)}}}"
    yield "baseline:"
    known = {**m.run.settings, **m.given.settings}
    for key in NAMES:
        if key == "n_head":
            yield f"  head_size: {int(m.settings['n_embd']) // int(m.settings['n_head'])}"
        elif key in known:
            yield f"  {key}: {_yaml(known[key])}"


def _range(m: Measured, knob: str, *, branch: bool) -> str:
    """Return a knob's range, which contains the run's own value."""
    own = m.settings.get(knob, 0)
    now = m.given.checkpoint_step if branch else None
    rate = (m.rate(now) if branch else m.peak) or float(m.settings["learning_rate"])
    if knob == "learning_rate":
        common = usual.learning_rate(m.parameters) if m.parameters else rate
        low, high = min(rate / _WIDE, common), max(rate * _WIDE, common)
        if branch and m.peak is not None and rate * _WIDE < m.peak:  # a spent rate can only go up, to its peak at least
            low, high = rate, max(high, m.peak)
        return f"{{low: {low:.2g}, high: {high:.2g}, log: true}}"
    if knob == "min_lr":
        share = float(m.settings["min_lr"]) / float(m.settings["learning_rate"])
        return f"{{ratio_of: learning_rate, low: 0.0, high: {1.0 if branch else max(0.3, share):.2g}}}"
    if knob == "warmup_iters":
        share = 0.0 if branch else float(own) / float(m.settings["max_iters"])
        low, high = 0.0 if branch else min(0.01, share / 2), max(0.2, min(1.5 * share, 1.0))
        return f"{{fraction_of: max_iters, low: {low:.2g}, high: {high:.2g}}}"
    if knob == "dropout":
        return f"{{low: 0.0, high: {max(0.3, min(1.5 * float(own), 0.9)):.2g}}}"
    if knob == "weight_decay":
        return f"{{low: {min(1e-3, float(own) / 3) or 1e-4:.2g}, high: {max(1.0, 3 * float(own)):.2g}, log: true}}"
    if knob == "batch_size":
        half = f"{int(own) // 2}, " if int(own) % 2 == 0 else ""
        return f"{{choices: [{half}{own}, {2 * int(own)}, {_LARGEST_BATCH * int(own)}]}}"
    return f"{{low: {own}, high: {2 * int(own)}, step: {own}}}"


def _candidates(diagnosis: Diagnosis, *, branch: bool) -> Iterator[str]:
    """Yield the one-at-a-time points where the findings point, as candidates."""
    m, codes = diagnosis.measured, {finding.code for finding in diagnosis.findings}
    points: list[str] = []
    if Code.DROPOUT_ON_UNDERFIT in codes:
        points.append("{dropout: 0.0}")
    if Code.OVERFITTING in codes and float(m.settings["dropout"]) < 0.2:
        points.append("{dropout: 0.2}")
    if codes & {Code.LR_TOO_LOW, Code.LR_TOO_HIGH} and m.parameters:
        rate = usual.learning_rate(m.parameters)
        points.append(f"{{learning_rate: {rate:.2g}, min_lr: {rate / 10:.2g}}}")
    if branch and codes & {*_SPENT} and m.peak is not None:
        points.append(f"{{learning_rate: {m.peak / 2:.2g}, min_lr: 0.0}}")
    if not branch and Code.LR_DECAYED_EARLY in codes:
        points.append(f"{{lr_decay_iters: {m.settings['max_iters']}}}")
    if Code.WEIGHT_DECAY_TOO_STRONG in codes:
        points.append(f"{{weight_decay: {usual.WEIGHT_DECAY}}}")
    if Code.WARMUP_TOO_LONG in codes and not branch:
        points.append(f"{{warmup_iters: {max(int(m.settings['max_iters']) // 50, 1)}}}")
    yield "candidates:" if points else "candidates: []"
    yield from (f"  - {point}" for point in points)


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def _yaml(value: Value) -> str:
    return (
        json.dumps(value) if isinstance(value, bool | str) else short(value) if isinstance(value, float) else str(value)
    )

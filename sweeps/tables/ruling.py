"""The ruling on a table of runs: which arms are shown to be better or worse than the baseline, and what is not shown.

The tests are those of the confirm phase (analysis/contrasts.py): Student's t on differences by seed where arms share
seeds, with the noise of the other arms where it applies, Welch's where they don't; one-sided against min_effect; Holm's
correction over the arms; p multiplied for looking while runs come in, which people do. Runs of a seed on different
kinds of device are no pair: the same seed, config and weights ended 0.04 nats apart on two cards.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from scipy import integrate, special

from sweeps.analysis.attribution import CandidateWord
from sweeps.analysis.contrasts import Contrast, Sample, contrast
from sweeps.analysis.noise import detectable, pooled_sd
from sweeps.analysis.significance import P_MULTIPLIER, harmful_among, holm, seeds_to_decide
from sweeps.analysis.words import candidate_word
from sweeps.tables.runs import TableRun, TableRuns

MORE_SEEDS = 2
"""further seeds an arm whose cost and use are told where arms have one run each"""


@dataclass(frozen=True, kw_only=True)
class ArmRuling:
    """One arm against the baseline. Gains are in the table's unit, above 0 is better."""

    arm: str
    word: CandidateWord
    effect: Contrast | None
    """baseline - arm, against min_effect; p is Holm's over the arms; None: the arm or the baseline has no loss"""
    runs: int
    diverged: int
    more_seeds: int | None
    """word UNKNOWN or ONE_RUN: further seeds that would decide if mean and noise stay; None: over 64, or not known"""
    devices_differ: bool
    """whether a pair would have joined two kinds of device, so that the comparison is unpaired"""
    time: float | None
    """mean seconds of a run, relative to the baseline's; None: not known"""


@dataclass(frozen=True, kw_only=True)
class Luck:
    """The best single run of a table, and how much of it is luck."""

    arm: str
    seed: int | None
    loss: float
    others: float | None
    """mean loss of its arm's other runs; None: it has no others"""
    expected: float | None
    """how far the best of so many runs lies below the mean by luck alone, if each has its own; runs that share seeds
    share luck, and it is less; None: the noise is unknown"""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What further seeds of every arm would cost and decide, where arms have one run each."""

    runs: int
    seconds: float | None
    """of them all, by the mean of the table's runs; None: the table has no times"""
    detects: float | None
    """smallest gain that they would show in four of five cases; None: the noise is unknown"""


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What a table of runs shows."""

    table: TableRuns
    min_effect: float
    arms: tuple[ArmRuling, ...]
    """shown to be better first, the largest gain first; then the rest by gain"""
    sd: float | None
    """standard deviation of an arm's losses over seeds, pooled over the arms; None: no arm has two runs"""
    degrees: int
    """degrees of freedom of `sd`"""
    luck: Luck | None
    missing: Missing | None
    """None: some arm beside the baseline has two runs"""

    @property
    def shown(self) -> tuple[ArmRuling, ...]:
        """The arms that are shown to be better."""
        return tuple(arm for arm in self.arms if arm.word is CandidateWord.RIGHT)

    @property
    def decides(self) -> bool:
        """Whether anything is shown: better, worse or equal."""
        undecided = (CandidateWord.UNKNOWN, CandidateWord.ONE_RUN)
        return any(arm.word not in undecided for arm in self.arms)


def rule(table: TableRuns, *, min_effect: float) -> Ruling:
    """Return what the runs show. `min_effect`: what a gain must exceed to count, in the table's unit."""
    names = table.arms()
    samples = {name: _sample(table.of(name), name) for name in names}
    effects = {arm: _effect(samples, table.baseline, arm, min_effect=min_effect) for arm in names[1:]}
    adjusted = holm([None if effect is None else effect.p for effect in effects.values()])
    harms = harmful_among(list(effects.values()), min_effect)
    arms = []
    for (name, effect), p, harmful in zip(effects.items(), adjusted, harms, strict=True):
        runs = table.of(name)
        diverged = sum(run.loss is None for run in runs)
        judged = None if effect is None else dataclasses.replace(effect, p=p)
        word = candidate_word(judged, harmful=harmful, diverged=diverged, min_effect=min_effect)
        open_ = word in (CandidateWord.UNKNOWN, CandidateWord.ONE_RUN)
        arms.append(
            ArmRuling(
                arm=name,
                word=word,
                effect=judged,
                runs=len(runs),
                diverged=diverged,
                more_seeds=seeds_to_decide(judged, min_effect=min_effect) if open_ and judged else None,
                devices_differ=effect is not None and effect.kinds_differ,
                time=_relative_time(table, name),
            )
        )
    sd, degrees = pooled_sd(list(sample.losses.values()) for sample in samples.values())
    return Ruling(
        table=table,
        min_effect=min_effect,
        arms=tuple(sorted(arms, key=lambda arm: (arm.word is not CandidateWord.RIGHT, -_gain(arm)))),
        sd=sd,
        degrees=degrees,
        luck=_luck(table, sd),
        missing=_missing(table, sd, min_effect=min_effect),
    )


def _gain(arm: ArmRuling) -> float:
    return -math.inf if arm.effect is None else arm.effect.mean


def _effect(samples: Mapping[str, Sample], baseline: str, arm: str, *, min_effect: float) -> Contrast | None:
    """Return baseline - arm. The other arms' noise counts where they share seeds and kinds of device with these."""
    if not samples[baseline].losses or not samples[arm].losses:
        return None
    if not _share_seeds(samples, baseline, arm):
        samples = {
            name: Sample(losses=dict(enumerate(samples[name].losses.values())), shape=name) for name in (baseline, arm)
        }
    return contrast({baseline: 1, arm: -1}, samples, threshold=min_effect, looks=P_MULTIPLIER)


def _share_seeds(samples: Mapping[str, Sample], baseline: str, arm: str) -> bool:
    """Whether two arms have two seeds in common, or one that is all that either has."""
    mine, theirs = samples[baseline].losses.keys(), samples[arm].losses.keys()
    shared = len(mine & theirs)
    return shared > 1 or (shared == 1 and min(len(mine), len(theirs)) == 1)


def _sample(runs: Sequence[TableRun], arm: str) -> Sample:
    """Return an arm's losses by seed. Without seeds it shares its luck with no other."""
    ended = [run for run in runs if run.loss is not None]
    seeds = [index if run.seed is None else run.seed for index, run in enumerate(ended)]
    shapes: set[Hashable] = {run.shape for run in ended}
    has_seeds = all(run.seed is not None for run in ended)
    return Sample(
        losses={seed: _loss(run) for seed, run in zip(seeds, ended, strict=True)},
        shape=shapes.pop() if len(shapes) == 1 and has_seeds else arm,
        kinds={seed: run.device or "" for seed, run in zip(seeds, ended, strict=True)},
    )


def _relative_time(table: TableRuns, arm: str) -> float | None:
    mine, baseline = ([run.seconds for run in table.of(name) if run.seconds] for name in (arm, table.baseline))
    return statistics.fmean(mine) / statistics.fmean(baseline) if mine and baseline else None


def _luck(table: TableRuns, sd: float | None) -> Luck | None:
    ended = [run for run in table.runs if run.loss is not None]
    if len(ended) < 2:
        return None
    best = min(ended, key=_loss)
    others = [_loss(run) for run in ended if run.arm == best.arm and run is not best]
    return Luck(
        arm=best.arm,
        seed=best.seed,
        loss=_loss(best),
        others=statistics.fmean(others) if others else None,
        expected=None if sd is None else sd * expected_maximum(len(ended)),
    )


def _loss(run: TableRun) -> float:
    assert run.loss is not None
    return run.loss


def expected_maximum(n: int) -> float:
    """Return the expected maximum of n standard normal values: 0.56 of 2, 1.54 of 10.

    The integral of `1 - Phi(x)**n` above 0 minus that of `Phi(x)**n` below (the mean of any variable by its
    distribution function).
    """

    def integrand(x: float) -> float:
        return 1 - float(special.ndtr(x)) ** n - float(special.ndtr(-x)) ** n

    return float(integrate.quad(integrand, 0, 12)[0])


def _missing(table: TableRuns, sd: float | None, *, min_effect: float) -> Missing | None:
    arms = table.arms()
    if any(sum(run.loss is not None for run in table.of(arm)) > 1 for arm in arms[1:]):
        return None
    seeds = 1 + MORE_SEEDS
    runs = sum(max(0, seeds - len(table.of(arm))) for arm in arms)
    times = [run.seconds for run in table.runs if run.seconds]
    return Missing(
        runs=runs,
        seconds=runs * statistics.fmean(times) if times else None,
        detects=detectable(sd, seeds, threshold=min_effect, looks=P_MULTIPLIER) if sd else None,
    )

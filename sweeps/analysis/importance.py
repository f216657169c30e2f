"""How much each knob matters over the search space, with intervals, beside a knob that does not matter at all.

What is shown is what the trials' luck leaves: everything is worked out again for trials drawn anew with replacement
(Efron 1979), each time with other prediction errors for the trials that were stopped, and other values of the dummy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from typing_extensions import TypeIs

from sweeps.analysis.finals import Final, drawn, without_final
from sweeps.store.records import Results
from sweeps.study import space
from sweeps.study.proposals import ParamValue

FANOVA, PED_ANOVA = "fANOVA", "PED-ANOVA"
FANOVA_TRIALS, PED_ANOVA_TRIALS = 20, 50
"""complete trials below which a forest says nothing reliable; trials, complete or stopped, below which the best tenth,
which is all that PED-ANOVA looks at, is under five"""
LEVEL = 0.9
"""of the intervals"""
_RESAMPLES, _TREES = 30, 4
"""trees: of a resample's forest"""
_DUMMY = "(dummy)"


@dataclass(frozen=True, kw_only=True)
class Share:
    """A knob's share over the resamples: median and 90 % interval."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What one method says of every knob."""

    method: str
    """fANOVA or PED-ANOVA"""
    shares: Mapping[str, Share]
    """by Optuna parameter, largest first"""
    zero_line: float
    """upper end of the dummy's interval: what a knob without any effect may get from as many trials"""

    @property
    def clear(self) -> tuple[str, ...]:
        """Parameters whose whole interval is above the zero line."""
        return tuple(name for name, share in self.shares.items() if share.low > self.zero_line)

    @property
    def above(self) -> tuple[str, ...]:
        """Further ones, whose median is."""
        return tuple(name for name, share in self.shares.items() if share.low <= self.zero_line < share.middle)


@dataclass(frozen=True, kw_only=True)
class Importances:
    """What each method says that has enough trials."""

    methods: tuple[Importance, ...]
    complete: int
    """trials of the search that count with the loss they were told"""
    imputed: int
    """those that were stopped early and count with their prediction"""
    diverged: int
    """those that count as the worst of the others"""
    left_out: int
    """those that ended without anything that could stand for a final loss"""

    @property
    def trials(self) -> int:
        """Trials that count."""
        return self.complete + self.imputed + self.diverged


def importances(results: Results, finals: Sequence[Final]) -> Importances:
    """fANOVA (Hutter et al. 2014) and PED-ANOVA (Watanabe et al. 2023) over the search's trials.

    fANOVA's shares are of the loss's variance over the space (each range on its own scale) that a knob explains by
    itself; PED-ANOVA's are of what sets the best tenth of trials apart from all of them, and sum to 1 with the dummy's.
    Every trial counts once: those that were stopped are there, with imputed losses, so a sentinel stands for itself
    alone and needs no weight (as it has where it stands for the stopped ones, in sweeps.analysis.pruning).
    """
    ranges = space.distributions(results.study)
    known = [final for final in finals if ranges.keys() <= final.run.params.keys()]
    imputed, diverged = sum(final.imputed for final in known), sum(final.diverged for final in known)
    complete = len(known) - imputed - diverged
    methods = _methods(known, complete)
    return Importances(
        methods=_measured(methods, known, ranges) if methods else (),
        complete=complete,
        imputed=imputed,
        diverged=diverged,
        left_out=len(finals) - len(known) + len(without_final(results, finals)),
    )


def _methods(known: Sequence[Final], complete: int) -> list[str]:
    """Those that these trials are enough for; none where all ended alike."""
    if complete < FANOVA_TRIALS or len({final.loss for final in known}) == 1:
        return []
    return [FANOVA] if len(known) < PED_ANOVA_TRIALS else [FANOVA, PED_ANOVA]


def _measured(
    methods: Sequence[str], known: Sequence[Final], ranges: Mapping[str, BaseDistribution]
) -> tuple[Importance, ...]:
    rng = np.random.default_rng(0)  # the same trials always say the same
    found = np.array([_resampled(methods, known, ranges, rng) for _ in range(_RESAMPLES)])
    quantiles = np.quantile(found, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], axis=0)
    made = []
    for index, method in enumerate(methods):
        *own, dummy = (Share(low=low, middle=middle, high=high) for low, middle, high in quantiles[:, index].T.tolist())
        shares = sorted(zip(ranges, own, strict=True), key=lambda item: -item[1].middle)
        made.append(Importance(method=method, shares=dict(shares), zero_line=dummy.high))
    return tuple(made)


def _resampled(
    methods: Sequence[str], known: Sequence[Final], ranges: Mapping[str, BaseDistribution], rng: np.random.Generator
) -> list[list[float]]:
    """(methods, d + 1): the shares of all parameters and of the dummy in one resample."""
    losses, dummies = drawn(known, rng).tolist(), rng.random(len(known)).tolist()
    chosen = rng.integers(len(known), size=len(known)).tolist()
    spaces = {**{name: _level(each) for name, each in ranges.items()}, _DUMMY: FloatDistribution(0.0, 1.0)}
    study = _in_memory()
    study.add_trials(
        optuna.trial.create_trial(
            params={name: _levelled(known[i].run.params[name], each) for name, each in ranges.items()}
            | {_DUMMY: dummies[i]},
            distributions=spaces,
            value=losses[i],
        )
        for i in chosen
    )
    seed = int(rng.integers(2**31))
    found = [_evaluated(method, study, list(spaces), seed=seed) for method in methods]
    return [[shares[name] for name in spaces] for shares in found]


def _level(distribution: BaseDistribution) -> BaseDistribution:
    """A range on its own scale: Optuna's fANOVA takes all for linear, and would see little but a log one's top."""
    if _is_log(distribution):
        return FloatDistribution(math.log(distribution.low), math.log(distribution.high))
    return distribution


def _levelled(value: ParamValue, distribution: BaseDistribution) -> ParamValue:
    return math.log(float(value)) if _is_log(distribution) else value


def _is_log(distribution: BaseDistribution) -> TypeIs[FloatDistribution | IntDistribution]:
    return isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log


def _in_memory() -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study in memory isn't news
    try:
        return optuna.create_study()
    finally:
        optuna.logging.set_verbosity(verbosity)


def _evaluated(method: str, study: optuna.Study, names: list[str], *, seed: int) -> Mapping[str, float]:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator  # load scikit-learn: seconds

    nothing = dict.fromkeys(names, 0.0)
    if len({trial.value for trial in study.get_trials(deepcopy=False)}) == 1:
        return nothing
    if method == PED_ANOVA:
        divergences = PedAnovaImportanceEvaluator().evaluate(study, params=names)
        whole = sum(divergences.values())
        return {name: share / whole for name, share in divergences.items()} if whole else nothing
    try:
        return FanovaImportanceEvaluator(n_trees=_TREES, seed=seed).evaluate(study, params=names)
    except RuntimeError:  # none of its trees has anything to explain
        return nothing

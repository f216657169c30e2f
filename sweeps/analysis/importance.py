"""Importances: how much each knob matters over the search space, with intervals, beside a dummy knob without effect.

The intervals are a bootstrap (Efron 1979). The shares are computed again for trials drawn with replacement, each time
with other prediction errors for the trials that were stopped, and other values of the dummy.
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
"""Trials that each method needs. fANOVA counts complete trials: with fewer, its forest is unreliable. PED-ANOVA counts
stopped trials as well: with fewer, the best tenth, which is all that it looks at, has under five trials."""
MOST_MEASURED = 300
"""trials that the importances are measured on at most, drawn at random from more: fANOVA's time grows with the square
of their number, and the intervals show what so many can tell"""
_INTERVAL = 0.9
"""probability of the intervals"""
_RESAMPLES, _TREES = 30, 4
"""resamples, and trees in the forest of a resample"""
_DUMMY = "(dummy)"


@dataclass(frozen=True, kw_only=True)
class Share:
    """The median and 90 % interval of a knob's share over the resamples."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The shares of all knobs by one method."""

    method: str
    """fANOVA or PED-ANOVA"""
    shares: Mapping[str, Share]
    """by Optuna parameter, largest first"""
    zero_line: float
    """upper end of the dummy's interval: the share that a knob without effect may get from as many trials"""

    @property
    def clear(self) -> tuple[str, ...]:
        """Parameters whose whole interval is above the zero line."""
        return tuple(name for name, share in self.shares.items() if share.low > self.zero_line)

    @property
    def above(self) -> tuple[str, ...]:
        """Further parameters whose median is above the zero line."""
        return tuple(name for name, share in self.shares.items() if share.low <= self.zero_line < share.middle)


@dataclass(frozen=True, kw_only=True)
class Importances:
    """The importances by every method that has enough trials."""

    methods: tuple[Importance, ...]
    complete: int
    """trials of the search that count with their own final loss"""
    imputed: int
    """trials that were stopped early and count with a predicted loss"""
    diverged: int
    """trials that diverged and count with the worst loss of the others"""
    left_out: int
    """trials that ended without a final loss or a prediction"""
    measured_on: int
    """trials that were drawn from them for measuring: all, or MOST_MEASURED of more"""

    @property
    def trials(self) -> int:
        """Trials that count."""
        return self.complete + self.imputed + self.diverged


def importances(results: Results, finals: Sequence[Final]) -> Importances:
    """Return fANOVA (Hutter et al. 2014) and PED-ANOVA (Watanabe et al. 2023) over the search's trials.

    fANOVA's share is the part of the loss's variance over the space, each range on its own scale, that a knob explains
    by itself. PED-ANOVA's share is a knob's part in what distinguishes the best tenth of trials from all trials; these
    sum to 1 with the dummy's. Every trial counts once. Stopped trials count with imputed losses, so a sentinel needs no
    weight here. In sweeps.analysis.pruning it has one, because there it stands for stopped trials.
    """
    ranges = space.distributions(results.study)
    known = [final for final in finals if ranges.keys() <= final.run.params.keys()]
    imputed, diverged = sum(final.imputed for final in known), sum(final.diverged for final in known)
    complete = len(known) - imputed - diverged
    methods, measured = _methods(known, complete), _some(known)
    return Importances(
        methods=_measured(methods, measured, ranges) if methods else (),
        complete=complete,
        imputed=imputed,
        diverged=diverged,
        left_out=len(finals) - len(known) + len(without_final(results, finals)),
        measured_on=len(measured),
    )


def _some(known: Sequence[Final]) -> Sequence[Final]:
    """Return all trials, or of too many a random sample in their order, the same each time.

    Where few of very many are complete, the sample holds as many of them as fANOVA needs.
    """
    if len(known) <= MOST_MEASURED:
        return known
    shuffled: list[int] = np.random.default_rng(0).permutation(len(known)).tolist()
    complete = [index for index in shuffled if not known[index].imputed and not known[index].diverged]
    needed = complete[:FANOVA_TRIALS]
    sample = shuffled[:MOST_MEASURED]
    if len(needed) > len(set(complete) & set(sample)):
        sample = [*needed, *(index for index in shuffled if index not in needed)][:MOST_MEASURED]
    return [known[index] for index in sorted(sample)]


def _methods(known: Sequence[Final], complete: int) -> list[str]:
    """Return the methods for which these trials are enough; none if all trials have the same loss."""
    if complete < FANOVA_TRIALS or len({final.loss for final in known}) == 1:
        return []
    return [FANOVA] if len(known) < PED_ANOVA_TRIALS else [FANOVA, PED_ANOVA]


def _measured(
    methods: Sequence[str], known: Sequence[Final], ranges: Mapping[str, BaseDistribution]
) -> tuple[Importance, ...]:
    rng = np.random.default_rng(0)  # the same trials always give the same importances
    resamples = np.array([_resampled(methods, known, ranges, rng) for _ in range(_RESAMPLES)])
    quantiles = np.quantile(resamples, [(1 - _INTERVAL) / 2, 0.5, (1 + _INTERVAL) / 2], axis=0)
    measured = []
    for index, method in enumerate(methods):
        bounds = quantiles[:, index].T.tolist()
        *of_knobs, of_dummy = (Share(low=low, middle=middle, high=high) for low, middle, high in bounds)
        shares = sorted(zip(ranges, of_knobs, strict=True), key=lambda item: -item[1].middle)
        measured.append(Importance(method=method, shares=dict(shares), zero_line=of_dummy.high))
    return tuple(measured)


def _resampled(
    methods: Sequence[str], known: Sequence[Final], ranges: Mapping[str, BaseDistribution], rng: np.random.Generator
) -> list[list[float]]:
    """Return (methods, d + 1): the shares of all d parameters and of the dummy in one resample."""
    losses, dummies = drawn(known, rng).tolist(), rng.random(len(known)).tolist()
    chosen = rng.integers(len(known), size=len(known)).tolist()
    spaces = {**{name: _linear_range(of) for name, of in ranges.items()}, _DUMMY: FloatDistribution(0.0, 1.0)}
    study = _in_memory()
    study.add_trials(
        optuna.trial.create_trial(
            params={name: _linear(known[i].run.params[name], of) for name, of in ranges.items()} | {_DUMMY: dummies[i]},
            distributions=spaces,
            value=losses[i],
        )
        for i in chosen
    )
    seed = int(rng.integers(2**31))
    by_method = [_evaluated(method, study, list(spaces), seed=seed) for method in methods]
    return [[shares[name] for name in spaces] for shares in by_method]


def _linear_range(distribution: BaseDistribution) -> BaseDistribution:
    """Return a log range as a linear range of logarithms.

    Optuna's fANOVA takes every range for linear, so it would see little of a log range except its top.
    """
    if _is_log(distribution):
        return FloatDistribution(math.log(distribution.low), math.log(distribution.high))
    return distribution


def _linear(value: ParamValue, distribution: BaseDistribution) -> ParamValue:
    return math.log(float(value)) if _is_log(distribution) else value


def _is_log(distribution: BaseDistribution) -> TypeIs[FloatDistribution | IntDistribution]:
    return isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log


def _in_memory() -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it reports a new study
    try:
        return optuna.create_study()
    finally:
        optuna.logging.set_verbosity(verbosity)


def _evaluated(method: str, study: optuna.Study, names: list[str], *, seed: int) -> Mapping[str, float]:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator  # load scikit-learn: seconds

    zero = dict.fromkeys(names, 0.0)
    if len({trial.value for trial in study.get_trials(deepcopy=False)}) == 1:
        return zero
    if method == PED_ANOVA:
        divergences = PedAnovaImportanceEvaluator().evaluate(study, params=names)
        whole = sum(divergences.values())
        return {name: share / whole for name, share in divergences.items()} if whole else zero
    try:
        return FanovaImportanceEvaluator(n_trees=_TREES, seed=seed).evaluate(study, params=names)
    except RuntimeError:  # raised if no tree has any variance to explain
        return zero

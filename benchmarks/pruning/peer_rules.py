"""Pruning rules for comparison: Optuna's, simple ones, and an oracle.

A rule says at which evaluation it prunes a trial, given the trials that a sequential study ran before. It sees losses
up to the evaluation of its decision only. Optuna's rules are rewritten over whole arrays, which is a hundred times
faster, and tests compare them with Optuna's own decisions. Pruning is decided at evaluations 1..E-1; the first and the
last evaluation are reported like the others.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.pruning.curve_banks import Bank, Floats

STARTUP = 5
"""completed trials before a rule may prune; Optuna's default"""


@dataclass
class Past:
    """The trials that a sequential study has run."""

    study: str
    """name, by which Optuna's Hyperband assigns trials to brackets"""
    trials: list[int] = field(default_factory=list)
    """in the order they ran"""
    ends: list[int] = field(default_factory=list)
    """last evaluation of each trial"""
    notes: list[Any] = field(default_factory=list)
    """the rule's note on each pruned trial; None for other trials"""
    completed: tuple[int, ...] = ()
    """trials with a final loss"""
    first_completed: int = 0
    """number of trials run when the first was completed, that one included; 0 before"""

    def add(self, trial: int, end: int, *, completed: bool, note: Any = None) -> None:
        """Add a trial that has ended."""
        self.trials.append(trial)
        self.ends.append(end)
        self.notes.append(note)
        if completed:
            self.completed = (*self.completed, trial)
            self.first_completed = self.first_completed or len(self.trials)


@dataclass(frozen=True)
class Stop:
    """A rule's answer for one trial."""

    at: int | None
    """evaluation at which the trial is pruned; None: never"""
    lows: Sequence[float] = ()
    """lower bounds of the final loss, nats per token, from each look that gave a bound"""
    note: Any = None
    """what the rule keeps about a pruned trial for later decisions"""


class Policy(Protocol):
    """A rule, made for one bank."""

    def stop(self, trial: int, past: Past, /) -> Stop: ...


class Never:
    """No pruning."""

    def __init__(self, _bank: Bank) -> None:
        pass

    def stop(self, _trial: int, _past: Past, /) -> Stop:
        return Stop(None)


class Percentile:
    """Optuna's PercentilePruner: the best loss so far is above the percentile of completed trials at this evaluation.

    `warmup` is the share of the run before which it never prunes.
    """

    def __init__(self, bank: Bank, *, share: float, warmup: float = 0.0) -> None:
        self.bank, self.share = bank, share
        self.start = max(1, math.ceil(warmup * bank.evaluations))
        self.best = np.fmin.accumulate(bank.losses, axis=1)
        self.thresholds = lru_cache(maxsize=1)(self._thresholds)  # they change only when a trial is completed

    def stop(self, trial: int, past: Past) -> Stop:
        if len(past.completed) < STARTUP:
            return Stop(None)
        return first_stop(self.dominated(trial, past), self.start)

    def dominated(self, trial: int, past: Past) -> NDArray[np.bool_]:
        """Return whether it would prune at each evaluation (E+1,)."""
        best = self.best[trial]
        return np.isnan(best) | (best > self.thresholds(past.completed))

    def _thresholds(self, completed: tuple[int, ...]) -> Floats:
        return quantile(self.bank.losses[list(completed)], self.share)


class Patient:
    """Optuna's PatientPruner around its MedianPruner.

    It prunes where the median rule does, if also no evaluation of the last `patience` + 1 was as good as the best of
    those before.
    """

    def __init__(self, bank: Bank, *, patience: int) -> None:
        self.median, recent = Percentile(bank, share=0.5), patience + 1
        windows = np.lib.stride_tricks.sliding_window_view(bank.losses, recent, axis=1)
        self.stalled = np.zeros(bank.losses.shape, bool)
        self.stalled[:, recent:] = self.median.best[:, :-recent] < np.fmin.reduce(windows[:, 1:], axis=2)

    def stop(self, trial: int, past: Past) -> Stop:
        if len(past.completed) < STARTUP or not self.stalled[trial].any():
            return Stop(None)
        return first_stop(self.stalled[trial] & self.median.dominated(trial, past), 1)


class Halving:
    """Optuna's SuccessiveHalvingPruner, or its HyperbandPruner: asynchronous, with default settings.

    At rung i, after `resource * factor**i` evaluations, a trial continues if it is among the best 1/factor of the
    trials that have reached this rung, itself included. Rungs are recorded from the first completed trial on. Hyperband
    assigns trials to brackets by a hash. Bracket b has the rungs from b on, and trials compete within their bracket.
    """

    def __init__(self, bank: Bank, *, factor: int, brackets: bool) -> None:
        self.losses, self.factor, self.end = bank.losses, factor, bank.evaluations
        self.resource = 1 if brackets else max(1, bank.evaluations // 100)
        number = math.floor(math.log(bank.evaluations + 1, factor)) + 1 if brackets else 1
        rungs_left = range(number - 1, -1, -1)
        self.budgets = np.cumsum([math.ceil(number * factor**rungs / (rungs + 1)) for rungs in rungs_left])
        self.brackets = lru_cache(maxsize=1)(self._brackets)

    def stop(self, trial: int, past: Past) -> Stop:
        if not past.completed:
            return Stop(None)
        brackets, number = self.brackets(past.study), len(past.trials)
        recorded = slice(past.first_completed, number)
        same_bracket = brackets[recorded] == brackets[number]
        rivals = np.array(past.trials[recorded], int)[same_bracket]
        ends = np.array(past.ends[recorded], int)[same_bracket]
        step = self.resource * self.factor ** int(brackets[number])
        while step < self.end:
            loss, rival_losses = self.losses[trial, step], self.losses[rivals[ends >= step], step]
            rival_losses = rival_losses[~np.isnan(rival_losses)]
            promoted = max(1, (len(rival_losses) + 1) // self.factor)
            if np.isnan(loss) or np.count_nonzero(rival_losses < loss) >= promoted:
                return Stop(step)
            step *= self.factor
        return Stop(None)

    def _brackets(self, study: str) -> NDArray[np.int64]:
        """Return the bracket (N,) of each trial of a study. Brackets get trials in proportion to their budgets."""
        hashes = np.array([zlib.crc32(f"{study}_{number}".encode()) for number in range(len(self.losses))])
        return np.searchsorted(self.budgets, hashes % self.budgets[-1], side="right")


class Wilcoxon:
    """Optuna's WilcoxonPruner: by the signed-rank test, the losses so far lie above those of the best trial.

    It spares a trial whose mean so far is no greater than the best trial's mean over the whole run. On falling curves
    it therefore says little.
    """

    def __init__(self, bank: Bank, *, p: float) -> None:
        self.losses, self.finals, self.p = bank.losses, bank.finals, p
        self.stops: dict[tuple[int, int], Stop] = {}

    def stop(self, trial: int, past: Past) -> Stop:
        if not past.completed:
            return Stop(None)
        pair = trial, min(past.completed, key=self.finals.__getitem__)
        if pair not in self.stops:
            self.stops[pair] = first_stop(self.worse(*pair), 1)
        return self.stops[pair]

    def worse(self, trial: int, best: int) -> NDArray[np.bool_]:
        """Return whether it would prune at each evaluation (E+1,)."""
        losses, best_losses = self.losses[trial], self.losses[best]
        finite = np.logical_and.accumulate(np.isfinite(losses))
        if np.isnan(best_losses).any() or not finite.any():
            return np.zeros(len(losses), bool)
        count = np.arange(1, len(losses) + 1)
        mean_is_higher = np.cumsum(np.where(finite, losses, 0)) / count > best_losses.mean()
        significant = signed_rank_p(losses[finite] - best_losses[finite]) < self.p
        return mean_is_higher & finite & np.pad(significant, (0, len(losses) - len(significant)))


class Cut:
    """One cut at a share of the run.

    A trial continues only if its loss there is in the best quarter of the losses of all earlier trials, pruned ones
    included. Decided from `STARTUP` completed trials on.
    """

    def __init__(self, bank: Bank, *, at: float) -> None:
        self.losses, self.step = bank.losses, max(1, round(at * bank.evaluations))

    def stop(self, trial: int, past: Past) -> Stop:
        if len(past.completed) < STARTUP:
            return Stop(None)
        earlier = self.losses[np.array(past.trials)[np.array(past.ends) >= self.step], self.step]
        continues = self.losses[trial, self.step] <= quantile(earlier[:, None], 0.25)[0]
        return Stop(None if continues else self.step)


class Oracle:
    """The most that a rule could save without harm: it knows the final losses.

    From `STARTUP` completed trials on, it cuts all but the top tenth at the first look, a tenth of the run.
    """

    def __init__(self, bank: Bank) -> None:
        self.kept, self.step = set(bank.top_tenth().tolist()), max(1, math.ceil(0.1 * bank.evaluations))

    def stop(self, trial: int, past: Past) -> Stop:
        return Stop(None if len(past.completed) < STARTUP or trial in self.kept else self.step)


PEER_POLICIES: dict[str, Callable[[Bank], Policy]] = {
    "none": Never,
    "median": partial(Percentile, share=0.5),
    "median-25": partial(Percentile, share=0.5, warmup=0.25),
    "median-50": partial(Percentile, share=0.5, warmup=0.5),
    "median-70": partial(Percentile, share=0.5, warmup=0.7),
    "percentile-25": partial(Percentile, share=0.25, warmup=0.25),
    "sha": partial(Halving, factor=4, brackets=False),
    "hyperband": partial(Halving, factor=3, brackets=True),
    "patient": partial(Patient, patience=5),
    "wilcoxon": partial(Wilcoxon, p=0.1),
    "cut-10": partial(Cut, at=0.1),
    "cut-25": partial(Cut, at=0.25),
    "cut-40": partial(Cut, at=0.4),
    "oracle": Oracle,
}
"""by the names of the replay's command; a number is the percentage of the run from which, or at which, a rule prunes"""


def first_stop(prunes: NDArray[np.bool_], start: int) -> Stop:
    """Return the first evaluation from `start` on at which a rule prunes; the last evaluation doesn't count."""
    evaluations = np.flatnonzero(prunes[start:-1])
    return Stop(start + int(evaluations[0]) if evaluations.size else None)


def quantile(losses: Floats, share: float) -> Floats:
    """Return the quantile of each column without its NaNs, NaN where all are: `np.nanquantile` to the bit, but fast."""
    ordered = np.sort(losses, axis=0)
    count = len(losses) - np.isnan(ordered).sum(axis=0)
    at = share * np.maximum(count - 1, 0)
    below = np.floor(at).astype(int)
    columns = np.arange(losses.shape[1])
    low, high = ordered[below, columns], ordered[np.minimum(below + 1, np.maximum(count - 1, 0)), columns]
    part = at - below
    return np.where(part < 0.5, low + (high - low) * part, high - (high - low) * (1 - part))


def signed_rank_p(differences: Floats) -> Floats:
    """Return one-sided p-values (n,), "greater", of Wilcoxon's signed-rank test over the first 1..n differences.

    As in `scipy.stats.wilcoxon(zero_method="zsplit")`, they are exact up to 50 differences without ties or zeros and up
    to 13 with them, and normal beyond. The statistic is the number of positive sums `d_i + d_j`, i <= j (Tukey's Walsh
    sums), where a sum of 0 counts half. One matrix of sums therefore serves all n.
    """
    sums = differences[:, None] + differences
    statistic = np.cumsum(np.triu((sums > 0) + 0.5 * (sums == 0)).sum(axis=0))
    count = np.arange(1, len(differences) + 1)
    sizes = np.abs(differences)
    before = np.triu(sizes[:, None] == sizes, 1).sum(axis=0)  # earlier differences of the same size
    tied = np.cumsum(3.0 * before * (before + 1))  # the sum of t**3 - t over groups of t
    deviation = np.sqrt((count * (count + 1.0) * (2 * count + 1) - tied / 2) / 24)
    p = special.ndtr((count * (count + 1) / 4 - statistic) / np.maximum(deviation, 1e-300))
    clean = np.cumsum(before + (sizes == 0)) == 0
    for n in count[(clean & (count <= 50)) | (count <= 13)].tolist():
        ranks = range(1, n + 1) if clean[n - 1] else _mid_ranks(sizes[:n])
        zeros = int(np.count_nonzero(sizes[:n] == 0))
        at = round(2 * (statistic[n - 1] - zeros * (zeros + 1) / 4))
        p[n - 1] = _upper_tail(tuple(round(2 * rank) for rank in ranks[zeros:]))[at]
    return p


def _mid_ranks(sizes: Floats) -> list[float]:
    """Return the ranks, lowest first; equal sizes share the mean of theirs."""
    ordered = np.sort(sizes)
    below, upto = np.searchsorted(ordered, ordered), np.searchsorted(ordered, ordered, side="right")
    return ((below + upto + 1) / 2).tolist()


@lru_cache(maxsize=4096)
def _upper_tail(ranks: tuple[int, ...]) -> Floats:
    """Return P(W >= w) for w from 0 to the sum of `ranks`, where W is the sum of a random half of them."""
    chance = np.ones(1)
    for rank in ranks:
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    return np.cumsum(chance[::-1])[::-1]

"""Minutes as iterations: a horizon in minutes is fitted to the most iterations that the slowest trial completes in it.

By default all trials see the same tokens, those of the slowest width and depth, and their learning rates end the
schedule there. Loss curves that are cut off by a clock can't be compared (Hoffmann et al. 2022; Hägele et al. 2024,
arXiv 2405.18392). A run of D tokens takes (D + E/3) / speed, where E are the tokens of its evaluations: an evaluated
token costs a third of a trained one.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sweeps.engine.planning.speed import evaluated_tokens
from sweeps.engine.planning.workload import values
from sweeps.errors import SpecError
from sweeps.store.records import DataFacts
from sweeps.study.horizon import (
    EQUAL,
    STAND_IN,
    TOKEN_TOLERANCE,
    grid,
    minute_horizon,
    other_batches,
    provisional,
    speed_of,
    tokens_share,
    unequal,
    windows_of,
)
from sweeps.study.model import as_yaml
from sweeps.study.proposals import baseline_config, baseline_params, config_of, designed
from sweeps.study.sections import (
    FEWEST_EVALUATIONS,
    MIN_ITERS,
    MOST_EVALUATIONS,
    Fit,
    IterHorizon,
    ShapeSpeed,
)
from sweeps.study.study import Study
from trainer.config import TrainConfig

GAP = math.ceil(0.5 / TOKEN_TOLERANCE)
"""Least iterations between evaluations if shapes have different lengths. Any length can then be rounded to a multiple
of the evaluations within the tolerance."""
_FINE = 2000
"""lengths below this are tried one by one, longer ones in steps of the evaluations; also the lengths tried upwards"""


def shapes(study: Study, *, vocab_size: int) -> list[TrainConfig]:
    """Return a config for each width and depth of the baseline, the candidates and the knobs' values.

    Each is as slow as the study can make it: with the most dropout and the smallest batch. The speeds of these shapes
    decide a horizon in minutes.
    """
    stand_in = provisional(study)
    known = designed(stand_in, vocab_size=vocab_size)
    configs = [proposal.config for proposal in (known.baseline[0], *known.candidates)]
    configs += _swept_shapes(stand_in, vocab_size=vocab_size)
    dropout = max([*(config.dropout for config in configs), *_ends(study, "dropout")])
    sequences = min([study.sequences_per_iter, *other_batches(study)])
    by_shape: dict[tuple[int, int], TrainConfig] = {}
    for config in configs:
        size, rest = divmod(sequences, config.gradient_accumulation_steps)
        batch = {"batch_size": size} if not rest else {"batch_size": sequences, "gradient_accumulation_steps": 1}
        by_shape.setdefault((config.n_embd, config.n_layer), config.replace(dropout=dropout, **batch))
    return [by_shape[shape] for shape in sorted(by_shape)]


def _swept_shapes(study: Study, *, vocab_size: int) -> list[TrainConfig]:
    """Return the baseline at the widths of its knob and both ends of the depth, whose cost is linear."""
    widths, depths = ([int(study.baseline[name])] for name in ("n_embd", "n_layer"))
    if "n_embd" in study.knobs:
        widths = [int(width) for width in values(study.knobs["n_embd"])]
    if "n_layer" in study.knobs:
        ends = study.knobs["n_layer"].ends().values()
        depths = [int(min(ends)), int(max(ends))]
    params = baseline_params(study)
    return [
        config_of(study, {**params, "n_embd": width, "n_layer": depth}, seed=study.seed, vocab_size=vocab_size)
        for depth in depths
        for width in widths
    ]


def _ends(study: Study, name: str) -> Iterable[float]:
    return map(float, study.knobs[name].ends().values()) if name in study.knobs else ()


def estimated(study: Study, data: DataFacts, speed: Callable[[TrainConfig], float | None]) -> Study:
    """Return the study with its horizon in minutes fitted to estimates of tokens/s; other studies as they are.

    Raises SpecError where an estimate is None, and what `fitted` raises.
    """
    if provisional(study) is study:
        return study
    speeds = []
    for config in shapes(study, vocab_size=data.vocab_size):
        tokens_per_s = speed(config)
        if tokens_per_s is None:
            raise SpecError(
                "horizon.minutes: the speed of this device is not known, so neither is the length of a trial of "
                f"{as_yaml(minute_horizon(study).minutes)} minutes; plan with --set horizon.iters=600, or let "
                "`sweep run` measure the speed"
            )
        speeds.append(ShapeSpeed(n_embd=config.n_embd, n_layer=config.n_layer, tokens_per_s=tokens_per_s))
    return fitted(study, speeds, data)


def fitted(study: Study, speeds: Sequence[ShapeSpeed], data: DataFacts) -> Study:
    """Return the study with its horizon in minutes fitted to the `speeds` of its shapes.

    Raises SpecError where the minutes are too few, with a number that is enough.
    """
    return _Lengths(study, tuple(speeds), data).longest()


@dataclass(frozen=True)
class _Lengths:
    """The possible lengths of a study's trials. Each is the study with a fitted horizon."""

    study: Study
    speeds: tuple[ShapeSpeed, ...]
    data: DataFacts

    def longest(self) -> Study:
        """Return the longest length whose slowest trial ends within the horizon's minutes. Raises SpecError."""
        limit = 60 * minute_horizon(self.study).minutes
        most = self._most_iters(limit)
        for length in self._downwards(most):
            if self._is_even(length) and self._seconds(length) <= limit:
                return length
        raise SpecError(self._too_short(most))

    def _most_iters(self, limit: float) -> int:
        """Return the most iterations of the baseline within `limit` seconds, even evaluations or not."""
        fastest = max(shape.tokens_per_s for shape in self.speeds)
        bound = math.floor(limit * fastest / self.study.tokens_per_iter) + 1
        return bisect.bisect_right(range(1, bound + 1), limit, key=lambda iters: self._seconds(self._at(iters)))

    def _downwards(self, most: int) -> Iterator[Study]:
        """Yield lengths of at most `most` iterations, the best first.

        With equal tokens the longest is the best. Otherwise many evaluations go before a few more iterations.
        """
        if most < MIN_ITERS:
            return
        if self._same_tokens:
            step = 1 if most < _FINE else self.study.evaluations
            yield from (self._at(iters) for iters in range(most - most % step, MIN_ITERS - 1, -step))
            return
        for evaluations in range(self._most_evaluations(most), FEWEST_EVALUATIONS - 1, -1):
            multiple = most - most % evaluations
            for iters in (multiple, multiple - evaluations):
                if iters >= evaluations:
                    yield self._at(iters, evaluations)

    def _upwards(self, most: int) -> Iterator[Study]:
        """Yield lengths above `most` iterations; the first even one is near the shortest."""
        first = max(most + 1, MIN_ITERS)
        if self._same_tokens:
            coarse = max(first, MOST_EVALUATIONS) // FEWEST_EVALUATIONS * FEWEST_EVALUATIONS
            lengths = itertools.chain(range(first, MOST_EVALUATIONS), itertools.count(coarse, FEWEST_EVALUATIONS))
            yield from (self._at(iters) for iters in itertools.islice(lengths, _FINE))
            return
        if shortest := self._shortest(first):
            first = max(first, math.ceil(GAP * FEWEST_EVALUATIONS * first / shortest))
        multiples = itertools.count(math.ceil(first / FEWEST_EVALUATIONS) * FEWEST_EVALUATIONS, FEWEST_EVALUATIONS)
        yield from (self._at(iters, FEWEST_EVALUATIONS) for iters in itertools.islice(multiples, _FINE))

    def _at(self, iters: int, evaluations: int | None = None) -> Study:
        """Return the length with `iters` iterations of the baseline.

        `evaluations` counts only if trials differ in their tokens. It is by default the most that leave GAP iterations
        between them.
        """
        if self._same_tokens:
            horizon = IterHorizon.model_construct(iters=iters)
            evaluations = grid(self.study.model_copy(update={"horizon": horizon})).evaluations
        elif evaluations is None:
            evaluations = min(iters, self._most_evaluations(iters))
        windows = windows_of(self._least_share(iters) * iters * self.study.sequences_per_iter, evaluations)
        unevaluated = self._length(iters, windows=windows, evaluated=0, evaluations=evaluations)
        config = baseline_config(unevaluated, seed=self.study.seed, vocab_size=self.data.vocab_size)
        evaluated = evaluated_tokens(config, self.data)
        return self._length(iters, windows=windows, evaluated=evaluated, evaluations=evaluations)

    def _length(self, iters: int, *, windows: int, evaluated: int, evaluations: int) -> Study:
        fit = Fit(iters=iters, evaluations=evaluations, windows=windows, evaluated=evaluated, speeds=self.speeds)
        return self.study.model_copy(update={"horizon": minute_horizon(self.study).model_copy(update={"fit": fit})})

    @functools.cached_property
    def _configs(self) -> list[TrainConfig]:
        """Configs of the shapes that have a speed; shapes that didn't fit into memory have none."""
        measured = {(shape.n_embd, shape.n_layer) for shape in self.speeds}
        configs = shapes(self.study, vocab_size=self.data.vocab_size)
        return [config for config in configs if (config.n_embd, config.n_layer) in measured]

    @functools.cached_property
    def _same_tokens(self) -> bool:
        """Whether all trials see the same tokens."""
        return self.study.equal == "tokens" or set(self._shares_unevaluated(STAND_IN)) == {1.0}

    def _shares(self, length: Study) -> Iterator[float]:
        """Yield the tokens of every shape as a share of the baseline's."""
        return (tokens_share(length, config) for config in self._configs)

    def _shares_unevaluated(self, iters: int) -> Iterator[float]:
        """Yield these shares for trials without evaluations."""
        return self._shares(self._length(iters, windows=2, evaluated=0, evaluations=FEWEST_EVALUATIONS))

    def _least_share(self, iters: int) -> float:
        return max(0.0, min(self._shares_unevaluated(iters)))

    def _shortest(self, iters: int) -> float:
        """Return the iterations of the slowest shape with the largest batch when the baseline has `iters`."""
        sequences = self.study.sequences_per_iter
        return self._least_share(iters) * iters * sequences / max([sequences, *other_batches(self.study)])

    def _most_evaluations(self, iters: int) -> int:
        """Return the study's number of evaluations, or fewer if that leaves less than GAP iterations between them."""
        return min(self.study.evaluations, max(FEWEST_EVALUATIONS, math.floor(self._shortest(iters) / GAP)))

    def _seconds(self, length: Study) -> float:
        """Return the seconds of the slowest trial."""
        assert length.fit is not None
        trained = length.iters * length.tokens_per_iter
        return max(
            (share * trained + length.fit.evaluated / 3) / speed_of(self.speeds, config)
            for share, config in zip(self._shares(length), self._configs, strict=True)
        )

    def _is_even(self, length: Study) -> bool:
        """Whether every trial can be evaluated at the same shares of its length, rounded within the tolerance."""
        assert length.fit is not None
        iters, evaluations = length.iters, length.fit.evaluations
        if iters >= FEWEST_EVALUATIONS and iters % evaluations:
            return False
        if not self._same_tokens:
            return self._shortest(iters) >= GAP * evaluations
        exact = (iters * length.sequences_per_iter / batch for batch in other_batches(length))
        return all(unequal(other_iters, evaluations) <= TOKEN_TOLERANCE for other_iters in exact)

    def _too_short(self, most: int) -> str:
        """Explain that `most` iterations are too few, with the minutes that are enough."""
        slowest = min(self.speeds, key=lambda shape: shape.tokens_per_s)
        problem = (
            f"horizon.minutes: {as_yaml(minute_horizon(self.study).minutes)} minutes are {most} iterations of the "
            f"baseline, because the slowest trial (n_embd={slowest.n_embd}, n_layer={slowest.n_layer}) trains at "
            f"{slowest.tokens_per_s:,.0f} tokens/s"
        )
        enough = next((length for length in self._upwards(most) if self._is_even(length)), None)
        if enough is None:
            return (
                f"{problem}; no longer horizon suits all batch sizes; use sizes that divide or multiply the baseline's"
            )
        minutes = self._seconds(enough) / 60
        precision = 10.0 ** (math.floor(math.log10(minutes)) - 1)
        purpose = "" if self.study.equal == "tokens" else f" for trials of equal {EQUAL[self.study.equal]}"
        remedy = as_yaml(math.ceil(minutes / precision) * precision)
        return f"{problem}; {enough.iters} iterations are needed{purpose}: write minutes: {remedy}"

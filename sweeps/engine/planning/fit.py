"""A horizon in minutes made iterations: the most that the slowest trial of the study gets through in them.

By default all trials see the same tokens, those of the slowest shape (its width and depth), and learning rates end
their schedule there: loss curves that are cut by a clock can't be compared (Hoffmann et al. 2022; Hägele et al.
2405.18392). A run of D tokens takes (D + E/3) / speed: E are the tokens of its evaluations, a third as dear.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sweeps.engine.planning.speed import evaluated_tokens
from sweeps.errors import SpecError
from sweeps.store.records import DataFacts
from sweeps.study.horizon import (
    EQUAL,
    FEWEST,
    MOST,
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
from sweeps.study.knobs import ChoicesKnob
from sweeps.study.model import as_yaml
from sweeps.study.proposals import baseline_config, baseline_params, candidate_proposals, config_of
from sweeps.study.sections import MIN_ITERS, Fit, IterHorizon, ShapeSpeed
from sweeps.study.study import Study
from trainer.config import TrainConfig

MOST_WIDTHS = 13
"""that stand for a range of n_embd; of a range of n_layer its ends do, as its cost is a line"""
GAP = math.ceil(0.5 / TOKEN_TOLERANCE)
"""Iterations between evaluations from which on rounding to a multiple of the evaluations stays within the tolerance,
whatever the exact number is."""
_EVERY = 2000
"""iterations below which each number of them is considered"""


def shapes(study: Study, *, vocab_size: int) -> list[TrainConfig]:
    """A config of each width and depth whose speed decides a horizon: the baseline's, the candidates', the knobs'.

    Each as slow as the study may make it: the most dropout, the smallest batch.
    """
    stand_in = provisional(study)
    widths, depths = ([int(study.baseline[name])] for name in ("n_embd", "n_layer"))
    if (knob := study.knobs.get("n_embd")) is not None:
        widths = [*map(int, knob.choices)] if isinstance(knob, ChoicesKnob) else knob.spread(MOST_WIDTHS)
    if (knob := study.knobs.get("n_layer")) is not None:
        depths = sorted(int(end(knob.ends().values())) for end in (min, max))
    params = baseline_params(study)
    swept = [
        config_of(stand_in, {**params, "n_embd": width, "n_layer": depth}, seed=study.seed, vocab_size=vocab_size)
        for depth in depths
        for width in widths
    ]
    candidates = [each.config for each in candidate_proposals(stand_in, vocab_size=vocab_size)]
    baseline = baseline_config(stand_in, seed=study.seed, vocab_size=vocab_size)
    every = [baseline, *candidates, *swept]
    dropout = max([*(each.dropout for each in every), *_ends(study, "dropout")])
    sequences = min([study.sequences_per_iter, *other_batches(study)])
    found: dict[tuple[int, int], TrainConfig] = {}
    for config in every:
        size, left = divmod(sequences, config.gradient_accumulation_steps)
        batch = {"batch_size": size} if not left else {"batch_size": sequences, "gradient_accumulation_steps": 1}
        found.setdefault((config.n_embd, config.n_layer), config.replace(dropout=dropout, **batch))
    return [found[shape] for shape in sorted(found)]


def _ends(study: Study, name: str) -> Iterable[float]:
    return map(float, study.knobs[name].ends().values()) if name in study.knobs else ()


def estimated(study: Study, data: DataFacts, speed: Callable[[TrainConfig], float | None]) -> Study:
    """The study with its horizon fitted to estimates of tokens/s, for a plan. Raises SpecError where one is None."""
    if provisional(study) is study:
        return study
    known = []
    for config in shapes(study, vocab_size=data.vocab_size):
        found = speed(config)
        if found is None:
            raise SpecError(
                f"horizon.minutes: how fast this device trains isn't known, so neither is how far a trial gets in "
                f"{as_yaml(minute_horizon(study).minutes)} minutes; plan with --set horizon.iters=600, or let "
                "`sweep run` measure it"
            )
        known.append(ShapeSpeed(n_embd=config.n_embd, n_layer=config.n_layer, tokens_per_s=found))
    return fitted(study, known, data)


def fitted(study: Study, speeds: Sequence[ShapeSpeed], data: DataFacts) -> Study:
    """The study with its horizon in minutes fitted to the `speeds` of its shapes.

    Raises SpecError where the minutes are too few, with those that would do.
    """
    return _Fitting(study, tuple(speeds), data).study()


@dataclass(frozen=True)
class _Fitting:
    """Lengths of the baseline, in iterations, and what trials of every shape are at them."""

    of: Study
    speeds: tuple[ShapeSpeed, ...]
    data: DataFacts

    @functools.cached_property
    def configs(self) -> list[TrainConfig]:
        """Of the shapes that were measured: one that no memory is enough for has no speed."""
        known = {(each.n_embd, each.n_layer) for each in self.speeds}
        every = shapes(self.of, vocab_size=self.data.vocab_size)
        return [config for config in every if (config.n_embd, config.n_layer) in known]

    @functools.cached_property
    def alike(self) -> bool:
        """Whether all trials see the same tokens."""
        return self.of.equal == "tokens" or set(self._shares(self._at(STAND_IN, 2, 0, FEWEST))) == {1.0}

    def study(self) -> Study:
        limit = 60 * minute_horizon(self.of).minutes
        longest = math.floor(limit * max(each.tokens_per_s for each in self.speeds) / self.of.tokens_per_iter) + 1
        most = bisect.bisect_right(range(1, longest + 1), limit, key=lambda iters: self.seconds(self.at(iters)))
        for study in self._below(most):
            if self.even(study) and self.seconds(study) <= limit:
                return study
        raise SpecError(self._too_short(most))

    def _below(self, most: int) -> Iterator[Study]:
        """Lengths up to `most` that may do, the best first."""
        if most < MIN_ITERS:
            return
        if self.alike:
            step = 1 if most < _EVERY else self.of.evaluations
            yield from (self.at(iters) for iters in range(most - most % step, MIN_ITERS - 1, -step))
            return
        for evaluations in range(self._evaluations(most), FEWEST - 1, -1):
            whole = most - most % evaluations
            yield from (self.at(whole - less, evaluations) for less in (0, evaluations) if whole - less >= evaluations)

    def _evaluations(self, iters: int) -> int:
        """The most that the study wants and its least iterations leave gaps enough for."""
        return min(self.of.evaluations, max(FEWEST, math.floor(self._least(iters) / GAP)))

    def _least(self, iters: int) -> float:
        """Iterations of the slowest shape with the largest batch, when the baseline has `iters`."""
        base = self.of.sequences_per_iter
        return self._least_share(iters) * iters * base / max([base, *other_batches(self.of)])

    def _least_share(self, iters: int) -> float:
        return max(0.0, min(self._shares(self._at(iters, 2, 0, FEWEST))))

    def at(self, iters: int, evaluations: int | None = None) -> Study:
        """The study with so many iterations for its baseline, and evaluations where trials differ in their tokens."""
        if self.alike:
            evaluations = grid(
                self.of.model_copy(update={"horizon": IterHorizon.model_construct(iters=iters)})
            ).evaluations
        elif evaluations is None:
            evaluations = min(iters, self._evaluations(iters))
        sequences = self._least_share(iters) * iters * self.of.sequences_per_iter
        windows = windows_of(sequences, evaluations)
        bare = self._at(iters, windows, 0, evaluations)
        config = baseline_config(bare, seed=self.of.seed, vocab_size=self.data.vocab_size)
        return self._at(iters, windows, evaluated_tokens(config, self.data), evaluations)

    def _at(self, iters: int, windows: int, evaluated: int, evaluations: int) -> Study:
        fit = Fit(iters=iters, evaluations=evaluations, windows=windows, evaluated=evaluated, speeds=self.speeds)
        return self.of.model_copy(update={"horizon": minute_horizon(self.of).model_copy(update={"fit": fit})})

    def _shares(self, study: Study) -> Iterator[float]:
        return (tokens_share(study, config) for config in self.configs)

    def seconds(self, study: Study) -> float:
        """Of the slowest trial."""
        assert study.fit is not None
        trained = study.iters * study.tokens_per_iter
        return max(
            (share * trained + study.fit.evaluated / 3) / speed_of(self.speeds, config)
            for share, config in zip(self._shares(study), self.configs, strict=True)
        )

    def even(self, study: Study) -> bool:
        """Whether every trial can be evaluated at the same shares of its length, and that length can be kept to."""
        assert study.fit is not None
        iters, evaluations = study.iters, study.fit.evaluations
        if iters >= FEWEST and iters % evaluations:
            return False
        if not self.alike:
            return self._least(iters) >= GAP * evaluations
        exact = (iters * study.sequences_per_iter / other for other in other_batches(study))
        return all(unequal(each, evaluations) <= TOKEN_TOLERANCE for each in exact)

    def _too_short(self, most: int) -> str:
        slowest = min(self.speeds, key=lambda each: each.tokens_per_s)
        said = (
            f"horizon.minutes: {as_yaml(minute_horizon(self.of).minutes)} minutes are {most} iterations of "
            f"the baseline: the slowest trial (n_embd={slowest.n_embd}, n_layer={slowest.n_layer}) "
            f"trains {slowest.tokens_per_s:,.0f} tokens/s; "
        )
        enough = next((study for study in self._above(most) if self.even(study)), None)
        if enough is None:
            return f"{said}no longer ones suit every batch size; use sizes that divide or multiply the baseline's"
        minutes = self.seconds(enough) / 60
        digits = 10.0 ** (math.floor(math.log10(minutes)) - 1)
        need = "are needed" if self.of.equal == "tokens" else f"are needed for trials of equal {EQUAL[self.of.equal]}"
        return f"{said}{enough.iters} {need}: write minutes: {as_yaml(math.ceil(minutes / digits) * digits)}"

    def _above(self, most: int) -> Iterator[Study]:
        """Lengths of which the first that will do is near the shortest."""
        first = max(most + 1, MIN_ITERS)
        if self.alike:
            longer = itertools.chain(range(first, MOST), itertools.count(max(first, MOST) // FEWEST * FEWEST, FEWEST))
            yield from (self.at(iters) for iters in itertools.islice(longer, _EVERY))
            return
        first = max(first, math.ceil(GAP * FEWEST * first / self._least(first)) if self._least(first) else first)
        steps = itertools.count(math.ceil(first / FEWEST) * FEWEST, FEWEST)
        yield from (self.at(iters, FEWEST) for iters in itertools.islice(steps, _EVERY))

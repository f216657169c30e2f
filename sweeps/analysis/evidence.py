"""Evidence of a study: the runs of each arm, their losses by seed, and contrasts of them."""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Hashable, Mapping

from sweeps.analysis.arms import BASELINE, PHASE, Arm, Arms
from sweeps.analysis.contrasts import Contrast, Sample, contrast
from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.analysis.significance import P_MULTIPLIER
from sweeps.analysis.speeds import Speeds, speeds
from sweeps.pruning import plateau
from sweeps.store.records import Outcome, Results, Run
from trainer.config import TrainConfig

_SHAPE = ("n_layer", "n_head", "n_embd", "bias", "vocab_size", "block_size")
_BATCHES = ("batch_size", "gradient_accumulation_steps", "max_iters", "data_fraction")
_SETTINGS = tuple(field.name for field in dataclasses.fields(TrainConfig) if field.name != "seed")


class Evidence:
    """The runs of a study by arm.

    A run belongs to an arm by its config, whichever phase ran it. On the search's own seed the best trial is the
    luckiest of many, so arms with its knobs count on fresh seeds only. The baseline and the candidates were not chosen
    by their loss, so they count on every seed.
    """

    def __init__(self, results: Results, arms: Arms | None = None) -> None:
        """Group the runs by arm. `arms`: those of the best trial, if the caller has them."""
        self.results, self.study = results, results.study
        self.arms = arms or Arms(results.study, results.best, vocab_size=results.data.vocab_size)
        self._runs: dict[tuple[Hashable, ...], dict[int, Run]] = defaultdict(dict)
        for run in results.runs:
            self._runs[_without_seed(run.config)][run.seed] = run
        self.confirm_runs = [run for run in results.runs if run.phase == PHASE]
        self._samples = {arm: self._sample(arm) for arm in self._arms_with_runs()}

    @functools.cached_property
    def speeds(self) -> Speeds:
        """Measured speeds of the trials."""
        return speeds(run for run in self.results.runs if not run.before_trials)

    def run(self, arm: Arm, seed: int) -> Run | None:
        """Return the arm's run at a seed, in any state."""
        return self._by_seed(arm).get(seed)

    def runs(self, arm: Arm) -> list[Run]:
        """Return the arm's runs at the seeds that count for it, ordered by seed."""
        searched = self.study.seed if arm.knobs else None
        return [run for seed, run in sorted(self._by_seed(arm).items()) if seed != searched]

    def _by_seed(self, arm: Arm) -> Mapping[int, Run]:
        config = self.arms.config(arm)
        return {} if config is None else self._runs.get(_without_seed(config), {})

    def losses(self, arm: Arm) -> Mapping[int, float]:
        """Return the arm's final losses by seed, nats per token."""
        return self._samples[arm].losses if arm in self._samples else self._sample(arm).losses

    def on_one_kind(self, arm: Arm, other: Arm, *, seed: int) -> bool:
        """Whether two arms' runs at a seed are of one kind of device, so that they are a pair."""
        samples = [self._samples.get(each) for each in (arm, other)]
        return len({"" if sample is None else sample.kinds.get(seed, "") for sample in samples}) == 1

    def without_loss(self, arm: Arm) -> int:
        """Count the seeds at which the arm itself failed: it diverged or did not fit."""
        return sum(run.outcome in (Outcome.DIVERGED, Outcome.INFEASIBLE) for run in self.runs(arm))

    def contrast(
        self, *terms: tuple[float, Arm], threshold: float = 0.0, looks: float = P_MULTIPLIER, pooled: bool = True
    ) -> Contrast | None:
        """Return the weighted sum of arms' losses. Terms of one arm add up. None: no seed that all arms share."""
        weights: dict[Arm, float] = defaultdict(float)
        for weight, arm in terms:
            weights[arm] += weight
        weights = {arm: weight for arm, weight in weights.items() if weight}
        if not weights or any(not self.losses(arm) for arm in weights):
            return None
        return contrast(weights, self._samples, threshold=threshold, looks=looks, pooled=pooled)

    def gain(self, arm: Arm, *, threshold: float, looks: float = P_MULTIPLIER) -> Contrast | None:
        """Return how much lower than the baseline the arm ends."""
        return self.contrast((1, BASELINE), (-1, arm), threshold=threshold, looks=looks, pooled=self._pooled(arm))

    def lasting(self, arm: Arm, *, looks: float = P_MULTIPLIER) -> Contrast | None:
        """Return the arm's gain - half of its gain at half the horizon, nats. At most 0 for a mere head start."""
        late = {full: self._late(full) for full in self._samples if not full.half}
        if BASELINE not in late or arm not in late:
            return None
        return contrast({BASELINE: 1, arm: -1}, late, looks=looks, pooled=self._pooled(arm))

    def _pooled(self, arm: Arm) -> bool:
        """Whether other arms' noise applies to the arm's gain.

        It does not apply to a best that changes several knobs at once, which may react to a seed more or less.
        """
        return arm != self.arms.winner or len(arm.knobs) == 1

    def _late(self, arm: Arm) -> Sample:
        """Return the arm's losses at the horizon - half of its losses at half the horizon.

        Other arms have such differences too, so these can be contrasted and pooled like losses.
        """
        half = self._samples.get(dataclasses.replace(arm, half=True))
        return self._samples[arm].less(0.5, half or Sample(losses={}, shape=None))

    def plateaued(self) -> tuple[int, int]:
        """Count the baseline runs that end on a plateau, and the complete baseline runs.

        In a study of branches it is the origin's curve that counts: one run, or none where there is no curve.
        """
        origin = self.study.origin
        if origin is not None:
            return int(origin.plateau == "plateau"), int(origin.plateau is not None)
        runs = [run for run in self.runs(BASELINE) if run.outcome == Outcome.COMPLETE]
        verdicts = plateau.verdicts([losses_of(run) for run in runs], [schedule_of(run.config) for run in runs])
        return sum(verdict.word is plateau.CurveState.PLATEAU for verdict in verdicts), len(verdicts)

    def _arms_with_runs(self) -> list[Arm]:
        """List every arm that may have a run: the arms of the verdict's questions, and those of the confirm runs."""
        arms = self.arms
        knobs = arms.changed
        listed = [BASELINE, arms.winner, *(Arm(frozenset([knob])) for knob in knobs), *map(arms.without, knobs)]
        listed += [Arm(arm.knobs, half=True) for arm in listed]
        listed += [Arm(candidate=index) for index in range(len(self.study.candidates))]
        for run in self.confirm_runs:
            arm = arms.arm_of(run)
            if arm is not None:
                listed.append(arm)
        return [arm for arm in dict.fromkeys(listed) if arms.config(arm) is not None]

    def _sample(self, arm: Arm) -> Sample:
        runs = [run for run in self.runs(arm) if run.val_loss is not None]
        losses = {run.seed: run.val_loss for run in runs if run.val_loss is not None}
        config = self.arms.config(arm)
        kinds = {run.seed: run.kind for run in runs}
        return Sample(losses=losses, shape=None if config is None else shape_of(config), kinds=kinds)


def shape_of(config: TrainConfig) -> Hashable:
    """Return all settings, the seed apart, that determine the initial weights and the batches."""
    return tuple(getattr(config, name) for name in _SHAPE + _BATCHES)


def _without_seed(config: TrainConfig) -> tuple[Hashable, ...]:
    """All settings except the seed: what the runs of an arm share."""
    return tuple(getattr(config, name) for name in _SETTINGS)

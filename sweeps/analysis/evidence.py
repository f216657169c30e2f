"""What a study's runs say about its arms: their losses by seed, and contrasts of them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Hashable, Mapping

from sweeps.analysis.arms import BASELINE, PHASE, Arm, Arms
from sweeps.analysis.contrasts import Contrast, Sample, contrast
from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.pruning import plateau
from sweeps.store.records import Outcome, Results, Run
from trainer.config import TrainConfig

P_MULTIPLIER = 2.5
"""by which the p of a claim is multiplied, as seeds are added until something is shown: Pocock's factor is 2.5 for four
looks at .05, and `benchmarks/verdict/confirm_phases.py` measures what is left of false claims"""
ALPHA_BEST = 0.8
"""share of the error that the best config's whole change may take. Where the whole is shown, its knobs by themselves
get all of it, else the rest: so a knob can be shown though the best isn't (the fallback procedure of Wiens 2003, "A
fixed sequence Bonferroni procedure for testing multiple endpoints", Pharmaceutical Statistics 2)"""
_SHAPE = ("n_layer", "n_head", "n_embd", "bias", "vocab_size", "block_size")
_BATCHES = ("batch_size", "gradient_accumulation_steps", "max_iters", "data_fraction")
_SETTINGS = tuple(field.name for field in dataclasses.fields(TrainConfig) if field.name != "seed")


class Evidence:
    """The runs of a study by arm.

    A run is found by its config, whichever phase has made it. On the search's own seed the best trial is the luckiest
    of many, so what rests on its knobs counts on fresh seeds alone; the baseline and the candidates were not chosen.
    """

    def __init__(self, results: Results, arms: Arms | None = None) -> None:
        """`arms`: those of the best trial, where they are at hand."""
        self.results, self.study = results, results.study
        self.arms = arms or Arms(results.study, results.best, vocab_size=results.data.vocab_size)
        self._runs: dict[tuple[Hashable, ...], dict[int, Run]] = defaultdict(dict)
        for run in results.runs:
            self._runs[_without_seed(run.config)][run.seed] = run
        self.confirm_runs = [run for run in results.runs if run.phase == PHASE]
        self._samples = {arm: self._sample(arm) for arm in self._known()}

    def run(self, arm: Arm, seed: int) -> Run | None:
        """The arm's run at a seed, in whatever state."""
        return self._of(arm).get(seed)

    def runs(self, arm: Arm) -> list[Run]:
        """The arm's runs at the seeds that count for it, by seed."""
        searched = self.study.seed if arm.knobs else None
        return [run for seed, run in sorted(self._of(arm).items()) if seed != searched]

    def _of(self, arm: Arm) -> Mapping[int, Run]:
        config = self.arms.config(arm)
        return {} if config is None else self._runs.get(_without_seed(config), {})

    def losses(self, arm: Arm) -> Mapping[int, float]:
        """Final losses by seed, nats."""
        return self._samples[arm].losses if arm in self._samples else self._sample(arm).losses

    def without_loss(self, arm: Arm) -> int:
        """Seeds at which the arm ended without a loss of its own doing: it diverged, or did not fit."""
        return sum(run.outcome in (Outcome.DIVERGED, Outcome.INFEASIBLE) for run in self.runs(arm))

    def contrast(
        self, *terms: tuple[float, Arm], threshold: float = 0.0, looks: float = P_MULTIPLIER, pooled: bool = True
    ) -> Contrast | None:
        """The weighted sum of arms' losses; terms of one arm add up. None where no seed has them all."""
        weights: dict[Arm, float] = defaultdict(float)
        for weight, arm in terms:
            weights[arm] += weight
        weighed = {arm: weight for arm, weight in weights.items() if weight}
        if not weighed or any(not self.losses(arm) for arm in weighed):
            return None
        return contrast(weighed, self._samples, threshold=threshold, looks=looks, pooled=pooled)

    def gain(self, arm: Arm, *, threshold: float, looks: float = P_MULTIPLIER) -> Contrast | None:
        """How much lower than the baseline the arm ends."""
        return self.contrast((1, BASELINE), (-1, arm), threshold=threshold, looks=looks, pooled=self._like_others(arm))

    def lasting(self, arm: Arm, *, looks: float = P_MULTIPLIER) -> Contrast | None:
        """The arm's gain less half of its gain at half the horizon, nats: at most 0 where it is a mere head start."""
        late = {each: self._late(each) for each in self._samples if not each.half}
        if BASELINE not in late or arm not in late:
            return None
        return contrast({BASELINE: 1, arm: -1}, late, looks=looks, pooled=self._like_others(arm))

    def _like_others(self, arm: Arm) -> bool:
        """Whether other arms tell how an arm differs from the baseline by a seed's luck: not of the best, which changes
        all of its knobs at once."""
        return arm != self.arms.winner or len(arm.knobs) == 1

    def _late(self, arm: Arm) -> Sample:
        """Losses at the horizon less half of those at half of it: an arm's noise at both is much the same, so that of
        the whole is told by other arms' whole."""
        half = self._samples.get(dataclasses.replace(arm, half=True))
        return self._samples[arm].less(0.5, half or Sample(losses={}, shape=None))

    def plateaued(self) -> tuple[int, int]:
        """Baseline runs that end on a plateau, of how many."""
        runs = [run for run in self.runs(BASELINE) if run.outcome == Outcome.COMPLETE]
        found = plateau.verdicts([losses_of(run) for run in runs], [schedule_of(run.config) for run in runs])
        return sum(each.word is plateau.CurveState.PLATEAU for each in found), len(found)

    def _known(self) -> list[Arm]:
        """Every arm that has a run, by the keys of the confirm phase and what the other phases share with it."""
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
        losses = {run.seed: run.val_loss for run in self.runs(arm) if run.val_loss is not None}
        config = self.arms.config(arm)
        return Sample(losses=losses, shape=None if config is None else _shape(config))


def _shape(config: TrainConfig) -> Hashable:
    """What fixes the initial weights and the batches, the seed apart."""
    return tuple(getattr(config, name) for name in _SHAPE + _BATCHES)


def _without_seed(config: TrainConfig) -> tuple[Hashable, ...]:
    """All settings but the seed: what the runs of one arm share."""
    return tuple(getattr(config, name) for name in _SETTINGS)

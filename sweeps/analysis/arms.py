"""Arms of the confirm phase: the baseline with some of the best trial's knobs, or a candidate, each at many seeds.

No knobs is the baseline, and all changed knobs are the best. One knob is that knob alone, and all but one is the best
with that knob reset. So one run serves every question that needs it, and no run is repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sweeps.store.records import Run
from sweeps.study.horizon import stretched
from sweeps.study.knobs import PARAM
from sweeps.study.proposals import ParamValue, Proposal, baseline_params, candidate_proposal, config_of
from sweeps.study.study import Study
from sweeps.text import advised, joined
from trainer.config import TrainConfig
from trainer.errors import ConfigError

PHASE = "confirm"


@dataclass(frozen=True)
class Arm:
    """A config without its seed."""

    knobs: frozenset[str] = frozenset()
    """knobs with the best trial's values; all others have the baseline's"""
    candidate: int | None = None
    """index of a candidate of the study, instead of knobs"""
    half: bool = False
    """at half the horizon, with a schedule of that length"""


BASELINE = Arm()


class Arms:
    """The arms of a study whose search found `best`. None: the arms of the baseline and the candidates only."""

    def __init__(self, study: Study, best: Run | None, *, vocab_size: int) -> None:
        self.study, self.best, self._vocab_size = study, best, vocab_size
        self._configs: dict[Arm, TrainConfig | None] = {}
        base = self.config(BASELINE)
        self.changed = tuple(name for name in study.sampled if best and self.config(Arm(frozenset([name]))) != base)
        """knobs that the best trial changes, in the study's order"""
        self.all = frozenset(self.changed)

    @property
    def winner(self) -> Arm:
        """The best trial's arm. It is the baseline's if both configs are the same."""
        return Arm(self.all)

    def without(self, knob: str) -> Arm:
        """Return the best with one knob reset to the baseline's value."""
        return Arm(self.all - {knob})

    def config(self, arm: Arm) -> TrainConfig | None:
        """Return the arm's config on the study's own seed. None: this mixture of two configs can't be run."""
        if arm not in self._configs:
            try:
                self._configs[arm] = self._build(arm)
            except ConfigError:
                self._configs[arm] = None
        return self._configs[arm]

    def seeds(self) -> Iterator[int]:
        """Yield the seeds that the search has not used, in order. The baseline's further seeds come first."""
        return (self.study.seed + index for index in range(1, 10_000))

    def proposal(self, arm: Arm, seed: int) -> Proposal:
        """Return the run of an arm at a seed. The arm must have a config."""
        config = self.config(arm)
        assert config is not None
        return Proposal(
            key=self._key(arm, seed),
            phase=PHASE,
            origin=PHASE,
            label=f"{self._label(arm)}, seed {seed}",
            knob=next(iter(arm.knobs)) if len(arm.knobs) == 1 else None,
            seed=seed,
            params=self._params(arm),
            config=config.replace(seed=seed),
        )

    def proposed(self, key: str) -> Proposal | None:
        """Return the proposal that a trial's key names. None: the key names none of these arms."""
        parts = key.split(":")
        if len(parts) != 5 or parts[0] != PHASE:
            return None
        _, source, knobs, length, seed = parts
        names = frozenset(knobs.split("+")) if knobs else frozenset()
        candidate = int(source.removeprefix("candidate ")) if source.startswith("candidate ") else None
        arm = Arm(names, candidate, length == "half")
        known = candidate is None or candidate < len(self.study.candidates)
        if not known or self._key(arm, int(seed)) != key or self.config(arm) is None:
            return None
        return self.proposal(arm, int(seed))

    def arm_of(self, run: Run) -> Arm | None:
        """Return the arm of a confirm run, by its parameters. None: the run belongs to another best trial."""
        if self.best is None or not run.params:
            return None
        params = {name: PARAM.get(name, name) for name in self.changed}
        knobs = frozenset(name for name, param in params.items() if run.params.get(param) == self.best.params[param])
        for arm in (Arm(knobs), Arm(knobs, half=True)):
            config = self.config(arm)
            if config is not None and config.max_iters == run.config.max_iters:
                return arm if config.replace(seed=run.seed) == run.config else None
        return None

    def candidate_label(self, candidate: int) -> str:
        """Return the name of a candidate, from the label of its trial."""
        return advised(candidate_proposal(self.study, candidate, vocab_size=0).label)

    def _label(self, arm: Arm) -> str:
        """Return the label of the arm's trials, without the seed."""
        if arm.candidate is not None:
            name = f"advice {self.candidate_label(arm.candidate)}"
        elif not arm.knobs:
            name = "baseline"
        elif arm.knobs == self.all:
            name = f"best (trial {self.best.trial if self.best else '?'})"
        elif len(arm.knobs) == 1:
            name = f"{next(iter(arm.knobs))} alone"
        elif len(self.all - arm.knobs) == 1:
            name = f"best without {next(iter(self.all - arm.knobs))}"
        else:
            name = f"{joined(self.in_order(arm.knobs))} alone"
        return f"{name}, half as long" if arm.half else name

    def in_order(self, knobs: Collection[str]) -> list[str]:
        """Return the knobs in the study's order."""
        return [name for name in self.study.knobs if name in knobs]

    def _key(self, arm: Arm, seed: int) -> str:
        best = f"trial {self.best.trial}" if self.best and arm.knobs else "baseline"
        source = best if arm.candidate is None else f"candidate {arm.candidate}"
        return f"{PHASE}:{source}:{'+'.join(self.in_order(arm.knobs))}:{'half' if arm.half else 'full'}:{seed}"

    def _params(self, arm: Arm) -> dict[str, ParamValue] | None:
        if arm.candidate is not None:
            return candidate_proposal(self.study, arm.candidate, vocab_size=self._vocab_size).params
        params = baseline_params(self.study)
        for name in arm.knobs:
            assert self.best is not None
            params[PARAM.get(name, name)] = self.best.params[PARAM.get(name, name)]
        return params

    def _build(self, arm: Arm) -> TrainConfig:
        study, size = self.study, self._vocab_size
        if arm.candidate is not None:
            config = candidate_proposal(study, arm.candidate, vocab_size=size).config
        else:
            params = self._params(arm)
            assert params is not None
            config = config_of(study, params, seed=study.seed, vocab_size=size)
        return stretched(config, iters=config.max_iters // 2) if arm.half else config

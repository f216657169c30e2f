"""Findings of a study: everything the analysis says of its results. Each part is computed once, on first use."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from sweeps.analysis import judge, screening
from sweeps.analysis.arms import PHASE
from sweeps.analysis.attribution import Attribution
from sweeps.analysis.boundaries import BoundaryVerdict, boundaries
from sweeps.analysis.branches import Branches, branches
from sweeps.analysis.calibration import Calibration, calibration
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.finals import Final, finals
from sweeps.analysis.importance import Importances, importances
from sweeps.analysis.more_data import Amount, amounts
from sweeps.analysis.pruning import Balance, balance, rule_of
from sweeps.analysis.races import RaceFinding, races
from sweeps.analysis.reference import ReferenceCurve
from sweeps.analysis.screening import Screening
from sweeps.analysis.sensitivity import Sensitivity, sensitivity
from sweeps.analysis.simpler import with_fewer_changes
from sweeps.pruning.rule import Rule
from sweeps.store.records import Results, Run
from sweeps.study.study import Study


@dataclass(frozen=True)
class Findings:
    """What the runs of a study show. Terminal, verdict, report, dashboard, export and `--json` all read this object."""

    results: Results

    @property
    def study(self) -> Study:
        """The study that the results belong to."""
        return self.results.study

    @functools.cached_property
    def evidence(self) -> Evidence:
        """The runs by arm, and contrasts of them."""
        return Evidence(self.results)

    @functools.cached_property
    def attribution(self) -> Attribution | None:
        """The confirmed verdict. None: there is no confirm run, or nothing to confirm."""
        confirmed = any(run.phase == PHASE for run in self.results.runs)
        judged = judge.judge(self.evidence) if confirmed else None
        return None if judged is None else with_fewer_changes(judged, self.evidence)

    @functools.cached_property
    def to_train(self) -> Run | None:
        """The run whose config to train. None: no trial is complete."""
        return judge.to_train(self.results, self.attribution)

    @functools.cached_property
    def screening(self) -> Screening:
        """Single runs against the baseline's seeds."""
        return screening.screen(self.results)

    @functools.cached_property
    def sensitivity(self) -> Sensitivity | None:
        """The noise of seeds and the effects that the study can show. None: the noise is unknown."""
        return sensitivity(self.evidence)

    @functools.cached_property
    def finals(self) -> tuple[Final, ...]:
        """The final losses of the search's trials, predicted for those that were stopped early."""
        return finals(self.results)

    @functools.cached_property
    def boundaries(self) -> tuple[BoundaryVerdict, ...]:
        """Edges of the knobs' ranges that the best trials crowd."""
        return boundaries(self.results, self.finals)

    @functools.cached_property
    def rule(self) -> Rule | None:
        """The rule that stops trials early. None: the study has another pruner, or no pruner."""
        return rule_of(self.study)

    @functools.cached_property
    def balance(self) -> Balance:
        """What stopping trials early saved, and what it may have cost."""
        return balance(self.results, self.finals, self.rule)

    @functools.cached_property
    def calibration(self) -> Calibration | None:
        """How often the rule's predictions hold, against what they promise. None: there is no rule."""
        return None if self.rule is None else calibration(self.results, self.rule)

    @functools.cached_property
    def importances(self) -> Importances:
        """How much each knob matters over the search space."""
        return importances(self.results, self.finals)

    @functools.cached_property
    def amounts(self) -> tuple[Amount, ...]:
        """What the baseline loses or gains on other amounts of data."""
        return amounts(self.results)

    @functools.cached_property
    def branches(self) -> Branches | None:
        """What the curves of the branches add to their gains. None: trials start from scratch."""
        return branches(self.evidence)

    @functools.cached_property
    def races(self) -> tuple[RaceFinding, ...]:
        """Each change from scratch against the origin's own curve."""
        origin = self.study.origin
        if origin is None or not origin.log or origin.log_offset is None or origin.log_offset_se is None:
            return races(self.results)
        log = ReferenceCurve.of(origin.log, offset=origin.log_offset, offset_se=origin.log_offset_se)
        return races(self.results, reference=log)
